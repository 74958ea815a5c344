//! A shard of a generation of its own, and who owns it.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use event_log::{
    append::{AppendError, Appender},
    batch::{Batch, ProducerIdentity},
    cluster::Cluster,
    fence::{FenceError, TakeOver, take_over},
    fetch::PartitionReader,
    topics::{Generation, Purpose, TopicOptions, ensure_topic},
};
use tokio::{sync::watch, time::timeout};

use crate::raw::batch;

/// Not the first one, so that a wrong index shows.
pub const PARTITION: i32 = 1;
/// Far above what any condition here takes on a busy machine; it ends a test that waits in vain.
const AT_MOST: Duration = Duration::from_secs(120);

/// One shard over two topics: events and owners.
#[derive(Clone)]
pub struct Shard {
    pub cluster: Cluster,
    pub events: String,
    pub owners: String,
    pub transactional_id: String,
}

/// Who has taken the shard over and read both partitions.
pub struct Owner {
    pub take_over: TakeOver,
    pub events: Appender,
    pub owners: Appender,
    /// What troubles the appender of the events.
    pub trouble: watch::Receiver<Option<String>>,
}

/// A batch in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub offset: i64,
    pub producer: ProducerIdentity,
    pub control: bool,
    pub values: Vec<u64>,
}

impl Shard {
    pub async fn shared() -> Self {
        Self::on(dev_stack::shared().await.kafka()).await
    }

    pub async fn on(kafka: &str) -> Self {
        let cluster = Cluster::new(kafka);
        let generation = new_generation();
        let shard = Self {
            cluster: cluster.clone(),
            events: generation.events_topic("tasks"),
            owners: generation.owners_topic(),
            transactional_id: generation.transactional_id(PARTITION),
        };
        for (topic, purpose) in [
            (&shard.events, Purpose::Events),
            (&shard.owners, Purpose::Owners),
        ] {
            let options = TopicOptions::default();
            ensure_topic(&cluster, topic, purpose, generation.partitions, options)
                .await
                .unwrap();
        }
        shard
    }

    /// The same shard, reached at another address.
    pub fn through(&self, address: &str) -> Self {
        Self {
            cluster: Cluster::new(address),
            ..self.clone()
        }
    }

    pub async fn take_over(&self) -> Result<TakeOver, FenceError> {
        let topics = [self.events.clone(), self.owners.clone()];
        take_over(&self.cluster, &self.transactional_id, &topics, PARTITION).await
    }

    /// Takes the shard over and reads both partitions to their ends.
    pub async fn own(&self) -> Result<Owner, FenceError> {
        let take_over = self.take_over().await?;
        Ok(self.owner(take_over).await)
    }

    pub async fn owner(&self, take_over: TakeOver) -> Owner {
        let (trouble, seen) = watch::channel(None);
        Owner {
            take_over,
            events: self.appender(&self.events, take_over, trouble).await,
            owners: self
                .appender(&self.owners, take_over, watch::channel(None).0)
                .await,
            trouble: seen,
        }
    }

    async fn appender(
        &self,
        topic: &str,
        take_over: TakeOver,
        trouble: watch::Sender<Option<String>>,
    ) -> Appender {
        let mut reader = PartitionReader::new(&self.cluster, topic, PARTITION, 0);
        in_time(reader.read_to_marker(take_over.marker, |_| {}))
            .await
            .unwrap();
        Appender::new(
            &self.cluster,
            topic,
            PARTITION,
            take_over.writer,
            reader.next_offset(),
            trouble,
        )
    }

    /// Everything in the partition, up to where the broker has nothing more.
    pub async fn log(&self, topic: &str) -> Vec<Entry> {
        let mut reader = PartitionReader::new(&self.cluster, topic, PARTITION, 0);
        let mut log = Vec::new();
        loop {
            let batches = reader.next_batches().await.unwrap();
            if batches.is_empty() {
                return log;
            }
            log.extend(batches.iter().map(Entry::of));
        }
    }

    /// Offset and value of each event in the log.
    pub async fn records(&self, topic: &str) -> Vec<(i64, u64)> {
        let log = self.log(topic).await;
        log.iter().flat_map(Entry::records).collect()
    }
}

impl Owner {
    /// Appends one record to the events.
    pub async fn append(&mut self, value: u64) -> Result<i64, AppendError> {
        in_time(self.events.append(batch(&[value]))).await
    }
}

impl Entry {
    pub fn of(batch: &Batch) -> Self {
        let values = match batch.control {
            true => Vec::new(),
            false => batch
                .records()
                .map(|record| {
                    let value = record.unwrap().value.unwrap();
                    u64::from_be_bytes(value[..].try_into().unwrap())
                })
                .collect(),
        };
        Self {
            offset: batch.base_offset,
            producer: batch.producer,
            control: batch.control,
            values,
        }
    }

    pub fn records(&self) -> Vec<(i64, u64)> {
        (self.offset..).zip(self.values.iter().copied()).collect()
    }
}

/// Whatever is waited for comes, or the test ends.
pub async fn in_time<T>(condition: impl Future<Output = T>) -> T {
    timeout(AT_MOST, condition)
        .await
        .expect("it did not come about")
}

/// A generation that no other test has.
pub fn new_generation() -> Generation {
    let random = RandomState::new().hash_one(0_u8);
    Generation {
        name: format!("{random:016x}"),
        partitions: 2,
    }
}
