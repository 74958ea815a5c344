//! The fenced append on a real Kafka, and what tries to break it.
#![allow(clippy::unwrap_used)]

mod append;
mod broker_trouble;
mod contention;
mod hostile_bytes;
mod pauses;
mod proxy;
mod raw;
mod renewal;
mod shard;
mod take_over;
mod topics;
