//! How a shard's owner ends, and what that means for what comes next.

use event_log::{append::AppendError, fence::FenceError, fetch::FetchError};

use super::predecessors::Unfenced;
use crate::{lane::UnknownRecord, switch::SwitchError};

/// Why nobody here owns the shard any more, or not yet.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnerError {
    #[error(transparent)]
    Fence(#[from] FenceError),
    #[error("failed to restore from the log")]
    Restore(#[from] FetchError),
    #[error("failed to restore from the log")]
    Record(#[from] UnknownRecord),
    #[error(transparent)]
    Unfenced(#[from] Box<Unfenced>),
    #[error("failed to claim the shard")]
    Claim(#[source] AppendError),
    /// Readers would pass over everything that is appended from now on.
    #[error(
        "the claim got term {term}, but the log has events of term {highest}: the owners topic is \
         younger than the log; rewrite the log into a new generation"
    )]
    Term { term: u64, highest: u64 },
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Switch(#[from] SwitchError),
}

/// What an owner's end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Somebody else has taken over, or may have: a new take-over only if the
    /// group, asked after this, still gives the shard to us. Otherwise two
    /// could depose each other for ever.
    Deposed,
    /// The coordinator gives no answer, or none that helps, or this process has stood still: a new
    /// take-over, as long as the shard is ours.
    Unavailable,
    /// Somebody wrote past us who does not own the shard. What that was, restoring tells: a new
    /// take-over, on the same terms as after `Deposed`.
    Trespassed,
    /// The log is not as it must be: not served until somebody has looked.
    Diverged,
    /// It cannot be claimed safely: not served until somebody has looked.
    Unclaimable,
}

impl OwnerError {
    pub(super) fn ending(&self) -> Ending {
        match self {
            Self::Fence(FenceError::Lost { .. } | FenceError::Unassigned { .. }) => Ending::Deposed,
            Self::Fence(FenceError::Unavailable { .. } | FenceError::Refused { .. }) => {
                Ending::Unavailable
            }
            Self::Restore(FetchError::NoMarker { .. }) => Ending::Unavailable,
            Self::Restore(_) | Self::Record(_) => Ending::Diverged,
            Self::Claim(error) | Self::Append(error) => match error {
                AppendError::Fenced { .. } | AppendError::Unfinished { .. } => Ending::Deposed,
                AppendError::Refused { .. }
                | AppendError::Overslept(_)
                | AppendError::Unmarked(_) => Ending::Unavailable,
                AppendError::Trespassed { .. } => Ending::Trespassed,
                AppendError::Diverged { .. } => Ending::Diverged,
            },
            Self::Switch(error) if error.is_temporary() => Ending::Unavailable,
            Self::Unfenced(_) | Self::Term { .. } | Self::Switch(_) => Ending::Unclaimable,
        }
    }
}
