//! The command service on a real Kafka and a real registry.

mod fence;
mod world;
