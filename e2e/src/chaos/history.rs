//! What the clients saw: each operation with all its attempts, on one clock.

use std::{fmt, time::Instant};

/// Microseconds since the run began.
pub type Moment = u64;

/// Tells moments.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    pub fn begin() -> Self {
        Self(Instant::now())
    }

    pub fn now(self) -> Moment {
        self.0.elapsed().as_micros() as Moment
    }
}

/// One thing that a client wanted, sent as often as it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// `tenant/kind/id`
    pub stream: String,
    /// As the log names it: `user:polly`.
    pub actor: String,
    /// The idempotency key; a read has none.
    pub key: String,
    pub ask: Ask,
    /// The version in `If-Match`.
    pub expected: Option<u64>,
    pub attempts: Vec<Attempt>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Create {
        title: String,
        assignee: Option<String>,
    },
    Assign {
        to: String,
    },
    Complete,
    /// What became of the command with the operation's key?
    Recall,
    /// The stream's state, from its owner.
    StrongRead,
    /// The stream's state in a read model that has reached this place, where this version lies.
    BoardRead {
        at_least: u64,
        after: Option<Place>,
    },
}

impl Ask {
    /// Whether it may append.
    pub fn is_command(&self) -> bool {
        matches!(
            self,
            Self::Create { .. } | Self::Assign { .. } | Self::Complete
        )
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub started: Moment,
    /// When the answer was there, or the client stopped waiting for it.
    pub ended: Moment,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Carried out; with no events, there was nothing to do.
    Accepted {
        version: u64,
        events: u64,
        place: Option<Place>,
        /// Said to be the recorded answer of an earlier attempt.
        repeated: bool,
    },
    /// 412
    Stale { current: u64 },
    /// The domain's no, by its code.
    Rejected(String),
    /// 422: the key belongs to another command.
    KeyReused,
    /// 404: no command with this key is known.
    UnknownCommand,
    /// What a read showed; a stream that does not exist has version 0.
    Shown { version: u64, task: Task },
    /// It may have been carried out, may be yet, or not: no answer, or one that says to send it again.
    Open(String),
    /// No answer that a client can do anything with.
    Nonsense(String),
}

impl Answer {
    /// Whether the client is done with the operation.
    pub fn is_definite(&self) -> bool {
        !matches!(self, Self::Open(_))
    }
}

/// Where an event lies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// A task as clients see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Task {
    #[default]
    Unknown,
    Open {
        assignee: Option<String>,
    },
    Done,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            partition,
            offset,
        } = self;
        write!(f, "{topic}-{partition}@{offset}")
    }
}
