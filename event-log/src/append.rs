//! The fenced append: one batch at a time, the same bytes until there is a
//! definite answer.
//!
//! A plain idempotent `Produce` with the identity of a completed take-over.
//! The broker appends the batch once, however often it is sent, and refuses
//! it when somebody else has taken the shard over.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::DateTime;
use kafka_protocol::ResponseError;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use crate::{
    awake::{self, Awake, Overslept},
    batch::{Batch, BatchBuilder, ProducerIdentity, sequence_after},
    cluster::{Cluster, ClusterError, name, topic_name},
    fence::TakeOver,
    fetch::{FetchError, PartitionReader},
    leader::{Leader, Place, ProduceError, Verdict},
};

const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// After this long without an answer it is told: leaders move in less.
const TROUBLE_AFTER: Duration = Duration::from_secs(1);

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
    /// Whether the batch is in the log, a new take-over and the log itself say.
    #[error(transparent)]
    Overslept(#[from] Overslept),
    /// The renewal is not in the log, although the coordinator says so.
    #[error("failed to go on after a renewal")]
    Unmarked(#[source] FetchError),
    /// Somebody who does not own this shard wrote between our batches, and Kafka let them. The
    /// batch is in the log, behind that; what it was, a new take-over reads.
    #[error("somebody wrote into {topic} partition {partition}: {what}")]
    Trespassed {
        topic: String,
        partition: i32,
        what: String,
    },
    /// The log is not as it must be: somebody wrote as ourselves, or the broker lost data.
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
    place: Place,
    writer: ProducerIdentity,
    /// The coordinator may repeat the markers of these producers.
    owners: Arc<BTreeSet<i64>>,
    next_sequence: i32,
    next_offset: i64,
    leader: Option<Leader>,
    /// The outcome of every batch so far is known.
    settled: bool,
    pauses: Pauses,
    trouble: watch::Sender<Option<String>>,
}

/// What an appender does about a pause of its process.
#[derive(Debug)]
enum Pauses {
    Overlooks,
    /// It waits until it is proved that nobody has taken over.
    WaitsOut(Awake),
    /// Its appends are the proof.
    Proves(Awake),
}

impl Appender {
    /// An appender after a take-over: `next_offset` is the one after its marker.
    ///
    /// When the broker gives no answer for a second, `trouble` holds the reason until there is one;
    /// it is this appender's own.
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
            place: Place {
                topic: topic_name(topic),
                partition,
            },
            writer,
            owners: Arc::new(BTreeSet::from([writer.id])),
            next_sequence: 0,
            next_offset,
            leader: None,
            settled: true,
            pauses: Pauses::Overlooks,
            trouble,
        }
    }

    /// Takes repeated markers of these producers, who owned the shard before, for no trouble.
    pub fn after_owners(mut self, owners: &Arc<BTreeSet<i64>>) -> Self {
        self.owners = owners.clone();
        Arc::make_mut(&mut self.owners).insert(self.writer.id);
        self
    }

    /// After a pause sends nothing, not even again, until somebody has proved that nobody used it.
    pub fn waits_out_pauses(mut self, awake: &Awake) -> Self {
        self.pauses = Pauses::WaitsOut(awake.clone());
        self
    }

    /// Proves with what it sends after a pause that nobody used it.
    pub fn proves_ownership(mut self, awake: &Awake) -> Self {
        self.pauses = Pauses::Proves(awake.clone());
        self
    }

    pub fn topic(&self) -> &str {
        &self.place.topic
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
                topic: self.topic().to_owned(),
                partition: self.place.partition,
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
    /// Nothing but markers of this shard's owners may lie between: otherwise somebody wrote past us.
    pub async fn resume(&mut self, renewed: TakeOver) -> Result<(), AppendError> {
        if !self.settled {
            return Err(AppendError::Unfinished {
                topic: self.topic().to_owned(),
                partition: self.place.partition,
            });
        }
        let mut reader = PartitionReader::new(
            &self.cluster,
            self.topic(),
            self.place.partition,
            self.next_offset,
        );
        let mut foreign = None;
        let read = reader.read_to_marker(renewed.marker, |batch| {
            if !self.is_own_marker(batch) {
                foreign.get_or_insert_with(|| self.written_past(batch));
            }
        });
        read.await.map_err(|error| match error {
            FetchError::NoMarker { .. } => AppendError::Unmarked(error),
            _ => self.diverged(chain(&error)),
        })?;
        if let Some(foreign) = foreign {
            return Err(foreign);
        }
        self.writer = renewed.writer;
        Arc::make_mut(&mut self.owners).insert(renewed.writer.id);
        self.next_sequence = 0;
        self.next_offset = reader.next_offset();
        Ok(())
    }

    async fn send_until_answered(&mut self, bytes: Bytes) -> Result<i64, AppendError> {
        let mut pause = FIRST_PAUSE;
        let mut sent = false;
        let began = awake::now();
        let tell_at = Instant::now() + TROUBLE_AFTER;
        let mut reason = format!("the broker did not answer within {TROUBLE_AFTER:?}");
        loop {
            let pauses = self.pauses.before_sending(began).await?;
            reason = match self.send_telling(&bytes, sent, tell_at, &reason).await {
                Ok((code, base_offset)) => match meaning(code) {
                    Meaning::Appended => {
                        self.pauses.acknowledged(pauses);
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
                    self.leader = None;
                    sent |= !error.is_unsent();
                    chain(&error)
                }
            };
            let (topic, partition) = (self.topic(), self.place.partition);
            tracing::debug!(topic, partition, reason, "sending the same bytes again");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Sends once; when there has been no answer for too long, tells why the last try had none.
    async fn send_telling(
        &mut self,
        bytes: &Bytes,
        again: bool,
        tell_at: Instant,
        reason: &str,
    ) -> Result<Verdict, SendError> {
        let trouble = self.trouble.clone();
        let (topic, partition) = (self.topic().to_owned(), self.place.partition);
        let mut answer = pin!(self.send(bytes, again));
        if let Ok(answer) = timeout_at(tell_at, &mut answer).await {
            return answer;
        }
        let news = |told: &mut Option<String>| match told.replace(reason.to_owned()) {
            None => {
                tracing::warn!(topic, partition, reason, "no answer, sending on");
                true
            }
            Some(before) => before != reason,
        };
        trouble.send_if_modified(news);
        answer.await
    }

    fn answered(&self) {
        let (topic, partition) = (self.topic(), self.place.partition);
        let was_troubled = |trouble: &mut Option<String>| trouble.take().is_some();
        if self.trouble.send_if_modified(was_troubled) {
            tracing::info!(topic, partition, "the log answers again");
        }
    }

    /// Sends once. What is sent `again` goes alone: what kept it from its answer is kept from others.
    async fn send(&mut self, bytes: &Bytes, again: bool) -> Result<Verdict, SendError> {
        let leader = match &self.leader {
            Some(leader) => leader,
            None => {
                let found = self.cluster.leader(self.topic(), self.place.partition);
                self.leader.insert(found.await?)
            }
        };
        let verdict = leader.produce(&self.place, bytes.clone(), again).await?;
        if verdict.0 != 0 {
            // The leader may have moved: ask for it anew.
            self.leader = None;
        }
        Ok(verdict)
    }

    /// The coordinator may repeat the markers of take-overs; anything else between our batches was
    /// written by somebody else.
    async fn expect_only_own_markers(&self, base_offset: i64) -> Result<(), AppendError> {
        if base_offset < self.next_offset {
            return Err(self.diverged(format!(
                "the batch got offset {base_offset}, below the expected {}",
                self.next_offset
            )));
        }
        let mut reader = PartitionReader::new(
            &self.cluster,
            self.topic(),
            self.place.partition,
            self.next_offset,
        );
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
                if !self.is_own_marker(&batch) {
                    return Err(self.written_past(&batch));
                }
                next = batch.last_offset + 1;
            }
        }
        Ok(())
    }

    fn is_own_marker(&self, batch: &Batch) -> bool {
        batch.control && self.owners.contains(&batch.producer.id)
    }

    /// A batch that nobody but this shard's owner may write.
    fn written_past(&self, batch: &Batch) -> AppendError {
        let what = written_by(batch);
        if batch.producer.id == self.writer.id {
            return self.diverged(format!("{what}, which is our own"));
        }
        AppendError::Trespassed {
            topic: self.topic().to_owned(),
            partition: self.place.partition,
            what: format!("{what}, which does not own this shard: stop that program"),
        }
    }

    fn diverged(&self, what: String) -> AppendError {
        AppendError::Diverged {
            topic: self.topic().to_owned(),
            partition: self.place.partition,
            what,
        }
    }
}

impl Pauses {
    /// Waits until the batch may be sent that was first sent, or tried to, at `began`.
    async fn before_sending(&self, began: Duration) -> Result<u64, Overslept> {
        match self {
            Self::Overlooks => Ok(0),
            Self::WaitsOut(awake) => {
                awake.until_sure().await?;
                // Brokers may have forgotten that they have it.
                awake.since(began)?;
                Ok(0)
            }
            Self::Proves(awake) => {
                awake.since(began)?;
                awake.look()
            }
        }
    }

    /// What was sent after so many pauses.
    fn acknowledged(&self, pauses: u64) {
        match self {
            Self::Overlooks | Self::WaitsOut(_) => {}
            Self::Proves(awake) => awake.prove(pauses),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Produce(#[from] ProduceError),
}

impl SendError {
    fn is_unsent(&self) -> bool {
        match self {
            // Without a leader nothing was sent.
            Self::Cluster(_) => true,
            Self::Produce(error) => error.is_unsent(),
        }
    }
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

fn written_by(batch: &Batch) -> String {
    let ProducerIdentity { id, epoch } = batch.producer;
    let what = match batch.control {
        true => "a transaction marker",
        false => "records",
    };
    format!(
        "offset {} has {what} of producer {id} epoch {epoch}",
        batch.base_offset
    )
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
