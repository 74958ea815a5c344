//! What has arrived of a partition and is not committed: events to be projected, and between them
//! what is to be quarantined or held back.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use event_log::{
    Envelope,
    avro::LearnError,
    consume::{LogRecord, Unrecognized},
};
use kernel::StreamId;

use crate::{
    checkpoint::Place,
    projection::{Gathered, Undecodable},
    quarantine::{Held, Poison, Quarantined},
};

pub(crate) struct Gathering {
    events: Box<dyn Gathered>,
    entries: VecDeque<Entry>,
    bytes: usize,
    /// The streams of this partition that are held back, from the last entry on.
    quarantined: HashSet<StreamId>,
    /// Offsets that an operator has decided to leave out.
    skipped: BTreeSet<i64>,
    /// Where the checkpoint stands when all of it is committed.
    end: Place,
}

/// What became of a record that arrived.
#[derive(Debug)]
pub(crate) enum Taken {
    /// It is gathered, or means nothing to the model.
    Yes,
    /// Its owner was deposed before it wrote this.
    Deposed(Box<Envelope>),
    /// Somebody else than Annals wrote it, and it hides nothing of ours.
    Foreign,
}

struct Entry {
    /// Where the checkpoint stands after it.
    after: Place,
    bytes: usize,
    what: What,
}

enum What {
    /// The next of the gathered events.
    Event,
    Poisoned(Poison),
    Held(StreamId),
    /// What is left of an event that names no stream.
    Nameless(Unrecognized),
}

impl Gathering {
    pub(crate) fn new(
        events: Box<dyn Gathered>,
        at: Place,
        Quarantined { streams, skipped }: Quarantined,
    ) -> Self {
        Self {
            events,
            entries: VecDeque::new(),
            bytes: 0,
            quarantined: streams,
            skipped,
            end: at,
        }
    }

    pub(crate) fn end(&self) -> Place {
        self.end
    }

    /// How many streams are held back.
    pub(crate) fn quarantined(&self) -> usize {
        self.quarantined.len()
    }

    /// How many entries wait to be committed.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// # Errors
    /// Nobody can say now what the record is; it has to be taken again.
    pub(crate) async fn take(&mut self, record: LogRecord) -> Result<Taken, LearnError> {
        let offset = record.position.offset;
        if offset < self.end.next_offset {
            return Ok(Taken::Yes);
        }
        self.end.next_offset = offset + 1;
        if self.skipped.contains(&offset) {
            return Ok(Taken::Yes);
        }
        let bytes = record.value.len();
        let envelope = match record.envelope {
            Ok(envelope) => envelope,
            Err(unrecognized) => {
                return Ok(self.take_unrecognized(unrecognized, offset, bytes));
            }
        };
        let term = term(&envelope);
        if term < self.end.term {
            return Ok(Taken::Deposed(Box::new(envelope)));
        }
        self.end.term = term;
        if self.quarantined.contains(&envelope.stream) {
            self.push(bytes, What::Held(envelope.stream));
            return Ok(Taken::Yes);
        }
        let (position, value) = (record.position, &record.value);
        match self.events.push_or_learn(envelope, position, value).await? {
            Ok(true) => self.push(bytes, What::Event),
            Ok(false) => {}
            Err(undecodable) => {
                let Undecodable {
                    envelope, error, ..
                } = *undecodable;
                let poison = Poison::unreadable(envelope.stream.clone(), offset, &error);
                self.quarantine(bytes, poison.of(&envelope));
            }
        }
        Ok(Taken::Yes)
    }

    fn take_unrecognized(
        &mut self,
        unrecognized: Unrecognized,
        offset: i64,
        bytes: usize,
    ) -> Taken {
        if !unrecognized.ours {
            return Taken::Foreign;
        }
        match &unrecognized.stream {
            Some(stream) if self.quarantined.contains(stream) => {
                self.push(bytes, What::Held(stream.clone()));
            }
            Some(stream) => {
                let poison = Poison::unreadable(stream.clone(), offset, &unrecognized);
                self.quarantine(bytes, poison);
            }
            None => self.push(bytes, What::Nameless(unrecognized)),
        }
        Taken::Yes
    }

    fn quarantine(&mut self, bytes: usize, poison: Poison) {
        self.quarantined.insert(poison.stream.clone());
        self.push(bytes, What::Poisoned(poison));
    }

    fn push(&mut self, bytes: usize, what: What) {
        self.bytes += bytes;
        self.entries.push_back(Entry {
            after: self.end,
            bytes,
            what,
        });
    }

    /// Its first so many entries, and all that means nothing between them; everything when there
    /// are no more.
    pub(crate) fn batch(&self, entries: usize) -> Batch<'_> {
        let entries = entries.min(self.entries.len());
        let mut batch = Batch {
            events: &*self.events,
            event_count: 0,
            entry_count: entries,
            poisoned: Vec::new(),
            held: HashMap::new(),
        };
        for entry in self.entries.range(..entries) {
            match &entry.what {
                What::Event => batch.event_count += 1,
                What::Poisoned(poison) => batch.poisoned.push(poison),
                What::Held(stream) => {
                    let held = batch.held.entry(stream).or_insert(Held {
                        count: 0,
                        last_offset: 0,
                    });
                    held.count += 1;
                    held.last_offset = entry.after.next_offset - 1;
                }
                What::Nameless(_) => {}
            }
        }
        batch
    }

    /// How many entries lie below this offset.
    pub(crate) fn below(&self, offset: i64) -> usize {
        self.entries
            .partition_point(|entry| entry.after.next_offset <= offset)
    }

    /// How many entries there are before the first that would be quarantined.
    pub(crate) fn before_poison(&self) -> usize {
        let poisoned = |entry: &Entry| matches!(entry.what, What::Poisoned(_));
        let first = self.entries.iter().position(poisoned);
        first.unwrap_or(self.entries.len())
    }

    /// How many entries there are before the first that names no stream.
    pub(crate) fn before_nameless(&self) -> usize {
        let nameless = |entry: &Entry| matches!(entry.what, What::Nameless(_));
        let first = self.entries.iter().position(nameless);
        first.unwrap_or(self.entries.len())
    }

    /// The first entry, when it names no stream: its offset, and what is wrong.
    pub(crate) fn nameless(&self) -> Option<(i64, &Unrecognized)> {
        let first = self.entries.front()?;
        match &first.what {
            What::Nameless(unrecognized) => Some((first.after.next_offset - 1, unrecognized)),
            What::Event | What::Poisoned(_) | What::Held(_) => None,
        }
    }

    /// Where the checkpoint stands after the first so many entries.
    pub(crate) fn place_after(&self, entries: usize, at: Place) -> Place {
        match entries {
            _ if entries >= self.entries.len() => self.end,
            0 => at,
            _ => self.entries[entries - 1].after,
        }
    }

    /// The only event among the first so many entries cannot be projected, for what is in it.
    pub(crate) fn poison_event(&mut self, entries: usize, code: &str, reason: &str) {
        let is_event = |entry: &Entry| matches!(entry.what, What::Event);
        let mut range = self.entries.range(..entries.min(self.entries.len()));
        let Some(place) = range.position(is_event) else {
            return;
        };
        let envelope = self.events.envelope(0).clone();
        let poison = Poison {
            stream: envelope.stream.clone(),
            offset: self.events.offset(0),
            event_type: None,
            version: None,
            code: code.into(),
            reason: reason.into(),
        };
        self.quarantined.insert(envelope.stream.clone());
        // The entries of its later events follow the events, which are about to go.
        let mut index = 0;
        for entry in &mut self.entries {
            if is_event(entry) {
                if index > 0 && self.events.envelope(index).stream == envelope.stream {
                    entry.what = What::Held(envelope.stream.clone());
                }
                index += 1;
            }
        }
        self.entries[place].what = What::Poisoned(poison.of(&envelope));
        self.events.drop_stream_from(0);
    }

    /// The first so many entries are committed.
    pub(crate) fn commit(&mut self, entries: usize) {
        let mut events = 0;
        for entry in self.entries.drain(..entries) {
            self.bytes -= entry.bytes;
            if matches!(entry.what, What::Event) {
                events += 1;
            }
        }
        self.events.drop_first(events);
    }

    /// The operator has decided to leave the first entry out.
    pub(crate) fn skip_first(&mut self) {
        self.commit(1);
    }
}

/// The first entries of a [`Gathering`], as they are committed.
pub(crate) struct Batch<'a> {
    pub(crate) events: &'a dyn Gathered,
    /// So many of them belong to the batch.
    pub(crate) event_count: usize,
    pub(crate) entry_count: usize,
    pub(crate) poisoned: Vec<&'a Poison>,
    pub(crate) held: HashMap<&'a StreamId, Held>,
}

/// Terms are offsets, which Kafka counts in `i64`.
fn term(envelope: &Envelope) -> i64 {
    i64::try_from(envelope.term).unwrap_or(i64::MAX)
}
