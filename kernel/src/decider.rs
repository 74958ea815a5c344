//! The Decider: how a context says what may happen to one of its entities.

use std::error::Error;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Event, Meta};

/// The state of one stream and the rules that guard it.
///
/// `Default` is the state of a stream without events. The platform folds
/// `evolve` over the stream's events, calls `decide` with the next command and
/// appends what it answers, all or nothing.
///
/// The state is serialized into snapshots, which spare an owner from folding all events again;
/// it has to come back as it was. [`given`](crate::given) checks that in every scenario.
pub trait Decider: Default + Clone + Serialize + DeserializeOwned + Send + 'static {
    /// The middle part of the stream id `tenant/kind/id`: 1–64 characters of `a–z`, `0–9` and `-`, not
    /// beginning with `-`. Checked at start.
    const KIND: &'static str;

    /// To be raised whenever the state's type or `evolve` changes what the same events lead to:
    /// snapshots of another version are not used.
    const EVOLVE_VERSION: u32 = 1;

    type Command: Serialize + DeserializeOwned + Send + 'static;
    type Event: Event;
    type Rejection: Rejection;

    /// The events that this command causes, at most 1,000; none when there is nothing to do.
    ///
    /// Deterministic: whatever is not in the state comes with the command or its `meta`.
    fn decide(
        &self,
        command: &Self::Command,
        meta: &Meta,
    ) -> Result<Vec<Self::Event>, Self::Rejection>;

    /// Takes a recorded event in. An event is a fact: there is nothing to refuse.
    fn evolve(&mut self, event: &Self::Event);
}

/// The domain's no: a small enum per context.
///
/// `Display` is the sentence for people, `code` the word for programs.
pub trait Rejection: Error + Send + Sync + 'static {
    /// Stable, in kebab-case, unique in its context.
    fn code(&self) -> &'static str;

    /// Why in general: it decides how the edge answers (HTTP 409, 404, 403 or 422).
    fn ground(&self) -> Ground {
        Ground::Rule
    }
}

/// The kinds of reason for which a command is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ground {
    /// A business rule forbids it in the present state.
    Rule,
    /// There is no such entity.
    Missing,
    /// This actor may not do it.
    Forbidden,
    /// A value in the command is not acceptable.
    Invalid,
}
