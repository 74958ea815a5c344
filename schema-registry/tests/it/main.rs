//! The registry from the outside: over HTTP, on a real Postgres.

// clippy.toml lets tests unwrap, but not the functions that they call.
#![allow(clippy::unwrap_used)]

mod access;
mod api;
mod canonical;
mod clients;
mod compatibility;
mod contracts;
mod hostile;
mod instances;
mod json_schemas;
mod levels;
mod outage;
mod running;
mod scopes;
mod topic;
