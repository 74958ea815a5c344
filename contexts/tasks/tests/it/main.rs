//! Events of tasks as they were written over time.
#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod golden;
mod registry;
mod titles;
