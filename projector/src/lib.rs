//! From events to read models in Postgres, exactly once.
//!
//! An author writes a [`ReadModel`]; [`run`] keeps it up to date. The way of an
//! event: a feed of the log (`event_log::consume`) → `partition`, which gathers
//! a batch → `commit`, one transaction that moves the checkpoint and lets the
//! model write its rows → a notification. What readers need to know about the
//! tables is in [`read_side`].

pub mod quarantine;
pub mod read_side;
pub mod rebuild;
pub mod testing;

mod backoff;
mod batch_size;
mod changes;
mod checkpoint;
mod commit;
mod edition;
mod failure;
mod feeding;
mod gathering;
mod health;
mod membership;
mod model;
mod partition;
mod progress;
mod projection;
mod read_model;
mod run;
mod stream_index;
mod watching;
mod worker;

pub use model::{Model, model, stream_index};
pub use read_model::ReadModel;
pub use run::{Config, RunError, Tuning, run};
pub use stream_index::STREAM_INDEX;
