//! A partition as its leader keeps it: the log, and what it remembers of each producer.
//!
//! The rules are Kafka's (`ProducerAppendInfo`, `ProducerStateManager`): a
//! batch that is remembered is answered with its first offset; an older epoch
//! is refused; a new epoch begins with sequence number 0; within an epoch there
//! is no gap; of a producer that is not known, anything is taken.

use std::collections::BTreeMap;

/// Producer id and epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    pub pid: u8,
    pub epoch: i8,
}

impl Identity {
    pub fn next(self) -> Self {
        Self {
            epoch: self.epoch + 1,
            ..self
        }
    }
}

/// The two partitions of a shard group that the model has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    Events,
    Owners,
}

pub const TOPICS: [Topic; 2] = [Topic::Events, Topic::Owners];

/// The event that a command caused; a command has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Event {
    /// The command, as an index into the scenario's.
    pub command: u8,
    pub version: u8,
    pub term: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Record {
    Marker,
    Claim,
    Barrier,
    Event(Event),
    /// Of a program that knows nothing of owners.
    Foreign,
}

/// One offset of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot {
    pub by: Identity,
    pub record: Record,
    /// How many long times had passed when this was written.
    pub time: u8,
}

impl Slot {
    pub fn is_marker_of(&self, by: Identity) -> bool {
        self.record == Record::Marker && self.by == by
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Batch {
    pub by: Identity,
    pub sequence: u8,
    pub records: Vec<Record>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Produced {
    At(u8),
    Fenced,
    OutOfOrder,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Producer {
    epoch: i8,
    /// First and last sequence number and offset of the newest batches of this epoch.
    remembered: Vec<(u8, u8, u8)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Partition {
    pub log: Vec<Slot>,
    producers: BTreeMap<u8, Producer>,
    /// Where the log ended for a leader that was deposed and still answers readers.
    pub old_end: Option<u8>,
    /// How many long times have passed.
    pub time: u8,
}

impl Partition {
    pub fn end(&self) -> u8 {
        self.log.len() as u8
    }

    /// A client's plain idempotent batch.
    pub fn produce(&mut self, batch: &Batch) -> Produced {
        let base = self.end();
        let last = batch.sequence + batch.records.len() as u8 - 1;
        if let Some(known) = self.producers.get(&batch.by.pid) {
            if batch.by.epoch < known.epoch {
                return Produced::Fenced;
            }
            let mut expected = 0;
            if batch.by.epoch == known.epoch {
                let duplicate =
                    |&&(first, end, _): &&(u8, u8, u8)| (first, end) == (batch.sequence, last);
                if let Some(&(_, _, offset)) = known.remembered.iter().find(duplicate) {
                    return Produced::At(offset);
                }
                expected = known.remembered.last().map_or(0, |(_, last, _)| last + 1);
            }
            if batch.sequence != expected {
                return Produced::OutOfOrder;
            }
        }
        let time = self.time;
        let producer = self.at_epoch(batch.by);
        producer.remembered.push((batch.sequence, last, base));
        let slot = |&record| Slot {
            by: batch.by,
            record,
            time,
        };
        self.log.extend(batch.records.iter().map(slot));
        Produced::At(base)
    }

    /// A coordinator's marker; an older epoch's is refused.
    pub fn mark(&mut self, by: Identity) {
        let known = self.producers.get(&by.pid).map(|known| known.epoch);
        if known.is_none_or(|epoch| epoch <= by.epoch) {
            self.at_epoch(by);
            self.log.push(Slot {
                by,
                record: Record::Marker,
                time: self.time,
            });
        }
    }

    pub fn write_unfenced(&mut self, record: Record) {
        let by = Identity {
            pid: u8::MAX,
            epoch: 0,
        };
        let time = self.time;
        self.log.push(Slot { by, record, time });
    }

    /// Only the newest batch of each producer is remembered across a restart.
    pub fn restart(&mut self) {
        for producer in self.producers.values_mut() {
            let old = producer.remembered.len().saturating_sub(1);
            producer.remembered.drain(..old);
        }
    }

    /// Producers that have written nothing for long are forgotten. The owner has renewed its
    /// fence meanwhile, and its newest marker is a young one.
    pub fn pass_long_time(&mut self, owner: Option<u8>) {
        self.time += 1;
        self.producers.retain(|pid, _| Some(*pid) == owner);
        let newest = self.log.iter_mut().rfind(|slot| Some(slot.by.pid) == owner);
        if let Some(newest) = newest {
            newest.time = self.time;
        }
    }

    fn at_epoch(&mut self, by: Identity) -> &mut Producer {
        let fresh = Producer {
            epoch: by.epoch,
            remembered: Vec::new(),
        };
        let producer = self
            .producers
            .entry(by.pid)
            .or_insert_with(|| fresh.clone());
        if producer.epoch != by.epoch {
            *producer = fresh;
        }
        producer
    }

    pub fn events(&self) -> impl Iterator<Item = Event> {
        self.log.iter().filter_map(|slot| match slot.record {
            Record::Event(event) => Some(event),
            Record::Marker | Record::Claim | Record::Barrier | Record::Foreign => None,
        })
    }
}
