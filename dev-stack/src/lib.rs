//! The development stack: a real Apache Kafka (KRaft, one process) and a real Postgres, as private child processes.
//!
//! `annals up`, the benchmarks and the tests run on it, so that there is one code path and no imitation of a server.
//! The servers come as artifacts pinned in `pom.xml`, through Maven; they listen on loopback only, keep their data
//! under one folder and their logs in files, and end with the process that started them, however that ends.

mod artifacts;
mod cargo;
mod child;
mod cluster;
mod data_folder;
mod error;
mod java;
mod kafka;
mod ports;
mod postgres;
mod postgres_wire;
mod server;
mod shared;
mod stack;

pub use cargo::forget_package;
pub use cluster::{ClusterOptions, KafkaCluster};
pub use data_folder::{is_in_use, wipe};
pub use error::StackError;
pub use server::Server;
pub use shared::{new_temporary_folder, shared};
pub use stack::{DevStack, OnProgress, Options, Progress, Source, prepare};
