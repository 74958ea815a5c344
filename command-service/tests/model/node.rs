//! A node of the command service: take over, restore, claim, serve.
//!
//! A node that does nothing for any number of steps is a zombie; one that goes
//! on after that has woken up. Nothing here looks at a clock, but for `slept`.

use std::collections::BTreeSet;

use crate::{
    broker::{Batch, Event, Identity, Partition, Produced, Record, Slot, TOPICS, Topic},
    clients::{Answer, Command, Decision, decide},
    coordinator::{FenceAnswer, FenceRequest},
    mutations::{Mutation, Rules},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Phase {
    #[default]
    Idle,
    Fencing(Step),
    Restoring,
    Claiming,
    Serving,
    Stopped(Stop),
}

/// The requests of a take-over, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    First,
    Add,
    Abort,
    Second,
    Rotate,
}

/// Why a shard is not served any more until somebody looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stop {
    /// The log is not as it must be.
    Diverged,
    /// A predecessor may still be able to append.
    Unfenced,
    /// The coordinator said what no well-behaved client hears.
    Refused,
}

/// Who is answered what, when the batch is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Entry {
    pub command: u8,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sent {
    pub batch: Batch,
    /// It has reached the broker at least once.
    pub arrived: bool,
    pub entries: Vec<Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Appender {
    next_offset: u8,
    next_sequence: u8,
    pub sent: Vec<Sent>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    pub phase: Phase,
    pub renewing: bool,
    /// On the markers of the take-over.
    marker: Identity,
    /// To append with.
    pub writer: Identity,
    /// Producer ids that owners before had, by their markers: a coordinator may repeat these.
    known_pids: BTreeSet<u8>,
    term: u8,
    pub appenders: [Appender; 2],
    acknowledged: Vec<Event>,
    pub forming: Vec<Entry>,
    forming_events: Vec<Event>,
    /// It did nothing for longer than brokers remember producers, and has not noticed yet.
    pub slept: bool,
    /// Where the logs ended when the take-over began; only a mutation cares.
    ends_at_first: [u8; 2],
    /// What it believes about the consumer group's assignment.
    pub assigned: bool,
}

/// What came of an answer to an append.
pub enum Outcome {
    Answers(Vec<Entry>),
    Deposed,
    Stopped,
}

impl Node {
    pub fn is_active(&self) -> bool {
        !matches!(self.phase, Phase::Idle | Phase::Stopped(_))
    }

    pub fn is_quiet(&self) -> bool {
        self.appenders
            .iter()
            .all(|appender| appender.sent.is_empty())
    }

    /// Whether somebody waits here for the answer to this command.
    pub fn holds(&self, command: u8) -> bool {
        let sent = self.appenders.iter().flat_map(|appender| &appender.sent);
        sent.flat_map(|sent| &sent.entries)
            .chain(&self.forming)
            .any(|entry| entry.command == command)
    }

    // Take over

    pub fn begin(&mut self, renewing: bool, ends: [u8; 2]) {
        self.ends_at_first = ends;
        self.phase = Phase::Fencing(Step::First);
        self.renewing = renewing;
    }

    pub fn request(&self, rules: Rules) -> Option<FenceRequest> {
        let Phase::Fencing(step) = self.phase else {
            return None;
        };
        let steals = rules.mutated(Mutation::RenewalByPlainInit);
        Some(match step {
            Step::First => FenceRequest::Init {
                expected: (self.renewing && !steals).then_some(self.writer),
            },
            Step::Add => FenceRequest::Add(self.marker),
            Step::Abort => FenceRequest::Abort(self.marker),
            Step::Second => FenceRequest::Init {
                expected: (!rules.mutated(Mutation::SecondInitPlain)).then_some(self.marker),
            },
            Step::Rotate => FenceRequest::Init {
                expected: Some(self.writer),
            },
        })
    }

    pub fn hear(&mut self, answer: FenceAnswer, rules: Rules) {
        let Phase::Fencing(step) = self.phase else {
            return;
        };
        let identity = match answer {
            FenceAnswer::Done(identity) => identity,
            FenceAnswer::Lost => return self.depose(rules),
            FenceAnswer::Refused => {
                self.phase = Phase::Stopped(Stop::Refused);
                return;
            }
        };
        self.phase = match step {
            Step::First if self.renewing && identity.pid != self.writer.pid => {
                // The coordinator had forgotten us: it expects anybody then.
                return self.depose(rules);
            }
            Step::First => {
                self.marker = identity;
                if rules.mutated(Mutation::FirstInitAlone) {
                    self.writer = identity;
                    Phase::Restoring
                } else {
                    Phase::Fencing(Step::Add)
                }
            }
            Step::Add => Phase::Fencing(Step::Abort),
            Step::Abort if rules.mutated(Mutation::NoSecondInit) => {
                self.writer = self.marker;
                Phase::Restoring
            }
            Step::Abort => Phase::Fencing(Step::Second),
            Step::Second | Step::Rotate => {
                self.writer = identity;
                if identity.pid == self.marker.pid && identity.epoch > rules.highest_epoch {
                    Phase::Fencing(Step::Rotate)
                } else {
                    Phase::Restoring
                }
            }
        };
    }

    // Restore

    /// Reads both partitions up to the take-over's own marker; `None` while one
    /// of them does not show it. What lies before it never changes, so that it
    /// does not matter when it is read, nor from whom.
    pub fn restored(&self, partitions: &[Partition; 2], rules: Rules) -> Option<Self> {
        let mut ends = [0; 2];
        for (topic, partition) in TOPICS.into_iter().zip(partitions) {
            ends[topic as usize] = if rules.mutated(Mutation::RestoreToLastMessage) {
                usize::from(self.ends_at_first[topic as usize])
            } else if rules.mutated(Mutation::FirstInitAlone) {
                partition.log.len()
            } else {
                let own = Slot {
                    by: self.marker,
                    record: Record::Marker,
                };
                partition.log.iter().position(|slot| *slot == own)? + 1
            };
        }
        Some(self.restored_to(ends, partitions, rules))
    }

    /// As `restored`, but from a leader that was deposed, wherever its log ends.
    pub fn restored_from_old_leader(
        &self,
        partitions: &[Partition; 2],
        rules: Rules,
    ) -> Option<Self> {
        let old = partitions[0].old_end?;
        let ends = [usize::from(old), partitions[1].log.len()];
        Some(self.restored_to(ends, partitions, rules))
    }

    fn restored_to(&self, ends: [usize; 2], partitions: &[Partition; 2], rules: Rules) -> Self {
        let mut node = self.clone();
        let logs = [0, 1].map(|at| &partitions[at].log[..ends[at]]);
        let markers = (logs.iter().copied().flatten()).filter(|slot| slot.record == Record::Marker);
        node.known_pids.extend(markers.map(|slot| slot.by.pid));
        for (appender, end) in node.appenders.iter_mut().zip(ends) {
            appender.next_offset = end as u8;
            appender.next_sequence = 0;
        }
        if !self.renewing {
            if !self.predecessor_is_fenced(logs, rules) {
                node.phase = Phase::Stopped(Stop::Unfenced);
                return node;
            }
            node.acknowledged = replay(logs[0]);
        }
        if self.renewing && rules.mutated(Mutation::RenewalWithoutClaim) {
            node.phase = Phase::Serving;
            node.renewing = false;
            return node;
        }
        node.phase = Phase::Claiming;
        node.send(Topic::Owners, vec![Record::Claim], Vec::new());
        node
    }

    /// The newest claim names who may still be able to append. Our markers
    /// fence it when they carry its producer id; otherwise somebody's must.
    fn predecessor_is_fenced(&self, logs: [&[Slot]; 2], rules: Rules) -> bool {
        let claim = logs[1].iter().rfind(|slot| slot.record == Record::Claim);
        let Some(&Slot { by: claimed, .. }) = claim else {
            return true;
        };
        if rules.mutated(Mutation::TrustAnyFirstInit) {
            return true;
        }
        if rules.mutated(Mutation::TrustEpochAboveZero) {
            return self.marker.epoch > 0;
        }
        let fences = |slot: &Slot| {
            slot.record == Record::Marker
                && slot.by.pid == claimed.pid
                && slot.by.epoch > claimed.epoch
        };
        claimed.pid == self.marker.pid || logs.iter().all(|log| log.iter().any(fences))
    }

    // Serve

    pub fn admits(&self) -> bool {
        self.phase == Phase::Serving && !self.slept
    }

    /// Decides on what is acknowledged plus what is under way. Answers that
    /// do not wait for an acknowledgement exist only in mutations.
    pub fn decide(&mut self, command: u8, commands: &[Command], rules: Rules) -> Option<Entry> {
        let in_flight = self.appenders[0]
            .sent
            .iter()
            .flat_map(|sent| &sent.batch.records);
        let in_flight = in_flight.filter_map(|record| match record {
            Record::Event(event) => Some(*event),
            Record::Marker | Record::Claim | Record::Barrier | Record::Foreign => None,
        });
        let seen: Vec<Event> = (self.acknowledged.iter().copied())
            .chain(in_flight)
            .chain(self.forming_events.iter().copied())
            .collect();
        let answer = match decide(&seen, commands, command) {
            Decision::Append => {
                let version = seen.len() as u8 + 1;
                self.forming_events.push(Event {
                    command,
                    version,
                    term: self.term,
                });
                Answer::Accepted { version }
            }
            Decision::Answer(answer) => answer,
        };
        let entry = Entry { command, answer };
        if rules.mutated(Mutation::RejectFromOverlay) && matches!(answer, Answer::Rejected { .. }) {
            return Some(entry);
        }
        self.join(entry);
        None
    }

    /// An accepted command is answered with the group that has its event.
    fn join(&mut self, entry: Entry) {
        let has_event = |sent: &&mut Sent| {
            let at = |record: &Record| {
                matches!(record, Record::Event(event)
                    if entry.answer == Answer::Accepted { version: event.version })
            };
            sent.batch.records.iter().any(at)
        };
        match self.appenders[0].sent.iter_mut().find(has_event) {
            Some(sent) => sent.entries.push(entry),
            None => self.forming.push(entry),
        }
    }

    pub fn may_send_group(&self, rules: Rules) -> bool {
        let [events, owners] = &self.appenders;
        let barrier = self.forming_events.is_empty();
        let at_once = match () {
            () if barrier && rules.mutated(Mutation::BarrierOvertakes) => owners.sent.is_empty(),
            () if !barrier && rules.mutated(Mutation::TwoInFlight) => {
                events.sent.len() < 2 && owners.sent.is_empty()
            }
            () => self.is_quiet(),
        };
        self.admits() && !self.forming.is_empty() && at_once
    }

    /// Sends what was decided, or a barrier when that has no events.
    pub fn send_group(&mut self, rules: Rules) -> Vec<Entry> {
        let mut entries = std::mem::take(&mut self.forming);
        let records: Vec<_> = self.forming_events.drain(..).map(Record::Event).collect();
        let early = rules.mutated(Mutation::AnswerBeforeAck);
        let answered = if early {
            std::mem::take(&mut entries)
        } else {
            Vec::new()
        };
        if !records.is_empty() {
            self.send(Topic::Events, records, entries);
        } else if rules.mutated(Mutation::NoBarrier) {
            return entries;
        } else {
            self.send(Topic::Owners, vec![Record::Barrier], entries);
        }
        answered
    }

    fn send(&mut self, topic: Topic, records: Vec<Record>, entries: Vec<Entry>) {
        let appender = &mut self.appenders[topic as usize];
        let batch = Batch {
            by: self.writer,
            sequence: appender.next_sequence,
            records,
        };
        appender.next_sequence += batch.records.len() as u8;
        appender.sent.push(Sent {
            batch,
            arrived: false,
            entries,
        });
    }

    /// No answer came: the same bytes go out again.
    pub fn unheard(&mut self, topic: Topic, place: usize, rules: Rules) {
        let appender = &mut self.appenders[topic as usize];
        if rules.mutated(Mutation::ResendWithNewSequence) {
            let batch = &mut appender.sent[place].batch;
            batch.sequence = appender.next_sequence;
            appender.next_sequence += batch.records.len() as u8;
        }
    }

    /// After a pause longer than brokers remember producers, whatever is known
    /// is worth nothing: the fence may be gone.
    pub fn wake(&mut self, rules: Rules) {
        if !rules.mutated(Mutation::BarrierAfterLongPause) {
            self.depose(rules);
        } else if self.phase != Phase::Serving {
            self.slept = false;
        } else if self.appenders[1].sent.is_empty() {
            self.send(Topic::Owners, vec![Record::Barrier], Vec::new());
        }
    }

    /// A batch in flight has its answer.
    pub fn acknowledge(
        &mut self,
        topic: Topic,
        place: usize,
        produced: Produced,
        log: &[Slot],
        rules: Rules,
    ) -> Outcome {
        let appender = &mut self.appenders[topic as usize];
        let sent = appender.sent.remove(place);
        let base = match produced {
            Produced::At(base) => base,
            Produced::Fenced => {
                self.depose(rules);
                return Outcome::Deposed;
            }
            Produced::OutOfOrder => return self.stop(),
        };
        let only_writers = rules.mutated(Mutation::OnlyWritersMarkers);
        let repeated = |slot: &Slot| {
            slot.record == Record::Marker
                && (slot.by.pid == self.writer.pid
                    || !only_writers && self.known_pids.contains(&slot.by.pid))
        };
        let expected = appender.next_offset;
        if base < expected
            || !log[usize::from(expected)..usize::from(base)]
                .iter()
                .all(repeated)
        {
            return self.stop();
        }
        appender.next_offset = base + sent.batch.records.len() as u8;
        self.slept = false;
        for record in sent.batch.records {
            match record {
                Record::Event(event) => self.acknowledged.push(event),
                Record::Claim => {
                    self.term = base;
                    self.phase = Phase::Serving;
                    self.renewing = false;
                }
                Record::Barrier | Record::Marker | Record::Foreign => {}
            }
        }
        Outcome::Answers(sent.entries)
    }

    fn stop(&mut self) -> Outcome {
        *self = Self {
            phase: Phase::Stopped(Stop::Diverged),
            ..Self::default()
        };
        Outcome::Stopped
    }

    /// Somebody else owns the shard: everything here may be outdated.
    pub fn depose(&mut self, rules: Rules) {
        let assigned = self.assigned && rules.mutated(Mutation::ReinitWheneverFenced);
        *self = Self {
            assigned,
            ..Self::default()
        };
    }
}

/// The fold of what was read; what a deposed owner wrote after its successor does not count.
fn replay(log: &[Slot]) -> Vec<Event> {
    let mut highest = 0;
    let mut events = Vec::new();
    for slot in log {
        if let Record::Event(event) = slot.record
            && event.term >= highest
        {
            highest = event.term;
            events.push(event);
        }
    }
    events
}
