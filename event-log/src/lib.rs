//! Events on Kafka.
//!
//! Between the services and the broker: the envelope and its Avro payload
//! ([`envelope`], [`avro`]), the way from a stream to its partition
//! ([`router`], [`topics`]), the fenced append that lets one writer at a time
//! into a shard ([`fence`], [`append`], [`awake`]), and reading, for an owner that
//! restores ([`fetch`]) and for everybody else ([`consume`]). [`group`] says
//! which processes share the shards.
//!
//! The one place that knows Avro, and the one place that speaks Kafka's
//! protocol ([`wire`]).

pub mod append;
pub mod avro;
pub mod awake;
pub mod batch;
pub mod broker;
pub mod cluster;
pub mod consume;
pub mod control;
pub mod drift;
pub mod ends;
pub mod envelope;
pub mod fence;
pub mod fetch;
pub mod group;
mod leader;
pub mod migration;
pub mod position;
pub mod registry;
pub mod router;
pub mod schemas;
pub mod self_test;
pub mod snapshots;
pub mod topics;
pub mod wire;

pub use envelope::{Envelope, Fingerprint, Recorded};
pub use position::{Position, PositionToken};
