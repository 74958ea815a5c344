//! One context's partition within a shard: decides, in groups.
//!
//! At most one group is in flight; the next is decided meanwhile. Every answer
//! waits for the acknowledgement of the group whose state it saw.

mod copying;
mod recording;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::PoisonError,
};

use event_log::{
    Envelope, Fingerprint, Position,
    batch::{Batch, Record},
    envelope::{EnvelopeError, header},
};
use kernel::{StreamId, WrittenVersions};

pub(crate) use self::copying::Extent;
use self::{copying::Copying, recording::Recording};
use crate::{
    answers::RecordedAnswers,
    group::{Answer, Ask, Entry, Group, Reply, Request, Verdict},
    outcome::{Acceptance, CommandError},
    recorded::{CommandKey, RecordedCommand, RecordedCommands},
    streams::{Decided, Kind, Sink, Undecided, kind_named},
    torn::{Torn, Whole},
};

/// How many may wait for the answer of one command.
const MAX_JOINED: usize = 64;
const ROUTED: &str = "requests are routed by the kind of their stream";

/// A record that is not ours: whatever stream it means, its state would be wrong.
#[derive(Debug, thiserror::Error)]
#[error("the record at offset {offset} of {topic} partition {partition} is not an event: {reason}")]
pub(crate) struct UnknownRecord {
    topic: String,
    partition: i32,
    offset: i64,
    reason: String,
}

/// Records that belong to no stream, and have nothing of an event of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Foreign {
    pub records: u64,
    pub first_offset: i64,
    pub last_offset: i64,
}

pub(crate) struct Lane {
    topic: String,
    partition: i32,
    source: String,
    term: u64,
    /// A command that is decided belongs to one version, whatever is activated meanwhile.
    written: WrittenVersions,
    group_limit: usize,
    kinds: Vec<Box<dyn Kind>>,
    recorded: RecordedCommands,
    /// Those that have no events.
    answers: RecordedAnswers,
    stopped: HashMap<StreamId, String>,
    /// Whether a record of the log stops a stream.
    unreadable: bool,
    /// Whether the commands that were read from the log are whole.
    whole: Whole,
    /// What was passed over in the log because it is none of ours.
    foreign: Option<Foreign>,
    /// Highest term that was read from the log.
    highest_term: u64,
    /// Offset of the last record. Markers are none: no reader gets to see them.
    last_record: Option<i64>,
    waiting: VecDeque<Request>,
    forming: Group,
    in_flight: Option<Group>,
    /// Commands that are not answered yet, and whose answer will be in the log.
    under_way: HashMap<CommandKey, UnderWay>,
    recording: Recording,
    /// How many waiting requests are to be appended alone, after a group was refused.
    alone: usize,
    copying: Option<Copying>,
    /// Where the last snapshot tells to read on.
    copied_from: i64,
    /// Events before this offset may be contained in the states that came from a snapshot.
    contained_until: i64,
    /// Producers whose markers were read.
    marked: BTreeSet<i64>,
}

/// A command whose answer is not in the log yet.
struct UnderWay {
    fingerprint: Fingerprint,
    /// Who sent it again and waits for the same answer.
    joined: Vec<Reply>,
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
            written: WrittenVersions::default(),
            group_limit,
            kinds,
            recorded: RecordedCommands::new(remembered_commands),
            answers: RecordedAnswers::new(remembered_commands),
            stopped: HashMap::new(),
            unreadable: false,
            whole: Whole::default(),
            foreign: None,
            highest_term: 0,
            last_record: None,
            waiting: VecDeque::new(),
            forming: Group::new(0),
            in_flight: None,
            under_way: HashMap::new(),
            recording: Recording::default(),
            alone: 0,
            copying: None,
            copied_from: 0,
            contained_until: 0,
            marked: BTreeSet::new(),
        }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The log has been read; who writes from now on, every event says.
    pub fn claim(&mut self, term: u64) {
        self.term = term;
        if let Some(torn) = self.whole.end() {
            self.stop_torn(torn);
        }
    }

    /// From now on events are written so. What is decided already stays as it is.
    pub fn write_as(&mut self, written: WrittenVersions) {
        self.written = written;
    }

    /// Whether streams of this one's kind are decided here.
    pub fn has(&self, stream: &StreamId) -> bool {
        self.kinds.iter().any(|kind| kind.name() == stream.kind())
    }

    pub fn take(&mut self, request: Request) {
        self.waiting.push_back(request);
    }

    /// Requests that are not decided, or decided and not recorded yet.
    pub fn waiting(&self) -> usize {
        self.waiting.len() + self.recording.len()
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
                Verdict::Records(_) | Verdict::Rides(_) | Verdict::Recorded(_) => None,
            });
        self.last_record = last_record.or(self.last_record);
        metrics::histogram!("annals_group_commands").record(group.entries.len() as f64);
        for Entry {
            mut request,
            verdict,
        } in group.entries
        {
            let answer = match verdict {
                Verdict::Appended {
                    decided,
                    last_record,
                } => {
                    self.take_joined(&mut request);
                    self.committed(&request, group.number, decided, base_offset + last_record)
                }
                Verdict::Records(decided) => {
                    self.record(request, decided);
                    continue;
                }
                Verdict::Rides(Ok(decided)) => Ok(self.nothing_to_do(&request, decided)),
                Verdict::Rides(Err(error)) => Err(error),
                Verdict::Recorded(acceptance) => Ok(acceptance),
            };
            reply(request, answer);
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
            && let Some(mut entry) = group.entries.pop()
        {
            self.take_joined(&mut entry.request);
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
        for mut request in again.into_iter().rev() {
            self.take_joined(&mut request);
            self.waiting.push_front(request);
        }
        self.kinds.iter_mut().for_each(|kind| kind.abandon());
    }

    /// Nothing more is decided here: everybody who waits is told why.
    pub fn stop(&mut self, error: &CommandError) {
        let in_flight = self.in_flight.take().into_iter();
        let forming = std::mem::replace(&mut self.forming, Group::new(0));
        let undecided = std::mem::take(&mut self.waiting);
        let joined = std::mem::take(&mut self.under_way).into_values();
        in_flight
            .chain([forming])
            .flat_map(|group| group.entries)
            .map(|entry| entry.request)
            .chain(undecided)
            .chain(self.recording.end())
            .flat_map(|request| request.replies)
            .chain(joined.flat_map(|command| command.joined))
            .for_each(|reply| {
                let _ = reply.send(Err(error.clone()));
            });
    }

    /// The streams that are stopped, and why.
    pub fn stopped(&self) -> impl ExactSizeIterator<Item = (&StreamId, &str)> {
        self.stopped
            .iter()
            .map(|(stream, reason)| (stream, reason.as_str()))
    }

    /// Takes in what was read from the log before serving.
    ///
    /// # Errors
    /// When nobody can say which stream a record belongs to.
    pub fn replay(&mut self, batch: &Batch) -> Result<(), UnknownRecord> {
        if batch.control {
            self.marked.insert(batch.producer.id);
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

    /// What was passed over in the log because it is none of ours.
    pub fn foreign(&self) -> Option<&Foreign> {
        self.foreign.as_ref()
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
        if let Some(key) = request.ask.key() {
            if let Some(recorded) = self.recorded.get(key) {
                let verdict = self.recall(&request.ask, recorded);
                self.add(request, verdict);
                return Ok(());
            }
            if let Some(verdict) = self.recall_answer(&request.ask, key) {
                self.add(request, verdict);
                return Ok(());
            }
            if self.under_way.contains_key(&key) {
                self.join(request, key);
                return Ok(());
            }
        }
        if let Some(refusal) = self.refusal(&request.ask) {
            self.add(request, Verdict::Rides(Err(refusal)));
            return Ok(());
        }
        let verdict = match &mut request.ask {
            Ask::Recall(recall) if recall.announced.is_some() => {
                // The command itself will ask again: nothing depends on this answer.
                reply(request, Err(CommandError::UnknownCommand));
                return Ok(());
            }
            Ask::Recall(_) => Verdict::Rides(Err(CommandError::UnknownCommand)),
            Ask::Read { stream, found } => {
                let Some(kind) = kind_of(&mut self.kinds, stream) else {
                    unreachable!("{ROUTED}");
                };
                match kind.read(stream) {
                    Ok((state, version)) => {
                        *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(state);
                        Verdict::Rides(Ok(Decided { version, events: 0 }))
                    }
                    Err(undecided) => {
                        let stream = stream.clone();
                        match self.undecided(undecided, &stream) {
                            Some(error) => Verdict::Rides(Err(error)),
                            None => return Err(request),
                        }
                    }
                }
            }
            Ask::Command(command) => {
                let Some(kind) = kind_of(&mut self.kinds, &command.meta.stream) else {
                    unreachable!("{ROUTED}");
                };
                let mut sink = Sink {
                    batch: &mut self.forming.batch,
                    group: self.forming.number,
                    source: &self.source,
                    term: self.term,
                    written: &self.written,
                };
                let verdict = match kind.decide(command, &mut sink) {
                    Ok(decided) if decided.events > 0 => Verdict::Appended {
                        decided,
                        last_record: i64::from(self.forming.batch.records()) - 1,
                    },
                    Ok(decided) => Verdict::Rides(Ok(decided)),
                    Err(undecided) => {
                        let stream = command.meta.stream.clone();
                        match self.undecided(undecided, &stream) {
                            Some(error) => Verdict::Rides(Err(error)),
                            None => return Err(request),
                        }
                    }
                };
                match command.record_answer {
                    true => recording::instead(verdict),
                    false => verdict,
                }
            }
        };
        if let (Verdict::Appended { .. } | Verdict::Records(_), Ask::Command(command)) =
            (&verdict, &request.ask)
        {
            let under_way = UnderWay {
                fingerprint: command.fingerprint,
                joined: Vec::new(),
            };
            self.under_way.insert(command.key, under_way);
        }
        self.add(request, verdict);
        Ok(())
    }

    /// Why the stream is not even asked.
    fn refusal(&self, ask: &Ask) -> Option<CommandError> {
        // Of a stopped stream not every command is known.
        if let Some(reason) = self.stopped.get(ask.stream()) {
            let reason = reason.clone();
            return Some(CommandError::StreamStopped { reason });
        }
        let forgotten_until = self.recorded.forgotten_until();
        let forgotten_until = forgotten_until.max(self.answers.forgotten_until())?;
        let issued_at = ask.issued_at()?;
        (issued_at <= forgotten_until).then_some(CommandError::WindowPassed { forgotten_until })
    }

    /// The answer, unless there is only no room.
    fn undecided(&mut self, undecided: Undecided, stream: &StreamId) -> Option<CommandError> {
        match undecided {
            Undecided::NoRoom => None,
            Undecided::Error(error) => Some(error),
            Undecided::Panicked => {
                let reason = format!("the code of kind {} panicked", stream.kind());
                tracing::error!(stream.id = %stream, "stopped stream {stream}: {reason}");
                self.stopped.insert(stream.clone(), reason.clone());
                Some(CommandError::Bug { reason })
            }
        }
    }

    fn add(&mut self, request: Request, verdict: Verdict) {
        self.forming.entries.push(Entry { request, verdict });
    }

    /// The same key again, while the first is under way.
    fn join(&mut self, request: Request, key: CommandKey) {
        let Some(first) = self.under_way.get_mut(&key) else {
            return self.waiting.push_front(request);
        };
        let asked = request.ask.fingerprint();
        if asked.is_some_and(|asked| asked != first.fingerprint) {
            self.add(request, Verdict::Rides(Err(CommandError::KeyReused)));
        } else if first.joined.len() + 1 >= MAX_JOINED {
            self.add(request, Verdict::Rides(Err(CommandError::Busy)));
        } else {
            first.joined.extend(request.replies);
        }
    }

    /// The command is not under way any more: who joined it gets its answer.
    fn take_joined(&mut self, request: &mut Request) {
        if let Ask::Command(command) = &request.ask
            && let Some(command) = self.under_way.remove(&command.key)
        {
            request.replies.extend(command.joined);
        }
    }

    fn recall(&self, ask: &Ask, recorded: RecordedCommand) -> Verdict {
        let asked = ask.fingerprint();
        if asked.is_some_and(|asked| asked != recorded.fingerprint) {
            return Verdict::Rides(Err(CommandError::KeyReused));
        }
        Verdict::Recorded(Acceptance {
            stream: ask.stream().clone(),
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
        self.recorded.insert(
            command.key,
            RecordedCommand {
                fingerprint: command.fingerprint,
                version: decided.version,
                events: decided.events,
                offset,
                at: command.meta.at,
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
        Acceptance {
            stream: request.ask.stream().clone(),
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
                let Some(stream) = stream else {
                    return self.pass_over(record, &error);
                };
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
        for torn in self.whole.take(&envelope, record.offset) {
            self.stop_torn(torn);
        }
        // It was accepted, whether we can read it or not.
        self.remember(&envelope, record.offset);
        if self.stopped.contains_key(&envelope.stream) {
            return Ok(());
        }
        let value = record.value.as_deref().unwrap_or_default();
        let replayed = match kind_of(&mut self.kinds, &envelope.stream) {
            Some(kind) => kind
                .replay(&envelope, value, record.offset < self.contained_until)
                .map_err(|e| e.to_string()),
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
        self.stopped.entry(stream).or_insert(reason);
        self.unreadable = true;
    }

    fn stop_torn(&mut self, Torn { stream, offset }: Torn) {
        self.stop_stream(stream, offset, "the events of its command are not whole");
    }

    /// One that has headers of ours may be what is left of an event; another one hides none.
    fn pass_over(&mut self, record: &Record, error: &EnvelopeError) -> Result<(), UnknownRecord> {
        let ours = |(name, _): (&str, &[u8])| name.starts_with(header::OURS);
        if record.headers().any(ours) {
            return Err(self.unknown(record.offset, error));
        }
        let foreign = self.foreign.get_or_insert(Foreign {
            records: 0,
            first_offset: record.offset,
            last_offset: record.offset,
        });
        foreign.records += 1;
        foreign.last_offset = record.offset;
        metrics::counter!("annals_foreign_records_total", "topic" => self.topic.clone())
            .increment(1);
        Ok(())
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
        if envelope.index.checked_add(1) != Some(envelope.count) {
            return;
        }
        let key = CommandKey::new(&envelope.stream, &envelope.actor, &envelope.command_id);
        let command = RecordedCommand {
            fingerprint: envelope.fingerprint,
            version: envelope.version,
            events: envelope.count,
            offset,
            at: envelope.time,
        };
        self.recorded.insert(key, command);
    }
}

fn kind_of<'a>(kinds: &'a mut [Box<dyn Kind>], stream: &StreamId) -> Option<&'a mut Box<dyn Kind>> {
    kind_named(kinds, stream.kind())
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
