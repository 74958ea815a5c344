//! Who appended before, and whether this take-over has fenced them.
//!
//! A take-over's markers fence whoever had the same producer id. The newest
//! claim tells who had which; where that is another id, because the
//! coordinator gave out a new one unheard or had lost its memory, somebody's
//! markers must have fenced it, or it must be forgotten by everybody.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use event_log::{
    batch::{Batch, BatchBuilder, ProducerIdentity},
    fence::TakeOver,
};
use serde::{Deserialize, Serialize};

/// Key in the owners topic, which keeps the newest record of each.
const CLAIM: &[u8] = b"claim";

/// The first append of an owner: who it is and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub endpoint: String,
    pub producer_id: i64,
    pub epoch: i16,
}

impl Claim {
    pub fn new(endpoint: &str, writer: ProducerIdentity) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            producer_id: writer.id,
            epoch: writer.epoch,
        }
    }

    pub fn batch(&self) -> BatchBuilder {
        let claim = serde_json::json!(self).to_string();
        let mut batch = BatchBuilder::default();
        batch.push(CLAIM, Some(claim.as_bytes()), |_| {});
        batch
    }

    /// The claim in a batch of the owners topic, if it has one. One that names
    /// somebody else than its writer is none of ours.
    pub fn read(batch: &Batch) -> Option<Self> {
        if batch.control {
            return None;
        }
        let records = batch.records().filter_map(Result::ok);
        let mut claims = records.filter(|record| record.key.as_deref() == Some(CLAIM));
        let claim: Self = serde_json::from_slice(claims.next()?.value.as_deref()?).ok()?;
        let writer = ProducerIdentity {
            id: claim.producer_id,
            epoch: claim.epoch,
        };
        (writer == batch.producer).then_some(claim)
    }
}

/// What the partitions of a shard tell of its owners, read up to our own marker.
#[derive(Debug, Default)]
pub(super) struct Predecessors {
    partitions: Vec<Producers>,
    /// The place of the one that is read.
    reading: usize,
    claimed: Option<ProducerIdentity>,
}

/// Who wrote to one partition.
#[derive(Debug)]
struct Producers {
    topic: String,
    by_id: BTreeMap<i64, Seen>,
    /// Append time of the newest batch.
    end_ms: i64,
}

#[derive(Debug, Default)]
struct Seen {
    highest_marker: Option<i16>,
    newest_ms: i64,
}

/// Somebody may still be able to append: nothing may be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "the newest claim is that of producer {} epoch {}, but the coordinator gave us {}, and no \
     marker in {topic} fences the one before: it may still append. Stop every process that may \
     own this shard; then start again {lifetime:?} after its last record, or at once when it is \
     fenced by hand: kafka-transactions.sh abort --topic {topic} --partition {partition} \
     --producer-id {} --producer-epoch {} --coordinator-epoch 0",
    claimed.id, claimed.epoch, marker.id, claimed.id, claimed.epoch.saturating_add(1)
)]
pub(super) struct Unfenced {
    claimed: ProducerIdentity,
    marker: ProducerIdentity,
    topic: String,
    partition: i32,
    lifetime: Duration,
}

impl Predecessors {
    /// What is noted from now on was read from this topic.
    pub fn read(&mut self, topic: &str) {
        let known = self.partitions.iter().position(|it| it.topic == topic);
        self.reading = known.unwrap_or_else(|| {
            self.partitions.push(Producers {
                topic: topic.to_owned(),
                by_id: BTreeMap::new(),
                end_ms: i64::MIN,
            });
            self.partitions.len() - 1
        });
    }

    pub fn note(&mut self, batch: &Batch) {
        let Some(partition) = self.partitions.get_mut(self.reading) else {
            unreachable!("a batch is read from a topic");
        };
        partition.end_ms = batch.appended_at_ms;
        let seen = partition.by_id.entry(batch.producer.id).or_default();
        seen.newest_ms = seen.newest_ms.max(batch.appended_at_ms);
        if batch.control {
            seen.highest_marker = seen.highest_marker.max(Some(batch.producer.epoch));
        }
    }

    /// Whose markers a snapshot has seen in what is not read again.
    pub fn note_marked(&mut self, ids: &BTreeSet<i64>) {
        let Some(partition) = self.partitions.get_mut(self.reading) else {
            unreachable!("a snapshot is of a topic");
        };
        for id in ids {
            let seen = partition.by_id.entry(*id).or_default();
            // Of which epochs, nobody remembers.
            seen.highest_marker = seen.highest_marker.max(Some(-1));
        }
    }

    /// Notes a batch of the owners topic.
    pub fn note_claim(&mut self, batch: &Batch) {
        self.note(batch);
        if Claim::read(batch).is_some() {
            self.claimed = Some(batch.producer);
        }
    }

    /// Producers whose markers a coordinator may repeat.
    pub fn ids(&self, taken: TakeOver) -> BTreeSet<i64> {
        let seen = self.partitions.iter().flat_map(|read| &read.by_id);
        let marked = seen.filter(|(_, seen)| seen.highest_marker.is_some());
        let ids = marked.map(|(id, _)| *id);
        ids.chain(self.claimed.map(|claimed| claimed.id))
            .chain([taken.marker.id, taken.writer.id])
            .collect()
    }

    /// Whether nobody but us can append any more.
    ///
    /// A claimed producer that wrote nothing, not even a renewal, for longer than a fence holds
    /// is no owner: it takes the shard over anew before it sends anything. Otherwise a week of
    /// downtime, after which the coordinator knows nobody, would lock everybody out.
    pub fn are_fenced(
        &self,
        partition: i32,
        marker: ProducerIdentity,
        lifetime: Duration,
    ) -> Result<(), Unfenced> {
        let Some(claimed) = self.claimed.filter(|claimed| claimed.id != marker.id) else {
            return Ok(());
        };
        let is_fenced = |read: &&Producers| {
            let seen = read.by_id.get(&claimed.id);
            seen.is_some_and(|seen| seen.highest_marker > Some(claimed.epoch))
        };
        let Some(open) = self.partitions.iter().find(|read| !is_fenced(read)) else {
            return Ok(());
        };
        let seen = self.partitions.iter().map(|read| &read.by_id);
        let newest_ms = seen
            .filter_map(|by_id| Some(by_id.get(&claimed.id)?.newest_ms))
            .max();
        let now_ms = self.partitions.iter().map(|read| read.end_ms).min();
        // Both by the brokers' clocks.
        let silent_ms = now_ms.zip(newest_ms).map(|(now, newest)| now - newest);
        let silent = Duration::from_millis(silent_ms.unwrap_or(0).try_into().unwrap_or(0));
        if silent > lifetime {
            tracing::info!(
                partition,
                producer = claimed.id,
                "the owner before was silent for {silent:?}, and is forgotten"
            );
            return Ok(());
        }
        Err(Unfenced {
            claimed,
            marker,
            topic: open.topic.clone(),
            partition,
            lifetime,
        })
    }
}
