//! The command side: a command comes in over HTTP, is decided against the
//! current state of its stream, and is answered after an acknowledged append.
//!
//! [`http`] parses a request and hands it to [`Commands`], which finds the
//! shard. A shard is one partition of every context's topic and has one task,
//! its owner (`shard`): it takes the shard over, restores its state from the
//! log, and then decides and appends, one group at a time for each topic
//! (`lane`). State lives in `streams`, answers of the past in `recorded`.

mod answers;
mod assignment;
mod commands;
pub mod config;
mod counters;
mod directory;
mod group;
mod health;
pub mod http;
mod identity;
mod lane;
mod membership;
mod openapi;
mod outcome;
mod preparing;
mod recorded;
mod server;
mod service;
mod shard;
mod snapshots;
mod streams;
mod switch;
mod torn;

pub use commands::{Commands, Current, Submission};
pub use config::Config;
pub use http::{Accepted, CommandRequest};
pub use openapi::openapi;
pub use outcome::{Acceptance, CommandError, Expected};
pub use recorded::CommandKey;
pub use server::{CommandServer, ServeError};
pub use service::{CommandService, Running, StartError};
pub use shard::ShardStatus;
pub use streams::ContextStreams;
pub use switch::SwitchError;
