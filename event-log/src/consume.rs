//! Reading the log as everybody does who does not own it: from positions that
//! the reader keeps itself, on and on, each partition as a feed of its own.
//!
//! An rdkafka consumer without a group's doings: partitions are assigned by
//! hand and nothing is ever committed to Kafka.

mod client;
mod topic;

use std::{fmt, sync::Arc, time::Duration};

use futures::FutureExt;
use kernel::StreamId;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    config::ClientConfig,
    consumer::{Consumer as _, StreamConsumer, stream_consumer::StreamPartitionQueue},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Headers},
};
use tokio::sync::watch;

use crate::{
    batch::Record,
    cluster::Cluster,
    envelope::{Envelope, EnvelopeError, header},
    position::Position,
};

use client::Client;
pub use client::LogView;
pub use topic::{DescribeError, Topic, describe_topics};

/// How often [`LogView`] is renewed.
const VIEW_EVERY: Duration = Duration::from_millis(500);

/// A consumer of some partitions. Whoever has it must also [attend](Self::attend) to it.
pub struct Consumer {
    inner: Arc<StreamConsumer<Client>>,
    view: watch::Receiver<LogView>,
}

/// The records of one partition, in the order of their offsets.
pub struct PartitionFeed {
    topic: String,
    partition: i32,
    queue: StreamPartitionQueue<Client>,
}

/// What comes out of a feed.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "ends are rare, and a box would cost each record an allocation"
)]
pub enum Arrival {
    Record(LogRecord),
    /// At this moment there was nothing more.
    End,
}

/// A record as it lies in the log, its value still in bytes.
#[derive(Clone, Debug)]
pub struct LogRecord {
    pub position: Position,
    /// An error when somebody else than Annals wrote it, or when its headers are damaged.
    pub envelope: Result<Envelope, Unrecognized>,
    /// Empty for a record without a value.
    pub value: Box<[u8]>,
}

/// A record whose headers are not an envelope of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Unrecognized {
    pub error: EnvelopeError,
    /// It has a header that only Annals uses: it may be what is left of an event. A record without
    /// one hides none.
    pub ours: bool,
    /// The stream that its subject names, or else its key.
    pub stream: Option<StreamId>,
}

/// Why reading cannot go on. Lost connections are not among the reasons: they are waited out.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    #[error("failed to set up a consumer for {name}")]
    Open {
        name: String,
        #[source]
        source: KafkaError,
    },
    #[error(
        "{topic} partition {partition} does not have the offset to go on from: it was truncated \
         or made anew"
    )]
    OutOfRange { topic: String, partition: i32 },
    #[error("failed to read {topic} partition {partition}")]
    Read {
        topic: String,
        partition: i32,
        #[source]
        source: KafkaError,
    },
    #[error("the Kafka client has given up")]
    Fatal(#[source] KafkaError),
    #[error("a record of {topic} partition {partition} came past its feed")]
    Astray { topic: String, partition: i32 },
}

impl Consumer {
    /// Reads on from each of these positions. `name` shows up in the broker's logs and metrics.
    ///
    /// The topics must be there: see [`describe_topics`].
    pub fn open(
        cluster: &Cluster,
        name: &str,
        from: &[Position],
    ) -> Result<(Self, Vec<PartitionFeed>), ConsumeError> {
        let failed = |source| ConsumeError::Open {
            name: name.into(),
            source,
        };
        let (client, view) = Client::new();
        let inner: StreamConsumer<Client> = settings(cluster, name)
            .create_with_context(client)
            .map_err(failed)?;
        let mut assignment = TopicPartitionList::with_capacity(from.len());
        for Position {
            topic,
            partition,
            offset,
        } in from
        {
            assignment
                .add_partition_offset(topic, *partition, Offset::Offset(*offset))
                .map_err(failed)?;
        }
        inner.assign(&assignment).map_err(failed)?;
        let inner = Arc::new(inner);
        let feeds = from
            .iter()
            .map(|position| PartitionFeed::of(&inner, position))
            .collect();
        Ok((Self { inner, view }, feeds))
    }

    /// What the client sees of the log, renewed twice a second.
    pub fn view(&self) -> watch::Receiver<LogView> {
        self.view.clone()
    }

    /// Serves what belongs to no partition; must be awaited for as long as the feeds are read.
    /// Returns when nothing more will come.
    pub async fn attend(&self) -> ConsumeError {
        loop {
            match self.inner.recv().await {
                Err(source @ KafkaError::MessageConsumptionFatal(_)) => {
                    return ConsumeError::Fatal(source);
                }
                // Brokers away and the like; the view tells about it.
                Err(error) => tracing::debug!(%error, "the Kafka client reports"),
                Ok(message) => {
                    return ConsumeError::Astray {
                        topic: message.topic().into(),
                        partition: message.partition(),
                    };
                }
            }
        }
    }

    /// Closes the connections. Drop the feeds first.
    pub async fn close(self) {
        // librdkafka polls in steps of 100 ms until it has closed.
        let closed = tokio::task::spawn_blocking(move || drop(self.inner)).await;
        closed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
    }
}

impl PartitionFeed {
    fn of(consumer: &Arc<StreamConsumer<Client>>, position: &Position) -> Self {
        let queue = consumer
            .split_partition_queue(&position.topic, position.partition)
            .expect("a partition that was just assigned has a queue");
        Self {
            topic: position.topic.clone(),
            partition: position.partition,
            queue,
        }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Waits for what comes next. Nothing is lost when this is dropped while it waits.
    pub async fn next(&self) -> Result<Arrival, ConsumeError> {
        self.read(self.queue.recv().await)
    }

    /// What has arrived already, if anything has.
    pub fn arrived(&self) -> Result<Option<Arrival>, ConsumeError> {
        let received = self.queue.recv().now_or_never();
        received.map(|received| self.read(received)).transpose()
    }

    fn read(
        &self,
        received: Result<BorrowedMessage<'_>, KafkaError>,
    ) -> Result<Arrival, ConsumeError> {
        use RDKafkaErrorCode as Code;
        match received {
            Ok(message) => Ok(Arrival::Record(self.record(&message))),
            Err(KafkaError::PartitionEOF(_)) => Ok(Arrival::End),
            Err(KafkaError::MessageConsumption(Code::AutoOffsetReset | Code::OffsetOutOfRange)) => {
                Err(ConsumeError::OutOfRange {
                    topic: self.topic.clone(),
                    partition: self.partition,
                })
            }
            Err(source) => Err(ConsumeError::Read {
                topic: self.topic.clone(),
                partition: self.partition,
                source,
            }),
        }
    }

    fn record(&self, message: &BorrowedMessage<'_>) -> LogRecord {
        let headers = || {
            let headers = message.headers().into_iter().flat_map(Headers::iter);
            headers.filter_map(|header| Some((header.key, header.value?)))
        };
        LogRecord {
            position: Position {
                topic: self.topic.clone(),
                partition: self.partition,
                offset: message.offset(),
            },
            envelope: Envelope::read(headers())
                .map_err(|error| Unrecognized::new(error, headers(), message.key())),
            value: message.payload().unwrap_or_default().into(),
        }
    }
}

impl LogRecord {
    /// A record that was read [with its batch](crate::fetch).
    pub fn of(topic: &str, partition: i32, record: &Record) -> Self {
        Self {
            position: Position {
                topic: topic.into(),
                partition,
                offset: record.offset,
            },
            envelope: Envelope::read(record.headers())
                .map_err(|error| Unrecognized::new(error, record.headers(), record.key.as_deref())),
            value: record.value.as_deref().unwrap_or_default().into(),
        }
    }

    /// The stream that it names.
    pub fn stream(&self) -> Option<&StreamId> {
        match &self.envelope {
            Ok(envelope) => Some(&envelope.stream),
            Err(unrecognized) => unrecognized.stream.as_ref(),
        }
    }
}

impl Unrecognized {
    fn new<'a>(
        error: EnvelopeError,
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
        key: Option<&[u8]>,
    ) -> Self {
        let stream = |text| std::str::from_utf8(text).ok()?.parse().ok();
        let (mut ours, mut subject) = (false, None);
        for (name, value) in headers {
            ours |= name.starts_with(header::OURS);
            if name == header::SUBJECT {
                subject = stream(value);
            }
        }
        Self {
            error,
            ours,
            stream: subject.or_else(|| key.and_then(stream)),
        }
    }
}

fn settings(cluster: &Cluster, name: &str) -> ClientConfig {
    let mut settings = cluster.client_config();
    settings
        .set("client.id", name)
        // librdkafka assigns only in the name of a group, which nobody joins here.
        .set("group.id", name)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // Nothing of ours is ever aborted, and a foreign open transaction must not hold us back.
        .set("isolation.level", "read_uncommitted")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("check.crcs", "true")
        // New records are sent at once; this bounds how long an empty fetch holds up the
        // partitions that were not in it.
        .set("fetch.wait.max.ms", "100")
        // How much of a partition waits in memory, and how soon a drained queue is filled again.
        .set("queued.min.messages", "20000")
        .set("queued.max.messages.kbytes", "4096")
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "1000")
        .set("socket.timeout.ms", "10000")
        .set("statistics.interval.ms", VIEW_EVERY.as_millis().to_string());
    settings
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").finish_non_exhaustive()
    }
}

impl fmt::Debug for PartitionFeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionFeed")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .finish_non_exhaustive()
    }
}
