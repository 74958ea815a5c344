//! The command HTTP API: the contexts' routes and what all of them share.

use std::net::SocketAddr;

use axum::{Extension, Json, Router, routing::get};
use service_kit::{Readiness, Server, Verifier, serve::BindError};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    commands::Commands,
    http::{forward::ForwardLayer, shards},
    identity::{AddressTaken, Identity},
    openapi,
    service::{CommandService, Running, StartError},
};

/// A command service that is about to serve.
pub struct CommandServer {
    server: Server,
    router: Router,
    running: Running,
    commands: Commands,
    identity: Identity,
    shutdown: CancellationToken,
}

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Address(#[from] AddressTaken),
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
        let mut service = service;
        let server = Server::bind(&service.config.address).await?;
        let advertised = service.config.advertise.take();
        let advertised = advertised.unwrap_or_else(|| address_for_others(server.address()));
        service.config.advertise = Some(advertised);
        let (commands, running) = service.start(&readiness, shutdown.clone())?;
        let router = router(routes, commands.clone(), verifier).merge(readiness.routes());
        let identity = Identity::new();
        let router = router.merge(identity.routes());
        Ok(Self {
            server,
            router,
            running,
            commands,
            identity,
            shutdown,
        })
    }

    /// The address that clients reach it at.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// By which the other nodes, and Kafka's group, know this one.
    pub fn name(&self) -> &str {
        self.commands.shards().group.address()
    }

    /// The way in without HTTP.
    pub fn commands(&self) -> Commands {
        self.commands.clone()
    }

    /// Until shutdown, when what is in flight has been answered; earlier only
    /// with what waiting cannot mend.
    pub async fn serve(self) -> Result<(), ServeError> {
        // While others take the shards over, requests are still answered.
        let shards = self.commands.shards();
        let ended = shards.ended.clone();
        let (bound, advertised) = (self.server.address().to_string(), shards.group.address());
        let serving = self.server.serve(self.router, ended.clone());
        let running = async {
            let result = async {
                // Two processes cannot both be bound to one address.
                if advertised != bound {
                    self.identity.check(advertised).await?;
                }
                Ok(self.running.await?)
            };
            let result: Result<(), ServeError> = result.await;
            if result.is_err() {
                self.shutdown.cancel();
                ended.cancel();
            }
            result
        };
        let ((), result) = tokio::join!(serving, running);
        result
    }
}

/// Who listens on every address is reached by the host's name.
fn address_for_others(bound: SocketAddr) -> String {
    if !bound.ip().is_unspecified() {
        return bound.to_string();
    }
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    match host.trim() {
        "" => bound.to_string(),
        host => format!("{host}:{}", bound.port()),
    }
}

fn router(routes: Vec<OpenApiRouter<Commands>>, commands: Commands, verifier: Verifier) -> Router {
    let (routes, openapi) = openapi::merge(routes).split_for_parts();
    let forward = ForwardLayer::new(commands.clone());
    let operators = shards::routes(commands.clone()).layer(Extension(verifier.clone()));
    routes
        .with_state(commands)
        .layer((Extension(verifier), forward))
        .merge(operators)
        .route("/openapi.json", get(async move || Json(openapi)))
}
