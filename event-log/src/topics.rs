//! The topics of a generation: their names, their making, and the check that
//! they are what the log protocol needs.

pub(crate) mod logbook;
mod making;
mod settings;

use std::{collections::BTreeMap, time::Duration};

use kafka_protocol::{
    ResponseError,
    messages::{MetadataRequest, MetadataResponse, metadata_request::MetadataRequestTopic},
};
use uuid::Uuid;

use crate::{
    Position,
    cluster::{Cluster, ClusterError, topic_name},
    fetch::FetchError,
    wire::WireError,
};
pub use settings::Wanted;

/// How many partitions a new generation gets unless told otherwise.
pub const DEFAULT_PARTITIONS: i32 = 8;
const READY_WITHIN: Duration = Duration::from_secs(20);

/// The topics of one generation of the log. All have the same number of partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    pub name: String,
    pub partitions: i32,
}

impl Generation {
    /// Topic of a context's events.
    pub fn events_topic(&self, context: &str) -> String {
        format!("annals.{context}.events.{}", self.name)
    }

    /// Topic of claims and barriers.
    pub fn owners_topic(&self) -> String {
        format!("annals.owners.{}", self.name)
    }

    /// Topic of the answers that have no events and are recorded all the same.
    pub fn answers_topic(&self) -> String {
        format!("annals.answers.{}", self.name)
    }

    /// Topic of what spares an owner from reading the whole log. It may be wiped at any time.
    pub fn snapshots_topic(&self) -> String {
        format!("annals.snapshots.{}", self.name)
    }

    /// Topic on which each start proves that the cluster fences.
    pub fn self_test_topic(&self) -> String {
        format!("annals.selftest.{}", self.name)
    }

    /// Names the shard to Kafka's transaction coordinator, after the topic that
    /// it protects: who writes the same partitions fences the same predecessors.
    pub fn transactional_id(&self, partition: i32) -> String {
        format!("{}.{partition}", self.owners_topic())
    }

    /// Where each partition of a topic begins.
    pub fn beginnings(&self, topic: &str) -> Vec<Position> {
        let beginning = |partition| Position {
            topic: topic.into(),
            partition,
            offset: 0,
        };
        (0..self.partitions).map(beginning).collect()
    }
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Events, and answers that have none: kept for ever.
    Events,
    /// Claims: the newest per key is kept.
    Owners,
    /// What each start tries out and notes down: the newest per key is kept.
    Scratch,
    /// What may be missing: the newest per key is kept.
    Snapshots,
    /// What all generations are told: the newest per key is kept.
    Control,
}

/// How topics are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopicOptions {
    /// Replicas of each partition; 3 in production, with 2 in sync.
    pub replication: i16,
    /// Sync to disk at each append: for comparison with databases that do.
    pub sync_each_append: bool,
}

impl Default for TopicOptions {
    fn default() -> Self {
        Self {
            replication: 1,
            sync_each_append: false,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("failed to create topic {topic}: {reason}")]
    Create {
        topic: String,
        reason: String,
        /// Whether it may pass, such as a broker that has not registered yet.
        temporary: bool,
    },
    #[error("failed to read the settings of topic {topic}: {reason}")]
    Describe {
        topic: String,
        reason: String,
        temporary: bool,
    },
    #[error(
        "topic {topic} has {found} partitions, but this generation has {expected}: start with \
         ANNALS_PARTITIONS={found}, or rewrite the log into a new generation"
    )]
    Partitions {
        topic: String,
        found: i32,
        expected: i32,
    },
    #[error(
        "topic {topic} has {found} replicas of partition {partition}, but {expected} are \
         configured: add some with kafka-reassign-partitions, or start with \
         ANNALS_REPLICATION={found}"
    )]
    Replicas {
        topic: String,
        partition: i32,
        found: usize,
        expected: i16,
    },
    #[error(
        "topic {topic} has {setting}={found}, but needs {wanted}: set it with kafka-configs \
         --alter --topic {topic} --add-config {setting}={}", wanted.value()
    )]
    Setting {
        topic: String,
        setting: &'static str,
        found: String,
        wanted: Wanted,
    },
    #[error(
        "topic {topic} partition {partition} begins at offset {begin}: its earlier records were \
         deleted, and nothing can be restored without them; bring the topic back from a backup, or \
         begin anew with another ANNALS_GENERATION"
    )]
    Truncated {
        topic: String,
        partition: i32,
        begin: i64,
    },
    #[error(
        "topic {topic} is not the one of the last start: somebody deleted it, and it was made \
         again (id {found}, was {noted}); bring it back from a backup, or begin anew with another \
         ANNALS_GENERATION"
    )]
    Recreated {
        topic: String,
        noted: Uuid,
        found: Uuid,
    },
    #[error(
        "topic {topic} partition {partition} ends at offset {end}, but an earlier start saw it \
         reach {was}: the brokers lost acknowledged records; bring the topic back from a backup, \
         or begin anew with another ANNALS_GENERATION"
    )]
    CutOff {
        topic: String,
        partition: i32,
        was: i64,
        end: i64,
    },
    #[error(
        "generation {generation} was written with {noted}, but this process has {found}: streams \
         would be looked for in other partitions; start with what it was written with, or rewrite \
         the log into a new generation"
    )]
    Reshaped {
        generation: String,
        noted: String,
        found: String,
    },
    #[error("failed to read what was noted down in {topic}")]
    Notes {
        topic: String,
        #[source]
        source: FetchError,
    },
    #[error("topic {topic} was not ready within {READY_WITHIN:?}: {last}")]
    NotReady { topic: String, last: String },
}

/// Makes the topic if it is missing, waits until every partition is served,
/// and checks what the log protocol relies on, however old the topic is.
pub async fn ensure_topic(
    cluster: &Cluster,
    topic: &str,
    purpose: Purpose,
    partitions: i32,
    options: TopicOptions,
) -> Result<(), TopicError> {
    making::create(cluster, topic, purpose, partitions, options).await?;
    let metadata = making::wait_for_leaders(cluster, topic).await?;
    let found = metadata.topics[0].partitions.len() as i32;
    if found != partitions {
        return Err(TopicError::Partitions {
            topic: topic.into(),
            found,
            expected: partitions,
        });
    }
    for begin in making::wait_until_served(cluster, topic, &metadata).await? {
        let may_be_wiped = matches!(purpose, Purpose::Scratch | Purpose::Snapshots);
        if begin.offset > 0 && !may_be_wiped {
            return Err(TopicError::Truncated {
                topic: topic.into(),
                partition: begin.partition,
                begin: begin.offset,
            });
        }
    }
    let replicas = check_replicas(topic, &metadata, options.replication)?;
    settings::check(cluster, topic, &settings::required(purpose), replicas).await
}

/// Checks the coordinators' own topic: who has to be refused is known from it alone.
///
/// It is there once anything was taken over.
pub(crate) async fn check_transaction_log(
    cluster: &Cluster,
    options: TopicOptions,
) -> Result<(), TopicError> {
    const TOPIC: &str = "__transaction_state";
    let metadata = making::wait_for_leaders(cluster, TOPIC).await?;
    let replicas = check_replicas(TOPIC, &metadata, options.replication)?;
    settings::check(cluster, TOPIC, &settings::OF_EVERY_TOPIC, replicas).await
}

/// The partitions that each broker leads, by the broker's node id.
pub(crate) async fn partitions_by_leader(
    cluster: &Cluster,
    topic: &str,
) -> Result<BTreeMap<i32, Vec<i32>>, TopicError> {
    let metadata = making::wait_for_leaders(cluster, topic).await?;
    let mut leaders: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for partition in &metadata.topics[0].partitions {
        let led = leaders.entry(partition.leader_id.0).or_default();
        led.push(partition.partition_index);
    }
    Ok(leaders)
}

/// Answers how many replicas the topic has.
fn check_replicas(
    topic: &str,
    metadata: &MetadataResponse,
    expected: i16,
) -> Result<usize, TopicError> {
    let partitions = &metadata.topics[0].partitions;
    let fewest = partitions
        .iter()
        .map(|it| (it.replica_nodes.len(), it.partition_index))
        .min();
    let (found, partition) = fewest.unwrap_or_default();
    match i16::try_from(found) {
        Ok(replicas) if replicas < expected => Err(TopicError::Replicas {
            topic: topic.into(),
            partition,
            found,
            expected,
        }),
        _ => Ok(found),
    }
}

fn metadata_of(topic: &str) -> MetadataRequest {
    MetadataRequest::default()
        .with_topics(Some(vec![
            MetadataRequestTopic::default().with_name(Some(topic_name(topic))),
        ]))
        .with_allow_auto_topic_creation(false)
}

/// Brokers that are still starting are too few for the replicas, and do not know a new topic.
fn may_pass(code: i16) -> bool {
    ResponseError::try_from_code(code).is_some_and(|error| {
        error.is_retriable() || matches!(error, ResponseError::InvalidReplicationFactor)
    })
}

impl TopicError {
    /// Whether trying again later may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Cluster(error) => error.is_temporary(),
            Self::Wire(error) => error.is_temporary(),
            Self::NotReady { .. } => true,
            Self::Create { temporary, .. } | Self::Describe { temporary, .. } => *temporary,
            Self::Partitions { .. }
            | Self::Replicas { .. }
            | Self::Setting { .. }
            | Self::Truncated { .. }
            | Self::Recreated { .. }
            | Self::CutOff { .. }
            | Self::Reshaped { .. }
            | Self::Notes { .. } => false,
        }
    }
}
