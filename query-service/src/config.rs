//! Settings of the query service.

use std::time::Duration;

use event_log::cluster::Cluster;
use serde::Deserialize;
use service_kit::{ConnectionLimits, SecretUrl};

use crate::{event_data::EventData, following::FollowingConfig};

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
    /// How many may follow.
    #[serde(default)]
    pub following: FollowingConfig,
    /// How many connections clients may have, those of followers included.
    #[serde(default = "defaults::client_connections")]
    pub client_connections: usize,
    /// How many of them may come from one address, which may be a proxy's.
    #[serde(default = "defaults::client_connections_of_one_address")]
    pub client_connections_of_one_address: usize,
    /// A client that takes nothing of its answer for so long is cut off.
    #[serde(default = "defaults::unread_ms")]
    pub unread_ms: u64,
    /// Whoever has one of these roles may see the events of any stream of their tenant.
    #[serde(default = "defaults::history_roles")]
    pub history_roles: Vec<String>,
    /// The log that the positions are about. With it, one from the future is told from one that
    /// is not visible yet.
    #[serde(skip)]
    pub log: Option<Cluster>,
    /// With it, the events of a stream are shown with what they say.
    #[serde(skip)]
    pub event_data: Option<EventData>,
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
            following: FollowingConfig::default(),
            client_connections: defaults::client_connections(),
            client_connections_of_one_address: defaults::client_connections_of_one_address(),
            unread_ms: defaults::unread_ms(),
            history_roles: defaults::history_roles(),
            log: None,
            event_data: None,
        }
    }

    pub(crate) fn limits(&self) -> ConnectionLimits {
        ConnectionLimits {
            all: self.client_connections,
            of_one_address: self.client_connections_of_one_address,
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

    pub fn client_connections() -> usize {
        15_000
    }

    pub fn client_connections_of_one_address() -> usize {
        2_000
    }

    pub fn unread_ms() -> u64 {
        30_000
    }

    pub fn history_roles() -> Vec<String> {
        vec!["admin".into()]
    }
}
