//! A node of the command service: take over, restore, claim, serve.
//!
//! A node that does nothing for any number of steps is a zombie; one that goes
//! on after that has woken up. Nothing here looks at a clock, but for `slept`.

use std::collections::BTreeSet;

use crate::{
    broker::{Batch, Event, Identity, Record, Topic},
    clients::Answer,
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
    /// Somebody else wrote between its batches. It is read anew and served on; this is only told.
    WrittenPast,
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
    pub next_offset: u8,
    pub next_sequence: u8,
    pub sent: Vec<Sent>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Node {
    pub phase: Phase,
    pub renewing: bool,
    /// On the markers of the take-over.
    pub marker: Identity,
    /// To append with.
    pub writer: Identity,
    /// Producer ids that owners before had, by their markers: a coordinator may repeat these.
    pub known_pids: BTreeSet<u8>,
    pub term: u8,
    pub appenders: [Appender; 2],
    pub acknowledged: Vec<Event>,
    pub forming: Vec<Entry>,
    pub forming_events: Vec<Event>,
    /// It did nothing for longer than brokers remember producers, and has not noticed yet.
    pub slept: bool,
    /// Where the logs ended when the take-over began; only a mutation cares.
    pub ends_at_first: [u8; 2],
    /// What it believes about the consumer group's assignment.
    pub assigned: bool,
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

    /// Somebody else owns the shard: everything here may be outdated.
    pub fn depose(&mut self, rules: Rules) {
        let assigned = self.assigned && rules.mutated(Mutation::ReinitWheneverFenced);
        *self = Self {
            assigned,
            ..Self::default()
        };
    }
}
