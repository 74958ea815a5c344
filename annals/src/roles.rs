//! Each role, on its own or as a part of `annals up`.

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    str::FromStr,
    time::Duration,
};

use command_service::{CommandServer, CommandService, ServeError};
use event_log::{
    control::{ControlLog, KnownVersions, Unreadable},
    registry::{RegistryClient, RegistryError},
};
use projector::RunError as ProjectorError;
use query_service::{EventData, QueryService, RunError as QueryError};
use service_kit::{Readiness, Server, problem::Chain, readiness::Component, serve::BindError};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio_util::sync::CancellationToken;

use crate::{
    announcing::{Announcer, Part},
    context::Context,
    event_data::Decoder,
    replay::kinds::DeclaredKinds,
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
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
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
    let known = known_versions(contexts);
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
    let announcer = announcer(settings, Part::CommandService, server.name(), known)?;
    tracing::info!("command service on http://{}", server.address());
    Ok(Role {
        name: "command-service",
        address: server.address(),
        readiness,
        serving: Box::pin(async move {
            let serving = server.serve();
            let served = match announcer {
                Some(announcer) => announcer.during(serving).await,
                None => serving.await,
            };
            Ok(served?)
        }),
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
    let known = known_versions(contexts);
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
    let name = match address.ip().is_unspecified() {
        false => address.to_string(),
        true => name_of_its_own(),
    };
    config.instance = Some(name.clone());
    let announcer = announcer(settings, Part::Projector, &name, known.clone())?;
    let reading = Reading {
        control: ControlLog::new(&config.cluster, &config.generation),
        registry: config.registry.clone(),
        known,
        readiness: readiness.component("write switch"),
    };
    let projecting = projector::run(config, models, schemas, &readiness, shutdown.clone());
    Ok(Role {
        name: "projector",
        address,
        readiness,
        serving: Box::pin(async move {
            let serving = server.serve(routes, shutdown.clone());
            let projecting = async {
                let result = tokio::select! {
                    result = read_what_is_written(reading, projecting) => result,
                    () = shutdown.cancelled() => Ok(()),
                };
                shutdown.cancel();
                result
            };
            let work = Box::pin(async {
                let ((), result) = tokio::join!(serving, projecting);
                result
            });
            match announcer {
                Some(announcer) => announcer.during(work).await,
                None => work.await,
            }
        }),
    })
}

/// Projects once it is known that everything can be read that is written, and as long as it can be:
/// who cannot would put stream after stream into quarantine.
async fn read_what_is_written(
    reading: Reading,
    projecting: impl Future<Output = Result<(), ProjectorError>>,
) -> Result<(), RoleError> {
    let readable = reading.readable().await?;
    tokio::select! {
        result = projecting => Ok(result?),
        unreadable = reading.until_unreadable(readable) => Err(unreadable.into()),
    }
}

/// What a projector can read of what is written.
struct Reading {
    control: ControlLog,
    registry: RegistryClient,
    /// By its own files.
    known: Vec<KnownVersions>,
    readiness: Component,
}

impl Reading {
    /// Waits until it is known what is written. Answers what can be read: by our files or, if need
    /// be, by the rules of the registry.
    async fn readable(&self) -> Result<Vec<KnownVersions>, Unreadable> {
        const PAUSE: Duration = Duration::from_millis(300);
        loop {
            match self.look().await {
                Ok(Ok(readable)) => {
                    self.readiness.ready();
                    return Ok(readable);
                }
                Ok(Err(unreadable)) => return Err(unreadable),
                Err(reason) => self.readiness.not_ready(reason),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// The outer error: it cannot be known at present.
    async fn look(&self) -> Result<Result<Vec<KnownVersions>, Unreadable>, String> {
        let active = self.control.catch_up_if_there().await;
        let active = active.map_err(|error| Chain(&error).to_string())?;
        if active.unreadable(&self.known).is_none() {
            return Ok(Ok(self.known.clone()));
        }
        let mut readable = Vec::new();
        for context in &self.known {
            let through = context.through(&self.registry).await;
            readable.push(through.map_err(|error| Chain(&error).to_string())?);
        }
        Ok(match active.unreadable(&readable) {
            None => Ok(readable),
            Some(unreadable) => Err(unreadable),
        })
    }

    async fn until_unreadable(&self, mut readable: Vec<KnownVersions>) -> Unreadable {
        loop {
            self.control.until_unreadable(&readable).await;
            readable = match self.readable().await {
                Ok(readable) => readable,
                Err(unreadable) => return unreadable,
            };
        }
    }
}

fn known_versions(contexts: &[Context]) -> Vec<KnownVersions> {
    let schemas = contexts.iter().map(|context| &*context.schemas);
    schemas.map(KnownVersions::of).collect()
}

/// Without Postgres, nobody is told: then Kafka's groups say that this process has said nothing.
fn announcer(
    settings: &Settings,
    role: Part,
    member: &str,
    known: Vec<KnownVersions>,
) -> Result<Option<Announcer>, RoleError> {
    if settings.postgres.is_none() {
        tracing::warn!(
            "no Postgres is configured: `annals schema activate` will not know what this process \
             reads; set ANNALS_POSTGRES"
        );
        return Ok(None);
    }
    Ok(Some(Announcer {
        postgres: pool(settings, 1, "annals announcements")?,
        control: ControlLog::new(&settings.kafka()?, &settings.generation()),
        generation: settings.generation.clone(),
        role,
        member: member.into(),
        known,
        registry: RegistryClient::new(settings.registry()?)?,
    }))
}

/// A name that no other process has.
fn name_of_its_own() -> String {
    let random = RandomState::new().hash_one(std::process::id());
    format!("{}-{random:016x}", std::process::id())
}

/// Connections that are opened when they are needed.
pub(crate) fn pool(settings: &Settings, connections: u32, name: &str) -> Result<PgPool, RoleError> {
    let options = PgConnectOptions::from_str(settings.postgres()?.expose())
        .map_err(RoleError::Postgres)?
        .application_name(name);
    Ok(PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(5))
        .connect_lazy_with(options))
}

/// What the projector reaches, and whoever mends what it holds back.
pub(crate) fn projector_config(settings: &Settings) -> Result<projector::Config, RoleError> {
    Ok(projector::Config {
        cluster: settings.kafka()?,
        postgres: pool(settings, settings.projector.connections, "annals projector")?,
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
    // Both are for what only Kafka knows; all other reads do without.
    let log = match settings.kafka {
        Some(_) => Some(settings.kafka()?),
        None => None,
    };
    let event_data = match (&log, &settings.registry) {
        (Some(log), Some(_)) => {
            let registry = RegistryClient::new(settings.registry()?)?;
            let decoder = Decoder::new(DeclaredKinds::of(contexts), registry);
            Some(EventData::new(log.clone(), decoder))
        }
        _ => None,
    };
    let config = query_service::Config {
        address: settings.queries.address.clone(),
        generation: settings.generation.clone(),
        connections: settings.queries.connections,
        position_wait_ms: settings.queries.position_wait_ms,
        following: settings.queries.following.clone(),
        client_connections: settings.queries.client_connections,
        client_connections_of_one_address: settings.queries.client_connections_of_one_address,
        history_roles: settings.queries.history_roles.clone(),
        log,
        event_data,
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
