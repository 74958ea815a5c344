//! Making a topic, and waiting until the brokers serve it.

use std::{collections::BTreeMap, time::Duration};

use kafka_protocol::{
    ResponseError,
    messages::{
        BrokerId, CreateTopicsRequest, ListOffsetsRequest, MetadataResponse,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    },
    protocol::StrBytes,
};
use tokio::time::{Instant, sleep};

use super::{Purpose, READY_WITHIN, TopicError, TopicOptions, may_pass, metadata_of, settings};
use crate::cluster::{ANSWER_WITHIN, Cluster, ClusterError, leader_address, name, topic_name};

/// Makes the topic, unless it is there.
pub(super) async fn create(
    cluster: &Cluster,
    topic: &str,
    purpose: Purpose,
    partitions: i32,
    options: TopicOptions,
) -> Result<(), TopicError> {
    let configs = settings::initial(purpose, options)
        .into_iter()
        .map(|(setting, value)| {
            CreatableTopicConfig::default()
                .with_name(StrBytes::from_static_str(setting))
                .with_value(Some(StrBytes::from_string(value)))
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
pub(super) async fn wait_for_leaders(
    cluster: &Cluster,
    topic: &str,
) -> Result<MetadataResponse, TopicError> {
    let deadline = Instant::now() + READY_WITHIN;
    let request = metadata_of(topic);
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
///
/// Answers where each partition begins.
pub(super) async fn wait_until_served(
    cluster: &Cluster,
    topic: &str,
    metadata: &MetadataResponse,
) -> Result<Vec<PartitionOffset>, TopicError> {
    const EARLIEST: i64 = -2;
    offsets(cluster, topic, metadata, EARLIEST).await
}

/// The offset that each partition's next record will have.
pub(super) async fn ends(
    cluster: &Cluster,
    topic: &str,
) -> Result<Vec<PartitionOffset>, TopicError> {
    const LATEST: i64 = -1;
    let metadata = wait_for_leaders(cluster, topic).await?;
    offsets(cluster, topic, &metadata, LATEST).await
}

pub(super) struct PartitionOffset {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

async fn offsets(
    cluster: &Cluster,
    topic: &str,
    metadata: &MetadataResponse,
    timestamp: i64,
) -> Result<Vec<PartitionOffset>, TopicError> {
    let deadline = Instant::now() + READY_WITHIN;
    let mut leaders: BTreeMap<String, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for partition in 0..metadata.topics[0].partitions.len() as i32 {
        let leader =
            leader_address(metadata, partition).map_err(|code| ClusterError::NoLeader {
                topic: topic.into(),
                partition,
                code,
            })?;
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(timestamp);
        leaders.entry(leader).or_default().push(wanted);
    }
    let mut found = Vec::new();
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
                None => {
                    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
                    found.extend(partitions.map(|partition| PartitionOffset {
                        partition: partition.partition_index,
                        offset: partition.offset,
                    }));
                    break;
                }
                Some(waiting) => {
                    let code = name(waiting.error_code);
                    let last = format!("partition {}: {code}", waiting.partition_index);
                    wait_or_give_up(topic, deadline, last).await?;
                }
            }
        }
    }
    found.sort_by_key(|it| it.partition);
    Ok(found)
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
