//! A model of one shard group, checked in every interleaving: the protocol of
//! "take over, restore, claim, serve, renew" against a Kafka that loses
//! answers, repeats requests, restarts and forgets.
//!
//! ```text
//! clients ──Ask──> nodes ──Fence──> coordinator ──LandMarker──┐
//!    ^               │                                        v
//!    └──answers──────┴──Produce──────────────────> partitions: events, owners
//! ```
//! - `broker`: a partition, and what its leader remembers of producers
//! - `coordinator`: who may append next, by Kafka's rules
//! - `node`, `restore`, `serve`: the protocol, as `fence`, `append`, `fetch`, `awake`, `shard` and
//!   `lane` follow it; whether a predecessor is fenced (`restore`) is `shard/predecessors.rs`
//! - `clients`: commands, and when an answer is true
//! - `system`, `actions`, `steps`: everything together, all that may happen next, what comes of it
//! - `properties`: what must hold; `scenarios`: small worlds in which it does
//! - `mutations`: rules left out, each with a counter-example
//!
//! What the model leaves out: bytes, more than one stream and one context, and
//! time, but for a pause in which brokers forget. (After a shorter one an owner
//! sends a barrier before anything else. That only makes it hear sooner that it
//! was deposed; every order of barriers is in the model anyway.) A deposed
//! leader takes no appends that count (acks are from all replicas), so it
//! appears as a reader's source alone. Zombies need no rule of their own: a
//! node that the checker does not move sleeps.
//!
//! `ANNALS_MODEL_MINUTES=10 cargo test --release -p command-service --test model -- --test-threads 1`
//! gives each scenario more of everything, for at most so many minutes.

mod actions;
mod broker;
mod clients;
mod coordinator;
mod mutations;
mod node;
mod properties;
mod restore;
mod scenarios;
mod serve;
mod steps;
mod system;

use std::time::Duration;

use scenarios::Scenario;
use stateright::{Checker, HasDiscoveries, Model};
use system::Shard;

fn holds(scenario: Scenario) {
    match std::env::var("ANNALS_MODEL_MINUTES").ok() {
        None => {
            let shard = Shard::new(scenario, None);
            let checker = shard.checker().finish_when(HasDiscoveries::AnyFailures);
            let checker = checker.spawn_bfs().join();
            report(&checker);
            checker.assert_properties();
        }
        Some(minutes) => {
            let minutes: u64 = minutes.parse().expect("a number of minutes");
            let limit = Duration::from_secs(60 * minutes);
            let shard = Shard::new(scenario.deeper(), None);
            // Depth first: what is still to be visited then fits into memory. One thread alone
            // does not look at the limit.
            let checker = shard.checker().timeout(limit).threads(2).spawn_dfs();
            let checker = checker.join();
            report(&checker);
            for property in properties::all() {
                if property.expectation.discovery_is_failure() {
                    checker.assert_no_discovery(property.name);
                }
            }
        }
    }
}

fn report(checker: &impl Checker<Shard>) {
    eprintln!(
        "{} states, at most {} steps",
        checker.unique_state_count(),
        checker.max_depth(),
    );
}

#[test]
fn a_failover_loses_nothing() {
    holds(scenarios::failover());
}

#[test]
fn of_two_first_owners_one_serves() {
    holds(scenarios::first_owner());
}

#[test]
fn three_contenders_answer_as_one() {
    holds(scenarios::contention());
}

#[test]
fn an_expected_version_is_met_or_refused() {
    holds(scenarios::expected_versions());
}

#[test]
fn a_key_counts_once() {
    holds(scenarios::retries());
}

#[test]
fn groups_are_answered_in_order() {
    holds(scenarios::throughput());
}

#[test]
fn a_take_over_survives_its_coordinator() {
    holds(scenarios::coordinator_trouble());
}

#[test]
fn markers_may_never_come() {
    holds(scenarios::lost_markers());
}

#[test]
fn a_deposed_owner_renews_nothing() {
    holds(scenarios::renewal());
}

#[test]
fn a_producer_id_may_be_used_up() {
    holds(scenarios::rotation());
}

#[test]
fn lost_answers_use_up_a_producer_id() {
    holds(scenarios::used_up_id());
}

#[test]
fn a_long_sleep_deposes() {
    holds(scenarios::long_sleep());
}

#[test]
fn a_foreign_writer_is_noticed() {
    holds(scenarios::foreign_writer());
}

#[test]
fn deposed_nodes_leave_each_other_in_peace() {
    holds(scenarios::reassignment());
}
