use std::sync::Arc;

use chrono::{DateTime, Utc};
use event_log::{
    Fingerprint,
    avro::EventCodec,
    batch::{Batch, ProducerIdentity},
    schemas::ContextSchemas,
};
use kernel::{Actor, CommandId, Decider, Ground, Meta, Rejection, StreamVersion, Tenant};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::*;
use crate::{
    group::{Announced, Found, Recall},
    outcome::Expected,
    streams::{Command, Streams},
};

/// A counter that goes up to 10 and panics at 7 when it is asked to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Counter(u32);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Count {
    Counted { by: i32, note: String },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Increase {
    Add(u32),
    AddWithNote(u32, String),
    /// Allowed by a rule that comes with version 2 of the event.
    AddInVersion2(u32),
    Panic,
}

#[derive(Debug, thiserror::Error)]
#[error("the counter is full")]
struct Full;

impl Rejection for Full {
    fn code(&self) -> &'static str {
        "full"
    }
}

impl Decider for Counter {
    const KIND: &'static str = "counter";
    type Command = Increase;
    type Event = Count;
    type Rejection = Full;

    fn decide(&self, command: &Increase, meta: &Meta) -> Result<Vec<Count>, Full> {
        let (by, note) = match command {
            Increase::Add(by) => (*by, String::new()),
            Increase::AddWithNote(by, note) => (*by, note.clone()),
            Increase::AddInVersion2(_) if !meta.writes("Counted", 2) => return Err(Full),
            Increase::AddInVersion2(by) => (*by, String::new()),
            Increase::Panic => panic!("asked to"),
        };
        if self.0 + by > 10 {
            return Err(Full);
        }
        let counted = Count::Counted {
            by: by as i32,
            note,
        };
        Ok((by > 0).then_some(counted).into_iter().collect())
    }

    fn evolve(&mut self, event: &Count) {
        let Count::Counted { by, .. } = event;
        self.0 += by.unsigned_abs();
    }
}

const WRITER: ProducerIdentity = ProducerIdentity { id: 1, epoch: 1 };

/// A lane without a broker: what it would append is kept as the log.
struct World {
    lane: Lane,
    log: Vec<event_log::batch::BatchBuilder>,
    end: i64,
    barriers: usize,
    /// What the clock says when a command is sent.
    now: DateTime<Utc>,
    remembered_commands: usize,
    /// Of the events in the log.
    times: Vec<DateTime<Utc>>,
    issued_at: Option<DateTime<Utc>>,
    record_answers: bool,
    /// The topic of recorded answers.
    answers: Vec<event_log::batch::BatchBuilder>,
}

type Waiting = oneshot::Receiver<Answer>;

impl World {
    fn new() -> Self {
        Self::with_groups_of(256)
    }

    fn with_groups_of(limit: usize) -> Self {
        Self::with(limit, 1_000)
    }

    fn remembering(commands: usize) -> Self {
        Self::with(256, commands)
    }

    fn with(limit: usize, remembered_commands: usize) -> Self {
        Self {
            remembered_commands,
            times: Vec::new(),
            lane: lane(limit, remembered_commands),
            log: Vec::new(),
            end: 0,
            barriers: 0,
            now: DateTime::UNIX_EPOCH,
            issued_at: None,
            record_answers: false,
            answers: Vec::new(),
        }
    }

    fn send(&mut self, stream: &str, key: &str, ask: Increase) -> Waiting {
        self.send_expecting(stream, key, ask, Expected::Any)
    }

    fn send_expecting(
        &mut self,
        stream: &str,
        key: &str,
        ask: Increase,
        expected: Expected,
    ) -> Waiting {
        let mut meta = meta(stream, key);
        meta.at = self.now;
        let fingerprint = Fingerprint(fingerprint_of(&ask, expected));
        let command_key = CommandKey::new(&meta.stream, &meta.actor, &meta.command_id);
        self.ask(Ask::Command(Box::new(Command {
            key: command_key,
            content: Box::new(ask),
            meta,
            expected,
            fingerprint,
            issued_at: self.issued_at,
            record_answer: self.record_answers,
            trace_parent: None,
        })))
    }

    fn ask(&mut self, ask: Ask) -> Waiting {
        let (reply, waiting) = oneshot::channel();
        let replies = vec![reply];
        self.lane.take(Request { ask, replies });
        self.lane.decide();
        waiting
    }

    fn announce(&mut self, stream: &str, key: &str, ask: Increase) -> Waiting {
        let meta = meta(stream, key);
        let fingerprint = Fingerprint(fingerprint_of(&ask, Expected::Any));
        self.ask(Ask::Recall(Box::new(Recall {
            key: CommandKey::new(&meta.stream, &meta.actor, &meta.command_id),
            stream: meta.stream,
            announced: Some(Announced {
                fingerprint,
                issued_at: self.issued_at,
            }),
        })))
    }

    fn read(&mut self, stream: &str) -> (Waiting, Found) {
        let found = Found::default();
        let ask = Ask::Read {
            stream: meta(stream, "none").stream,
            found: found.clone(),
        };
        (self.ask(ask), found)
    }

    /// Sends the group in the making; answers whether there was one.
    fn send_group(&mut self) -> bool {
        self.lane.decide();
        let Some(batch) = self.lane.next_group() else {
            return false;
        };
        if batch.is_empty() {
            self.barriers += 1;
        }
        self.log.push(batch);
        true
    }

    fn acknowledge(&mut self) {
        let records = i64::from(self.log.last().map_or(0, |batch| batch.records()));
        let base = self.end;
        self.end += records;
        self.lane.acknowledge(base);
    }

    fn settle(&mut self) {
        loop {
            let sent = self.send_group();
            if sent {
                self.acknowledge();
            }
            if !self.record_due_answers() && !sent {
                return;
            }
        }
    }

    /// Appends the answers that are due; answers whether there were some.
    fn record_due_answers(&mut self) -> bool {
        let due = self.lane.has_answers_due();
        if due {
            self.send_answers(false);
            self.lane.answers_recorded();
        }
        due
    }

    fn send_answers(&mut self, carries_group: bool) {
        let mut batch = event_log::batch::BatchBuilder::default();
        self.lane.record_answers(&mut batch, carries_group);
        assert!(!batch.is_empty());
        self.answers.push(batch);
    }

    /// What an owner that comes later makes of the log.
    fn restored(self) -> Self {
        let mut next = Self::with(256, self.remembered_commands);
        next.times = self.times;
        for batch in in_the_log(self.answers) {
            for read in crate::answers::RecordedAnswer::read(&batch) {
                next.lane.remember_answer(read.key, read.answer);
            }
        }
        for batch in in_the_log(self.log) {
            next.end = batch.last_offset + 1;
            for record in batch.records() {
                let envelope = Envelope::read(record.unwrap().headers());
                next.times.extend(envelope.map(|envelope| envelope.time));
            }
            next.lane.replay(&batch).unwrap();
        }
        next.lane.claim(5);
        next
    }
}

/// The batches as an owner reads them.
fn in_the_log(sent: Vec<event_log::batch::BatchBuilder>) -> Vec<Batch> {
    let mut end = 0;
    let appended = sent.into_iter().filter(|batch| !batch.is_empty());
    let read = appended.map(|batch| {
        let mut bytes = at_offset(batch.seal(WRITER, 0, 0), end);
        let batch = Batch::read(&mut bytes).unwrap().unwrap();
        end = batch.last_offset + 1;
        batch
    });
    read.collect()
}

/// The broker writes the base offset into a batch.
fn at_offset(batch: bytes::Bytes, offset: i64) -> bytes::Bytes {
    let mut bytes = batch.to_vec();
    bytes[..8].copy_from_slice(&offset.to_be_bytes());
    bytes.into()
}

fn lane(limit: usize, remembered_commands: usize) -> Lane {
    let schemas = ContextSchemas::load(
        "counting",
        [(
            "Counted.v1.avsc",
            r#"{"type":"record","namespace":"annals.counting","name":"Counted","fields":[
                {"name":"by","type":"int"},{"name":"note","type":"string"}]}"#,
        )],
    )
    .unwrap();
    let codec = Arc::new(EventCodec::<Count>::offline(&[&schemas]).unwrap());
    let kinds: Vec<Box<dyn Kind>> =
        vec![Box::new(Streams::<Counter>::new(codec, "counter 1".into()))];
    let topic = "annals.counting.events.1".to_owned();
    let mut lane = Lane::new("counting", topic, 0, kinds, limit, remembered_commands);
    lane.claim(5);
    lane
}

fn meta(stream: &str, key: &str) -> Meta {
    let tenant = Tenant::default();
    Meta {
        stream: StreamId::new(&tenant, "counter", stream).unwrap(),
        tenant,
        actor: Actor::User("ada".into()),
        at: DateTime::UNIX_EPOCH,
        command_id: CommandId::parse(key).unwrap(),
        correlation_id: Uuid::nil(),
        causation_id: None,
        written: Default::default(),
    }
}

fn fingerprint_of(ask: &Increase, expected: Expected) -> [u8; 16] {
    use sha2::Digest;
    crate::recorded::first_half(sha2::Sha256::new_with_prefix(format!(
        "{ask:?}{expected:?}"
    )))
}

fn version(waiting: &mut Waiting) -> u64 {
    waiting.try_recv().unwrap().unwrap().version.0
}

fn error(waiting: &mut Waiting) -> CommandError {
    waiting.try_recv().unwrap().unwrap_err()
}

fn unanswered(waiting: &mut Waiting) -> bool {
    waiting.try_recv() == Err(oneshot::error::TryRecvError::Empty)
}

fn stopped(waiting: &mut Waiting) -> bool {
    matches!(error(waiting), CommandError::StreamStopped { .. })
}

fn counted(found: &Found) -> Counter {
    let state = found.lock().unwrap().take().unwrap();
    *state.downcast().unwrap()
}

/// An event of the counter as its owner would have written it.
fn push_event(
    batch: &mut event_log::batch::BatchBuilder,
    stream: &str,
    version: StreamVersion,
    index: u32,
    count: u32,
) {
    let meta = meta(stream, "k");
    let headers = event_log::envelope::CommandHeaders::new(
        &meta,
        "/annals/counting",
        Fingerprint([0; 16]),
        None,
        count as usize,
        5,
    );
    let value = [0, 0, 0, 0, 1, 2, 0];
    batch.push(meta.stream.as_str().as_bytes(), Some(&value), |writer| {
        headers.write(writer, "annals.counting.Counted", version, index as usize);
    });
}

#[test]
fn a_command_is_answered_when_its_group_is_acknowledged_and_not_before() {
    let mut world = World::new();
    let mut added = world.send("a", "1", Increase::Add(3));
    world.send_group();
    assert!(unanswered(&mut added));
    world.acknowledge();
    let answer = added.try_recv().unwrap().unwrap();
    assert_eq!(
        (answer.version.0, answer.events, answer.repeated),
        (1, 1, false)
    );
    assert_eq!(answer.position.unwrap().offset, 0);
}

#[test]
fn the_next_group_is_decided_on_the_state_in_flight() {
    let mut world = World::new();
    let mut first = world.send("a", "1", Increase::Add(6));
    world.send_group();
    let mut second = world.send("a", "2", Increase::Add(6));
    let mut third = world.send("a", "3", Increase::Add(4));
    world.acknowledge();
    assert_eq!(version(&mut first), 1);
    assert!(
        unanswered(&mut second),
        "a rejection that saw unacknowledged state must wait"
    );
    world.settle();
    assert!(matches!(
        error(&mut second),
        CommandError::Rejected {
            code: "full",
            ground: Ground::Rule,
            ..
        }
    ));
    assert_eq!(version(&mut third), 2);
}

fn written(version: u32) -> WrittenVersions {
    WrittenVersions::default().with("Counted", version)
}

#[test]
fn a_command_is_decided_for_the_version_that_is_written_then() {
    let mut world = World::new();
    world.lane.write_as(written(1));
    let mut before = world.send("a", "1", Increase::AddInVersion2(1));
    world.lane.write_as(written(2));
    let mut after = world.send("a", "2", Increase::AddInVersion2(1));
    world.settle();
    assert!(matches!(
        error(&mut before),
        CommandError::Rejected { code: "full", .. }
    ));
    assert_eq!(version(&mut after), 1);
}

#[test]
fn an_event_that_is_not_active_yet_is_refused_before_the_append() {
    let mut world = World::new();
    world.record_answers = true;
    world.lane.write_as(written(0));
    let mut refused = world.send("a", "1", Increase::Add(1));
    world.settle();
    assert!(matches!(
        error(&mut refused),
        CommandError::NotActive { active: 0, .. }
    ));
    assert_eq!(world.end, 0, "it left something in the group");
    // It is not the domain's no: later the same command may be carried out.
    world.lane.write_as(written(1));
    let mut again = world.send("a", "1", Increase::Add(1));
    world.settle();
    assert_eq!(version(&mut again), 1);
}

#[test]
fn one_group_is_in_flight_at_a_time() {
    let mut world = World::new();
    world.send("a", "1", Increase::Add(1));
    assert!(world.send_group());
    world.send("a", "2", Increase::Add(1));
    assert!(!world.send_group());
    world.acknowledge();
    assert!(world.send_group());
}

#[test]
fn answers_without_events_wait_for_a_barrier() {
    let mut world = World::new();
    let mut rejected = world.send("a", "1", Increase::Add(11));
    let mut nothing = world.send("a", "2", Increase::Add(0));
    assert!(unanswered(&mut rejected) && unanswered(&mut nothing));
    world.settle();
    assert_eq!(world.barriers, 1, "one barrier serves the whole group");
    assert!(matches!(
        error(&mut rejected),
        CommandError::Rejected { .. }
    ));
    let nothing = nothing.try_recv().unwrap().unwrap();
    assert_eq!(
        (nothing.version.0, nothing.events, nothing.position),
        (0, 0, None)
    );
}

#[test]
fn an_answer_without_events_names_the_last_record_and_no_marker() {
    let mut world = World::new();
    world.send("a", "1", Increase::Add(3));
    world.settle();
    let mut later = world.restored();
    let mut nothing = later.send("a", "2", Increase::Add(0));
    // The take-over's own markers lie after the record.
    later.end += 2;
    later.settle();
    let position = nothing.try_recv().unwrap().unwrap().position;
    assert_eq!(position.unwrap().offset, 0);
}

#[test]
fn a_key_that_comes_again_while_it_is_under_way_gets_the_same_answer() {
    let mut world = World::new();
    let mut first = world.send("a", "1", Increase::Add(3));
    let mut in_the_making = world.send("a", "1", Increase::Add(3));
    world.send_group();
    let mut in_flight = world.send("a", "1", Increase::Add(3));
    let mut other = world.send("a", "1", Increase::Add(4));
    world.acknowledge();
    world.settle();
    let mut last = world.send("a", "1", Increase::Add(3));
    world.settle();
    for waiting in [&mut first, &mut in_the_making, &mut in_flight, &mut last] {
        assert_eq!(version(waiting), 1);
    }
    assert_eq!(error(&mut other), CommandError::KeyReused);
    assert_eq!(world.end, 1, "the event is in the log once");
}

#[test]
fn a_rejected_command_may_be_decided_anew() {
    let mut world = World::new();
    world.send("a", "1", Increase::Add(11));
    world.settle();
    let mut again = world.send("a", "1", Increase::Add(2));
    world.settle();
    assert_eq!(version(&mut again), 1);
}

#[test]
fn a_recorded_rejection_is_given_again_whatever_has_happened_since() {
    let mut world = World::new();
    world.record_answers = true;
    world.send("a", "1", Increase::Add(8));
    let mut rejected = world.send("a", "2", Increase::Add(3));
    let mut stale = world.send_expecting("b", "3", Increase::Add(1), Expected::Exists);
    let mut nothing = world.send("b", "4", Increase::Add(0));
    world.send_group();
    world.acknowledge();
    let mut joined = world.send("a", "2", Increase::Add(3));
    for waiting in [&mut rejected, &mut stale, &mut nothing] {
        assert!(unanswered(waiting), "it is not recorded yet");
    }
    world.settle();
    let first = error(&mut rejected);
    assert!(matches!(first, CommandError::Rejected { code: "full", .. }));
    assert_eq!(error(&mut joined), first);
    let current = StreamVersion(0);
    assert_eq!(error(&mut stale), CommandError::Stale { current });
    let nothing = nothing.try_recv().unwrap().unwrap();
    assert!(!nothing.repeated && nothing.events == 0);

    for restored in [false, true] {
        // What was missing is there now.
        world.send("b", if restored { "6" } else { "5" }, Increase::Add(1));
        let mut again = world.send("a", "2", Increase::Add(3));
        let mut stale = world.send_expecting("b", "3", Increase::Add(1), Expected::Exists);
        let mut unchanged = world.send("b", "4", Increase::Add(0));
        let mut reused = world.send("a", "2", Increase::Add(4));
        world.settle();
        assert_eq!(error(&mut again), first);
        assert_eq!(error(&mut stale), CommandError::Stale { current });
        assert_eq!(error(&mut reused), CommandError::KeyReused);
        let unchanged = unchanged.try_recv().unwrap().unwrap();
        let expected = Acceptance {
            repeated: true,
            ..nothing.clone()
        };
        assert_eq!(unchanged, expected);
        world = world.restored();
        world.record_answers = true;
    }
}

#[test]
fn answers_that_are_recorded_stand_for_a_barrier() {
    let mut world = World::new();
    world.record_answers = true;
    let mut recorded = world.send("a", "1", Increase::Add(11));
    world.record_answers = false;
    let mut rides = world.send("a", "2", Increase::Add(11));
    world.send_group();
    assert!(world.lane.has_answers() && !world.lane.has_answers_due());
    world.send_answers(true);
    assert!(unanswered(&mut recorded) && unanswered(&mut rides));
    world.lane.answers_recorded();
    assert!(matches!(
        error(&mut recorded),
        CommandError::Rejected { .. }
    ));
    assert!(matches!(error(&mut rides), CommandError::Rejected { .. }));
    let mut again = world.send("a", "2", Increase::Add(1));
    world.settle();
    assert_eq!(
        version(&mut again),
        1,
        "who did not ask for it is decided anew"
    );
}

#[test]
fn who_waits_to_be_recorded_is_told_when_the_shard_stops() {
    let mut world = World::new();
    world.record_answers = true;
    let mut in_flight = world.send("a", "1", Increase::Add(11));
    world.send_group();
    world.send_answers(true);
    let mut joined = world.send("a", "1", Increase::Add(11));
    let reason = "deposed".to_owned();
    world.lane.stop(&CommandError::NotServed { reason });
    for waiting in [&mut in_flight, &mut joined] {
        assert!(matches!(error(waiting), CommandError::NotServed { .. }));
    }
}

#[test]
fn recorded_answers_are_forgotten_like_others() {
    let at = |micros| DateTime::from_timestamp_micros(micros).unwrap();
    let mut world = World::remembering(2);
    world.record_answers = true;
    for micros in 1..=3 {
        world.now = at(micros);
        world.send("a", &micros.to_string(), Increase::Add(11));
        world.settle();
    }
    let mut world = world.restored();
    world.issued_at = Some(at(1));
    let mut passed = world.send("a", "1", Increase::Add(11));
    world.issued_at = Some(at(2));
    let mut known = world.send("a", "2", Increase::Add(11));
    world.settle();
    let forgotten_until = at(1);
    assert_eq!(
        error(&mut passed),
        CommandError::WindowPassed { forgotten_until }
    );
    assert!(matches!(error(&mut known), CommandError::Rejected { .. }));
}

#[test]
fn of_those_who_expect_the_same_version_one_wins() {
    let mut world = World::new();
    let expected = Expected::Exactly(StreamVersion(0));
    let mut first = world.send_expecting("a", "1", Increase::Add(1), expected);
    let mut second = world.send_expecting("a", "2", Increase::Add(1), expected);
    let mut missing = world.send_expecting("b", "3", Increase::Add(1), Expected::Exists);
    world.settle();
    assert_eq!(version(&mut first), 1);
    assert_eq!(
        error(&mut second),
        CommandError::Stale {
            current: StreamVersion(1)
        }
    );
    assert_eq!(
        error(&mut missing),
        CommandError::Stale {
            current: StreamVersion(0)
        }
    );
}

#[test]
fn a_full_group_leaves_the_rest_for_the_next() {
    let mut world = World::with_groups_of(2);
    let mut answers: Vec<_> = (0..5)
        .map(|i| world.send(&format!("s{i}"), "1", Increase::Add(1)))
        .collect();
    world.settle();
    assert_eq!(
        world.log.iter().map(|b| b.records()).collect::<Vec<_>>(),
        [2, 2, 1]
    );
    assert!(answers.iter_mut().all(|waiting| version(waiting) == 1));
}

#[test]
fn events_that_do_not_fit_go_into_the_next_group() {
    let note = || "x".repeat(400_000);
    let mut world = World::new();
    let mut answers: Vec<_> = (0..3)
        .map(|i| world.send(&format!("s{i}"), "1", Increase::AddWithNote(1, note())))
        .collect();
    world.settle();
    assert_eq!(
        world.log.iter().map(|b| b.records()).collect::<Vec<_>>(),
        [2, 1]
    );
    assert!(answers.iter_mut().all(|waiting| version(waiting) == 1));
}

#[test]
fn events_that_fit_into_no_group_are_too_large() {
    let mut world = World::new();
    let mut large = world.send("a", "1", Increase::AddWithNote(1, "x".repeat(950_000)));
    let mut next = world.send("a", "2", Increase::Add(1));
    world.settle();
    assert!(matches!(error(&mut large), CommandError::TooLarge { .. }));
    assert_eq!(version(&mut next), 1);
}

#[test]
fn a_refused_group_is_decided_again_one_command_at_a_time() {
    let mut world = World::new();
    let mut answers: Vec<_> = (0..3)
        .map(|i| world.send("a", &i.to_string(), Increase::Add(3)))
        .collect();
    let mut again = world.send("a", "0", Increase::Add(3));
    world.send_group();
    let mut later = world.send("a", "3", Increase::Add(1));
    world.log.pop();
    world.lane.refused("too large");

    world.send_group();
    assert_eq!(world.log[0].records(), 1);
    world.acknowledge();
    world.send_group();
    world.log.pop();
    world.lane.refused("too large");
    world.settle();

    assert_eq!(version(&mut answers[0]), 1);
    assert_eq!(version(&mut again), 1);
    assert!(matches!(
        error(&mut answers[1]),
        CommandError::Refused { .. }
    ));
    assert_eq!(version(&mut answers[2]), 2);
    assert_eq!(version(&mut later), 3);
}

#[test]
fn a_decider_that_panics_stops_its_stream_and_no_other() {
    let mut world = World::new();
    let mut before = world.send("a", "0", Increase::Add(1));
    let mut panicked = world.send("a", "1", Increase::Panic);
    let mut after = world.send("a", "2", Increase::Add(1));
    let mut other = world.send("b", "2", Increase::Add(1));
    world.settle();
    assert_eq!(version(&mut before), 1);
    assert!(matches!(error(&mut panicked), CommandError::Bug { .. }));
    assert!(stopped(&mut after));
    assert_eq!(version(&mut other), 1);

    let mut known = world.send("a", "0", Increase::Add(1));
    let (mut read, _) = world.read("a");
    world.settle();
    assert_eq!(version(&mut known), 1, "what was answered stays answered");
    assert!(stopped(&mut read));
    let streams: Vec<_> = world
        .lane
        .stopped()
        .map(|(stream, _)| stream.id())
        .collect();
    assert_eq!(streams, ["a"]);

    let mut mended = world.restored();
    let mut again = mended.send("a", "2", Increase::Add(1));
    mended.settle();
    assert_eq!(version(&mut again), 2, "the next owner decides anew");
}

#[test]
fn a_torn_command_stops_its_stream_and_no_other() {
    // Cut off at the end of the log, and by another command.
    for followed in [false, true] {
        let mut world = World::new();
        world.send("b", "1", Increase::Add(1));
        world.settle();
        let mut torn = event_log::batch::BatchBuilder::default();
        push_event(&mut torn, "a", StreamVersion(1), 0, 2);
        world.log.push(torn);
        if followed {
            let mut next = event_log::batch::BatchBuilder::default();
            push_event(&mut next, "c", StreamVersion(1), 0, 1);
            world.log.push(next);
        }
        let mut later = world.restored();
        let mut on_a = later.send("a", "2", Increase::Add(1));
        let mut on_b = later.send("b", "2", Increase::Add(1));
        later.settle();
        assert!(stopped(&mut on_a));
        assert_eq!(version(&mut on_b), 2);
        let mut on_c = later.send("c", "2", Increase::Add(1));
        later.settle();
        assert_eq!(version(&mut on_c), if followed { 2 } else { 1 });
    }
}

#[test]
fn an_event_without_its_command_stops_its_stream() {
    for (index, count) in [(1, 2), (1, 1), (0, 0), (u32::MAX, u32::MAX)] {
        let mut world = World::new();
        let mut torn = event_log::batch::BatchBuilder::default();
        push_event(&mut torn, "a", StreamVersion(1), index, count);
        world.log.push(torn);
        let mut later = world.restored();
        let mut on_a = later.send("a", "2", Increase::Add(1));
        later.settle();
        assert!(stopped(&mut on_a), "event {index} of {count}");
    }
}

#[test]
fn the_times_of_a_stream_never_go_back() {
    let mut world = World::new();
    for (key, now) in [("1", 5), ("2", 3), ("3", 9)] {
        world.now = DateTime::from_timestamp_nanos(now * 1_000);
        world.send("a", key, Increase::Add(1));
    }
    world.settle();
    let mut later = world.restored();
    later.now = DateTime::from_timestamp_nanos(4_000);
    later.send("a", "4", Increase::Add(1));
    later.send("b", "4", Increase::Add(1));
    later.settle();
    let times = later.restored().times;
    let micros: Vec<_> = times.iter().map(|at| at.timestamp_micros()).collect();
    assert_eq!(micros, [5, 5, 9, 9, 4]);
}

#[test]
fn a_command_that_may_have_been_forgotten_is_refused() {
    let at = |micros| DateTime::from_timestamp_micros(micros).unwrap();
    let mut world = World::remembering(2);
    for micros in 1..=4 {
        world.now = at(micros);
        world.send("a", &micros.to_string(), Increase::Add(1));
        world.settle();
    }
    let window = world.lane.recorded.forgotten_until();
    let mut world = world.restored();
    assert_eq!(world.lane.recorded.forgotten_until(), window);
    {
        world.issued_at = Some(at(2));
        let mut passed = world.send("a", "2", Increase::Add(1));
        world.issued_at = Some(at(3));
        let mut known = world.send("a", "3", Increase::Add(1));
        let mut new = world.send("a", "5", Increase::Add(1));
        world.issued_at = None;
        let mut without = world.send("a", "1", Increase::Add(1));
        world.settle();
        assert_eq!(
            error(&mut passed),
            CommandError::WindowPassed {
                forgotten_until: at(2)
            }
        );
        assert_eq!(version(&mut known), 3);
        assert_eq!(version(&mut new), 5);
        assert_eq!(
            version(&mut without),
            6,
            "who does not say when is decided anew"
        );
    }
}

#[test]
fn a_read_sees_what_is_under_way_and_waits_for_it() {
    let mut world = World::new();
    let (mut unborn, default) = world.read("a");
    world.settle();
    assert_eq!(version(&mut unborn), 0);
    assert_eq!(counted(&default), Counter(0));

    world.send("a", "1", Increase::Add(3));
    world.send_group();
    world.send("a", "2", Increase::Add(4));
    let (mut read, found) = world.read("a");
    world.acknowledge();
    assert!(unanswered(&mut read), "what it saw is not acknowledged");
    world.settle();
    assert_eq!(version(&mut read), 2);
    assert_eq!(counted(&found), Counter(7));
}

#[test]
fn a_command_that_is_announced_is_prepared_only_if_it_is_not_known() {
    let mut world = World::new();
    let mut announced = world.announce("a", "1", Increase::Add(1));
    assert_eq!(error(&mut announced), CommandError::UnknownCommand);
    world.send("a", "1", Increase::Add(1));
    let mut under_way = world.announce("a", "1", Increase::Add(1));
    let mut other = world.announce("a", "1", Increase::Add(2));
    assert!(unanswered(&mut under_way));
    world.settle();
    let mut recorded = world.announce("a", "1", Increase::Add(1));
    world.settle();
    assert_eq!(version(&mut under_way), 1);
    assert_eq!(version(&mut recorded), 1);
    assert_eq!(error(&mut other), CommandError::KeyReused);
}

#[test]
fn who_waits_when_the_shard_stops_is_told() {
    let mut world = World::with_groups_of(1);
    let mut waiting: Vec<_> = (0..3)
        .map(|i| world.send(&i.to_string(), "1", Increase::Add(1)))
        .collect();
    world.send_group();
    let reason = "deposed".to_owned();
    world.lane.stop(&CommandError::NotServed { reason });
    for waiting in &mut waiting {
        assert!(matches!(error(waiting), CommandError::NotServed { .. }));
    }
}

#[test]
fn a_later_owner_gives_the_recorded_answer() {
    let mut world = World::new();
    let mut first = world.send("a", "1", Increase::Add(3));
    world.send("a", "2", Increase::Add(3));
    world.settle();
    let first = first.try_recv().unwrap().unwrap();

    let mut later = world.restored();
    let mut again = later.send("a", "1", Increase::Add(3));
    let mut reused = later.send("a", "1", Increase::Add(4));
    let mut next = later.send("a", "3", Increase::Add(4));
    later.settle();
    let again = again.try_recv().unwrap().unwrap();
    assert!(again.repeated);
    assert_eq!(
        Acceptance {
            repeated: false,
            ..again
        },
        first
    );
    assert_eq!(error(&mut reused), CommandError::KeyReused);
    assert_eq!(version(&mut next), 3);
}

#[test]
fn events_of_a_deposed_owner_are_passed_over() {
    let mut deposed = World::new();
    deposed.send("a", "1", Increase::Add(3));
    deposed.settle();
    let mut owner = World::new();
    owner.lane.claim(9);
    owner.send("b", "1", Increase::Add(3));
    owner.settle();
    owner.log.append(&mut deposed.log);

    let mut later = owner.restored();
    let mut on_a = later.send("a", "2", Increase::Add(1));
    later.settle();
    assert_eq!(
        version(&mut on_a),
        1,
        "the deposed owner's event does not count"
    );
}

#[test]
fn a_stream_that_cannot_be_read_stops_alone() {
    let mut world = World::new();
    world.send("a", "1", Increase::Add(1));
    world.send("b", "1", Increase::Add(1));
    world.settle();
    // The first event of `a` again: version 1 does not follow version 1.
    let mut once_more = World::new();
    once_more.send("a", "9", Increase::Add(1));
    once_more.settle();
    world.log.append(&mut once_more.log);

    let mut later = world.restored();
    let mut on_a = later.send("a", "2", Increase::Add(1));
    let mut on_b = later.send("b", "2", Increase::Add(1));
    later.settle();
    assert!(matches!(
        error(&mut on_a),
        CommandError::StreamStopped { .. }
    ));
    assert_eq!(version(&mut on_b), 2);
    let mut known = later.send("a", "9", Increase::Add(1));
    later.settle();
    let known = known.try_recv().unwrap().unwrap();
    assert!(
        known.repeated,
        "it was accepted, whether we can read it or not"
    );
}

#[test]
fn a_record_without_an_envelope_stops_the_stream_that_its_key_names() {
    let mut world = World::new();
    world.send("b", "1", Increase::Add(1));
    world.settle();
    let mut foreign = event_log::batch::BatchBuilder::default();
    foreign.push(b"main/counter/a", Some(b"{}"), |_| {});
    world.log.push(foreign);

    let mut later = world.restored();
    let mut on_a = later.send("a", "2", Increase::Add(1));
    let mut on_b = later.send("b", "2", Increase::Add(1));
    later.settle();
    let stopped = error(&mut on_a);
    assert!(
        matches!(stopped, CommandError::StreamStopped { .. }),
        "{stopped:?}"
    );
    assert_eq!(version(&mut on_b), 2);
}

#[test]
fn a_record_that_has_nothing_of_ours_is_passed_over_and_counted() {
    let mut world = World::new();
    world.send("a", "1", Increase::Add(1));
    world.settle();
    let mut foreign = event_log::batch::BatchBuilder::default();
    foreign.push(b"whatever", Some(b"{}"), |_| {});
    foreign.push(b"", None, |headers| headers.put("ce_type", b"com.example"));
    world.log.push(foreign);
    let mut later = world.restored();
    let found = later.lane.foreign().unwrap();
    assert_eq!(
        (found.records, found.first_offset, found.last_offset),
        (2, 1, 2)
    );
    let mut on_a = later.send("a", "2", Increase::Add(1));
    later.settle();
    assert_eq!(version(&mut on_a), 2);
}

#[test]
fn what_may_be_left_of_an_event_of_no_stream_stops_the_restore() {
    let mut torn = event_log::batch::BatchBuilder::default();
    torn.push(b"whatever", Some(b"{}"), |headers| {
        headers.put("annals_term", b"1");
    });
    let batch = Batch::read(&mut torn.seal(WRITER, 0, 0)).unwrap().unwrap();
    let refused = lane(1, 1_000).replay(&batch).unwrap_err().to_string();
    assert!(refused.contains("offset 0"), "{refused}");
}

#[test]
fn one_command_is_waited_for_by_a_bounded_number() {
    let mut world = World::new();
    let mut answers: Vec<_> = (0..100)
        .map(|_| world.send("a", "1", Increase::Add(1)))
        .collect();
    world.settle();
    let busy = answers
        .iter_mut()
        .map(|waiting| waiting.try_recv().unwrap())
        .filter(|answer| *answer == Err(CommandError::Busy));
    assert_eq!(busy.count(), 100 - MAX_JOINED);
}

/// Everything that a lane knows of the log, in an order that does not depend on how it learnt it.
fn dump(lane: &mut Lane) -> (Extent, Vec<String>) {
    let mut lines = Vec::new();
    lane.begin_copy();
    let extent = lane.copy_some(&mut lines, usize::MAX).unwrap().unwrap();
    let mut lines: Vec<_> = String::from_utf8(lines)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect();
    lines.sort();
    (extent, lines)
}

#[test]
fn a_snapshot_is_due_after_as_many_records_as_there_are_streams() {
    let mut world = World::new();
    for stream in ["a", "b", "c"] {
        world.send(stream, "1", Increase::Add(1));
    }
    world.settle();
    assert!(!world.lane.is_snapshot_due(0) && !world.lane.is_snapshot_due(4));
    assert!(world.lane.is_snapshot_due(2));
    dump(&mut world.lane);
    for key in ["2", "3"] {
        world.send("a", key, Increase::Add(1));
        world.settle();
    }
    assert!(
        !world.lane.is_snapshot_due(2),
        "three streams for two records"
    );
    world.send("a", "4", Increase::Add(1));
    world.settle();
    assert!(world.lane.is_snapshot_due(2));
}

#[test]
fn there_is_no_snapshot_behind_a_record_that_stops_a_stream() {
    let mut world = World::new();
    world.send("b", "1", Increase::Add(1));
    world.settle();
    let mut foreign = event_log::batch::BatchBuilder::default();
    foreign.push(b"main/counter/a", Some(b"{}"), |_| {});
    world.log.push(foreign);
    let later = world.restored();
    assert!(!later.lane.is_snapshot_due(1));
}

#[test]
fn what_no_lane_has_saved_is_not_loaded() {
    let mut world = World::new();
    world.send("a", "1", Increase::Add(1));
    world.settle();
    let (extent, _) = dump(&mut world.lane);
    for lines in [
        "counter",
        "counter {}",
        "other [\"main/other/a\",1,0,0]",
        "counter [\"main/counter/a\",1,0,\"one\"]",
        " [1]",
    ] {
        let loaded = lane(1, 1).load(&extent, lines.as_bytes());
        assert!(loaded.is_err(), "{lines:?} was loaded");
    }
}

/// Without events, the position is the end of the log when the answer is given.
fn compared(answer: &Answer) -> Answer {
    answer.clone().map(|answer| Acceptance {
        position: answer.position.filter(|_| answer.events > 0),
        ..answer
    })
}

proptest! {
    /// Wherever copying begins, however long it takes, and whatever happens meanwhile.
    #[test]
    fn restoring_from_any_snapshot_is_restoring_without(
        commands in prop::collection::vec((0..5_u8, 0..30_u8, 0..3_u32, any::<bool>()), 1..80),
        begin in 0..80_usize,
        slice in 1..300_usize,
    ) {
        let mut world = World::remembering(6);
        let (mut lines, mut extent, mut in_flight) = (Vec::new(), None, false);
        let begin = begin.min(commands.len() - 1);
        for (number, (stream, key, by, pause)) in commands.into_iter().enumerate() {
            world.now = DateTime::from_timestamp_micros(number as i64).unwrap();
            world.send(&stream.to_string(), &key.to_string(), Increase::Add(by));
            if number == begin {
                world.lane.begin_copy();
            }
            if number >= begin && extent.is_none() {
                let until = lines.len() + slice;
                extent = world.lane.copy_some(&mut lines, until).unwrap();
            }
            if pause {
                if in_flight {
                    world.acknowledge();
                }
                in_flight = world.send_group();
            }
        }
        if in_flight {
            world.acknowledge();
        }
        world.settle();
        let extent = match extent {
            Some(extent) => extent,
            None => world.lane.copy_some(&mut lines, usize::MAX).unwrap().unwrap(),
        };
        let World { lane: mut live, log, .. } = world;
        let log = in_the_log(log);
        let (mut without, mut with) = (lane(1, 6), lane(1, 6));
        with.load(&extent, &lines).unwrap();
        for batch in &log {
            without.replay(batch).unwrap();
            if batch.base_offset >= extent.next_offset {
                with.replay(batch).unwrap();
            }
        }
        prop_assert_eq!(dump(&mut with), dump(&mut without));
        prop_assert_eq!(dump(&mut live).1, dump(&mut without).1);
        prop_assert!(with.stopped().next().is_none());
    }

    /// Whatever the groups, the outcome is that of deciding one by one, and the
    /// log alone leads to the same answers.
    #[test]
    fn any_grouping_is_a_serial_fold(
        commands in prop::collection::vec((0..4_u8, 0..20_u8, 0..5_u32), 1..60),
        pauses in prop::collection::vec(any::<bool>(), 60),
    ) {
        let mut grouped = World::new();
        let mut serial = World::new();
        let mut pairs = Vec::new();
        let mut in_flight = false;
        for ((stream, key, by), pause) in commands.into_iter().zip(pauses) {
            let (stream, key) = (stream.to_string(), key.to_string());
            let answer = grouped.send(&stream, &key, Increase::Add(by));
            if pause {
                if in_flight {
                    grouped.acknowledge();
                }
                in_flight = grouped.send_group();
            }
            let expected = serial.send(&stream, &key, Increase::Add(by));
            serial.settle();
            pairs.push((stream, key, by, answer, expected));
        }
        if in_flight {
            grouped.acknowledge();
        }
        grouped.settle();
        let mut accepted = Vec::new();
        for (stream, key, by, mut answer, mut expected) in pairs {
            let answer = answer.try_recv().unwrap();
            prop_assert_eq!(compared(&answer), compared(&expected.try_recv().unwrap()));
            if let Ok(answer) = answer && answer.events > 0 {
                accepted.push((stream, key, by, answer));
            }
        }
        let mut later = grouped.restored();
        for (stream, key, by, answer) in accepted {
            let mut again = later.send(&stream, &key, Increase::Add(by));
            later.settle();
            let again = again.try_recv().unwrap().unwrap();
            prop_assert_eq!(again, Acceptance { repeated: true, ..answer });
        }
    }
}
