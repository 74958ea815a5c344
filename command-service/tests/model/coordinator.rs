//! The transaction coordinator of the shard's transactional id.
//!
//! The rules are Kafka's (`TransactionCoordinator`, `TransactionMetadata`).
//! What it answers is in its own log first, so a failover forgets nothing
//! that was answered; it only makes it send the markers again.

use crate::broker::Identity;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FenceRequest {
    Init { expected: Option<Identity> },
    Add(Identity),
    Abort(Identity),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FenceAnswer {
    Done(Identity),
    /// Somebody else came in between.
    Lost,
    /// What a well-behaved client never hears.
    Refused,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transaction {
    Empty,
    Ongoing,
    /// Prepared: the markers that have not landed yet, by topic.
    Aborting([bool; 2]),
    Aborted,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    /// `None` when it knows nothing of the transactional id.
    pub current: Option<Identity>,
    /// The identity before, when the current one was given to who named it.
    last: Option<Identity>,
    pub transaction: Transaction,
    next_pid: u8,
    /// At this epoch a producer id is used up.
    exhausted: i8,
}

impl Coordinator {
    pub fn new(exhausted: i8, current: Option<Identity>) -> Self {
        Self {
            current,
            last: None,
            transaction: Transaction::Empty,
            next_pid: current.map_or(0, |current| current.pid + 1),
            exhausted,
        }
    }

    /// `None` stands for "concurrent transactions": ask again. That a plain
    /// Init has fenced an ongoing transaction is answered so, too.
    pub fn handle(&mut self, request: FenceRequest) -> Option<FenceAnswer> {
        match request {
            FenceRequest::Init { expected } => self.init(expected),
            FenceRequest::Add(by) => match self.transaction {
                _ if self.current != Some(by) => Some(FenceAnswer::Lost),
                Transaction::Aborting(_) => None,
                Transaction::Empty | Transaction::Ongoing | Transaction::Aborted => {
                    self.transaction = Transaction::Ongoing;
                    Some(FenceAnswer::Done(by))
                }
            },
            FenceRequest::Abort(by) => match self.transaction {
                _ if self.current != Some(by) => Some(FenceAnswer::Lost),
                Transaction::Aborting(_) => None,
                Transaction::Empty => Some(FenceAnswer::Refused),
                Transaction::Ongoing => {
                    self.transaction = Transaction::Aborting([true; 2]);
                    Some(FenceAnswer::Done(by))
                }
                Transaction::Aborted => Some(FenceAnswer::Done(by)),
            },
        }
    }

    fn init(&mut self, expected: Option<Identity>) -> Option<FenceAnswer> {
        let Some(current) = self.current else {
            // Whatever was expected: the id is new.
            return Some(self.give(self.fresh(), None));
        };
        let retried_rotation =
            |expected: Identity| self.last == Some(expected) && expected.epoch >= self.exhausted;
        if expected.is_some_and(|it| it.pid != current.pid && !retried_rotation(it)) {
            return Some(FenceAnswer::Lost);
        }
        match self.transaction {
            Transaction::Aborting(_) => None,
            Transaction::Ongoing => {
                self.abort_at_next_epoch();
                None
            }
            Transaction::Empty | Transaction::Aborted => {
                Some(match expected {
                    _ if current.epoch >= self.exhausted
                        && expected.is_none_or(|it| it.epoch == current.epoch) =>
                    {
                        self.give(self.fresh(), expected.and(Some(current)))
                    }
                    // An unknown server error, to be precise: it has no rule for this.
                    _ if current.epoch >= self.exhausted => FenceAnswer::Lost,
                    None => self.give(current.next(), None),
                    Some(expected) if expected == current => {
                        self.give(current.next(), Some(current))
                    }
                    // The same question again.
                    Some(expected) if self.last == Some(expected) => FenceAnswer::Done(current),
                    Some(_) => FenceAnswer::Lost,
                })
            }
        }
    }

    fn fresh(&self) -> Identity {
        Identity {
            pid: self.next_pid,
            epoch: 0,
        }
    }

    fn give(&mut self, identity: Identity, last: Option<Identity>) -> FenceAnswer {
        self.next_pid = self.next_pid.max(identity.pid + 1);
        self.current = Some(identity);
        self.last = last;
        self.transaction = Transaction::Empty;
        FenceAnswer::Done(identity)
    }

    /// An Init meets an ongoing transaction, or the transaction has timed out.
    pub fn abort_at_next_epoch(&mut self) {
        self.current = self.current.map(Identity::next);
        self.last = None;
        self.transaction = Transaction::Aborting([true; 2]);
    }

    /// The marker for a topic has landed; after the last one the transaction is complete.
    pub fn landed(&mut self, topic: usize) {
        if let Transaction::Aborting(pending) = &mut self.transaction {
            pending[topic] = false;
            if *pending == [false; 2] {
                self.transaction = Transaction::Aborted;
            }
        }
    }

    /// It was killed before it had sent the markers that are missing, and does not send them any
    /// more (Kafka 4.3.0 does so; see ADR 13).
    pub fn complete_unmarked(&mut self) {
        if matches!(self.transaction, Transaction::Aborting(_)) {
            self.transaction = Transaction::Aborted;
        }
    }

    /// Another broker has become the coordinator: it sends all prepared markers.
    pub fn fail_over(&mut self) {
        if let Transaction::Aborting(pending) = &mut self.transaction {
            *pending = [true; 2];
        }
    }

    pub fn forget(&mut self) {
        self.current = None;
        self.last = None;
        self.transaction = Transaction::Empty;
    }
}
