//! Following: being told of changes as they become visible, from a position on.
//!
//! A query's route is made [`Followable`]; whoever asks for `text/event-stream`, a WebSocket or a
//! long-poll on it passes `route.rs`, which lets the query answer first. A model's changes are
//! read once for each process by its `tail.rs`, which the checkpoints' watcher wakes, and put into
//! the bounded queue of each `follower.rs`; who begins at an older position, or falls behind,
//! reads the table up to the tail first. What goes over the wire is in `change.rs`, and the same for all three.

mod change;
mod event_stream;
mod follower;
mod gap;
mod interest;
mod limits;
mod long_poll;
mod place;
mod route;
mod source;
mod tail;
mod web_socket;

use std::{collections::HashMap, sync::Mutex, time::Duration};

use serde::Deserialize;
use tokio::sync::{Semaphore, mpsc};

pub use change::{Change, ChangesPage};
pub use interest::Changes;
pub(crate) use limits::Limits;
pub(crate) use place::Place;
pub use route::Followable;
pub(crate) use route::followed;
pub(crate) use tail::{Request, Tail};
pub(crate) use web_socket::take_bearer;

/// How many may follow, and what each of them may cost.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct FollowingConfig {
    /// Followers of this process; further ones are answered with 503 `too-many-followers`.
    pub all: usize,
    /// Of one tenant; 429.
    pub of_one_tenant: usize,
    /// From one address, which may be a proxy's; 429.
    pub of_one_address: usize,
    /// So many changes wait for a follower; then it falls behind, and reads on from the table.
    pub queue: usize,
    /// One that stays behind for longer is dropped, with the position from which to go on.
    pub catch_up_ms: u64,
    /// How long a follower hears nothing at most.
    pub heartbeat_ms: u64,
}

impl Default for FollowingConfig {
    fn default() -> Self {
        Self {
            all: 10_000,
            of_one_tenant: 10_000,
            of_one_address: 1_000,
            queue: 256,
            catch_up_ms: 60_000,
            heartbeat_ms: 15_000,
        }
    }
}

impl FollowingConfig {
    pub(crate) fn heartbeat(&self) -> Duration {
        // Without a pause it would be told all the time.
        Duration::from_millis(self.heartbeat_ms.max(10))
    }
}

/// What the followers of a process share.
pub(crate) struct Following {
    pub config: FollowingConfig,
    pub limits: Limits,
    /// By model.
    pub tails: Mutex<HashMap<&'static str, mpsc::UnboundedSender<Request>>>,
    /// So many begin, or read what they have missed, at a time.
    pub starts: Semaphore,
}

impl Following {
    pub fn new(config: &FollowingConfig, starts: usize) -> Self {
        Self {
            config: config.clone(),
            limits: Limits::new(config),
            tails: Mutex::default(),
            starts: Semaphore::new(starts.max(1)),
        }
    }
}
