//! The schema registry: a server with the REST API of Confluent's, on Postgres.
//!
//! A producer registers the schema of its messages under a subject and writes the id that it gets
//! into each of them; a consumer asks for the schema of an id. The registry lets a new version of
//! a subject in only if it is compatible with the earlier ones. Any number of registries may run
//! on one database.
//!
//! A request's way: [`router`] (`http/`) → [`Registry`] → `store`, with [`avro`] to judge schemas.
//!
//! What counts as the same schema, and therefore gets the same id: equal canonical text (see
//! [`avro::AvroSchema::canonical`]), references, metadata and rule set.

pub mod avro;
mod content;
mod error;
mod http;
mod level;
mod offload;
mod registry;
mod server;
mod settings;
mod store;
mod subject;

pub use content::Submitted;
pub use error::Error;
pub use http::DEFAULT_MOST_BYTES;
pub use level::Level;
pub use registry::Registry;
pub use server::{Config, RunError, Service, router, run};
pub use settings::Settings;
pub use store::{Deleted, Page, Place, Registered, StoredSchema, SubjectVersion};
pub use subject::{Subject, VersionNumber};
