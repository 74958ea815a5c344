//! How the files of an event stand to what the registry has of it.

use std::fmt;

use event_log::{migration::Migration, registry::RegistryError};
use serde::{Deserialize, Serialize};

use super::{files::EventFiles, outline::Outline, registry::Registry, released::sum};

/// Where a version of the files is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(super) enum Standing {
    /// Registered, with the same rules.
    There { id: u32 },
    /// Registered; its rules are others than in the files.
    OtherRules {
        id: u32,
        /// Of the rules that the registry has.
        revision: u32,
    },
    /// Not registered; it would become this version.
    Missing,
    /// Something else is registered as this version.
    Conflict { id: u32 },
    /// It would become another version, since this number was given before.
    Taken { next: u32 },
}

/// An event's versions beside the registry's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EventStanding {
    pub(super) subject: String,
    pub(super) versions: Vec<VersionStanding>,
    /// Versions of the registry that have no file.
    pub(super) unknown: Vec<u32>,
    /// The subject's own compatibility level.
    pub(super) level: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VersionStanding {
    pub(super) version: u32,
    /// SHA-256 of the schema file, and of what its rules do (nothing without).
    pub(super) schema: String,
    pub(super) rules: String,
    #[serde(flatten)]
    pub(super) standing: Standing,
}

pub(super) async fn standing(
    registry: &Registry,
    event: &EventFiles,
) -> Result<EventStanding, RegistryError> {
    let subject = &event.subject;
    let registered = registry.registered(subject).await?;
    let given = registry.versions_with_deleted(subject).await?;
    let next = given.last().map_or(1, |it| it + 1);
    let versions = event.versions.iter().map(|file| {
        let found = registered.iter().find(|it| it.version == file.version);
        let rules = does(file.migration.as_deref());
        let standing = match found {
            None if file.version >= next => Standing::Missing,
            None => Standing::Taken { next },
            Some(found) if !is_same(&file.text, &found.schema) => {
                Standing::Conflict { id: found.id }
            }
            Some(found) if does(found.migration.as_ref()) == rules => {
                Standing::There { id: found.id }
            }
            Some(found) => Standing::OtherRules {
                id: found.id,
                revision: found.migration.as_ref().map_or(1, Migration::revision),
            },
        };
        VersionStanding {
            version: file.version,
            schema: sum(&file.text),
            rules,
            standing,
        }
    });
    let newest = event.newest().version;
    let unknown = registered.iter().map(|it| it.version);
    Ok(EventStanding {
        subject: subject.clone(),
        versions: versions.collect(),
        unknown: unknown.filter(|it| *it > newest).collect(),
        level: registry.own_level(subject).await?,
    })
}

/// The same for rules that do the same, however they are written.
fn does(migration: Option<&Migration>) -> String {
    migration.map_or_else(String::new, Migration::fingerprint)
}

/// Whatever the white space is.
fn is_same(file: &str, registered: &str) -> bool {
    let canonical = |text: &str| Outline::read(text).ok().map(|it| it.canonical());
    canonical(file) == canonical(registered)
}

impl EventStanding {
    pub(super) fn id(&self, version: u32) -> Option<u32> {
        let found = self.versions.iter().find(|it| it.version == version)?;
        match found.standing {
            Standing::There { id } | Standing::OtherRules { id, .. } => Some(id),
            Standing::Missing | Standing::Conflict { .. } | Standing::Taken { .. } => None,
        }
    }

    /// Why nothing can be done, with what to do about it.
    pub(super) fn obstacles(&self) -> Vec<String> {
        let subject = &self.subject;
        let obstacles = self.versions.iter().filter_map(|it| {
            let version = it.version;
            match it.standing {
                Standing::Conflict { id } => Some(format!(
                    "the registry has another schema as {subject} v{version} (id {id}): these are \
                     not the files that it was filled from; compare with `annals schema export`"
                )),
                Standing::Taken { next } => Some(format!(
                    "{subject} v{version} was deleted in the registry, where the next version is \
                     {next}: take it back with `annals schema import`, or go on as v{next}"
                )),
                Standing::There { .. } | Standing::OtherRules { .. } | Standing::Missing => None,
            }
        });
        obstacles.collect()
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::There { id } => write!(f, "registered, id {id}"),
            Self::OtherRules { id, revision } => {
                write!(
                    f,
                    "registered, id {id}, with other rules (revision {revision})"
                )
            }
            Self::Missing => write!(f, "to be registered"),
            Self::Conflict { id } => write!(f, "in conflict with id {id}"),
            Self::Taken { next } => write!(f, "deleted; the next is {next}"),
        }
    }
}
