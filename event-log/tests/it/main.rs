//! The fenced append on a real Kafka, and what tries to break it.
#![allow(clippy::unwrap_used)]

mod append;
mod bad_topics;
mod broker_trouble;
mod contention;
mod control;
mod hostile_bytes;
mod lenient;
mod pauses;
mod proxy;
mod raw;
mod renewal;
mod security;
mod self_test;
mod shard;
mod sharing;
mod take_over;
mod topics;
