//! From read models in Postgres to readers.
//!
//! A context brings routes; this crate brings what every query needs. A request passes
//! `admission.rs`: a bearer token, and no parameter that the API does not declare. Its
//! handler asks a [`Reader`] for a [`Snapshot`] of a read model, which first waits until the
//! model has caught up with the position that the client names ([`POSITION`]), reads through
//! the snapshot with the caller's tenant as `$1`, and answers with a [`Page`], a [`Versioned`]
//! row, or a [`Problem`](service_kit::Problem).
//!
//! Who wants to hear of changes as they come follows (`following.rs`), on the same routes; what
//! happened to a stream is read from the index of all streams (`history.rs`), and what its events
//! say from Kafka (`event_data.rs`).
//!
//! One task for each process follows the projector's checkpoints (`watch.rs`); requests
//! wait for that task, not by asking the database again and again.

mod admission;
mod config;
mod cursor;
mod event_data;
mod failure;
mod following;
mod history;
mod log_end;
mod openapi;
mod page;
mod parameters;
mod position;
mod read_side;
mod reader;
mod server;
mod snapshot;
mod versioned;
mod watch;

pub use config::Config;
pub use event_data::{DecodeEvents, EventData};
pub use failure::{ReadFailed, not_found};
pub use following::{Change, Changes, ChangesPage, Followable, FollowingConfig};
pub use history::StreamEvent;
pub use openapi::openapi;
pub use page::{Listed, Page, PageParams};
pub use parameters::Query;
pub use position::POSITION;
pub use read_side::{Served, served, stream_index};
pub use reader::{Reader, Reads};
pub use server::{QueryService, RunError, run};
pub use snapshot::{Snapshot, TenantQuery};
pub use versioned::Versioned;
