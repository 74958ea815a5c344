//! What the query service shows of a stream's events: decoded as `annals replay show` does.

use event_log::registry::RegistryClient;
use futures::future::BoxFuture;
use query_service::DecodeEvents;
use serde_json::Value;
use service_kit::problem::Chain;
use tokio::sync::OnceCell;

use crate::replay::kinds::{DeclaredKinds, Kinds};

/// Asks the registry about the contexts' schemas when somebody wants to know for the first time:
/// everything else that is read needs no registry.
pub(crate) struct Decoder {
    declared: DeclaredKinds,
    registry: RegistryClient,
    kinds: OnceCell<Kinds>,
}

impl Decoder {
    pub(crate) fn new(declared: DeclaredKinds, registry: RegistryClient) -> Self {
        Self {
            declared,
            registry,
            kinds: OnceCell::new(),
        }
    }
}

impl DecodeEvents for Decoder {
    fn decode<'a>(
        &'a self,
        kind: &'a str,
        event_type: &'a str,
        value: &'a [u8],
    ) -> BoxFuture<'a, Result<Value, String>> {
        Box::pin(async move {
            let connect = async || self.declared.connect(&self.registry).await;
            let kinds = self.kinds.get_or_try_init(connect).await;
            let kinds = kinds.map_err(|error| Chain(&error).to_string())?;
            let decoded = kinds.decode(kind, event_type, value);
            decoded.map_err(|error| error.to_string())
        })
    }
}
