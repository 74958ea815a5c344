//! Why a verb did not end well, and with which code.

use std::path::PathBuf;

use event_log::{
    avro::CodecError,
    control::ControlError,
    migration::{self, HistoryError},
    registry::RegistryError,
};
use schema_registry::avro::InvalidSchema;
use serde_json::json;
use service_kit::problem::Chain;

use super::{
    files::FilesError,
    output::{count, to_json},
    scan::ScanError,
    transfer::ImportError,
};
use crate::{activate::ActivateError, settings::SettingsError};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error("{}\n  → {advice}", Chain(&**error))]
    Advised {
        error: Box<SchemaError>,
        advice: &'static str,
    },
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
    #[error("the registry has no subject{}: nothing was exported", of_prefix(.prefix))]
    NothingToExport { prefix: String },
    #[error("something has moved since it was planned, and nothing was changed: {0}; plan again")]
    Moved(String),
}

fn of_prefix(prefix: &str) -> String {
    match prefix {
        "" => String::new(),
        prefix => format!(" whose name begins with `{prefix}`"),
    }
}

impl SchemaError {
    /// What the process ends with; stable, for CI.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Found(_)
            | Self::InTheWay(_)
            | Self::Unreadable { .. }
            | Self::NotSound { .. }
            | Self::NothingToExport { .. }
            | Self::NotVerified => 3,
            Self::Advised { error, .. } => error.exit_code(),
            Self::Moved(_) | Self::Activate(ActivateError::InTheWay { .. }) => 4,
            _ => 1,
        }
    }

    /// The same with what to do next, where the error itself does not know.
    pub(crate) fn advised(self) -> Self {
        match self.registry().and_then(advice) {
            None => self,
            Some(advice) => Self::Advised {
                error: Box::new(self),
                advice,
            },
        }
    }

    fn registry(&self) -> Option<&RegistryError> {
        match self {
            Self::Registry(error) | Self::Activate(ActivateError::Registry(error)) => Some(error),
            Self::Import(
                ImportError::Registry(source)
                | ImportError::Version { source, .. }
                | ImportError::LeftInImport { source, .. },
            ) => Some(source),
            _ => None,
        }
    }

    /// What scripts are told.
    pub(crate) fn json(&self) -> String {
        to_json(&json!({ "error": { "code": self.code(), "message": Chain(self).to_string() } }))
    }

    /// Stable, for scripts.
    fn code(&self) -> &'static str {
        match self {
            Self::Advised { error, .. } => error.code(),
            Self::Settings(_) | Self::Address(_) => "settings",
            Self::Files(_) | Self::Invalid { .. } | Self::Unusable { .. } | Self::History(_) => {
                "files"
            }
            Self::Registry(_) => "registry",
            Self::Import(_) => "import",
            Self::Activate(_) => "activate",
            Self::Write { .. } => "write",
            Self::Read { .. } | Self::NotOurs { .. } => "read",
            Self::OneVersion { .. } => "one-version",
            Self::NotReleased { .. } => "not-released",
            Self::RuleExists { .. } => "rule-exists",
            Self::NotRegistered { .. } => "not-registered",
            Self::Unreadable { .. } => "unreadable",
            Self::Codec(_) => "codec",
            Self::Scan(_) => "log",
            Self::Announcements(_) => "announcements",
            Self::Control(_) => "control",
            Self::OtherVersion { .. } => "other-version",
            Self::NoRevisions { .. } => "no-revisions",
            Self::NoRevision { .. } => "no-revision",
            Self::Found(_) => "found",
            Self::InTheWay(_) => "in-the-way",
            Self::NotSound { .. } => "not-sound",
            Self::NotVerified => "not-verified",
            Self::NothingToExport { .. } => "nothing-to-export",
            Self::Moved(_) => "moved",
        }
    }
}

/// By the registry's own codes, or those of what stands before it.
fn advice(error: &RegistryError) -> Option<&'static str> {
    match error {
        RegistryError::Unreachable { .. } => Some(
            "start it (`annals up` or `annals registry`), or say where it is: \
             ANNALS_REGISTRY=http://host:port",
        ),
        RegistryError::Refused { code, .. } => match code {
            40101 | 401 => Some("log in: ANNALS_REGISTRY=http://user:password@host:port"),
            40301 | 403 => Some("ask with a login that may do it; roles are in its configuration"),
            42205 => Some(
                "it has something else under that id or number: import into a registry that has \
                 none of these subjects, or export fewer with --prefix",
            ),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_refused_by_a_registry_is_told_what_to_do() {
        for (code, expected) in [(40101, "user:password@"), (42205, "import into a registry")] {
            let refused = || RegistryError::Refused {
                subject: "annals.tasks.Done".into(),
                code,
                message: "no".into(),
            };
            let import = ImportError::Version {
                subject: "annals.tasks.Done".into(),
                version: 1,
                source: refused(),
            };
            for error in [SchemaError::from(refused()), import.into()] {
                let error = error.advised();
                assert_eq!(error.exit_code(), 1);
                let told = error.to_string();
                assert!(told.contains(&format!("no (error {code})\n  → ")), "{told}");
                assert!(told.contains(expected), "{told}");
            }
        }
    }

    #[test]
    fn scripts_are_told_in_one_form() {
        let error = SchemaError::Moved("all of it".into());
        let json: serde_json::Value = serde_json::from_str(&error.json()).unwrap();
        assert_eq!(json["error"]["code"], "moved");
        assert_eq!(json["error"]["message"], error.to_string());
    }
}
