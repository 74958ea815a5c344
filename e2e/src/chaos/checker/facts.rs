//! The log by itself: read into streams and commands, and checked for what it must be whatever the clients did.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    Findings, Rule,
    rules::{self, Happening},
    wire,
};
use crate::chaos::{
    history::{Place, Task},
    log::{Batch, Log, Partition, Record},
};

/// What happened, stream by stream.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub streams: HashMap<String, Stream>,
}

#[derive(Debug, Default)]
pub(super) struct Stream {
    /// States by version, from 0 on.
    pub states: Vec<Task>,
    /// In the order of the log.
    pub commands: Vec<Command>,
    /// Index of a command by actor and key.
    pub by_key: HashMap<(String, String), usize>,
}

/// A command's events.
#[derive(Debug)]
pub(super) struct Command {
    pub actor: String,
    pub key: String,
    /// Version of its first event.
    pub first: u64,
    pub happenings: Vec<Happening>,
    /// Of its last event.
    pub place: Place,
}

impl Command {
    /// Version of its last event.
    pub fn last(&self) -> u64 {
        self.first + self.happenings.len() as u64 - 1
    }
}

/// An event's headers, as far as they are checked.
struct Event {
    stream: String,
    version: u64,
    actor: String,
    key: String,
    index: u64,
    count: u64,
    term: i64,
    happening: Happening,
}

pub(super) fn read(log: &Log, foreign: &[Place], findings: &mut Findings) -> Facts {
    let foreign: BTreeSet<_> = foreign.iter().collect();
    let mut facts = Facts::default();
    let mut homes = HashMap::new();
    let owners: HashMap<_, _> = log.owners.iter().map(|it| (it.number, it)).collect();
    for owners in &log.owners {
        check_producers(owners, false, &foreign, findings);
    }
    for partition in &log.events {
        check_offsets(partition, findings);
        check_producers(partition, true, &foreign, findings);
        let claims = owners.get(&partition.number).map(|it| claims(it));
        let mut reader = PartitionReader {
            partition,
            claims: claims.unwrap_or_default(),
            foreign: &foreign,
            term: -1,
            facts: &mut facts,
            homes: &mut homes,
            findings,
        };
        for batch in partition.batches.iter().filter(|batch| !batch.control) {
            reader.batch(batch);
        }
    }
    findings.streams = facts.streams.len();
    findings.commands_in_log = facts.streams.values().map(|it| it.commands.len()).sum();
    facts
}

fn check_offsets(partition: &Partition, findings: &mut Findings) {
    let mut next = 0;
    for batch in &partition.batches {
        if batch.base_offset != next || batch.last_offset < batch.base_offset {
            let at = named(partition, batch.base_offset);
            let what = format!("{at} follows offset {}", next - 1);
            findings.violated(Rule::OffsetsGapless, what);
        }
        next = batch.last_offset + 1;
    }
}

/// A compacted topic has lost batches, and with them sequence numbers.
fn check_producers(
    partition: &Partition,
    complete: bool,
    foreign: &BTreeSet<&Place>,
    findings: &mut Findings,
) {
    let mut newest: HashMap<i64, (i16, i32)> = HashMap::new();
    for batch in &partition.batches {
        let place = partition.place(batch.base_offset);
        if batch.producer_id < 0 || foreign.contains(&place) {
            continue;
        }
        let known = newest.get(&batch.producer_id).copied();
        let (epoch, next) = known.unwrap_or((batch.epoch, 0));
        if batch.epoch < epoch {
            let at = named(partition, batch.base_offset);
            let what = format!("{at} has epoch {} after {epoch}", batch.epoch);
            findings.violated(Rule::ProducersInOrder, what);
            continue;
        }
        let expected = if batch.epoch > epoch { 0 } else { next };
        let expected = match batch.control {
            true => expected,
            false => {
                if complete && batch.base_sequence != expected {
                    let at = named(partition, batch.base_offset);
                    let found = batch.base_sequence;
                    let what = format!("{at} has sequence {found} where {expected} comes next");
                    findings.violated(Rule::ProducersInOrder, what);
                }
                let records = (batch.last_offset - batch.base_offset + 1) as i32;
                batch.base_sequence.wrapping_add(records) & i32::MAX
            }
        };
        newest.insert(batch.producer_id, (batch.epoch, expected));
    }
}

/// Producer and epoch of each claim that is still there, by its offset.
fn claims(owners: &Partition) -> HashMap<i64, (i64, i64)> {
    let records = owners.batches.iter().flat_map(|batch| &batch.records);
    let claims = records.filter(|record| record.key == b"claim");
    let claims = claims.filter_map(|record| {
        let claim: serde_json::Value = serde_json::from_slice(&record.value).ok()?;
        let number = |name: &str| claim[name].as_i64();
        Some((record.offset, (number("producer_id")?, number("epoch")?)))
    });
    claims.collect()
}

struct PartitionReader<'a> {
    partition: &'a Partition,
    claims: HashMap<i64, (i64, i64)>,
    foreign: &'a BTreeSet<&'a Place>,
    term: i64,
    facts: &'a mut Facts,
    homes: &'a mut HashMap<String, (String, i32)>,
    findings: &'a mut Findings,
}

impl PartitionReader<'_> {
    fn batch(&mut self, batch: &Batch) {
        let mut events: Vec<(Event, i64)> = Vec::new();
        for record in &batch.records {
            if self.foreign.contains(&self.partition.place(record.offset)) {
                self.findings.foreign += 1;
                continue;
            }
            match Event::of(record) {
                Some(event) => events.push((event, record.offset)),
                None => {
                    let what = format!("{} is no event of a task", self.named(record.offset));
                    self.findings.violated(Rule::NothingForeign, what);
                }
            }
        }
        let terms: HashSet<_> = events.iter().map(|(event, _)| event.term).collect();
        for term in terms {
            self.check_term(term, batch);
        }
        let mut rest = events.into_iter().peekable();
        while let Some((first, offset)) = rest.next() {
            let mut last = (offset, first.index);
            let mut whole = first.index == 0;
            let mut happenings = vec![first.happening.clone()];
            self.check_version(&first, offset);
            // The other events of the command come next, or are missing.
            while let Some((event, offset)) =
                rest.next_if(|(event, _)| event.same_command(&first) && event.index > last.1)
            {
                whole &= offset == last.0 + 1 && event.index == last.1 + 1;
                last = (offset, event.index);
                self.check_version(&event, offset);
                happenings.push(event.happening);
            }
            if !whole || happenings.len() as u64 != first.count {
                let (at, found, count) = (self.named(offset), happenings.len(), first.count);
                let what = format!("{at}: {found} of the {count} events of {}", first.key);
                self.findings.violated(Rule::CommandsWhole, what);
            }
            self.command(first, happenings, last.0);
        }
    }

    fn command(&mut self, first: Event, happenings: Vec<Happening>, last_offset: i64) {
        let stream = self.facts.streams.entry(first.stream.clone()).or_default();
        let id = (first.actor.clone(), first.key.clone());
        let index = stream.commands.len();
        if let Some(earlier) = stream.by_key.insert(id, index) {
            stream
                .by_key
                .insert((first.actor.clone(), first.key.clone()), earlier);
            let at = named(self.partition, last_offset);
            let (key, earlier) = (&first.key, &stream.commands[earlier].place);
            let what = format!("{at}: {key} is there again, first at {earlier}");
            self.findings.violated(Rule::CommandsOnce, what);
        }
        stream.commands.push(Command {
            actor: first.actor,
            key: first.key,
            first: first.version,
            happenings,
            place: self.partition.place(last_offset),
        });
    }

    fn check_term(&mut self, term: i64, batch: &Batch) {
        let at = self.named(batch.base_offset);
        if term < self.term {
            let what = format!("{at} has term {term} after {}", self.term);
            self.findings.violated(Rule::TermsInOrder, what);
        }
        self.term = self.term.max(term);
        let Some(&(producer, epoch)) = self.claims.get(&term) else {
            return;
        };
        // A renewal goes on with a higher epoch.
        if batch.producer_id != producer || i64::from(batch.epoch) < epoch {
            let (id, used) = (batch.producer_id, batch.epoch);
            let what = format!(
                "{at}: producer {id}, epoch {used}, writes in the term of {producer}, {epoch}"
            );
            self.findings.violated(Rule::TermsInOrder, what);
        }
    }

    fn check_version(&mut self, event: &Event, offset: i64) {
        let home = (self.partition.topic.clone(), self.partition.number);
        let known = self.homes.entry(event.stream.clone()).or_insert(home);
        if known.1 != self.partition.number || known.0 != self.partition.topic {
            let what = format!("{} has lain in {} {}", event.stream, known.0, known.1);
            self.findings.violated(Rule::VersionsGapless, what);
        }
        let stream = self.facts.streams.entry(event.stream.clone()).or_default();
        if stream.states.is_empty() {
            stream.states.push(Task::Unknown);
        }
        let expected = stream.states.len() as u64;
        if event.version != expected {
            let (at, found) = (named(self.partition, offset), event.version);
            let what = format!(
                "{at} is version {found} of {}, and {expected} comes next",
                event.stream
            );
            self.findings.violated(Rule::VersionsGapless, what);
        }
        stream.states.push(rules::after(&event.happening));
    }

    fn named(&self, offset: i64) -> String {
        named(self.partition, offset)
    }
}

impl Event {
    fn of(record: &Record) -> Option<Self> {
        let text = |name: &str| record.headers.get(name);
        let number = |name: &str| text(name)?.parse().ok();
        let stream = text("ce_subject")?.clone();
        Some(Self {
            happening: wire::happening(text("ce_type")?, &record.value)?,
            version: number("annals_stream_version")?,
            actor: text("annals_actor")?.clone(),
            key: text("annals_command_id")?.clone(),
            index: number("annals_index")?,
            count: number("annals_count")?,
            term: text("annals_term")?.parse().ok()?,
            // The key is what places the record.
            stream: Some(stream).filter(|stream| record.key == stream.as_bytes())?,
        })
    }

    fn same_command(&self, other: &Self) -> bool {
        self.stream == other.stream && self.actor == other.actor && self.key == other.key
    }
}

impl Partition {
    fn place(&self, offset: i64) -> Place {
        Place {
            topic: self.topic.clone(),
            partition: self.number,
            offset,
        }
    }
}

fn named(partition: &Partition, offset: i64) -> String {
    partition.place(offset).to_string()
}
