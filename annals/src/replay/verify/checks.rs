//! What is looked at in each record of a partition, in the order in which they lie.

use event_log::{
    Envelope,
    batch::{Batch, Record},
    envelope::header,
    fetch::FetchError,
    router::partition_of,
};
use kernel::{CommandId, EventId, StreamId};

use service_kit::problem::Chain;

use super::{
    finding::{Damage, Finding},
    versions::Versions,
};
use crate::replay::kinds::{Kinds, Unreadable};

/// Goes through one partition from its first record on.
pub(super) struct Checks<'a> {
    kinds: &'a Kinds,
    topic: &'a str,
    partition: i32,
    partitions: i32,
    /// Where the next batch must lie.
    next_offset: i64,
    /// The highest so far.
    term: u64,
    open: Option<Open>,
    /// The last batch could not be read: it has the offsets up to the next.
    behind_unreadable: bool,
    pub(super) seen: Seen,
}

/// What there was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) records: u64,
    pub(super) events: u64,
    /// Records of transaction markers.
    pub(super) markers: u64,
    /// Records that are not ours, which readers pass over.
    pub(super) foreign: u64,
    pub(super) streams: u64,
}

/// A command whose events are not complete yet.
struct Open {
    stream: StreamId,
    command_id: CommandId,
    count: u32,
    next_index: u32,
    offset: i64,
}

impl<'a> Checks<'a> {
    pub(super) fn new(kinds: &'a Kinds, topic: &'a str, partition: i32, partitions: i32) -> Self {
        Self {
            kinds,
            topic,
            partition,
            partitions,
            next_offset: 0,
            term: 0,
            open: None,
            behind_unreadable: false,
            seen: Seen::default(),
        }
    }

    pub(super) fn take(
        &mut self,
        batch: &Batch,
        versions: &mut Versions,
        found: &mut impl FnMut(Finding),
    ) {
        if batch.control {
            self.seen.markers += 1;
            self.follow(batch.base_offset, batch.last_offset, found);
            return;
        }
        let mut last = batch.base_offset - 1;
        for record in batch.records() {
            match record {
                Ok(record) => {
                    self.follow(record.offset, record.offset, found);
                    last = record.offset;
                    self.seen.records += 1;
                    self.record(&record, versions, found);
                }
                Err(error) => {
                    let detail = error.to_string();
                    found(self.finding(Damage::UnreadableBatch, last + 1, None, detail));
                    // Said once is enough.
                    last = batch.last_offset;
                }
            }
        }
        if last < batch.last_offset {
            self.follow(batch.last_offset + 1, batch.last_offset, found);
        }
        self.next_offset = batch.last_offset + 1;
        // A command is in one batch: what it lacks now does not come.
        self.close(found);
    }

    /// Notes that the log goes on at `from`, up to and including `to`.
    fn follow(&mut self, from: i64, to: i64, found: &mut impl FnMut(Finding)) {
        let told = std::mem::take(&mut self.behind_unreadable);
        if from > self.next_offset && !told {
            let detail = format!("offsets {} to {} are gone", self.next_offset, from - 1);
            found(self.finding(Damage::MissingOffsets, self.next_offset, None, detail));
        }
        self.next_offset = to + 1;
    }

    fn record(
        &mut self,
        record: &Record,
        versions: &mut Versions,
        found: &mut impl FnMut(Finding),
    ) {
        let envelope = match Envelope::read(record.headers()) {
            Ok(envelope) => envelope,
            Err(error) => {
                let ours = record.headers().any(|it| it.0.starts_with(header::OURS));
                match ours {
                    true => {
                        let detail = error.to_string();
                        let at = record.offset;
                        found(self.finding(Damage::UnreadableEnvelope, at, None, detail));
                    }
                    false => self.seen.foreign += 1,
                }
                return;
            }
        };
        self.seen.events += 1;
        let mut tell = |damage, detail: String| {
            found(Finding {
                damage,
                topic: self.topic.into(),
                partition: self.partition,
                offset: record.offset,
                stream: Some(envelope.stream.to_string()),
                detail,
            });
        };
        if envelope.term < self.term {
            let detail = format!("term {} after term {}", envelope.term, self.term);
            // Readers pass over it, so its version and its command count for nothing.
            return tell(Damage::LowerTerm, detail);
        }
        self.term = envelope.term;
        if record.key.as_deref() != Some(envelope.stream.as_str().as_bytes()) {
            tell(Damage::WrongKey, "the key is not the stream's id".into());
        }
        let home = partition_of(&envelope.stream, self.partitions);
        if home != self.partition {
            tell(
                Damage::WrongPartition,
                format!("it belongs into partition {home}"),
            );
        }
        if envelope.id != EventId::of(&envelope.stream, envelope.version) {
            tell(
                Damage::WrongId,
                format!("{} is not the id of the event", envelope.id),
            );
        }
        let value = record.value.as_deref().unwrap_or_default();
        if let Err(error) = self.decode(&envelope, value) {
            tell(Damage::Undecodable, error.to_string());
        }
        if let Some((damage, detail)) = versions.take(&envelope) {
            tell(damage, detail);
        }
        self.command(&envelope, record.offset, found);
    }

    fn decode(&self, envelope: &Envelope, value: &[u8]) -> Result<(), Unreadable> {
        match self.kinds.named(envelope.stream.kind()) {
            Some(kind) => kind.check(&envelope.event_type, value),
            None => Err(Unreadable::UnknownType(envelope.event_type.to_string())),
        }
    }

    /// A command's events lie one after the other.
    fn command(&mut self, event: &Envelope, offset: i64, found: &mut impl FnMut(Finding)) {
        let goes_on = self.open.as_ref().is_some_and(|open| {
            open.next_index == event.index
                && open.count == event.count
                && open.stream == event.stream
                && open.command_id == event.command_id
        });
        if !goes_on {
            self.close(found);
            if event.index != 0 {
                let detail = format!("event {} of {} is the first", event.index + 1, event.count);
                let stream = Some(event.stream.to_string());
                found(self.finding(Damage::TornCommand, offset, stream, detail));
            }
        }
        let next_index = event.index.saturating_add(1);
        self.open = (next_index < event.count).then(|| Open {
            stream: event.stream.clone(),
            command_id: event.command_id.clone(),
            count: event.count,
            next_index,
            offset,
        });
    }

    fn close(&mut self, found: &mut impl FnMut(Finding)) {
        if let Some(open) = self.open.take() {
            let detail = format!("event {} of {} is the last", open.next_index, open.count);
            let stream = Some(open.stream.to_string());
            found(self.finding(Damage::TornCommand, open.offset, stream, detail));
        }
    }

    /// What it means that the partition cannot be read on.
    /// What comes behind an unreadable batch is looked at; what is missing of its offsets is not
    /// told once more.
    pub(super) fn unreadable(&mut self, error: &FetchError) -> Finding {
        let damage = match error {
            FetchError::OutOfRange { .. } => Damage::MissingOffsets,
            _ => Damage::UnreadableBatch,
        };
        self.behind_unreadable = true;
        self.finding(damage, self.next_offset, None, Chain(error).to_string())
    }

    fn finding(
        &self,
        damage: Damage,
        offset: i64,
        stream: Option<String>,
        detail: String,
    ) -> Finding {
        Finding {
            damage,
            topic: self.topic.into(),
            partition: self.partition,
            offset,
            stream,
            detail,
        }
    }
}
