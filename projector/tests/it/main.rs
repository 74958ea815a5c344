//! The projector on a real Kafka, a real Postgres and our own schema registry.

// clippy.toml lets tests unwrap, but not the functions that they call.
#![allow(clippy::unwrap_used)]

mod editions;
mod exactly_once;
mod later_versions;
mod log;
mod lost;
mod models;
mod outages;
mod poison;
mod quarantine;
mod rebuild;
mod straight_fold;
mod testing;
mod world;
