//! The command service as a whole: topics, shards, HTTP.

use std::{collections::HashMap, sync::Arc, time::Duration};

use event_log::{
    avro::CodecError,
    broker::{BrokerError, fence_lifetime},
    cluster::Cluster,
    group::GroupError,
    registry::{RegistryClient, RegistryError},
    self_test::{SelfTestError, self_test},
    snapshots::{SnapshotError, SnapshotTopic},
    topics::{Generation, Purpose, TopicError, TopicOptions, ensure_topic},
};
use futures::{FutureExt, future::BoxFuture};
use kernel::{StreamId, Tenant};
use service_kit::{Readiness, readiness::Component};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    commands::{Commands, ShardHandle, Shards},
    config::Config,
    directory::{Directory, directory},
    health,
    http::forward,
    membership::{Group, membership},
    preparing::Preparing,
    shard::{self, ContextFactory, ShardSettings, ShardStatus},
    streams::ContextStreams,
    switch::{Switch, SwitchError},
};

const PAUSE: Duration = Duration::from_millis(500);
/// How long a node that is asked to end waits for others to take its shards over.
const HAND_OVER: Duration = Duration::from_secs(3);

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
    #[error(transparent)]
    Snapshots(#[from] SnapshotError),
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
    #[error(
        "{0}: each node needs an address of its own, which others reach it at; see \
         ANNALS_COMMANDS__ADVERTISE"
    )]
    Replaced(GroupError),
    #[error(transparent)]
    Group(GroupError),
    #[error("{kind:?} cannot be a kind of stream: a-z, 0-9 and '-' only")]
    Kind { kind: &'static str },
    #[error(transparent)]
    Switch(#[from] SwitchError),
    #[error("two contexts have streams of kind {kind}")]
    DuplicateKind { kind: &'static str },
}

impl StartError {
    /// Whether waiting may help: something that we need is away.
    fn is_temporary(&self) -> bool {
        match self {
            Self::Topic(error) => error.is_temporary(),
            // Schemas may be registered at any moment, and rules that do not fit taken back.
            Self::Codec(CodecError::Registry(error)) => {
                let may_change = matches!(
                    error,
                    RegistryError::Unknown { .. } | RegistryError::Rules { .. }
                );
                error.is_temporary() || may_change
            }
            Self::Codec(CodecError::Plan { .. }) => true,
            Self::Broker(error) => error.is_temporary(),
            Self::SelfTest(error) => error.is_temporary(),
            Self::Switch(error) => error.is_temporary(),
            Self::Codec(_)
            | Self::Snapshots(_)
            | Self::Replaced(_)
            | Self::Group(_)
            | Self::DuplicateKind { .. }
            | Self::Kind { .. } => false,
        }
    }
}

impl From<GroupError> for StartError {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Replaced { .. } => Self::Replaced(error),
            _ => Self::Group(error),
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
    /// After `shutdown`, commands are taken until other nodes have taken the shards over, and
    /// what is in flight then is still answered.
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
            let facts = Arc::default();
            shards.push(ShardHandle {
                requests,
                status,
                facts,
            });
            ends.push((incoming, sender));
        }
        let mut config = self.config.clone();
        config.address = config.advertise.take().unwrap_or(config.address);
        let partitions = self.generation.partitions;
        let (membership, group) = membership(&config, partitions);
        let (claims, directory) = directory(partitions);
        let statuses: Vec<_> = shards.iter().map(|shard| shard.status.clone()).collect();
        let facts: Vec<_> = shards.iter().map(|shard| shard.facts.clone()).collect();
        let known = self.contexts.iter().map(ContextStreams::known_versions);
        let switch = Switch::new(&self.kafka, &self.generation, known.collect());
        let switch = Arc::new(switch);
        let ended = CancellationToken::new();
        let commands = Commands::new(Shards {
            preparing: Preparing::default(),
            shards,
            lanes,
            answer_within: Duration::from_millis(config.answer_within_ms),
            hand_over_wait: Duration::from_millis(config.hand_over_wait_ms),
            group: group.clone(),
            directory: directory.clone(),
            client: forward::client(),
            ended: ended.clone(),
        });
        let running = async move {
            let _ended = ended.clone().drop_guard();
            let Some(Prepared {
                contexts,
                fence_lifetime,
                snapshots,
            }) = self.prepared(&switch, &ready, &shutdown).await?
            else {
                return Ok(());
            };
            let settings = Arc::new(ShardSettings {
                cluster: self.kafka,
                generation: self.generation,
                contexts,
                fence_lifetime,
                config,
                group: group.clone(),
                directory,
                facts,
                snapshots,
                switch: switch.clone(),
            });
            let mut owners = JoinSet::new();
            for ((incoming, status), partition) in ends.into_iter().zip(0..) {
                let settings = settings.clone();
                owners.spawn(shard::run(
                    settings,
                    partition,
                    incoming,
                    status,
                    ended.clone(),
                ));
            }
            let (cluster, generation) = (&settings.cluster, &settings.generation);
            // A node that may not decide any more leaves as one that is asked to.
            let leaving = shutdown.child_token();
            let mut unreadable = None;
            let switching = switch.follow(|found| {
                unreadable = Some(found);
                leaving.cancel();
            });
            let member = membership.run(cluster, generation.owners_topic(), &leaving);
            let serving = async {
                let closing = hand_over(&group, &settings.directory, statuses.clone(), &leaving);
                let closing = closing.map(|()| ended.cancel());
                let reporting = health::report(statuses, &group, ready, &ended);
                tokio::join!(closing, reporting, health::watch(cluster, kafka, &ended));
                Ok(())
            };
            let result = tokio::select! {
                result = async { tokio::try_join!(member, serving) } => result,
                never = claims.follow(cluster, generation, &group) => match never {},
                never = switching => match never {},
            };
            ended.cancel();
            // A shard that panicked has a bug; its log line says which.
            while let Some(ended) = owners.join_next().await {
                if let Err(error) = ended {
                    tracing::error!(%error, "a shard ended");
                }
            }
            result?;
            match unreadable {
                None => Ok(()),
                Some(unreadable) => Err(SwitchError::from(unreadable).into()),
            }
        };
        Ok((commands, Box::pin(running)))
    }

    /// Waits for what is away; `None` when shutdown came first.
    async fn prepared(
        &self,
        switch: &Switch,
        ready: &Component,
        shutdown: &CancellationToken,
    ) -> Result<Option<Prepared>, StartError> {
        loop {
            let prepared = tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                prepared = self.prepare(switch) => prepared,
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

    /// Makes and checks the topics, fetches the schema ids, and asks what is written.
    async fn prepare(&self, switch: &Switch) -> Result<Prepared, StartError> {
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
        let answers = self.generation.answers_topic();
        let purpose = Purpose::Events;
        ensure_topic(&self.kafka, &answers, purpose, partitions, self.topics).await?;
        let mut contexts = Vec::new();
        let mut topics = vec![owners, answers];
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
            topics.push(topic);
        }
        switch.prepare(self.topics).await?;
        let at_least = Duration::from_millis(self.config.least_fence_lifetime_ms);
        let fence_lifetime = fence_lifetime(&self.kafka, at_least).await?;
        self_test(&self.kafka, &self.generation, &topics, self.topics).await?;
        Ok(Prepared {
            contexts,
            fence_lifetime,
            snapshots: self.snapshots().await?,
        })
    }

    /// The topic of snapshots, unless there are to be none.
    async fn snapshots(&self) -> Result<Option<SnapshotTopic>, StartError> {
        if self.config.snapshot_every == 0 {
            return Ok(None);
        }
        let topic = self.generation.snapshots_topic();
        let partitions = self.generation.partitions;
        let purpose = Purpose::Snapshots;
        ensure_topic(&self.kafka, &topic, purpose, partitions, self.topics).await?;
        Ok(Some(SnapshotTopic::new(&self.kafka, topic)?))
    }
}

/// What starting found out.
struct Prepared {
    contexts: Vec<ContextFactory>,
    fence_lifetime: Duration,
    snapshots: Option<SnapshotTopic>,
}

/// After the shutdown began: others take the shards over while they are still served here.
/// Returns when they have and it is known who, so that what still comes here can be sent on; or when
/// nobody does.
async fn hand_over(
    group: &Group,
    directory: &Directory,
    statuses: Vec<watch::Receiver<ShardStatus>>,
    shutdown: &CancellationToken,
) {
    shutdown.cancelled().await;
    if group.is_alone() || !group.has_joined() {
        return;
    }
    let taken = async {
        for (shard, mut status) in (0..).zip(statuses) {
            let _ = status.wait_for(|it| *it == ShardStatus::Elsewhere).await;
            directory.until_claimed(shard, group.address()).await;
        }
    };
    if timeout(HAND_OVER, taken).await.is_err() {
        tracing::warn!("ended with shards that no other node has taken over");
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    service_kit::problem::Chain(error).to_string()
}
