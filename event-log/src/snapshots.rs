//! The topic of snapshots: records that spare an owner from reading the whole log.
//!
//! Not behind the fence, because nothing rests on it: what is missing, foreign or of a deposed
//! owner costs time, nothing else. So librdkafka's producer does.

use std::{ops::Range, sync::Arc, time::Duration};

use kafka_protocol::messages::{
    BrokerId, ListOffsetsRequest,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
};
use rdkafka::{
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
};
use tokio::time::{error::Elapsed, timeout};

use crate::{
    cluster::{Cluster, ClusterError, topic_name},
    fetch::{FetchError, PartitionReader},
};

/// How long a record may take on its way before it is given up.
const PUT_WITHIN: Duration = Duration::from_secs(30);
/// How long the topic may be silent before it is taken for unreadable: the log is not far.
const NEXT_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("failed to reach {topic}")]
    Client {
        topic: String,
        #[source]
        source: KafkaError,
    },
    #[error("failed to write to {topic}")]
    Write {
        topic: String,
        #[source]
        source: KafkaError,
    },
    #[error("failed to ask where {topic} ends")]
    Unreachable {
        topic: String,
        #[source]
        source: ClusterError,
    },
    #[error(transparent)]
    Read(#[from] FetchError),
    #[error("{topic} did not answer")]
    Silent {
        topic: String,
        #[source]
        source: Elapsed,
    },
}

/// The newest record of each key, by partition. Cheap to clone.
#[derive(Clone)]
pub struct SnapshotTopic(Arc<Content>);

struct Content {
    cluster: Cluster,
    topic: String,
    producer: FutureProducer,
}

impl SnapshotTopic {
    pub fn new(cluster: &Cluster, topic: String) -> Result<Self, SnapshotError> {
        let producer = cluster
            .client_config()
            .set("client.id", "annals-snapshots")
            .set("acks", "all")
            .set("linger.ms", "0")
            .set("message.timeout.ms", PUT_WITHIN.as_millis().to_string())
            .set("compression.type", "none")
            .create();
        match producer {
            Ok(producer) => Ok(Self(Arc::new(Content {
                cluster: cluster.clone(),
                topic,
                producer,
            }))),
            Err(source) => Err(SnapshotError::Client { topic, source }),
        }
    }

    /// Writes a record of at most 900 KB, and waits until it is in; without a value, the key's
    /// record is dropped some time.
    pub async fn put(
        &self,
        partition: i32,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(), SnapshotError> {
        let mut record = FutureRecord::to(&self.0.topic)
            .partition(partition)
            .key(key);
        record.payload = value;
        let sent = self.0.producer.send(record, PUT_WITHIN).await;
        sent.map(|_| ())
            .map_err(|(source, _)| SnapshotError::Write {
                topic: self.0.topic.clone(),
                source,
            })
    }

    /// Hands over every record of the partition, in order.
    ///
    /// By our own requests: a consumer of librdkafka takes longer to start than this takes, and the
    /// shard may be without an owner meanwhile.
    pub async fn read(
        &self,
        partition: i32,
        mut take: impl FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), SnapshotError> {
        let Content { cluster, topic, .. } = &*self.0;
        let silent = |source| SnapshotError::Silent {
            topic: topic.clone(),
            source,
        };
        let range = timeout(NEXT_WITHIN, offsets(cluster, topic, partition));
        let range = range.await.map_err(silent)?;
        let range = range.map_err(|source| SnapshotError::Unreachable {
            topic: topic.clone(),
            source,
        })?;
        let mut reader = PartitionReader::new(cluster, topic, partition, range.start);
        while reader.next_offset() < range.end {
            let batches = timeout(NEXT_WITHIN, reader.next_batches()).await;
            for batch in batches.map_err(silent)?? {
                for record in batch.records() {
                    let record = record.map_err(|source| FetchError::Batch {
                        topic: topic.clone(),
                        partition,
                        source,
                    })?;
                    take(&record.key.unwrap_or_default(), record.value.as_deref());
                }
            }
        }
        Ok(())
    }
}

/// From the partition's first record to where the next one will be.
async fn offsets(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
) -> Result<Range<i64>, ClusterError> {
    const EARLIEST: i64 = -2;
    const LATEST: i64 = -1;
    let mut leader = cluster.connect_leader(topic, partition).await?;
    let mut ends = [0; 2];
    for (end, timestamp) in ends.iter_mut().zip([EARLIEST, LATEST]) {
        let wanted = ListOffsetsPartition::default()
            .with_partition_index(partition)
            .with_timestamp(timestamp);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![
                ListOffsetsTopic::default()
                    .with_name(topic_name(topic))
                    .with_partitions(vec![wanted]),
            ]);
        let answer = leader.ask(&request).await?;
        let found = answer.topics.first().and_then(|it| it.partitions.first());
        let code = found.map_or(-1, |found| found.error_code);
        *end = match found {
            Some(found) if code == 0 => found.offset,
            _ => {
                return Err(ClusterError::NoLeader {
                    topic: topic.into(),
                    partition,
                    code,
                });
            }
        };
    }
    Ok(ends[0]..ends[1])
}
