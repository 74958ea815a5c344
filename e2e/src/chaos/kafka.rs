//! What the cluster says about itself, and its log, asked past the proxies.

use std::{collections::BTreeMap, time::Duration};

use event_log::{
    cluster::Cluster,
    fetch::{FetchError, PartitionReader},
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    metadata::Metadata,
};
use tokio::time::{Instant, sleep};

use super::{
    log::{Batch, Log, Partition, Record},
    world::{PARTITIONS, World},
};

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Once nothing is broken any more.
const END_WITHIN: Duration = Duration::from_secs(60);
const TRANSACTIONS: &str = "__transaction_state";

#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("failed to ask for the log's end")]
    End(#[from] KafkaError),
    #[error("failed to read the log")]
    Fetch(#[from] FetchError),
    #[error(
        "{topic} partition {partition} has offsets up to {end}, but {read} is the last to be read"
    )]
    Short {
        topic: String,
        partition: i32,
        end: i64,
        read: i64,
    },
}

impl World {
    /// Index of the broker that leads the partition, as far as is known.
    pub async fn leader(&self, topic: &str, partition: i32) -> Option<usize> {
        let metadata = self.metadata(topic).await?;
        let topic = metadata.topics().first()?;
        let mut partitions = topic.partitions().iter();
        let leader = partitions.find(|it| it.id() == partition)?.leader();
        usize::try_from(leader - 1).ok()
    }

    /// Index of the broker that coordinates the shard's transactions, which are its take-overs.
    pub async fn coordinator(&self, shard: i32) -> Option<usize> {
        let metadata = self.metadata(TRANSACTIONS).await?;
        let partitions = metadata.topics().first()?.partitions().len();
        let id = format!("{}.{shard}", self.owners_topic());
        let partition = (java_hash(&id) & i32::MAX) as usize % partitions.max(1);
        self.leader(TRANSACTIONS, partition as i32).await
    }

    /// Deletes the topic of snapshots; the next node that starts makes it anew.
    pub async fn wipe_snapshots(&self) -> Result<(), KafkaError> {
        let admin: AdminClient<_> = self.client().create()?;
        let topic = format!("annals.snapshots.{}", self.generation);
        let options = AdminOptions::new().request_timeout(Some(ANSWER_WITHIN));
        admin.delete_topics(&[&topic], &options).await?;
        Ok(())
    }

    /// Waits until every partition of ours has all its replicas in sync; false when that takes too long.
    pub async fn until_in_sync(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        let topics = [
            self.events_topic(),
            self.owners_topic(),
            TRANSACTIONS.into(),
        ];
        for topic in topics {
            loop {
                let metadata = self.metadata(&topic).await;
                let in_sync = metadata.is_some_and(|metadata| {
                    let mut partitions = metadata.topics().iter().flat_map(|it| it.partitions());
                    let whole = |replicas: usize| replicas == self.cluster.brokers().len();
                    partitions.all(|it| it.leader() > 0 && whole(it.isr().len()))
                });
                if in_sync {
                    break;
                }
                if Instant::now() > deadline {
                    return false;
                }
                sleep(Duration::from_millis(100)).await;
            }
        }
        true
    }

    async fn metadata(&self, topic: &str) -> Option<Metadata> {
        let (client, topic) = (self.client(), topic.to_owned());
        let ask = move || {
            let client: BaseConsumer = client.create().ok()?;
            client.fetch_metadata(Some(&topic), ANSWER_WITHIN).ok()
        };
        tokio::task::spawn_blocking(ask).await.ok()?
    }

    /// Everything in the topics of tasks and of owners.
    pub async fn read_log(&self) -> Result<Log, LogError> {
        let cluster = Cluster::new(&self.brokers());
        let mut log = Log::default();
        for partition in 0..PARTITIONS {
            let events = self.read_partition(&cluster, self.events_topic(), partition);
            log.events.push(events.await?);
            let owners = self.read_partition(&cluster, self.owners_topic(), partition);
            log.owners.push(owners.await?);
        }
        Ok(log)
    }

    async fn read_partition(
        &self,
        cluster: &Cluster,
        topic: String,
        number: i32,
    ) -> Result<Partition, LogError> {
        let (client, asked) = (self.client(), topic.clone());
        let ask = move || {
            let client: BaseConsumer = client.create()?;
            client.fetch_watermarks(&asked, number, END_WITHIN)
        };
        let asked = tokio::task::spawn_blocking(ask).await;
        let (_, end) = asked.expect("asking does not panic")?;
        let mut reader = PartitionReader::new(cluster, &topic, number, 0);
        let mut batches = Vec::new();
        let mut nothing_new = 0;
        while reader.next_offset() < end {
            let more = reader.next_batches().await?;
            nothing_new = if more.is_empty() { nothing_new + 1 } else { 0 };
            if nothing_new > 50 {
                let read = reader.next_offset() - 1;
                return Err(LogError::Short {
                    topic,
                    partition: number,
                    end,
                    read,
                });
            }
            batches.extend(more.iter().map(batch));
        }
        Ok(Partition {
            topic,
            number,
            batches,
        })
    }

    pub(super) fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.brokers())
            // The last stable offset is not the end.
            .set("isolation.level", "read_uncommitted")
            .set("group.id", "nobody's");
        config
    }
}

fn batch(batch: &event_log::batch::Batch) -> Batch {
    // A record that cannot be read is foreign: it has no headers.
    let unreadable = || Record {
        offset: batch.base_offset,
        ..Record::default()
    };
    let records = batch.records();
    Batch {
        base_offset: batch.base_offset,
        last_offset: batch.last_offset,
        producer_id: batch.producer.id,
        epoch: batch.producer.epoch,
        base_sequence: batch.base_sequence,
        control: batch.control,
        records: records
            .map(|read| read.map_or_else(|_| unreadable(), |record| self::record(&record)))
            .collect(),
    }
}

fn record(record: &event_log::batch::Record) -> Record {
    let headers = record.headers();
    let headers: BTreeMap<_, _> = headers
        .filter_map(|(name, value)| {
            let value = String::from_utf8(value.into()).ok()?;
            Some((name.to_owned(), value))
        })
        .collect();
    let bytes = |bytes: &Option<bytes::Bytes>| bytes.as_ref().map(|it| it.to_vec());
    Record {
        offset: record.offset,
        key: bytes(&record.key).unwrap_or_default(),
        headers,
        value: bytes(&record.value).unwrap_or_default(),
    }
}

/// Java's hash of a text, by which Kafka finds the coordinator of a transactional id.
fn java_hash(text: &str) -> i32 {
    text.bytes().fold(0_i32, |hash, byte| {
        hash.wrapping_mul(31).wrapping_add(i32::from(byte))
    })
}
