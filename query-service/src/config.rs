//! Settings of the query service.

use std::time::Duration;

use serde::Deserialize;
use service_kit::SecretUrl;

/// All but `postgres` have a default.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// Where to listen.
    #[serde(default = "defaults::address")]
    pub address: String,
    /// The read side's database, or a standby of it.
    pub postgres: SecretUrl,
    /// Whose topics the position tokens are about.
    #[serde(default = "defaults::generation")]
    pub generation: String,
    /// How many connections serve reads; three more follow the checkpoints and check the health.
    #[serde(default = "defaults::connections")]
    pub connections: u32,
    /// How long a read waits for its position before it is answered with 503 `not-yet-visible`.
    #[serde(default = "defaults::position_wait_ms")]
    pub position_wait_ms: u64,
    /// How many reads may wait at a time; further ones are answered with 503 `busy`.
    #[serde(default = "defaults::waiting_reads")]
    pub waiting_reads: usize,
    /// How often the tables are looked at while a read waits, in case a notification was lost.
    #[serde(default = "defaults::poll_ms")]
    pub poll_ms: u64,
    /// Postgres cancels a statement that takes longer.
    #[serde(default = "defaults::statement_timeout_ms")]
    pub statement_timeout_ms: u64,
}

impl Config {
    /// The defaults, on this database.
    pub fn new(postgres: SecretUrl) -> Self {
        Self {
            address: defaults::address(),
            postgres,
            generation: defaults::generation(),
            connections: defaults::connections(),
            position_wait_ms: defaults::position_wait_ms(),
            waiting_reads: defaults::waiting_reads(),
            poll_ms: defaults::poll_ms(),
            statement_timeout_ms: defaults::statement_timeout_ms(),
        }
    }

    pub(crate) fn position_wait(&self) -> Duration {
        Duration::from_millis(self.position_wait_ms)
    }

    pub(crate) fn poll(&self) -> Duration {
        // An interval of nothing is a panic.
        Duration::from_millis(self.poll_ms.max(1))
    }
}

mod defaults {
    pub fn address() -> String {
        "127.0.0.1:8402".into()
    }

    pub fn generation() -> String {
        "1".into()
    }

    pub fn connections() -> u32 {
        16
    }

    pub fn position_wait_ms() -> u64 {
        5_000
    }

    pub fn waiting_reads() -> usize {
        1_000
    }

    pub fn poll_ms() -> u64 {
        250
    }

    pub fn statement_timeout_ms() -> u64 {
        5_000
    }
}
