//! `annals schema`: the schema files and the registry.

use event_log::registry::{RegistryClient, RegistryError};

use crate::context::Context;

/// One schema file, as it stands in the registry now.
pub(crate) struct RegisteredSchema {
    pub subject: String,
    pub version: u32,
    pub id: u32,
}

/// Registers every schema file of the contexts, oldest versions first. The same
/// again changes nothing.
pub(crate) async fn register(
    contexts: &[Context],
    registry: &RegistryClient,
) -> Result<Vec<RegisteredSchema>, RegistryError> {
    let mut registered = Vec::new();
    for context in contexts {
        for file in context.schemas.files() {
            let subject = context.schemas.full_name(&file.event);
            let id = registry.register(&subject, &file.text).await?;
            registered.push(RegisteredSchema {
                subject,
                version: file.version,
                id,
            });
        }
    }
    Ok(registered)
}
