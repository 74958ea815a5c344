//! Each role, on its own or as a part of `annals up`.

use std::{net::SocketAddr, str::FromStr, time::Duration};

use command_service::{CommandServer, CommandService, ServeError};
use event_log::registry::{RegistryClient, RegistryError};
use projector::RunError as ProjectorError;
use query_service::{QueryService, RunError as QueryError};
use service_kit::{Readiness, Server, serve::BindError};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    settings::{Settings, SettingsError},
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum RoleError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Commands(#[from] ServeError),
    #[error(transparent)]
    Queries(#[from] QueryError),
    #[error(transparent)]
    Projector(#[from] ProjectorError),
    #[error("projector.models names {0}, which is no read model of this binary")]
    NoSuchModel(String),
    #[error(transparent)]
    Registry(#[from] schema_registry::RunError),
    #[error(transparent)]
    RegistryClient(#[from] RegistryError),
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("the address of Postgres is not valid")]
    Postgres(#[source] sqlx::Error),
}

/// A role that has its address: what `serve` awaits, and how it is.
pub(crate) struct Role {
    pub name: &'static str,
    pub address: SocketAddr,
    pub readiness: Readiness,
    serving: futures::future::BoxFuture<'static, Result<(), RoleError>>,
}

impl Role {
    /// Until shutdown, or until something that waiting cannot mend.
    pub async fn serve(self) -> Result<(), RoleError> {
        self.serving.await
    }
}

pub(crate) async fn registry(
    settings: &Settings,
    shutdown: CancellationToken,
) -> Result<Role, RoleError> {
    let own = settings.schema_registry.clone();
    let config = schema_registry::Config {
        address: own.address,
        postgres: settings.postgres()?.clone(),
        max_connections: own.connections,
        max_body_bytes: own.max_body_bytes,
        users: own.users,
        anonymous: own.anonymous,
    };
    let mut service = schema_registry::Service::bind(config)
        .await?
        .accept_tokens(settings.verifier()?);
    if settings.kafka.is_some() {
        service = service.write_to(schema_registry::TopicConfig {
            cluster: settings.kafka()?,
            name: own.topic,
            options: settings.topics(),
        })?;
    }
    Ok(Role {
        name: "registry",
        address: service.address(),
        readiness: Readiness::new(),
        serving: Box::pin(async move {
            service.serve(shutdown).await;
            Ok(())
        }),
    })
}

pub(crate) async fn command_service(
    settings: &Settings,
    contexts: &mut [Context],
    shutdown: CancellationToken,
) -> Result<Role, RoleError> {
    let mut routes = Vec::new();
    let mut streams = Vec::new();
    for context in contexts {
        routes.append(&mut context.commands);
        let empty = command_service::ContextStreams::new(context.schemas.clone());
        streams.push(std::mem::replace(&mut context.streams, empty));
    }
    let service = CommandService {
        kafka: settings.kafka()?,
        registry: RegistryClient::new(settings.registry()?)?,
        generation: settings.generation(),
        topics: settings.topics(),
        config: settings.commands.clone(),
        contexts: streams,
    };
    let readiness = Readiness::new();
    let verifier = settings.verifier()?;
    let server =
        CommandServer::bind(service, routes, verifier, readiness.clone(), shutdown).await?;
    tracing::info!("command service on http://{}", server.address());
    Ok(Role {
        name: "command-service",
        address: server.address(),
        readiness,
        serving: Box::pin(async move { Ok(server.serve().await?) }),
    })
}

pub(crate) async fn projector(
    settings: &Settings,
    contexts: &mut [Context],
    shutdown: CancellationToken,
) -> Result<Role, RoleError> {
    let mut config = projector_config(settings)?;
    let mut models = vec![projector::stream_index()];
    let mut schemas = Vec::new();
    for context in contexts {
        models.append(&mut context.models);
        schemas.push((*context.schemas).clone());
    }
    let wanted = &settings.projector.models;
    for model in wanted {
        if !models.iter().any(|it| it.name() == model) {
            return Err(RoleError::NoSuchModel(model.clone()));
        }
    }
    models.retain(|it| wanted.is_empty() || wanted.iter().any(|wanted| wanted == it.name()));
    let readiness = Readiness::new();
    let server = Server::bind(&settings.projector.address).await?;
    let routes = readiness.routes();
    let address = server.address();
    tracing::info!("projector's health on http://{address}");
    // An address of every interface is not this process's alone.
    config.instance = (!address.ip().is_unspecified()).then(|| address.to_string());
    let watched = readiness.clone();
    Ok(Role {
        name: "projector",
        address,
        readiness,
        serving: Box::pin(async move {
            let serving = server.serve(routes, shutdown.clone());
            let projecting = async {
                let result = projector::run(config, models, schemas, &watched, shutdown.clone());
                let result = result.await;
                shutdown.cancel();
                result
            };
            let ((), result) = tokio::join!(serving, projecting);
            Ok(result?)
        }),
    })
}

/// What the projector reaches, and whoever mends what it holds back.
pub(crate) fn projector_config(settings: &Settings) -> Result<projector::Config, RoleError> {
    let options = PgConnectOptions::from_str(settings.postgres()?.expose())
        .map_err(RoleError::Postgres)?
        .application_name("annals projector");
    let postgres = PgPoolOptions::new()
        .max_connections(settings.projector.connections)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(options);
    Ok(projector::Config {
        cluster: settings.kafka()?,
        postgres,
        registry: RegistryClient::new(settings.registry()?)?,
        generation: settings.generation(),
        swap_unasked: settings.projector.swap_unasked,
        tuning: projector::Tuning {
            quarantined_per_minute: settings.projector.quarantined_per_minute,
            changes_kept: settings.projector.changes_kept,
        },
        instance: None,
    })
}

pub(crate) async fn query_service(
    settings: &Settings,
    contexts: &mut [Context],
    shutdown: CancellationToken,
) -> Result<Role, RoleError> {
    let config = query_service::Config {
        address: settings.queries.address.clone(),
        generation: settings.generation.clone(),
        connections: settings.queries.connections,
        position_wait_ms: settings.queries.position_wait_ms,
        following: settings.queries.following.clone(),
        client_connections: settings.queries.client_connections,
        client_connections_of_one_address: settings.queries.client_connections_of_one_address,
        history_roles: settings.queries.history_roles.clone(),
        // It tells positions that cannot be; reads do without.
        log: match settings.kafka {
            Some(_) => Some(settings.kafka()?),
            None => None,
        },
        ..query_service::Config::new(settings.postgres()?.clone())
    };
    let mut models = vec![query_service::stream_index()];
    let mut routes = Vec::new();
    for context in contexts {
        models.append(&mut context.served);
        routes.append(&mut context.queries);
    }
    let readiness = Readiness::new();
    let verifier = settings.verifier()?;
    let service = QueryService::bind(config, models, routes, verifier, readiness.clone()).await?;
    tracing::info!("query service on http://{}", service.address());
    Ok(Role {
        name: "query-service",
        address: service.address(),
        readiness,
        serving: Box::pin(async move {
            service.serve(shutdown).await;
            Ok(())
        }),
    })
}
