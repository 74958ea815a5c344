//! What may become of a command.

use chrono::{DateTime, Utc};
use event_log::Position;
use kernel::{Ground, Rejection, StreamId, StreamVersion};

/// What the client believes the stream's version to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Expected {
    /// Whatever it is.
    #[default]
    Any,
    /// The stream has at least one event.
    Exists,
    /// Exactly this; 0 for a stream without events.
    Exactly(StreamVersion),
}

impl Expected {
    pub(crate) fn holds(self, version: StreamVersion) -> bool {
        match self {
            Self::Any => true,
            Self::Exists => version > StreamVersion::NONE,
            Self::Exactly(expected) => version == expected,
        }
    }
}

/// The command was carried out: its events are in the log.
///
/// Everything here is a function of the events, so that a repeated command
/// gets the same from another owner, years later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acceptance {
    pub stream: StreamId,
    /// Version of the stream after the command's last event; without events, at the decision.
    pub version: StreamVersion,
    /// How many events the command caused; none when there was nothing to do.
    pub events: u32,
    /// Where the command's last event lies; without events, the end of what the decision
    /// saw. `None` when that was an empty log.
    pub position: Option<Position>,
    /// Whether this is the recorded answer of an earlier attempt.
    pub repeated: bool,
}

/// Why a command was not carried out, or why nobody can say yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The domain's no.
    #[error("{detail}")]
    Rejected {
        code: &'static str,
        ground: Ground,
        detail: String,
    },
    #[error("the stream is at version {current}")]
    Stale { current: StreamVersion },
    #[error("this key was used for another command")]
    KeyReused,
    /// It may have been carried out: nobody remembers.
    #[error("commands that were issued until {forgotten_until} are not remembered any more")]
    WindowPassed { forgotten_until: DateTime<Utc> },
    #[error("no command with this key is known")]
    UnknownCommand,
    #[error("the command's events take more than {limit_bytes} bytes or 1,000 events")]
    TooLarge { limit_bytes: usize },
    /// It would need a version of an event that is not active yet: later it may be carried out.
    #[error("{}", not_active(event_type, *active, reason))]
    NotActive {
        event_type: String,
        /// What is written at present; 0 of an event that is not.
        active: u32,
        /// What that version cannot hold.
        reason: String,
    },
    #[error("the broker refused the command's events: {reason}")]
    Refused { reason: String },
    #[error("the stream is stopped: {reason}")]
    StreamStopped { reason: String },
    #[error("too many commands wait for this shard")]
    Busy,
    #[error("the shard is not served at present: {reason}")]
    NotServed { reason: String },
    #[error("no answer within {after_ms} ms: the command may still be carried out")]
    NoAnswerYet { after_ms: u64 },
    /// A bug: the decider panicked or an event could not be encoded.
    #[error("failed to decide: {reason}")]
    Bug { reason: String },
}

fn not_active(event_type: &str, active: u32, reason: &str) -> String {
    match active {
        0 => format!("{event_type} is not written yet: a later release is being rolled out"),
        _ => format!(
            "{event_type} is still written in version {active}, which cannot hold this: {reason}"
        ),
    }
}

impl CommandError {
    pub(crate) fn rejected(rejection: &dyn Rejection) -> Self {
        Self::Rejected {
            code: rejection.code(),
            ground: rejection.ground(),
            detail: rejection.to_string(),
        }
    }
}
