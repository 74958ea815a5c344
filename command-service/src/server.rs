//! The command HTTP API: the contexts' routes and what all of them share.

use std::net::SocketAddr;

use axum::{Extension, Json, Router, routing::get};
use service_kit::{Readiness, Server, Verifier, serve::BindError};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    commands::Commands,
    openapi,
    service::{CommandService, Running, StartError},
};

/// A command service that is about to serve.
pub struct CommandServer {
    server: Server,
    router: Router,
    running: Running,
    commands: Commands,
    shutdown: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Start(#[from] StartError),
}

impl CommandServer {
    /// Listens. Kafka and the registry need not be there yet: readiness says
    /// what is missing, and commands are answered 503 until it is there.
    ///
    /// `/openapi.json`, `/health/…` and `/metrics` are open to everybody; the
    /// commands want a bearer token.
    pub async fn bind(
        service: CommandService,
        routes: Vec<OpenApiRouter<Commands>>,
        verifier: Verifier,
        readiness: Readiness,
        shutdown: CancellationToken,
    ) -> Result<Self, ServeError> {
        let server = Server::bind(&service.config.address).await?;
        let (commands, running) = service.start(&readiness, shutdown.clone())?;
        let router = router(routes, commands.clone(), verifier).merge(readiness.routes());
        Ok(Self {
            server,
            router,
            running,
            commands,
            shutdown,
        })
    }

    /// The address that clients reach it at.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// The way in without HTTP.
    pub fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// Until shutdown, when what is in flight has been answered; earlier only
    /// with what waiting cannot mend.
    pub async fn serve(self) -> Result<(), ServeError> {
        let serving = self.server.serve(self.router, self.shutdown.clone());
        let running = async {
            let result = self.running.await;
            if result.is_err() {
                self.shutdown.cancel();
            }
            result
        };
        let ((), result) = tokio::join!(serving, running);
        Ok(result?)
    }
}

fn router(routes: Vec<OpenApiRouter<Commands>>, commands: Commands, verifier: Verifier) -> Router {
    let (routes, openapi) = openapi::merge(routes).split_for_parts();
    routes
        .with_state(commands)
        .layer(Extension(verifier))
        .route("/openapi.json", get(async move || Json(openapi)))
}
