//! The topic of snapshots: records that spare an owner from reading the whole log.
//!
//! Not behind the fence, because nothing rests on it: what is missing, foreign or of a deposed
//! owner costs time, nothing else. So librdkafka's clients do.

use std::{sync::Arc, time::Duration};

use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaError,
    producer::{FutureProducer, FutureRecord},
};
use tokio::time::{error::Elapsed, timeout};

use crate::cluster::Cluster;

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
    #[error("failed to read {topic}")]
    Read {
        topic: String,
        #[source]
        source: KafkaError,
    },
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
    pub async fn read(
        &self,
        partition: i32,
        mut take: impl FnMut(&[u8], Option<&[u8]>),
    ) -> Result<(), SnapshotError> {
        let topic = &self.0.topic;
        let client = |source| SnapshotError::Client {
            topic: topic.clone(),
            source,
        };
        let consumer: StreamConsumer = self
            .0
            .cluster
            .client_config()
            .set("client.id", "annals-snapshots")
            // librdkafka assigns only in the name of a group, which nobody joins here.
            .set("group.id", "annals-snapshots")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_uncommitted")
            .set("auto.offset.reset", "earliest")
            .set("check.crcs", "true")
            .create()
            .map_err(client)?;
        let mut assignment = TopicPartitionList::new();
        assignment
            .add_partition_offset(topic, partition, Offset::Beginning)
            .map_err(client)?;
        consumer.assign(&assignment).map_err(client)?;
        loop {
            let next = timeout(NEXT_WITHIN, consumer.recv()).await;
            match next.map_err(|source| SnapshotError::Silent {
                topic: topic.clone(),
                source,
            })? {
                Ok(record) => take(record.key().unwrap_or_default(), record.payload()),
                Err(KafkaError::PartitionEOF(_)) => return Ok(()),
                Err(source) => {
                    return Err(SnapshotError::Read {
                        topic: topic.clone(),
                        source,
                    });
                }
            }
        }
    }
}
