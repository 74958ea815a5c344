//! What every service needs once.
//!
//! A service starts with [`config`], [`telemetry`] and [`shutdown`], tells its
//! state through [`readiness`], and hands its routes to a [`serve::Server`].
//! A request then passes, in this order: the time limits of [`serve`], the
//! trace, the metrics and the panic boundary of [`requests`], [`auth`],
//! [`extract`] and [`json`], the handler; what goes wrong anywhere leaves as a
//! [`problem`].

pub mod auth;
pub mod config;
pub mod connection;
pub mod dev_key;
pub mod extract;
mod ignored;
pub mod json;
mod log_format;
pub mod openapi;
pub mod problem;
pub mod prometheus;
pub mod readiness;
pub mod requests;
pub mod secret;
pub mod serve;
pub mod shutdown;
pub mod telemetry;
pub mod trace;

pub use auth::{Identity, Verifier};
pub use connection::{ConnectionLimits, Peer};
pub use dev_key::{DevKey, TokenRequest};
pub use json::Json;
pub use problem::Problem;
pub use readiness::Readiness;
pub use secret::{Secret, SecretUrl};
pub use serve::Server;
pub use trace::TraceContext;
