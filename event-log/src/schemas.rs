//! The schema files that a binary was compiled with.
//!
//! A context embeds its folder `schemas/<context>/`: one `.avsc` per event
//! version, `TaskCreated.v1.avsc`, and beside it, where a version is not plainly
//! readable from the one before, the rules that lead to it and back,
//! `TaskCreated.v2.migration.json`. The newest version of each event is the one
//! that the context's Rust types have.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

use crate::migration::{History, Migration, MigrationError, SchemaError};

/// One version of one event's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFile {
    /// The record's name without namespace, such as `TaskCreated`.
    pub event: String,
    /// From 1; versions are gapless.
    pub version: u32,
    /// The file's text, as it is registered.
    pub text: String,
    /// What leads from the version before to this one, and back, if it needs rules.
    pub migration: Option<Arc<Migration>>,
}

/// All schema files of one context.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContextSchemas {
    context: String,
    events: BTreeMap<String, Vec<SchemaFile>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaFileError {
    #[error("schema file {file} is not named <Event>.v<N>.avsc")]
    Name { file: String },
    #[error("schema file {file} is not JSON: {reason}")]
    Json { file: String, reason: String },
    #[error("schema file {file} must hold a record named {expected}")]
    Record { file: String, expected: String },
    #[error("{event} has no version {missing}, but a later one")]
    Gap { event: String, missing: u32 },
    #[error(
        "migration file {file} is not named <Event>.v<N>.migration.json, with a schema file and one before it"
    )]
    Stray { file: String },
    #[error("migration file {file} cannot be used")]
    Migration {
        file: String,
        #[source]
        source: MigrationError,
    },
}

impl ContextSchemas {
    /// Reads a context's files, given as (file name, text).
    ///
    /// Files that end neither in `.avsc` nor in `.migration.json` are left alone.
    pub fn load<'a>(
        context: &str,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, SchemaFileError> {
        let mut events: BTreeMap<String, Vec<SchemaFile>> = BTreeMap::new();
        let mut migrations = Vec::new();
        for (file, text) in files {
            if let Some(stem) = file.strip_suffix(".migration.json") {
                migrations.push((file, stem, text));
            }
            let Some(stem) = file.strip_suffix(".avsc") else {
                continue;
            };
            let (event, version) = event_and_version(stem)
                .ok_or_else(|| SchemaFileError::Name { file: file.into() })?;
            expect_record(file, text, &namespace(context), event)?;
            events.entry(event.into()).or_default().push(SchemaFile {
                event: event.into(),
                version,
                text: text.into(),
                migration: None,
            });
        }
        for (event, versions) in &mut events {
            versions.sort_by_key(|file| file.version);
            for (file, expected) in versions.iter().zip(1..) {
                if file.version != expected {
                    return Err(SchemaFileError::Gap {
                        event: event.clone(),
                        missing: expected,
                    });
                }
            }
        }
        for (file, stem, text) in migrations {
            let stray = || SchemaFileError::Stray { file: file.into() };
            let (event, version) = event_and_version(stem)
                // The first version comes from nowhere.
                .filter(|(_, version)| *version > 1)
                .ok_or_else(stray)?;
            let versions = events.get_mut(event).ok_or_else(stray)?;
            let version = versions.get_mut(version as usize - 1).ok_or_else(stray)?;
            let migration =
                Migration::parse(text).map_err(|source| SchemaFileError::Migration {
                    file: file.into(),
                    source,
                })?;
            version.migration = Some(Arc::new(migration));
        }
        Ok(Self {
            context: context.into(),
            events,
        })
    }

    pub fn context(&self) -> &str {
        &self.context
    }

    /// Every file, by event, oldest version first.
    pub fn files(&self) -> impl Iterator<Item = &SchemaFile> {
        self.events.values().flatten()
    }

    /// The version of this event that the Rust types have.
    pub fn current(&self, event: &str) -> Option<&SchemaFile> {
        self.events.get(event)?.last()
    }

    /// Every version of an event, oldest first; none of one that is not known.
    pub fn versions(&self, event: &str) -> &[SchemaFile] {
        self.events.get(event).map_or(&[], Vec::as_slice)
    }

    /// The versions of an event and the edges between them, as the files have them.
    pub fn history(&self, event: &str) -> Result<History, SchemaError> {
        let mut history = History::default();
        for file in self.versions(event) {
            history.push(&file.text, file.migration.as_deref().cloned())?;
        }
        Ok(history)
    }

    /// Full name and registry subject of an event, such as `annals.tasks.TaskCreated`.
    pub fn full_name(&self, event: &str) -> String {
        format!("{}.{event}", namespace(&self.context))
    }
}

/// `TaskCreated.v2`
fn event_and_version(stem: &str) -> Option<(&str, u32)> {
    let (event, version) = stem.split_once(".v")?;
    Some((event, version.parse().ok()?))
}

fn namespace(context: &str) -> String {
    format!("annals.{}", context.replace('-', "_"))
}

fn expect_record(
    file: &str,
    text: &str,
    namespace: &str,
    event: &str,
) -> Result<(), SchemaFileError> {
    let schema: Value = serde_json::from_str(text).map_err(|error| SchemaFileError::Json {
        file: file.into(),
        reason: error.to_string(),
    })?;
    let is = |field: &str, expected: &str| schema[field].as_str() == Some(expected);
    if is("type", "record") && is("name", event) && is("namespace", namespace) {
        return Ok(());
    }
    Err(SchemaFileError::Record {
        file: file.into(),
        expected: format!("{namespace}.{event}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> String {
        format!(r#"{{"type":"record","namespace":"annals.tasks","name":"{name}","fields":[]}}"#)
    }

    #[test]
    fn the_newest_version_is_current() {
        let text = record("Done");
        let schemas =
            ContextSchemas::load("tasks", [("Done.v2.avsc", &*text), ("Done.v1.avsc", &text)])
                .unwrap();
        assert_eq!(schemas.current("Done").unwrap().version, 2);
        assert_eq!(schemas.full_name("Done"), "annals.tasks.Done");
        assert_eq!(schemas.files().count(), 2);
    }

    #[test]
    fn a_migration_stands_beside_the_version_that_it_leads_to() {
        let text = record("Done");
        let (one, two) = (("Done.v1.avsc", &*text), ("Done.v2.avsc", &*text));
        let rules = r#"{"upgrade":{"type":"ANNALS","operations":[]}}"#;
        let schemas = ContextSchemas::load("tasks", [("Done.v2.migration.json", rules), one, two]);
        let schemas = schemas.unwrap();
        let versions = schemas.versions("Done");
        assert!(versions[0].migration.is_none() && versions[1].migration.is_some());
        assert!(schemas.history("Done").unwrap().plan(2, 1).is_ok());
        for stray in ["Done.v1", "Done.v3", "Else.v2", "Done.v0", "Done"] {
            let file = format!("{stray}.migration.json");
            let loaded = ContextSchemas::load("tasks", [(&*file, rules), one, two]);
            assert!(
                matches!(loaded, Err(SchemaFileError::Stray { .. })),
                "{stray}"
            );
        }
        let broken = ("Done.v2.migration.json", r#"{"upgrade":{"type":"CEL"}}"#);
        assert!(matches!(
            ContextSchemas::load("tasks", [one, two, broken]),
            Err(SchemaFileError::Migration { .. })
        ));
    }

    #[test]
    fn misnamed_files_are_refused() {
        let load = |file: &str, text: &str| ContextSchemas::load("tasks", [(file, text)]);
        let text = record("Done");
        assert!(matches!(
            load("Done.avsc", &text),
            Err(SchemaFileError::Name { .. })
        ));
        assert!(matches!(
            load("Done.v1.avsc", "{"),
            Err(SchemaFileError::Json { .. })
        ));
        assert!(matches!(
            load("Else.v1.avsc", &text),
            Err(SchemaFileError::Record { .. })
        ));
        assert!(matches!(
            load("Done.v2.avsc", &text),
            Err(SchemaFileError::Gap { missing: 1, .. })
        ));
    }
}
