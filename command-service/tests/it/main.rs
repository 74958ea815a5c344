//! The command service on a real Kafka and a real registry.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod answers;
mod fence;
mod http;
mod prepare;
mod snapshots;
mod switch;
mod trouble;
mod world;
