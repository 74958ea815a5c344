//! What an operator may set on the command side.

use std::time::Duration;

use serde::Deserialize;

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where the command HTTP API listens.
    pub address: String,
    /// `host:port` at which other nodes reach this one; no two nodes may have the same. Unless it
    /// is set, where this node listens, with the host's name in place of "on every address".
    pub advertise: Option<String>,
    /// Who was not heard of for so long has lost its shards to other nodes.
    pub session_ms: u64,
    /// Commands that may wait for one shard; more are answered 503 `busy`.
    pub queue: usize,
    /// How many commands one append carries at most.
    pub group: usize,
    /// For how many of a partition's latest commands the answer is remembered.
    ///
    /// A command that is repeated later than that is decided anew, or refused as `window-passed`
    /// if it says when it was issued. Each takes about 200 bytes.
    pub remembered_commands: usize,
    /// After how many records a partition's state is copied into a snapshot, from which the next
    /// owner goes on; 0 for never. With more streams than that, after as many as there are streams.
    pub snapshot_every: u64,
    /// How long a client waits for the answer before it gets 503 `no-answer-yet`.
    pub answer_within_ms: u64,
    /// How long a request waits for a shard that nobody serves just now, before it gets 503
    /// `not-served`.
    pub hand_over_wait_ms: u64,
    /// Brokers that remember for less than this whom they have to refuse are no ground to start
    /// on: it must be longer than any outage.
    pub least_fence_lifetime_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8401".into(),
            advertise: None,
            session_ms: 6_000,
            queue: 4_096,
            group: 256,
            remembered_commands: 100_000,
            snapshot_every: 100_000,
            answer_within_ms: 10_000,
            hand_over_wait_ms: 1_000,
            least_fence_lifetime_ms: 3_600_000,
        }
    }
}

impl Config {
    pub(crate) fn session(&self) -> Duration {
        Duration::from_millis(self.session_ms)
    }
}
