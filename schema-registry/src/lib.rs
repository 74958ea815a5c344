//! The schema registry: a server with the REST API of Confluent's, on Postgres.
//!
//! A producer registers the schema of its messages under a subject and writes the id that it gets
//! into each of them; a consumer asks for the schema of an id. The registry lets a new version of
//! a subject in only if it is compatible with the earlier ones. Any number of registries may run
//! on one database.
//!
//! A request's way: [`Service`] → `http` → `access` → [`Registry`] → `store`, with [`avro`] to judge
//! schemas. A change is written to the topic of schemas (`journal`), if there is one, before it is
//! answered.
//!
//! What counts as the same schema, and therefore gets the same id: equal type, canonical text (see
//! [`avro::AvroSchema::canonical`]), references, metadata and rule set.

mod access;
pub mod avro;
mod content;
mod contract;
mod error;
mod http;
mod journal;
mod json_schema;
mod level;
mod memory;
mod mode;
mod offload;
mod references;
mod registry;
mod schema;
mod server;
mod settings;
mod store;
mod subject;

pub use access::{Role, User};
pub use content::Submitted;
pub use contract::{Metadata, Rule, RuleKind, RuleMode, RuleSet};
pub use error::Error;
pub use http::DEFAULT_MOST_BYTES;
pub use journal::TopicConfig;
pub use level::Level;
pub use mode::Mode;
pub use references::Reference;
pub use registry::{MendedRules, Registered, Registry};
pub use server::{Config, RunError, Service};
pub use settings::{Settings, SettingsUpdate};
pub use store::rules::RuleRevision;
pub use store::{Deleted, Page, Place, Prefix, StoredSchema, SubjectVersion};
pub use subject::{Scope, Subject, VersionNumber};
