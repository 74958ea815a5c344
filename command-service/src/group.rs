//! Commands that are appended and answered together.

use std::{
    any::Any,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, Utc};
use event_log::{Fingerprint, batch::BatchBuilder};
use kernel::StreamId;
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
    Recall(Box<Recall>),
    /// What is the stream's state now? It is put into `found`, and counts when the answer has come.
    Read { stream: StreamId, found: Found },
}

/// A state of the type that only its kind of streams knows.
pub(crate) type Found = Arc<Mutex<Option<Box<dyn Any + Send>>>>;

pub(crate) struct Recall {
    pub stream: StreamId,
    pub key: CommandKey,
    /// The command will follow, unless it is known.
    pub announced: Option<Announced>,
}

/// What is known of a command before it is prepared.
pub(crate) struct Announced {
    pub fingerprint: Fingerprint,
    pub issued_at: Option<DateTime<Utc>>,
}

impl Ask {
    pub fn stream(&self) -> &StreamId {
        match self {
            Self::Command(command) => &command.meta.stream,
            Self::Recall(recall) => &recall.stream,
            Self::Read { stream, .. } => stream,
        }
    }

    /// Of the command that this is about.
    pub fn key(&self) -> Option<CommandKey> {
        match self {
            Self::Command(command) => Some(command.key),
            Self::Recall(recall) => Some(recall.key),
            Self::Read { .. } => None,
        }
    }

    /// Of the command that this is about, where the asker knows it.
    pub fn fingerprint(&self) -> Option<Fingerprint> {
        match self {
            Self::Command(command) => Some(command.fingerprint),
            Self::Recall(recall) => Some(recall.announced.as_ref()?.fingerprint),
            Self::Read { .. } => None,
        }
    }

    /// Whether the answer is recorded if it has no events.
    pub fn records_answer(&self) -> bool {
        match self {
            Self::Command(command) => command.record_answer,
            Self::Recall(_) | Self::Read { .. } => false,
        }
    }

    pub fn issued_at(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Command(command) => command.issued_at,
            Self::Recall(recall) => recall.announced.as_ref()?.issued_at,
            Self::Read { .. } => None,
        }
    }
}

/// A question to a shard, with those who wait for the answer.
pub(crate) struct Request {
    pub ask: Ask,
    /// More than one when the same command came again while it was under way.
    pub replies: Vec<Reply>,
}

/// What will be answered once the group is acknowledged.
pub(crate) enum Verdict {
    /// The command's events are in the group's batch; `last_record` is the place of its last.
    Appended { decided: Decided, last_record: i64 },
    /// Nothing to append, but the answer is recorded before it is given, and not before the
    /// group whose state it saw is acknowledged.
    Records(Result<Decided, CommandError>),
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
