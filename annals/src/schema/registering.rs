//! `annals schema register`, and what `annals up` does at its start: the files of this binary
//! into the registry.

use std::fmt;

use event_log::registry::RegistryError;
use serde::Serialize;

use super::registry::Registry;
use crate::context::Context;

/// One schema file, as it stands in the registry now.
#[derive(Serialize)]
pub(crate) struct Registered {
    subject: String,
    version: u32,
    id: u32,
}

impl fmt::Display for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subject,
            version,
            id,
        } = self;
        write!(f, "{subject} v{version} has id {id}")
    }
}

/// Registers every schema file of the contexts, oldest versions first. The same
/// again changes nothing; rules that were mended since stay mended.
pub(crate) async fn register(
    contexts: &[Context],
    registry: &Registry,
) -> Result<Vec<Registered>, RegistryError> {
    let mut registered = Vec::new();
    for context in contexts {
        for file in context.schemas.files() {
            let subject = context.schemas.full_name(&file.event);
            let id = registry.put(&subject, file).await?;
            registered.push(Registered {
                subject,
                version: file.version,
                id,
            });
        }
    }
    Ok(registered)
}
