//! The registry from the outside: over HTTP, on a real Postgres.

mod api;
mod canonical;
mod clients;
mod compatibility;
mod hostile;
mod instances;
mod outage;
mod running;
