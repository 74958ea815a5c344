//! The command service as a whole: topics, shards, HTTP.

use std::{collections::HashMap, sync::Arc, time::Duration};

use event_log::{
    avro::CodecError,
    broker::{BrokerError, fence_lifetime},
    cluster::Cluster,
    registry::{RegistryClient, RegistryError},
    topics::{Generation, Purpose, TopicError, TopicOptions, ensure_topic},
};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use kernel::{StreamId, Tenant};
use service_kit::{Readiness, readiness::Component};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    commands::{Commands, ShardHandle, Shards},
    config::Config,
    shard::{self, ContextFactory, ShardSettings, ShardStatus},
    streams::ContextStreams,
};

const PAUSE: Duration = Duration::from_millis(500);

/// What a command service stands on.
pub struct CommandService {
    pub kafka: Cluster,
    pub registry: RegistryClient,
    pub generation: Generation,
    pub topics: TopicOptions,
    pub config: Config,
    pub contexts: Vec<ContextStreams>,
}

/// Why a command service cannot start, however long it waits.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("{kind:?} cannot be a kind of stream: a-z, 0-9 and '-' only")]
    Kind { kind: &'static str },
    #[error("two contexts have streams of kind {kind}")]
    DuplicateKind { kind: &'static str },
}

impl StartError {
    /// Whether waiting may help: something that we need is away.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Topic(error) => error.is_temporary(),
            // Schemas may be registered at any moment.
            Self::Codec(CodecError::Registry(error)) => {
                error.is_temporary() || matches!(error, RegistryError::Unknown { .. })
            }
            Self::Broker(BrokerError::Cluster(_) | BrokerError::Wire(_)) => true,
            Self::Broker(_) | Self::Codec(_) | Self::DuplicateKind { .. } | Self::Kind { .. } => {
                false
            }
        }
    }
}

/// Runs until shutdown; ends early only with what waiting cannot mend.
pub type Running = BoxFuture<'static, Result<(), StartError>>;

impl CommandService {
    /// Commands can be sent at once; they are answered 503 `not-served` until
    /// `Running`, which has to be awaited, has found Kafka and the registry and
    /// restored the shards. Readiness says what is waited for.
    ///
    /// After `shutdown`, what is in flight is still answered.
    pub fn start(
        self,
        readiness: &Readiness,
        shutdown: CancellationToken,
    ) -> Result<(Commands, Running), StartError> {
        let ready = readiness.component("shards");
        let kafka = readiness.component("kafka");
        let lanes = self.lanes()?;
        let mut shards = Vec::new();
        let mut ends = Vec::new();
        for _ in 0..self.generation.partitions {
            let (requests, incoming) = mpsc::channel(self.config.queue);
            let starting = ShardStatus::Starting("waiting for Kafka and the registry".into());
            let (sender, status) = watch::channel(starting);
            shards.push(ShardHandle { requests, status });
            ends.push((incoming, sender));
        }
        let statuses = shards.iter().map(|shard| shard.status.clone()).collect();
        let commands = Commands::new(Shards {
            shards,
            lanes,
            answer_within: Duration::from_millis(self.config.answer_within_ms),
        });
        let running = async move {
            let Some(Prepared {
                contexts,
                fence_lifetime,
            }) = self.prepared(&ready, &shutdown).await?
            else {
                return Ok(());
            };
            let settings = Arc::new(ShardSettings {
                cluster: self.kafka,
                generation: self.generation,
                contexts,
                fence_lifetime,
                config: self.config,
            });
            let mut owners = JoinSet::new();
            for ((incoming, status), partition) in ends.into_iter().zip(0..) {
                let settings = settings.clone();
                owners.spawn(shard::run(
                    settings,
                    partition,
                    incoming,
                    status,
                    shutdown.clone(),
                ));
            }
            let reporting = tokio::join!(
                report(statuses, ready, &shutdown),
                watch_kafka(&settings.cluster, kafka, &shutdown),
            );
            let ((), ()) = reporting;
            // A shard that panicked has a bug; its log line says which.
            while let Some(ended) = owners.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a shard ended");
                }
            }
            Ok(())
        };
        Ok((commands, Box::pin(running)))
    }

    /// Waits for what is away; `None` when shutdown came first.
    async fn prepared(
        &self,
        ready: &Component,
        shutdown: &CancellationToken,
    ) -> Result<Option<Prepared>, StartError> {
        loop {
            let prepared = tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                prepared = self.prepare() => prepared,
            };
            match prepared {
                Ok(prepared) => return Ok(Some(prepared)),
                Err(error) if error.is_temporary() => ready.not_ready(chain(&error)),
                Err(error) => return Err(error),
            }
            sleep(PAUSE).await;
        }
    }

    fn lanes(&self) -> Result<HashMap<&'static str, usize>, StartError> {
        let mut lanes = HashMap::new();
        for (lane, context) in self.contexts.iter().enumerate() {
            for kind in context.kind_names() {
                StreamId::new(&Tenant::default(), kind, "id")
                    .map_err(|_| StartError::Kind { kind })?;
                if lanes.insert(kind, lane).is_some() {
                    return Err(StartError::DuplicateKind { kind });
                }
            }
        }
        Ok(lanes)
    }

    /// Makes and checks the topics and fetches the schema ids.
    async fn prepare(&self) -> Result<Prepared, StartError> {
        let Generation { partitions, .. } = self.generation;
        let owners = self.generation.owners_topic();
        ensure_topic(
            &self.kafka,
            &owners,
            Purpose::Owners,
            partitions,
            self.topics,
        )
        .await?;
        let mut contexts = Vec::new();
        for context in &self.contexts {
            let topic = self.generation.events_topic(context.context());
            ensure_topic(
                &self.kafka,
                &topic,
                Purpose::Events,
                partitions,
                self.topics,
            )
            .await?;
            contexts.push(ContextFactory {
                name: context.context().to_owned(),
                kinds: context.connect(&self.registry).await?,
            });
        }
        Ok(Prepared {
            contexts,
            fence_lifetime: fence_lifetime(&self.kafka).await?,
        })
    }
}

/// What starting found out.
struct Prepared {
    contexts: Vec<ContextFactory>,
    fence_lifetime: Duration,
}

/// Keeps readiness true to the shards: ready when all are served.
async fn report(
    mut statuses: Vec<watch::Receiver<ShardStatus>>,
    ready: Component,
    shutdown: &CancellationToken,
) {
    loop {
        let trouble = statuses.iter_mut().enumerate().find_map(|(shard, status)| {
            let status = status.borrow_and_update();
            Some(format!("shard {shard}: {}", status.trouble()?))
        });
        match trouble {
            None => ready.ready(),
            Some(reason) => ready.not_ready(reason),
        }
        // A sender that is gone is a shard that has panicked: its last status would stay.
        let gone = statuses
            .iter()
            .position(|status| status.has_changed().is_err());
        if let Some(shard) = gone.filter(|_| !shutdown.is_cancelled()) {
            ready.not_ready(format!(
                "shard {shard} ended with a bug; restart this process"
            ));
            shutdown.cancelled().await;
            return;
        }
        let mut changes: FuturesUnordered<_> = statuses
            .iter_mut()
            .map(|status| Box::pin(status.changed()))
            .collect();
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = changes.next() => {}
        }
    }
}

/// An idle shard does not notice that Kafka is away.
async fn watch_kafka(cluster: &Cluster, ready: Component, shutdown: &CancellationToken) {
    const EVERY: Duration = Duration::from_secs(1);
    loop {
        let reached = tokio::select! {
            () = shutdown.cancelled() => return,
            reached = cluster.reach() => reached,
        };
        match reached {
            Ok(()) => ready.ready(),
            Err(error) => ready.not_ready(chain(&error)),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(EVERY) => {}
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    service_kit::problem::Chain(error).to_string()
}
