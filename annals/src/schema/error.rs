//! Why a verb did not end well, and with which code.

use std::path::PathBuf;

use event_log::{
    avro::CodecError,
    control::ControlError,
    migration::{self, HistoryError},
    registry::RegistryError,
};
use schema_registry::avro::InvalidSchema;

use super::{files::FilesError, output::count, scan::ScanError, transfer::ImportError};
use crate::{activate::ActivateError, settings::SettingsError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Activate(#[from] ActivateError),
    #[error("{file} is not usable Avro")]
    Invalid {
        file: String,
        #[source]
        source: InvalidSchema,
    },
    #[error("failed to write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not what it should be", path.display())]
    NotOurs {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{event} has one version only: make the next with `annals schema new {event}`")]
    OneVersion { event: String },
    #[error(
        "{file} is not released: change it as it is, or release it first with `annals schema release`"
    )]
    NotReleased { file: String },
    #[error("{} is there already: draft it anew with --overwrite", path.display())]
    RuleExists { path: PathBuf },
    #[error("the registry has no {subject}: see `annals schema plan`")]
    NotRegistered { subject: String },
    #[error("{file} is not usable Avro")]
    Unusable {
        file: String,
        #[source]
        source: migration::SchemaError,
    },
    #[error("the versions do not follow one another")]
    History(#[source] HistoryError),
    #[error("{event} v{newest} cannot read v{version}: see `annals schema check`")]
    Unreadable {
        event: String,
        version: u32,
        newest: u32,
        #[source]
        source: HistoryError,
    },
    #[error("this binary's events and its schema files do not fit together")]
    Codec(#[source] CodecError),
    #[error("failed to read the log")]
    Scan(#[from] ScanError),
    #[error("the address of Postgres is not valid")]
    Address(#[source] sqlx::Error),
    #[error("failed to ask who reads and writes what")]
    Announcements(#[source] sqlx::Error),
    #[error("failed to ask which versions are active")]
    Control(#[from] ControlError),
    #[error(
        "{subject} became version {newest} instead of {version}: somebody else registers, too; plan again"
    )]
    OtherVersion {
        subject: String,
        version: u32,
        newest: u32,
    },
    #[error("the registry keeps no revisions of rules for {subject} v{version}")]
    NoRevisions { subject: String, version: u32 },
    #[error(
        "there is no such earlier revision of the rules of {subject} v{version}; the newest is {newest}: see `annals schema history`, and name one with --to"
    )]
    NoRevision {
        subject: String,
        version: u32,
        newest: u32,
    },
    #[error("{}: see above what to do about each", count(*.0, "error"))]
    Found(usize),
    #[error("it cannot be done: {0}")]
    InTheWay(String),
    #[error("{failed} of {all} stored events do not come through")]
    NotSound { failed: u64, all: u64 },
    #[error(
        "rules are new and nobody has read the log by them: run `annals schema verify --report FILE`, then `apply --verified FILE`"
    )]
    NotVerified,
    #[error("something has moved since it was planned, and nothing was changed: {0}; plan again")]
    Moved(String),
}

impl SchemaError {
    /// What the process ends with; stable, for CI.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Found(_)
            | Self::InTheWay(_)
            | Self::Unreadable { .. }
            | Self::NotSound { .. }
            | Self::NotVerified => 3,
            Self::Moved(_) | Self::Activate(ActivateError::InTheWay { .. }) => 4,
            _ => 1,
        }
    }
}
