//! A command service with one kind of stream, a counter, on servers of the tests.

use std::{sync::Arc, time::Duration};

use command_service::{
    Acceptance, CommandError, CommandService, Commands, Config, ContextStreams, Submission,
};
use dev_stack::DevStack;
use event_log::{
    Fingerprint,
    batch::BatchBuilder,
    cluster::Cluster,
    envelope::CommandHeaders,
    registry::RegistryClient,
    schemas::ContextSchemas,
    topics::{Generation, TopicOptions},
};
use kernel::{Actor, CommandId, Decider, Meta, Rejection, StreamId, StreamVersion, Tenant};
use serde::{Deserialize, Serialize};
use service_kit::Readiness;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Counter(pub i32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Count {
    Counted { by: i32 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Add(pub i32);

#[derive(Debug, thiserror::Error)]
#[error("the counter would pass 100")]
pub struct Full;

impl Rejection for Full {
    fn code(&self) -> &'static str {
        "full"
    }
}

impl Decider for Counter {
    const KIND: &'static str = "counter";
    type Command = Add;
    type Event = Count;
    type Rejection = Full;

    fn decide(&self, Add(by): &Add, _: &Meta) -> Result<Vec<Count>, Full> {
        assert_ne!(*by, BUG, "asked to");
        match self.0 + by {
            101.. => Err(Full),
            _ => Ok(vec![Count::Counted { by: *by }]),
        }
    }

    fn evolve(&mut self, Count::Counted { by }: &Count) {
        self.0 += by;
    }
}

/// To add this is a bug.
pub const BUG: i32 = -666;

/// After so many records the services here make a snapshot.
pub const SNAPSHOT_EVERY: u64 = 20;

/// A running service; ends with the test.
pub struct World {
    pub kafka: Cluster,
    pub generation: Generation,
    commands: Commands,
    readiness: Readiness,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
}

impl World {
    /// Starts on one partition and waits until it serves.
    pub async fn start(stack: &DevStack, generation: Generation) -> Self {
        let world = Self::try_start(stack, generation).await;
        world.readiness.until_ready().await;
        world
    }

    /// Waits until the shards are not served for a reason that says this; ends, and answers it all.
    pub async fn until_not_served(self, because: &str) -> String {
        let told = async {
            loop {
                let report = self.readiness.report();
                let reason = report.components["shards"].reason.clone();
                match reason.filter(|reason| reason.contains(because)) {
                    Some(reason) => return reason,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        let told = tokio::time::timeout(Duration::from_secs(90), told).await;
        let reason = told.expect("it did not say so");
        self.stop().await;
        reason
    }

    /// Starts on one partition.
    pub async fn try_start(stack: &DevStack, generation: Generation) -> Self {
        let shutdown = CancellationToken::new();
        let service = service(stack, generation.clone()).await;
        let kafka = service.kafka.clone();
        let readiness = Readiness::new();
        let (commands, running) = service.start(&readiness, shutdown.clone()).unwrap();
        let running = tokio::spawn(async move { running.await.unwrap() });
        Self {
            readiness,
            kafka,
            generation,
            commands,
            shutdown,
            running,
        }
    }

    pub async fn add(&self, stream: &str, key: &str, by: i32) -> Result<Acceptance, CommandError> {
        let submission = submission(stream, key, by);
        self.commands.submit::<Counter>(submission, Add(by)).await
    }

    /// Again with the same key, until the shard is served.
    pub async fn until_served(&self, stream: &str, key: &str, by: i32) -> Acceptance {
        let answered = async {
            loop {
                match self.add(stream, key, by).await {
                    Err(CommandError::NotServed { .. }) => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    answer => return answer.unwrap(),
                }
            }
        };
        let answered = tokio::time::timeout(Duration::from_secs(90), answered).await;
        answered.expect("it was not served again")
    }

    pub fn commands(&self) -> &Commands {
        &self.commands
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }
}

/// One that does not run yet, with a registry of its own.
pub async fn service(stack: &DevStack, generation: Generation) -> CommandService {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let registry = start_registry(stack).await;
    let schemas = schemas();
    for file in schemas.files() {
        let subject = schemas.full_name(&file.event);
        while registry.register(&subject, &file.text).await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    CommandService {
        kafka: Cluster::new(stack.kafka()),
        registry,
        generation,
        topics: TopicOptions::default(),
        config: Config {
            // Some of the brokers here forget soon, to be waited for.
            least_fence_lifetime_ms: 1,
            snapshot_every: SNAPSHOT_EVERY,
            // However busy this machine is.
            answer_within_ms: 90_000,
            ..Config::default()
        },
        contexts: vec![ContextStreams::new(Arc::new(schemas)).stream::<Counter>()],
    }
}

pub fn counter(stream: &str) -> StreamId {
    StreamId::new(&Tenant::default(), "counter", stream).unwrap()
}

pub fn submission(stream: &str, key: &str, by: i32) -> Submission {
    let tenant = Tenant::default();
    let meta = Meta {
        stream: StreamId::new(&tenant, "counter", stream).unwrap(),
        tenant,
        actor: Actor::User("ada".into()),
        at: std::time::SystemTime::now().into(),
        command_id: CommandId::parse(key).unwrap(),
        correlation_id: Uuid::nil(),
        causation_id: None,
        written: Default::default(),
    };
    Submission::new(meta, Fingerprint([by as u8; 16]))
}

/// An event as an owner of this term would have written it.
pub fn write_event(batch: &mut BatchBuilder, term: u64) {
    let tenant = Tenant::default();
    let meta = Meta {
        stream: StreamId::new(&tenant, "counter", "b").unwrap(),
        tenant,
        actor: Actor::User("ada".into()),
        at: std::time::SystemTime::now().into(),
        command_id: CommandId::parse("1").unwrap(),
        correlation_id: Uuid::nil(),
        causation_id: None,
        written: Default::default(),
    };
    let headers = CommandHeaders::new(
        &meta,
        "/annals/counting",
        Fingerprint([0; 16]),
        None,
        1,
        term,
    );
    batch.push(b"main/counter/b", Some(&[0, 0, 0, 0, 1, 2]), |writer| {
        headers.write(writer, "annals.counting.Counted", StreamVersion(1), 0);
    });
}

/// One partition, under a name of its own.
pub fn generation() -> Generation {
    Generation {
        name: format!("t{}", &Uuid::new_v4().simple().to_string()[..12]),
        partitions: 1,
    }
}

fn schemas() -> ContextSchemas {
    let counted = r#"{"type":"record","namespace":"annals.counting","name":"Counted",
        "fields":[{"name":"by","type":"int"}]}"#;
    ContextSchemas::load("counting", [("Counted.v1.avsc", counted)]).unwrap()
}

/// It ends with the test.
async fn start_registry(stack: &DevStack) -> RegistryClient {
    let config = schema_registry::Config {
        address: "127.0.0.1:0".into(),
        postgres: service_kit::SecretUrl::new(stack.fresh_database().await.unwrap()),
        anonymous: Some(schema_registry::Role::Write),
        ..Default::default()
    };
    let service = schema_registry::Service::bind(config).await.unwrap();
    let address = format!("http://{}", service.address());
    tokio::spawn(service.serve(CancellationToken::new()));
    RegistryClient::new(&address).unwrap()
}
