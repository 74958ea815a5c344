//! The fenced append: one batch at a time, the same bytes until there is a
//! definite answer.
//!
//! A plain idempotent `Produce` with the identity of a completed take-over.
//! The broker appends the batch once, however often it is sent, and refuses
//! it when somebody else has taken the shard over.

use std::time::Duration;

use bytes::Bytes;
use chrono::DateTime;
use kafka_protocol::{
    ResponseError,
    messages::{
        ProduceRequest,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
};
use tokio::{sync::watch, time::sleep};

use crate::{
    batch::{BatchBuilder, ProducerIdentity, sequence_after},
    cluster::{Cluster, ClusterError, name, topic_name},
    fence::TakeOver,
    fetch::{FetchError, PartitionReader},
    wire::{Connection, WireError},
};

const ALL_REPLICAS: i16 = -1;
/// How long the broker may wait for its replicas.
const REPLICATION_TIMEOUT_MS: i32 = 5_000;
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Why a batch was not appended, or why nothing more may be appended here.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Somebody else has taken the shard over. Whether the batch is in the log, the log says.
    #[error("fenced: another owner has taken over ({})", name(*code))]
    Fenced { code: i16 },
    /// The batch was refused for what it contains; it is not in the log.
    #[error("the broker refused the batch: {}", name(*code))]
    Refused { code: i16 },
    /// An earlier append was dropped before its answer, or ended otherwise than refused.
    /// Another batch with its sequence number might be taken for it.
    #[error("an earlier append to {topic} partition {partition} has no known outcome")]
    Unfinished { topic: String, partition: i32 },
    /// The log is not as it must be: somebody wrote past us, or the broker lost data.
    #[error("the log of {topic} partition {partition} is not as expected: {what}")]
    Diverged {
        topic: String,
        partition: i32,
        what: String,
    },
}

/// Appends to one partition, as its owner.
#[derive(Debug)]
pub struct Appender {
    cluster: Cluster,
    topic: String,
    partition: i32,
    writer: ProducerIdentity,
    next_sequence: i32,
    next_offset: i64,
    connection: Option<Connection>,
    /// The outcome of every batch so far is known.
    settled: bool,
    trouble: watch::Sender<Option<String>>,
}

impl Appender {
    /// An appender after a take-over: `next_offset` is the one after its marker.
    ///
    /// While the broker gives no answer, `trouble` holds the reason; it is this appender's own.
    pub fn new(
        cluster: &Cluster,
        topic: &str,
        partition: i32,
        writer: ProducerIdentity,
        next_offset: i64,
        trouble: watch::Sender<Option<String>>,
    ) -> Self {
        Self {
            cluster: cluster.clone(),
            topic: topic.into(),
            partition,
            writer,
            next_sequence: 0,
            next_offset,
            connection: None,
            settled: true,
            trouble,
        }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Offset that the next record will have.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// Appends a batch that has at least one record; answers the offset of its first.
    ///
    /// Returns only with a definite answer, however long that takes. When it is
    /// dropped before, or ends with anything but success and `Refused`, nothing
    /// more is appended here.
    pub async fn append(&mut self, batch: BatchBuilder) -> Result<i64, AppendError> {
        assert!(!batch.is_empty(), "a batch has at least one record");
        if !std::mem::replace(&mut self.settled, false) {
            return Err(AppendError::Unfinished {
                topic: self.topic.clone(),
                partition: self.partition,
            });
        }
        let records = batch.records();
        let bytes = batch.seal(self.writer, self.next_sequence, now_ms());
        let answer = self.send_until_answered(bytes).await;
        self.settled = matches!(answer, Err(AppendError::Refused { .. }));
        let base_offset = answer?;
        if base_offset != self.next_offset {
            self.expect_only_own_markers(base_offset).await?;
        }
        self.next_offset = base_offset + i64::from(records);
        self.next_sequence = sequence_after(self.next_sequence, records);
        self.settled = true;
        Ok(base_offset)
    }

    /// Goes on after [`renew`](crate::fence::renew), from behind its marker.
    ///
    /// Nothing but markers of this producer may lie between: otherwise somebody wrote past us.
    pub async fn resume(&mut self, renewed: TakeOver) -> Result<(), AppendError> {
        if !self.settled {
            return Err(AppendError::Unfinished {
                topic: self.topic.clone(),
                partition: self.partition,
            });
        }
        let mut reader =
            PartitionReader::new(&self.cluster, &self.topic, self.partition, self.next_offset);
        let mut foreign = None;
        let read = reader.read_to_marker(renewed.marker, |batch| {
            let own = batch.control && batch.producer.id == self.writer.id;
            if !own {
                foreign.get_or_insert(batch.base_offset);
            }
        });
        read.await.map_err(|error| self.diverged(chain(&error)))?;
        if let Some(offset) = foreign {
            return Err(self.diverged(format!("somebody else wrote offset {offset}")));
        }
        self.writer = renewed.writer;
        self.next_sequence = 0;
        self.next_offset = reader.next_offset();
        Ok(())
    }

    async fn send_until_answered(&mut self, bytes: Bytes) -> Result<i64, AppendError> {
        let request = ProduceRequest::default()
            .with_transactional_id(None)
            .with_acks(ALL_REPLICAS)
            .with_timeout_ms(REPLICATION_TIMEOUT_MS)
            .with_topic_data(vec![
                TopicProduceData::default()
                    .with_name(topic_name(&self.topic))
                    .with_partition_data(vec![
                        PartitionProduceData::default()
                            .with_index(self.partition)
                            .with_records(Some(bytes)),
                    ]),
            ]);
        let mut pause = FIRST_PAUSE;
        let mut sent = false;
        loop {
            let reason = match self.send(&request).await {
                Ok((code, base_offset)) => match meaning(code) {
                    Meaning::Appended => {
                        self.answered();
                        return Ok(base_offset);
                    }
                    Meaning::Fenced => return Err(AppendError::Fenced { code }),
                    // A batch that was sent before may be in the log already.
                    Meaning::Refused if !sent => {
                        self.answered();
                        return Err(AppendError::Refused { code });
                    }
                    Meaning::Refused | Meaning::Diverged => {
                        return Err(self.diverged(format!("the broker answered {}", name(code))));
                    }
                    Meaning::SendAgain => {
                        sent = true;
                        name(code)
                    }
                },
                Err(error) => {
                    self.connection = None;
                    // Without a connection to the leader nothing was sent.
                    sent |= !matches!(error, SendError::Cluster(_));
                    chain(&error)
                }
            };
            self.unanswered(reason);
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn unanswered(&self, reason: String) {
        let (topic, partition) = (&self.topic, self.partition);
        if self.trouble.borrow().is_none() {
            tracing::warn!(
                topic,
                partition,
                reason,
                "no answer, sending the same bytes again"
            );
        }
        self.trouble.send_replace(Some(reason));
    }

    fn answered(&self) {
        let (topic, partition) = (&self.topic, self.partition);
        let was_troubled = |trouble: &mut Option<String>| trouble.take().is_some();
        if self.trouble.send_if_modified(was_troubled) {
            tracing::info!(topic, partition, "the log answers again");
        }
    }

    async fn send(&mut self, request: &ProduceRequest) -> Result<(i16, i64), SendError> {
        // A broker that hung up on an idle connection is no trouble.
        self.connection.take_if(|connection| !connection.is_open());
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(
                self.cluster
                    .connect_leader(&self.topic, self.partition)
                    .await?,
            ),
        };
        let answer = connection.call(9, request).await?;
        let partition = answer
            .responses
            .first()
            .and_then(|topic| topic.partition_responses.first());
        match partition {
            Some(partition) => {
                if partition.error_code != 0 {
                    // The leader may have moved: ask for it anew.
                    self.connection = None;
                }
                Ok((partition.error_code, partition.base_offset))
            }
            None => Err(SendError::Empty),
        }
    }

    /// The coordinator may repeat the markers of our take-over; anything else
    /// between our batches means that somebody wrote past us.
    async fn expect_only_own_markers(&self, base_offset: i64) -> Result<(), AppendError> {
        if base_offset < self.next_offset {
            return Err(self.diverged(format!(
                "the batch got offset {base_offset}, below the expected {}",
                self.next_offset
            )));
        }
        let mut reader =
            PartitionReader::new(&self.cluster, &self.topic, self.partition, self.next_offset);
        let mut next = self.next_offset;
        while next < base_offset {
            let batches = reader.next_batches().await.map_err(|error: FetchError| {
                self.diverged(format!(
                    "the gap before {base_offset} cannot be read: {error}"
                ))
            })?;
            for batch in batches {
                if batch.base_offset >= base_offset {
                    return Ok(());
                }
                if !batch.control || batch.producer.id != self.writer.id {
                    return Err(self.diverged(format!(
                        "offset {} was written by producer {} epoch {}",
                        batch.base_offset, batch.producer.id, batch.producer.epoch
                    )));
                }
                next = batch.last_offset + 1;
            }
        }
        Ok(())
    }

    fn diverged(&self, what: String) -> AppendError {
        AppendError::Diverged {
            topic: self.topic.clone(),
            partition: self.partition,
            what,
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the broker's answer names no partition")]
    Empty,
}

/// What an error code says about the batch.
enum Meaning {
    Appended,
    SendAgain,
    Fenced,
    Refused,
    Diverged,
}

fn meaning(code: i16) -> Meaning {
    use ResponseError as E;
    match ResponseError::try_from_code(code) {
        None if code == 0 => Meaning::Appended,
        Some(E::InvalidProducerEpoch | E::ProducerFenced | E::UnknownProducerId) => Meaning::Fenced,
        Some(
            E::MessageTooLarge
            | E::RecordListTooLarge
            | E::InvalidRecord
            | E::InvalidTimestamp
            | E::PolicyViolation,
        ) => Meaning::Refused,
        Some(E::OutOfOrderSequenceNumber | E::DuplicateSequenceNumber) => Meaning::Diverged,
        // Leader changes, time-outs, missing replicas, and whatever else may pass.
        _ => Meaning::SendAgain,
    }
}

/// Only for the batch's own timestamp; the topics keep the broker's time.
fn now_ms() -> i64 {
    DateTime::<chrono::Utc>::from(std::time::SystemTime::now()).timestamp_millis()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
