//! The topics of a generation: their names, their making, and the check that
//! they are what the log protocol needs.

use std::{collections::BTreeMap, time::Duration};

use kafka_protocol::messages::{
    BrokerId, CreateTopicsRequest, DescribeConfigsRequest, ListOffsetsRequest, MetadataRequest,
    MetadataResponse,
    create_topics_request::{CreatableTopic, CreatableTopicConfig},
    describe_configs_request::DescribeConfigsResource,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    metadata_request::MetadataRequestTopic,
};
use kafka_protocol::{ResponseError, protocol::StrBytes};
use tokio::time::{Instant, sleep};

use crate::{
    cluster::{ANSWER_WITHIN, Cluster, ClusterError, leader_address, name, topic_name},
    wire::WireError,
};

/// How many partitions a new generation gets unless told otherwise.
pub const DEFAULT_PARTITIONS: i32 = 8;
const READY_WITHIN: Duration = Duration::from_secs(20);
/// A record batch of ours has at most 900 KB; this leaves room for headers.
const MAX_MESSAGE_BYTES: &str = "1048576";

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

    /// Names the shard to Kafka's transaction coordinator, after the topic that
    /// it protects: who writes the same partitions fences the same predecessors.
    pub fn transactional_id(&self, partition: i32) -> String {
        format!("{}.{partition}", self.owners_topic())
    }
}

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Events: kept for ever.
    Events,
    /// Claims: the newest per key is kept.
    Owners,
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
        "topic {topic} has {setting}={found}, but needs {expected}: set it with \
         kafka-configs --alter --topic {topic} --add-config {setting}={expected}"
    )]
    Setting {
        topic: String,
        setting: &'static str,
        found: String,
        expected: &'static str,
    },
    #[error("topic {topic} was not ready within {READY_WITHIN:?}: {last}")]
    NotReady { topic: String, last: String },
}

/// Makes the topic if it is missing, waits until every partition is served,
/// and checks what the log protocol relies on.
pub async fn ensure_topic(
    cluster: &Cluster,
    topic: &str,
    purpose: Purpose,
    partitions: i32,
    options: TopicOptions,
) -> Result<(), TopicError> {
    create(cluster, topic, purpose, partitions, options).await?;
    let metadata = wait_for_leaders(cluster, topic).await?;
    let found = metadata.topics[0].partitions.len() as i32;
    if found != partitions {
        return Err(TopicError::Partitions {
            topic: topic.into(),
            found,
            expected: partitions,
        });
    }
    wait_until_served(cluster, topic, partitions, &metadata).await?;
    check_settings(cluster, topic, purpose).await
}

/// What each kind of topic must have; checked at every start.
fn required_settings(purpose: Purpose) -> &'static [(&'static str, &'static str)] {
    // Brokers forget producers by their records' times: a client's old time would delete the fence.
    // A broker that compresses would write batches that an owner does not read, and an unclean
    // leader would lose what was acknowledged.
    match purpose {
        Purpose::Events => &[
            ("message.timestamp.type", "LogAppendTime"),
            ("compression.type", "producer"),
            ("unclean.leader.election.enable", "false"),
            ("cleanup.policy", "delete"),
            ("retention.ms", "-1"),
            ("retention.bytes", "-1"),
        ],
        Purpose::Owners => &[
            ("message.timestamp.type", "LogAppendTime"),
            ("compression.type", "producer"),
            ("unclean.leader.election.enable", "false"),
            ("cleanup.policy", "compact"),
        ],
    }
}

async fn create(
    cluster: &Cluster,
    topic: &str,
    purpose: Purpose,
    partitions: i32,
    options: TopicOptions,
) -> Result<(), TopicError> {
    let mut settings = required_settings(purpose).to_vec();
    settings.push(("max.message.bytes", MAX_MESSAGE_BYTES));
    if purpose == Purpose::Owners {
        // The segment that is written to is never compacted, and a new owner reads it all.
        settings.push(("segment.bytes", "16777216"));
    }
    if options.sync_each_append {
        settings.push(("flush.messages", "1"));
    }
    // Said for one replica as well: a broker's default of 2 would make the topic unwritable.
    settings.push(match options.replication {
        3.. => ("min.insync.replicas", "2"),
        _ => ("min.insync.replicas", "1"),
    });
    let configs = settings
        .into_iter()
        .map(|(setting, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str(setting))
                .with_value(Some(StrBytes::from_static_str(value)))
        })
        .collect();
    let request = CreateTopicsRequest::default()
        .with_timeout_ms(10_000)
        .with_topics(vec![
            CreatableTopic::default()
                .with_name(topic_name(topic))
                .with_num_partitions(partitions)
                .with_replication_factor(options.replication)
                .with_configs(configs),
        ]);
    let answer = cluster.connect_any().await?.ask(&request).await?;
    let result = answer.topics.first();
    let code = result.map_or(-1, |result| result.error_code);
    match ResponseError::try_from_code(code) {
        None if code == 0 => {
            tracing::info!(topic, partitions, "made topic {topic}");
            Ok(())
        }
        Some(ResponseError::TopicAlreadyExists) => Ok(()),
        _ => {
            let message = result.and_then(|result| result.error_message.as_deref());
            Err(TopicError::Create {
                topic: topic.into(),
                reason: format!("{} {}", name(code), message.unwrap_or_default()),
                temporary: may_pass(code),
            })
        }
    }
}

/// Answers the topic's metadata once every partition has a leader.
async fn wait_for_leaders(cluster: &Cluster, topic: &str) -> Result<MetadataResponse, TopicError> {
    let deadline = Instant::now() + READY_WITHIN;
    let request = MetadataRequest::default()
        .with_topics(Some(vec![
            MetadataRequestTopic::default().with_name(Some(topic_name(topic))),
        ]))
        .with_allow_auto_topic_creation(false);
    let mut connection = cluster.connect_any().await?;
    loop {
        let metadata = connection.ask(&request).await?;
        let last = match metadata.topics.first() {
            Some(found) if found.error_code == 0 => {
                let waiting = found.partitions.iter().find(|p| p.leader_id.0 < 0);
                match waiting {
                    None => return Ok(metadata),
                    Some(partition) => {
                        format!("partition {} has no leader", partition.partition_index)
                    }
                }
            }
            Some(found) => name(found.error_code),
            None => "the broker does not name it".into(),
        };
        wait_or_give_up(topic, deadline, last).await?;
    }
}

/// Waits until each leader has its partitions: the metadata names it a little
/// earlier. A take-over in between can make the broker drop its answer to a
/// marker request, and then no take-over goes on for 30 s (`WriteTxnMarkers`
/// with one marker that it can write and one that it cannot).
async fn wait_until_served(
    cluster: &Cluster,
    topic: &str,
    partitions: i32,
    metadata: &MetadataResponse,
) -> Result<(), TopicError> {
    const NEWEST: i64 = -1;
    let deadline = Instant::now() + READY_WITHIN;
    let mut leaders: BTreeMap<String, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for partition in 0..partitions {
        let leader =
            leader_address(metadata, partition).map_err(|code| ClusterError::NoLeader {
                topic: topic.into(),
                partition,
                code,
            })?;
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(NEWEST);
        leaders.entry(leader).or_default().push(wanted);
    }
    for (leader, partitions) in leaders {
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![
                ListOffsetsTopic::default()
                    .with_name(topic_name(topic))
                    .with_partitions(partitions),
            ]);
        let mut connection = cluster.connect(&leader, ANSWER_WITHIN).await?;
        loop {
            let answer = connection.ask(&request).await?;
            let mut partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
            match partitions.find(|partition| partition.error_code != 0) {
                None => break,
                Some(waiting) => {
                    let code = name(waiting.error_code);
                    let last = format!("partition {}: {code}", waiting.partition_index);
                    wait_or_give_up(topic, deadline, last).await?;
                }
            }
        }
    }
    Ok(())
}

async fn wait_or_give_up(topic: &str, deadline: Instant, last: String) -> Result<(), TopicError> {
    if Instant::now() >= deadline {
        return Err(TopicError::NotReady {
            topic: topic.into(),
            last,
        });
    }
    sleep(Duration::from_millis(10)).await;
    Ok(())
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
            Self::Partitions { .. } | Self::Setting { .. } => false,
        }
    }
}

async fn check_settings(
    cluster: &Cluster,
    topic: &str,
    purpose: Purpose,
) -> Result<(), TopicError> {
    const TOPIC: i8 = 2;
    let request = DescribeConfigsRequest::default().with_resources(vec![
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(StrBytes::from_string(topic.into())),
    ]);
    let answer = cluster.connect_any().await?.ask(&request).await?;
    let configs = match answer.results.first() {
        Some(result) if result.error_code == 0 => &result.configs,
        other => {
            let code = other.map_or(-1, |result| result.error_code);
            return Err(TopicError::Describe {
                topic: topic.into(),
                reason: name(code),
                temporary: may_pass(code),
            });
        }
    };
    for (setting, expected) in required_settings(purpose) {
        let found = configs
            .iter()
            .find(|config| config.name.as_str() == *setting)
            .and_then(|config| config.value.as_deref())
            .unwrap_or("(unknown)");
        if found != *expected {
            return Err(TopicError::Setting {
                topic: topic.into(),
                setting,
                found: found.into(),
                expected,
            });
        }
    }
    Ok(())
}
