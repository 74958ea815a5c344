//! The vocabulary of Annals, shared by the business and the platform.
//!
//! Everything here is pure: no clock, no random source, no I/O. Time, ids and
//! facts from elsewhere come in with a command and are recorded in its events,
//! so that deciding and folding give the same result wherever they run.

mod decider;
mod decimal;
mod event;
mod meta;
mod scenario;
mod stream;
mod written;

pub use decider::{Decider, Ground, Rejection};
pub use decimal::Decimal;
pub use event::{Event, EventId};
pub use meta::{Actor, CommandId, Meta};
pub use scenario::{Given, When, given};
pub use stream::{StreamId, StreamVersion, Tenant};
pub use written::WrittenVersions;

/// A value that does not have the form its type promises.
///
/// The message completes a sentence such as "`stream` …": "is longer than 64 characters".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);
