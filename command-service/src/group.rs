//! Commands that are appended and answered together.

use event_log::batch::BatchBuilder;
use tokio::sync::oneshot;

use crate::{
    outcome::{Acceptance, CommandError},
    recorded::CommandKey,
    streams::{Command, Decided},
};

pub(crate) type Answer = Result<Acceptance, CommandError>;
pub(crate) type Reply = oneshot::Sender<Answer>;

/// What a shard is asked.
pub(crate) enum Ask {
    /// Decide this.
    Command(Box<Command>),
    /// What became of the command with this key?
    Recall { stream: kernel::StreamId },
}

/// A question to a shard, with those who wait for the answer.
pub(crate) struct Request {
    pub key: CommandKey,
    pub ask: Ask,
    /// More than one when the same command came again while it was under way.
    pub replies: Vec<Reply>,
}

/// What will be answered once the group is acknowledged.
pub(crate) enum Verdict {
    /// The command's events are in the group's batch; `last_record` is the place of its last.
    Appended { decided: Decided, last_record: i64 },
    /// Nothing to append: the answer rides on the group whose state it saw.
    Rides(Result<Decided, CommandError>),
    /// The recorded answer of an earlier attempt.
    Recorded(Acceptance),
}

pub(crate) struct Entry {
    pub request: Request,
    pub verdict: Verdict,
}

/// One append in the making or in flight.
///
/// The requests are kept until it is acknowledged: whatever happens instead,
/// none is lost.
pub(crate) struct Group {
    pub number: u64,
    pub batch: BatchBuilder,
    pub entries: Vec<Entry>,
}

impl Group {
    pub fn new(number: u64) -> Self {
        Self {
            number,
            batch: BatchBuilder::default(),
            entries: Vec::new(),
        }
    }
}
