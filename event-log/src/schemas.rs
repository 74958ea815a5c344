//! The schema files that a binary was compiled with.
//!
//! A context embeds its folder `schemas/<context>/`: one `.avsc` per event
//! version, `TaskCreated.v1.avsc`. The newest version of each event is the one
//! that the context's Rust types have, and the one that is written and read.

use std::collections::BTreeMap;

use serde_json::Value;

/// One version of one event's schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaFile {
    /// The record's name without namespace, such as `TaskCreated`.
    pub event: String,
    /// From 1; versions are gapless.
    pub version: u32,
    /// The file's text, as it is registered.
    pub text: String,
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
}

impl ContextSchemas {
    /// Reads a context's files, given as (file name, text).
    ///
    /// Files that do not end in `.avsc` (migration rules) are left alone.
    pub fn load<'a>(
        context: &str,
        files: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, SchemaFileError> {
        let mut events: BTreeMap<String, Vec<SchemaFile>> = BTreeMap::new();
        for (file, text) in files {
            let Some(stem) = file.strip_suffix(".avsc") else {
                continue;
            };
            let (event, version) = stem
                .split_once(".v")
                .and_then(|(event, version)| Some((event, version.parse().ok()?)))
                .ok_or_else(|| SchemaFileError::Name { file: file.into() })?;
            expect_record(file, text, &namespace(context), event)?;
            events.entry(event.into()).or_default().push(SchemaFile {
                event: event.into(),
                version,
                text: text.into(),
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

    /// Full name and registry subject of an event, such as `annals.tasks.TaskCreated`.
    pub fn full_name(&self, event: &str) -> String {
        format!("{}.{event}", namespace(&self.context))
    }
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
