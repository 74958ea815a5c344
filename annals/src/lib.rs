//! What a business builds on.
//!
//! A team writes contexts ([`Context`]) and a `main` that names them ([`App`]);
//! everything else, from the command line to the shards, is here. A context
//! finds what its files need in [`http`], [`query`] and [`read_model`].

mod activate;
mod announcing;
mod app;
mod context;
mod demo;
mod event_data;
pub mod http;
mod quarantine;
pub mod query;
pub mod read_model;
mod replay;
mod roles;
mod running;
mod schema;
mod settings;
mod shards;
mod stream;
mod table;
mod token;
mod up;

pub use app::App;
pub use chrono::{DateTime, Utc};
pub use context::Context;
pub use demo::{Demo, DemoError, DemoFuture, Verb};
pub use settings::Settings;
