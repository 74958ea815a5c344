//! A bounded context, as its author declares it.

use std::sync::Arc;

use command_service::{Commands, ContextStreams};
use event_log::schemas::ContextSchemas;
use include_dir::Dir;
use kernel::Decider;
use projector::{Model, ReadModel};
use query_service::{Reads, Served};
use utoipa_axum::router::OpenApiRouter;

use crate::replay::kinds::{self, DeclaredKind};

/// Everything of one context: its streams, read models and routes.
pub struct Context {
    pub(crate) schemas: Arc<ContextSchemas>,
    pub(crate) streams: ContextStreams,
    /// The same kinds of stream, to be looked at.
    pub(crate) kinds: Vec<Arc<dyn DeclaredKind>>,
    pub(crate) models: Vec<Model>,
    pub(crate) served: Vec<Served>,
    pub(crate) commands: Vec<OpenApiRouter<Commands>>,
    pub(crate) queries: Vec<OpenApiRouter<Reads>>,
}

impl Context {
    /// A context of this name with the folder `schemas/<name>/`, embedded.
    ///
    /// # Panics
    /// When a schema file is not what its name says: the binary must not start.
    pub fn new(name: &str, schemas: &Dir<'_>) -> Self {
        let files = schemas.files().filter_map(|file| {
            let name = file.path().file_name()?.to_str()?;
            Some((name, file.contents_utf8()?))
        });
        let schemas = ContextSchemas::load(name, files)
            .unwrap_or_else(|error| panic!("context {name}: {error}"));
        let schemas = Arc::new(schemas);
        Self {
            streams: ContextStreams::new(schemas.clone()),
            schemas,
            kinds: Vec::new(),
            models: Vec::new(),
            served: Vec::new(),
            commands: Vec::new(),
            queries: Vec::new(),
        }
    }

    /// Adds a kind of stream.
    pub fn stream<D: Decider>(mut self) -> Self {
        self.streams = self.streams.stream::<D>();
        self.kinds.push(kinds::declare::<D>());
        self
    }

    /// Adds a read model.
    pub fn read_model<M: ReadModel>(mut self) -> Self {
        self.models.push(projector::model::<M>());
        self.served.push(query_service::served::<M>());
        self
    }

    /// Adds routes of the command HTTP API.
    pub fn commands(mut self, routes: OpenApiRouter<Commands>) -> Self {
        self.commands.push(routes);
        self
    }

    /// Adds routes of the query HTTP API.
    pub fn queries(mut self, routes: OpenApiRouter<Reads>) -> Self {
        self.queries.push(routes);
        self
    }

    /// The context's schema files, for the test that compares them with the Rust types.
    pub fn schemas(&self) -> &ContextSchemas {
        &self.schemas
    }
}
