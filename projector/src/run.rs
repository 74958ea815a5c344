//! The projector as a service: all its models, until it is told to stop.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use event_log::{
    avro::CodecError, cluster::Cluster, registry::RegistryClient, schemas::ContextSchemas,
    topics::Generation,
};
use service_kit::readiness::{Component, Readiness};
use sqlx::PgPool;
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    Model, backoff::Backoff, failure::chain, feeding::feed, health::Health,
    membership::new_instance, read_side, worker::Platform,
};

/// Where the projector reads and writes.
#[derive(Clone, Debug)]
pub struct Config {
    pub cluster: Cluster,
    /// One connection for each partition that is busy at the same time is of use.
    pub postgres: PgPool,
    pub registry: RegistryClient,
    pub generation: Generation,
    /// Let a new version's edition be read as soon as it has caught up, without a comparison:
    /// where nothing else reads or feeds the one before.
    pub swap_unasked: bool,
    pub tuning: Tuning,
    /// By which Kafka's coordinator knows this process again, so that its partitions wait for it
    /// when it is started anew; no other process may have it. A name of its own unless given.
    pub instance: Option<String>,
}

/// What an operator may set about how it works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// How many streams of an edition may be quarantined within a minute. When there would be
    /// more, the edition stops and is not ready: the events will not be at fault.
    pub quarantined_per_minute: u32,
    /// For how many records of each partition an edition's table `changes` is kept.
    pub changes_kept: i64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            quarantined_per_minute: 10,
            changes_kept: 100_000,
        }
    }
}

/// The models do not fit the binary that they are in.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("there are two read models named {model}")]
    TwoOfAName { model: &'static str },
    #[error("read model {model} takes events of {context}, which is no context of this binary")]
    NoSuchContext {
        model: &'static str,
        context: &'static str,
    },
    #[error("read model {model} takes events that have no usable schema")]
    Events {
        model: &'static str,
        #[source]
        source: CodecError,
    },
}

/// Keeps the models up to date until `shutdown`. `schemas` are those of all contexts.
///
/// Kafka, Postgres and the registry may come later and go in between: readiness says so,
/// a component for each model and one for Postgres, and projecting goes on when they are back.
/// The components are there when this returns, before its future is first polled.
pub fn run(
    config: Config,
    models: Vec<Model>,
    schemas: Vec<ContextSchemas>,
    readiness: &Readiness,
    shutdown: CancellationToken,
) -> impl Future<Output = Result<(), RunError>> + Send + 'static {
    let database = readiness.component("postgres");
    let watched: Vec<_> = models
        .into_iter()
        .map(|model| {
            let component = readiness.component(&format!("read model {}", model.name));
            (model, Arc::new(Health::new(component)))
        })
        .collect();
    let platform = Arc::new(Platform {
        cluster: config.cluster,
        postgres: config.postgres,
        registry: config.registry,
        generation: config.generation,
        schemas,
        swap_unasked: config.swap_unasked,
        tuning: config.tuning,
        instance: config.instance.unwrap_or_else(new_instance),
    });
    async move {
        check(&watched, &platform)?;
        let migrate = migrate(&platform.postgres, &database);
        if shutdown.run_until_cancelled(migrate).await.is_none() {
            return Ok(());
        }
        let mut tasks = JoinSet::new();
        for (model, health) in watched {
            tasks.spawn(feed(platform.clone(), model, health, shutdown.clone()));
        }
        shutdown
            .run_until_cancelled(watch_postgres(&platform.postgres, &database))
            .await;
        tasks.join_all().await;
        Ok(())
    }
}

fn check(models: &[(Model, Arc<Health>)], platform: &Platform) -> Result<(), RunError> {
    let mut names = BTreeSet::new();
    for (model, _) in models {
        if !names.insert(model.name) {
            return Err(RunError::TwoOfAName { model: model.name });
        }
        if let Some(context) = model.contexts.missing_in(&platform.schemas) {
            return Err(RunError::NoSuchContext {
                model: model.name,
                context,
            });
        }
        model
            .check(&platform.schemas_of(model))
            .map_err(|source| RunError::Events {
                model: model.name,
                source,
            })?;
    }
    Ok(())
}

async fn migrate(postgres: &PgPool, database: &Component) {
    let mut backoff = Backoff::new();
    while let Err(error) = read_side::migrate(postgres).await {
        database.not_ready(chain(&error));
        backoff.pause().await;
    }
    database.ready();
}

/// A model without news would not notice that Postgres is away.
async fn watch_postgres(postgres: &PgPool, database: &Component) {
    const EVERY: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_secs(5);
    loop {
        tokio::time::sleep(EVERY).await;
        match timeout(PATIENCE, sqlx::query("select 1").execute(postgres)).await {
            Ok(Ok(_)) => database.ready(),
            Ok(Err(error)) => database.not_ready(chain(&error)),
            Err(_) => database.not_ready(format!("no answer within {PATIENCE:?}")),
        }
    }
}
