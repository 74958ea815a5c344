//! Whole-system tests: what they start, and how they talk to it.
//!
//! [`TestApp`] runs every role as a process of the `annals` binary, on a real Kafka and Postgres;
//! a [`User`] sends it commands and reads over HTTP; an [`Answer`] says what it must be. The tests
//! wait [`eventually`] for conditions, never for a time.

mod answer;
mod app;
mod binary;
pub mod chaos;
mod eventually;
mod follower;
mod ports;
mod process;
pub mod projector_chaos;
mod user;

pub use answer::Answer;
pub use app::{Company, Role, TestApp};
pub use binary::{Release, annals};
pub use eventually::{WITHIN, eventually};
pub use follower::{Follower, Heard, Way};
pub use ports::free_port;
pub use process::{Process, family_of, is_running};
pub use user::{Command, Read, User, new_key};

/// Before the first request of a process: of reqwest's providers of cryptography nobody else
/// chooses one.
pub fn choose_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
