//! A log, a database and a registry of a test's own, and projectors on them.

use std::{
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use dev_stack::DevStack;
use event_log::{
    avro::{CodecError, EventCodec},
    cluster::Cluster,
    registry::{RegistryClient, RegistryError},
    schemas::ContextSchemas,
    topics::{Generation, Purpose, TopicOptions, ensure_topic},
};
use projector::{
    Config, Model, Tuning,
    quarantine::{self, Desk, QuarantinedStream},
    read_side::{Edition, active_edition, checkpoint},
};
use service_kit::{Readiness, SecretUrl};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::{runtime, sync::mpsc, task};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    log::Log,
    models::{Note, schemas},
};

const PARTITIONS: i32 = 2;
/// Long enough for a busy machine; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct World {
    pub cluster: Cluster,
    pub generation: Generation,
    /// The test's own, which is waited for as long as a test waits.
    pub postgres: PgPool,
    /// That of the projectors, which are to notice soon that Postgres is away.
    projectors: PgPool,
    pub registry: RegistryClient,
    registry_url: String,
    /// Whether the projectors that are started swap new versions in without being asked.
    pub swap_unasked: bool,
    _registry: Option<DropGuard>,
}

/// A projector at work. Crashes when it is dropped.
pub struct Running {
    pub readiness: Readiness,
    stop: CancellationToken,
    task: task::JoinHandle<()>,
}

/// A projector that can be held up as a whole, as by SIGSTOP. Ends when it is dropped.
pub struct Apart {
    hold: Option<mpsc::UnboundedSender<std::sync::mpsc::Receiver<()>>>,
    thread: Option<JoinHandle<()>>,
}

impl Apart {
    /// It stands still until what is returned is dropped.
    pub fn hold_up(&self) -> std::sync::mpsc::Sender<()> {
        let (release, released) = std::sync::mpsc::channel();
        self.hold.as_ref().unwrap().send(released).unwrap();
        release
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.hold = None;
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

impl World {
    /// Without topics, and without schemas in the registry.
    pub async fn bare(stack: &DevStack) -> Self {
        // An error means that another test was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let database = stack.fresh_database().await.unwrap();
        let (_, name) = database.rsplit_once('_').unwrap();
        let postgres = |acquired_within| {
            let options = PgPoolOptions::new().max_connections(8);
            let options = options.acquire_timeout(acquired_within);
            options.connect_lazy(&database).unwrap()
        };
        let (registry_url, registry) = serve_registry(&database, "127.0.0.1:0").await;
        Self {
            cluster: Cluster::new(stack.kafka()),
            generation: Generation {
                name: format!("test-{name}"),
                partitions: PARTITIONS,
            },
            postgres: postgres(PATIENCE),
            projectors: postgres(Duration::from_secs(5)),
            registry: RegistryClient::new(&registry_url).unwrap(),
            registry_url,
            swap_unasked: false,
            _registry: Some(registry),
        }
    }

    /// The registry goes, until it is asked back. Returns when it is gone.
    pub async fn end_registry(&mut self) {
        self._registry = None;
        until("nobody answers for the registry", async || {
            let answer = self.registry.schema_of_id(1).await;
            matches!(answer, Err(RegistryError::Unreachable { .. }))
        })
        .await;
    }

    pub async fn serve_registry_again(&mut self) {
        let database = sqlx::ConnectOptions::to_url_lossy(&*self.postgres.connect_options());
        let (_, address) = self.registry_url.split_once("//").unwrap();
        let (_, registry) = serve_registry(database.as_str(), address).await;
        self._registry = Some(registry);
    }

    pub async fn new() -> (Self, Log) {
        let world = Self::bare(dev_stack::shared().await).await;
        world.register_schemas().await;
        world.make_topic().await;
        let log = world.log().await;
        (world, log)
    }

    pub async fn register_schemas(&self) {
        let schemas = schemas();
        for file in schemas.files() {
            let subject = schemas.full_name(&file.event);
            registered(async || self.registry.register(&subject, &file.text).await).await;
        }
    }

    pub async fn make_topic(&self) {
        let topic = self.generation.events_topic("notes");
        let (purpose, options) = (Purpose::Events, TopicOptions::default());
        let began = Instant::now();
        // Where it was deleted a moment ago, the broker may be late to know it again.
        while let Err(error) =
            ensure_topic(&self.cluster, &topic, purpose, PARTITIONS, options).await
        {
            assert!(
                error.is_temporary() && began.elapsed() < PATIENCE,
                "{error}"
            );
        }
    }

    pub async fn log(&self) -> Log {
        let schemas = schemas();
        let codec = registered(async || {
            match EventCodec::<Note>::connect(&[&schemas], &self.registry).await {
                Err(CodecError::Registry(error)) => Err(error),
                connected => Ok(connected.unwrap()),
            }
        });
        Log::own(&self.cluster, &self.generation, codec.await).await
    }

    pub fn start(&self, models: Vec<Model>) -> Running {
        self.start_with(Tuning::default(), models)
    }

    pub fn start_with(&self, tuning: Tuning, models: Vec<Model>) -> Running {
        self.start_on(
            Config {
                tuning,
                ..self.config()
            },
            models,
        )
    }

    /// Under a name by which its partitions wait for it after a crash.
    pub fn start_as(&self, instance: &str, models: Vec<Model>) -> Running {
        self.start_on(
            Config {
                instance: Some(instance.into()),
                ..self.config()
            },
            models,
        )
    }

    /// With other schema files than those of this release.
    pub fn start_reading(&self, schemas: ContextSchemas, models: Vec<Model>) -> Running {
        start(self.config(), models, schemas)
    }

    fn start_on(&self, config: Config, models: Vec<Model>) -> Running {
        start(config, models, schemas())
    }

    /// On a thread of its own, with connections that nobody shares.
    pub fn start_apart(&self, models: Vec<Model>) -> Apart {
        let database = PgConnectOptions::clone(&self.postgres.connect_options());
        let (kafka, registry) = (self.cluster.bootstrap(), self.registry_url.clone());
        let config = self.config();
        let (hold, mut held) = mpsc::unbounded_channel::<std::sync::mpsc::Receiver<()>>();
        let thread = thread::spawn(move || {
            let mut runtime = runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().unwrap();
            runtime.block_on(async {
                let config = Config {
                    cluster: Cluster::new(&kafka),
                    postgres: PgPool::connect_lazy_with(database),
                    registry: RegistryClient::new(&registry).unwrap(),
                    ..config
                };
                let stop = CancellationToken::new();
                let readiness = Readiness::new();
                let run = projector::run(config, models, vec![schemas()], &readiness, stop.clone());
                let run = tokio::spawn(run);
                while let Some(released) = held.recv().await {
                    // Holds up everything on this thread.
                    let _ = released.recv();
                }
                stop.cancel();
                run.await.unwrap().unwrap();
            });
        });
        Apart {
            hold: Some(hold),
            thread: Some(thread),
        }
    }

    fn config(&self) -> Config {
        Config {
            cluster: self.cluster.clone(),
            postgres: self.projectors.clone(),
            registry: self.registry.clone(),
            generation: self.generation.clone(),
            swap_unasked: self.swap_unasked,
            tuning: Tuning::default(),
            instance: None,
        }
    }

    /// Where an operator lets streams go.
    pub fn desk(&self, models: Vec<Model>) -> Desk {
        Desk {
            config: self.config(),
            models,
            schemas: vec![schemas()],
        }
    }

    /// What is in quarantine, by stream.
    pub async fn quarantined(&self) -> Vec<QuarantinedStream> {
        // Before the migration there is no table to ask.
        let mut all = quarantine::list(&self.postgres, None)
            .await
            .unwrap_or_default();
        all.sort_by(|one, other| one.stream.cmp(&other.stream));
        all
    }

    /// Waits until the active edition has projected everything that is in the log.
    pub async fn caught_up(&self, model: &str, log: &Log) {
        for partition in 0..PARTITIONS {
            if let Some(end) = log.end_of(partition) {
                until(&format!("{model} is at {partition}:{end}"), async || {
                    self.checkpoint(model, log, partition).await == Some(end)
                })
                .await;
            }
        }
    }

    pub async fn checkpoint(&self, model: &str, log: &Log, partition: i32) -> Option<i64> {
        let edition = self.edition(model).await?;
        checkpoint(&self.postgres, &edition, &log.topic(), partition)
            .await
            .unwrap()
    }

    pub async fn edition(&self, model: &str) -> Option<Edition> {
        // Before the migration there is no table to ask.
        active_edition(&self.postgres, model).await.ok().flatten()
    }

    /// What the tally has of a stream: events, weight, digest.
    pub async fn tally(&self, stream: &str) -> Option<(i64, i64, String)> {
        sqlx::query_as("select events, weight, digest from rm_tally_e1.tally where stream = $1")
            .bind(format!("main/note/{stream}"))
            .fetch_optional(&self.postgres)
            .await
            .unwrap()
    }

    pub async fn erasures(&self) -> i64 {
        sqlx::query_scalar("select count(*) from rm_erasures_e1.erasures")
            .fetch_one(&self.postgres)
            .await
            .unwrap()
    }

    pub async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.postgres).await.unwrap();
    }
}

impl Running {
    pub async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
    }

    /// Waits until the model says that it cannot go on, with a reason that contains `part`.
    pub async fn troubled(&self, model: &str, part: &str) {
        let component = format!("read model {model}");
        until(&format!("{component} is not ready: {part}"), async || {
            let report = self.readiness.report();
            let state = report.components.get(&component);
            let reason = state.and_then(|state| state.reason.as_deref());
            reason.is_some_and(|reason| reason.contains(part))
        })
        .await;
    }

    pub async fn ready(&self) {
        tokio::time::timeout(PATIENCE, self.readiness.until_ready())
            .await
            .unwrap_or_else(|_| panic!("not ready: {:?}", self.readiness.report()));
    }

    pub fn is_ready(&self, model: &str) -> bool {
        self.readiness.report().components[&format!("read model {model}")].ready
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
        self.stop.cancel();
    }
}

/// What the registry answers when it has its tables, and a connection to them in time.
pub async fn registered<T>(ask: impl AsyncFn() -> Result<T, RegistryError>) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Err(error) if error.is_temporary() && began.elapsed() < PATIENCE => {}
            answer => return answer.unwrap(),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Returns as soon as the condition holds.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn serve_registry(database: &str, address: &str) -> (String, DropGuard) {
    let config = schema_registry::Config {
        address: address.into(),
        postgres: SecretUrl::new(database),
        anonymous: Some(schema_registry::Role::Write),
        ..Default::default()
    };
    let service = loop {
        // The one before may not be gone yet.
        if let Ok(service) = schema_registry::Service::bind(config.clone()).await {
            break service;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let url = format!("http://{}", service.address());
    let stop = CancellationToken::new();
    tokio::spawn(service.serve(stop.clone()));
    (url, stop.drop_guard())
}

fn start(config: Config, models: Vec<Model>, schemas: ContextSchemas) -> Running {
    let readiness = Readiness::new();
    let stop = CancellationToken::new();
    let run = projector::run(config, models, vec![schemas], &readiness, stop.clone());
    let task = tokio::spawn(async { run.await.unwrap() });
    Running {
        readiness,
        stop,
        task,
    }
}
