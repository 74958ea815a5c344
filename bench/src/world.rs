//! What everything is measured on: a stack, a registry with the schemas, a key for tokens.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use dev_stack::DevStack;
use event_log::{
    cluster::Cluster,
    registry::RegistryClient,
    schemas::ContextSchemas,
    topics::{DEFAULT_PARTITIONS, Generation, TopicOptions},
};
use kernel::Actor;
use service_kit::{DevKey, SecretUrl, TokenRequest};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::Result;

/// Tasks that commands go to, each a stream.
pub const TASKS: usize = 1_000;

/// As many as a deployment has that does not say otherwise.
pub const DEFAULT_SHARDS: u16 = DEFAULT_PARTITIONS as u16;

/// Whose commands these are: a manager, who may assign.
pub const CALLER: &str = "manager";

pub struct World {
    pub folder: PathBuf,
    pub kafka: String,
    pub postgres: String,
    pub registry: String,
    pub topics: TopicOptions,
    /// Of every generation; the topics have as many partitions.
    pub shards: u16,
    stack: DevStack,
    key: DevKey,
    shutdown: CancellationToken,
}

impl World {
    /// With `fsync`, Kafka syncs each append to disk.
    pub async fn start(fsync: bool, shards: u16) -> Result<Self> {
        let stack = DevStack::temporary().await?;
        let folder = stack
            .data_dir()
            .ok_or("a temporary stack has a folder")?
            .to_owned();
        let postgres = stack.create_database("annals").await?;
        let shutdown = CancellationToken::new();
        let registry = schema_registry::Service::bind(schema_registry::Config {
            address: "127.0.0.1:0".into(),
            postgres: SecretUrl::new(&postgres),
            anonymous: Some(schema_registry::Role::Write),
            ..Default::default()
        })
        .await?;
        let world = Self {
            kafka: stack.kafka().into(),
            registry: format!("http://{}", registry.address()),
            topics: TopicOptions {
                sync_each_append: fsync,
                ..TopicOptions::default()
            },
            key: DevKey::load_or_create(&key_file(&folder))?,
            shards,
            postgres,
            folder,
            stack,
            shutdown: shutdown.clone(),
        };
        tokio::spawn(registry.serve(shutdown));
        world.register(tasks::context().schemas()).await?;
        Ok(world)
    }

    /// Ends the servers and removes their data, which is some gigabytes.
    pub async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        self.stack.stop().await;
        Ok(dev_stack::wipe(&self.folder)?)
    }

    pub fn cluster(&self) -> Cluster {
        Cluster::new(&self.kafka)
    }

    pub fn registry(&self) -> Result<RegistryClient> {
        Ok(RegistryClient::new(&self.registry)?)
    }

    /// The benchmarks keep apart by generations.
    pub fn generation(&self, name: &str) -> Generation {
        Generation {
            name: name.into(),
            partitions: self.shards.into(),
        }
    }

    pub fn key_file(&self) -> PathBuf {
        key_file(&self.folder)
    }

    /// A bearer token that lets its caller assign tasks.
    pub fn token(&self) -> String {
        let request = TokenRequest::new(Actor::User(CALLER.into())).role("manager");
        self.key.issue(&request, Duration::from_secs(3_600))
    }

    /// The registry may need a moment to make its tables.
    async fn register(&self, schemas: &ContextSchemas) -> Result<()> {
        let registry = self.registry()?;
        let deadline = Instant::now() + Duration::from_secs(30);
        for file in schemas.files() {
            let subject = schemas.full_name(&file.event);
            loop {
                match registry.register_file(&subject, file).await {
                    Ok(_) => break,
                    Err(error) if error.is_temporary() && Instant::now() < deadline => {
                        sleep(Duration::from_millis(20)).await;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }
}

fn key_file(folder: &Path) -> PathBuf {
    folder.join("dev-key.pem")
}
