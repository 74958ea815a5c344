//! One context's partition within a shard: decides, in groups.
//!
//! At most one group is in flight; the next is decided meanwhile. Every answer
//! waits for the acknowledgement of the group whose state it saw.

use std::collections::{HashMap, VecDeque};

use event_log::{
    Envelope, Position,
    batch::{Batch, Record},
};
use kernel::StreamId;

use crate::{
    group::{Answer, Ask, Entry, Group, Request, Verdict},
    outcome::{Acceptance, CommandError},
    recorded::{CommandKey, RecordedCommand, RecordedCommands},
    streams::{Decided, Kind, Sink, Undecided},
};

/// How many may wait for the answer of one command.
const MAX_JOINED: usize = 64;

/// A record that is not ours: whatever stream it means, its state would be wrong.
#[derive(Debug, thiserror::Error)]
#[error("the record at offset {offset} of {topic} partition {partition} is not an event: {reason}")]
pub(crate) struct UnknownRecord {
    topic: String,
    partition: i32,
    offset: i64,
    reason: String,
}

pub(crate) struct Lane {
    topic: String,
    partition: i32,
    source: String,
    term: u64,
    group_limit: usize,
    kinds: Vec<Box<dyn Kind>>,
    recorded: RecordedCommands,
    stopped: HashMap<StreamId, String>,
    /// Highest term that was read from the log.
    highest_term: u64,
    /// Offset of the last record. Markers are none: no reader gets to see them.
    last_record: Option<i64>,
    waiting: VecDeque<Request>,
    forming: Group,
    in_flight: Option<Group>,
    /// Commands in groups that are not acknowledged yet: group and place in it.
    under_way: HashMap<CommandKey, (u64, usize)>,
    /// How many waiting requests are to be appended alone, after a group was refused.
    alone: usize,
}

impl Lane {
    pub fn new(
        context: &str,
        topic: String,
        partition: i32,
        kinds: Vec<Box<dyn Kind>>,
        group_limit: usize,
        remembered_commands: usize,
    ) -> Self {
        Self {
            topic,
            partition,
            source: format!("/annals/{context}"),
            term: 0,
            group_limit,
            kinds,
            recorded: RecordedCommands::new(remembered_commands),
            stopped: HashMap::new(),
            highest_term: 0,
            last_record: None,
            waiting: VecDeque::new(),
            forming: Group::new(0),
            in_flight: None,
            under_way: HashMap::new(),
            alone: 0,
        }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Who writes from now on; every event carries it.
    pub fn claim(&mut self, term: u64) {
        self.term = term;
    }

    pub fn take(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Decides what waits, as far as the group in the making has room.
    pub fn decide(&mut self) {
        while self.forming.entries.len() < self.limit() {
            let Some(request) = self.waiting.pop_front() else {
                return;
            };
            if let Err(request) = self.decide_one(request) {
                self.waiting.push_front(request);
                return;
            }
        }
    }

    /// The group to send now, if there is one and nothing is in flight.
    ///
    /// Its batch is taken out; empty, it wants a barrier instead.
    pub fn next_group(&mut self) -> Option<event_log::batch::BatchBuilder> {
        if self.in_flight.is_some() || self.forming.entries.is_empty() {
            return None;
        }
        let next = Group::new(self.forming.number + 1);
        let mut group = std::mem::replace(&mut self.forming, next);
        self.alone = self.alone.saturating_sub(group.entries.len());
        let batch = std::mem::take(&mut group.batch);
        self.in_flight = Some(group);
        Some(batch)
    }

    /// The group in flight is in the log from `base_offset` on, or, when it had
    /// no events, a barrier is.
    pub fn acknowledge(&mut self, base_offset: i64) {
        let Some(group) = self.in_flight.take() else {
            return;
        };
        let last_record = group
            .entries
            .iter()
            .rev()
            .find_map(|entry| match entry.verdict {
                Verdict::Appended { last_record, .. } => Some(base_offset + last_record),
                Verdict::Rides(_) | Verdict::Recorded(_) => None,
            });
        self.last_record = last_record.or(self.last_record);
        metrics::histogram!("annals_group_commands").record(group.entries.len() as f64);
        for entry in group.entries {
            let answer = match entry.verdict {
                Verdict::Appended {
                    decided,
                    last_record,
                } => self.committed(
                    &entry.request,
                    group.number,
                    decided,
                    base_offset + last_record,
                ),
                Verdict::Rides(Ok(decided)) => Ok(self.nothing_to_do(&entry.request, decided)),
                Verdict::Rides(Err(error)) => Err(error),
                Verdict::Recorded(acceptance) => Ok(acceptance),
            };
            reply(entry.request, answer);
        }
    }

    /// The broker refused the group in flight for what it contains: everything
    /// since is decided again, one command at a time, and who is refused alone
    /// is told so.
    pub fn refused(&mut self, reason: &str) {
        let Some(mut group) = self.in_flight.take() else {
            return;
        };
        if group.entries.len() == 1
            && let Some(entry) = group.entries.pop()
        {
            let reason = reason.to_owned();
            reply(entry.request, Err(CommandError::Refused { reason }));
        }
        let next = Group::new(self.forming.number + 1);
        let forming = std::mem::replace(&mut self.forming, next);
        let again: Vec<_> = group
            .entries
            .into_iter()
            .chain(forming.entries)
            .map(|entry| entry.request)
            .collect();
        self.alone = self.alone.max(again.len());
        for request in again.into_iter().rev() {
            self.waiting.push_front(request);
        }
        self.under_way.clear();
        self.kinds.iter_mut().for_each(|kind| kind.abandon());
    }

    /// Nothing more is decided here: everybody who waits is told why.
    pub fn stop(&mut self, error: &CommandError) {
        let in_flight = self.in_flight.take().into_iter();
        let forming = std::mem::replace(&mut self.forming, Group::new(0));
        let undecided = std::mem::take(&mut self.waiting);
        in_flight
            .chain([forming])
            .flat_map(|group| group.entries)
            .map(|entry| entry.request)
            .chain(undecided)
            .for_each(|request| reply(request, Err(error.clone())));
    }

    /// Takes in what was read from the log before serving.
    ///
    /// # Errors
    /// When nobody can say which stream a record belongs to.
    pub fn replay(&mut self, batch: &Batch) -> Result<(), UnknownRecord> {
        if batch.control {
            return Ok(());
        }
        for record in batch.records() {
            match record {
                Ok(record) => self.replay_record(&record)?,
                Err(error) => return Err(self.unknown(batch.base_offset, &error)),
            }
        }
        Ok(())
    }

    /// Highest term of the events that were read from the log.
    pub fn highest_term(&self) -> u64 {
        self.highest_term
    }

    fn limit(&self) -> usize {
        if self.alone > 0 { 1 } else { self.group_limit }
    }

    /// Gives the request back when the group in the making has no room for its events.
    fn decide_one(&mut self, mut request: Request) -> Result<(), Request> {
        if let Some(recorded) = self.recorded.get(request.key) {
            let verdict = self.recall(&request, recorded);
            self.add(request, verdict);
            return Ok(());
        }
        if let Some(&(group, place)) = self.under_way.get(&request.key) {
            self.join(request, group, place);
            return Ok(());
        }
        let command = match &mut request.ask {
            Ask::Recall { stream } => {
                // Of a stopped stream not every command is known.
                let answer = match self.stopped.get(stream) {
                    Some(reason) => CommandError::StreamStopped {
                        reason: reason.clone(),
                    },
                    None => CommandError::UnknownCommand,
                };
                let verdict = Verdict::Rides(Err(answer));
                self.add(request, verdict);
                return Ok(());
            }
            Ask::Command(command) => command,
        };
        let stream = &command.meta.stream;
        if let Some(reason) = self.stopped.get(stream) {
            let reason = reason.clone();
            let stopped = CommandError::StreamStopped { reason };
            self.add(request, Verdict::Rides(Err(stopped)));
            return Ok(());
        }
        let Some(kind) = kind_of(&mut self.kinds, stream) else {
            unreachable!("commands are routed by the kind of their stream");
        };
        let mut sink = Sink {
            batch: &mut self.forming.batch,
            group: self.forming.number,
            source: &self.source,
            term: self.term,
        };
        let verdict = match kind.decide(command, &mut sink) {
            Ok(decided) if decided.events > 0 => Verdict::Appended {
                decided,
                last_record: i64::from(self.forming.batch.records()) - 1,
            },
            Ok(decided) => Verdict::Rides(Ok(decided)),
            Err(Undecided::NoRoom) => return Err(request),
            Err(Undecided::Error(error)) => Verdict::Rides(Err(error)),
        };
        if matches!(verdict, Verdict::Appended { .. }) {
            let place = (self.forming.number, self.forming.entries.len());
            self.under_way.insert(request.key, place);
        }
        self.add(request, verdict);
        Ok(())
    }

    fn add(&mut self, request: Request, verdict: Verdict) {
        self.forming.entries.push(Entry { request, verdict });
    }

    /// The same key again, while the first is under way.
    fn join(&mut self, request: Request, group: u64, place: usize) {
        let group = match &mut self.in_flight {
            Some(in_flight) if in_flight.number == group => in_flight,
            _ => &mut self.forming,
        };
        let first = &mut group.entries[place].request;
        if first.replies.len() >= MAX_JOINED {
            self.add(request, Verdict::Rides(Err(CommandError::Busy)));
        } else if same_command(&first.ask, &request.ask) {
            first.replies.extend(request.replies);
        } else {
            self.add(request, Verdict::Rides(Err(CommandError::KeyReused)));
        }
    }

    fn recall(&self, request: &Request, recorded: RecordedCommand) -> Verdict {
        let stream = match &request.ask {
            Ask::Command(command) if command.fingerprint != recorded.fingerprint => {
                return Verdict::Rides(Err(CommandError::KeyReused));
            }
            Ask::Command(command) => &command.meta.stream,
            Ask::Recall { stream } => stream,
        };
        Verdict::Recorded(Acceptance {
            stream: stream.clone(),
            version: recorded.version,
            events: recorded.events,
            position: Some(self.position(recorded.offset)),
            repeated: true,
        })
    }

    fn committed(
        &mut self,
        request: &Request,
        group: u64,
        decided: Decided,
        offset: i64,
    ) -> Answer {
        let Ask::Command(command) = &request.ask else {
            unreachable!("only commands have events");
        };
        let stream = &command.meta.stream;
        if let Some(kind) = kind_of(&mut self.kinds, stream) {
            kind.commit(stream, group);
        }
        self.under_way.remove(&request.key);
        self.recorded.insert(
            request.key,
            RecordedCommand {
                fingerprint: command.fingerprint,
                version: decided.version,
                events: decided.events,
                offset,
            },
        );
        Ok(Acceptance {
            stream: stream.clone(),
            version: decided.version,
            events: decided.events,
            position: Some(self.position(offset)),
            repeated: false,
        })
    }

    fn nothing_to_do(&self, request: &Request, decided: Decided) -> Acceptance {
        let Ask::Command(command) = &request.ask else {
            unreachable!("only commands are decided");
        };
        Acceptance {
            stream: command.meta.stream.clone(),
            version: decided.version,
            events: 0,
            position: self.last_record.map(|offset| self.position(offset)),
            repeated: false,
        }
    }

    fn position(&self, offset: i64) -> Position {
        Position {
            topic: self.topic.clone(),
            partition: self.partition,
            offset,
        }
    }

    fn replay_record(&mut self, record: &Record) -> Result<(), UnknownRecord> {
        self.last_record = Some(record.offset);
        let envelope = match Envelope::read(record.headers()) {
            Ok(envelope) => envelope,
            Err(error) => {
                let key = record.key.as_deref().unwrap_or_default();
                let stream = std::str::from_utf8(key)
                    .ok()
                    .and_then(|key| key.parse().ok());
                let stream = stream.ok_or_else(|| self.unknown(record.offset, &error))?;
                self.stop_stream(stream, record.offset, &error.to_string());
                return Ok(());
            }
        };
        if envelope.term < self.highest_term {
            // The second line of defence: a deposed owner's write must not count.
            tracing::error!(
                topic = self.topic,
                partition = self.partition,
                offset = record.offset,
                term = envelope.term,
                highest = self.highest_term,
                "passed over an event of an earlier term"
            );
            return Ok(());
        }
        self.highest_term = envelope.term;
        // It was accepted, whether we can read it or not.
        self.remember(&envelope, record.offset);
        if self.stopped.contains_key(&envelope.stream) {
            return Ok(());
        }
        let value = record.value.as_deref().unwrap_or_default();
        let replayed = match kind_of(&mut self.kinds, &envelope.stream) {
            Some(kind) => kind.replay(&envelope, value).map_err(|e| e.to_string()),
            None => Err(format!(
                "no context has streams of kind {}",
                envelope.stream.kind()
            )),
        };
        if let Err(reason) = replayed {
            self.stop_stream(envelope.stream, record.offset, &reason);
        }
        Ok(())
    }

    fn stop_stream(&mut self, stream: StreamId, offset: i64, reason: &str) {
        tracing::error!(stream.id = %stream, offset, reason, "stopped stream {stream}");
        let reason = format!("its event at offset {offset} cannot be read: {reason}");
        self.stopped.insert(stream, reason);
    }

    fn unknown(&self, offset: i64, reason: &dyn std::fmt::Display) -> UnknownRecord {
        UnknownRecord {
            topic: self.topic.clone(),
            partition: self.partition,
            offset,
            reason: reason.to_string(),
        }
    }

    fn remember(&mut self, envelope: &Envelope, offset: i64) {
        if envelope.index + 1 != envelope.count {
            return;
        }
        let key = CommandKey::new(&envelope.stream, &envelope.actor, &envelope.command_id);
        let command = RecordedCommand {
            fingerprint: envelope.fingerprint,
            version: envelope.version,
            events: envelope.count,
            offset,
        };
        self.recorded.insert(key, command);
    }
}

fn kind_of<'a>(kinds: &'a mut [Box<dyn Kind>], stream: &StreamId) -> Option<&'a mut Box<dyn Kind>> {
    let name = stream.kind();
    kinds.iter_mut().find(|kind| kind.name() == name)
}

fn same_command(first: &Ask, second: &Ask) -> bool {
    match (first, second) {
        (Ask::Command(first), Ask::Command(second)) => first.fingerprint == second.fingerprint,
        (_, Ask::Recall { .. }) | (Ask::Recall { .. }, _) => true,
    }
}

/// Whoever does not wait any more misses the answer; asking again brings it.
fn reply(request: Request, answer: Answer) {
    let mut replies = request.replies.into_iter();
    let first = replies.next();
    for other in replies {
        let _ = other.send(answer.clone().map(|acceptance| Acceptance {
            repeated: true,
            ..acceptance
        }));
    }
    if let Some(first) = first {
        let _ = first.send(answer);
    }
}

#[cfg(test)]
mod tests;
