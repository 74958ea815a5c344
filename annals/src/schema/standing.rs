//! How the files of an event stand to what the registry has of it.

use std::fmt;

use event_log::{
    migration::Migration,
    registry::{RegisteredVersion, RegistryError},
};
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
    let newest = event.newest().version;
    let unknown = registered.iter().map(|it| it.version);
    Ok(EventStanding {
        subject: subject.clone(),
        versions: compare(event, &registered, next),
        unknown: unknown.filter(|it| *it > newest).collect(),
        level: registry.own_level(subject).await?,
    })
}

/// `next`: the number that the registry would give.
fn compare(
    event: &EventFiles,
    registered: &[RegisteredVersion],
    next: u32,
) -> Vec<VersionStanding> {
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
    versions.collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::files::testing;

    const RENAME: &str =
        r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"rename","from":"a","to":"b"}]}}"#;
    const DEFAULT: &str = r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"default","field":"b","value":""}],"drops":["a"]}}"#;

    fn schema(field: &str) -> String {
        format!(
            r#"{{"type":"record","name":"Done","namespace":"annals.tasks","fields":[{{"name":"{field}","type":"string"}}]}}"#
        )
    }

    fn event() -> EventFiles {
        let versions = [(&*schema("a"), None), (&*schema("b"), Some(RENAME))];
        testing::event("tasks", "Done", &versions)
    }

    fn registered(version: u32, field: &str, rule: Option<&str>) -> RegisteredVersion {
        RegisteredVersion {
            version,
            id: version + 6,
            // The registry writes it in its own way.
            schema: schema(field).replace(':', " : "),
            migration: rule.map(|it| Migration::parse(it).unwrap().with_revision(3)),
        }
    }

    fn check(registered: &[RegisteredVersion], next: u32, expected: [Standing; 2]) {
        let standings = compare(&event(), registered, next);
        let found: Vec<_> = standings.into_iter().map(|it| it.standing).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn each_version_is_there_missing_or_something_else() {
        use Standing::*;
        check(&[], 1, [Missing, Missing]);
        let first = || registered(1, "a", None);
        check(&[first()], 2, [There { id: 7 }, Missing]);
        let same = registered(2, "b", Some(RENAME));
        check(&[first(), same], 3, [There { id: 7 }, There { id: 8 }]);
        for other in [Some(DEFAULT), None] {
            let revision = if other.is_some() { 3 } else { 1 };
            let mended = registered(2, "b", other);
            let other_rules = OtherRules { id: 8, revision };
            check(&[first(), mended], 3, [There { id: 7 }, other_rules]);
        }
        let foreign = registered(2, "c", Some(RENAME));
        check(
            &[first(), foreign],
            3,
            [There { id: 7 }, Conflict { id: 8 }],
        );
        // Deleted: its number is not given again.
        check(&[first()], 3, [There { id: 7 }, Taken { next: 3 }]);
    }
}
