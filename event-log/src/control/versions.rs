//! What the records of the topic say.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    batch::{Batch, BatchBuilder, BatchError},
    schemas::ContextSchemas,
};

/// How an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Active {
    /// What is written from now on; 0 while the event is not written at all.
    pub version: u32,
    /// The highest that ever was: events of it may be in the log, and who decides must read them.
    pub highest: u32,
}

/// The active version of each event, by full name such as `annals.tasks.TaskCreated`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActiveVersions(BTreeMap<String, Active>);

/// An event that is, or was, written in a version that this binary was not compiled for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{event_type} was activated in version {written}, but this binary {}: events of it may be in \
     the log, also where an older one is written again; start a release that reads version {written}",
    reading(*reads)
)]
pub struct Unreadable {
    pub event_type: String,
    /// The highest version that was ever active.
    pub written: u32,
    /// The newest that is read; 0 when the event is not known.
    pub reads: u32,
}

fn reading(reads: u32) -> String {
    match reads {
        0 => "does not know the event".into(),
        reads => format!("reads up to version {reads} only"),
    }
}

impl ActiveVersions {
    /// Nothing of an event that was never written or announced.
    pub fn of(&self, event_type: &str) -> Option<Active> {
        self.0.get(event_type).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, Active)> {
        self.0.iter().map(|(name, active)| (&**name, *active))
    }

    /// What keeps a binary from deciding: the first event of these contexts of which the log may
    /// have a version that it does not know.
    pub fn unreadable(&self, contexts: &[KnownVersions]) -> Option<Unreadable> {
        contexts.iter().find_map(|context| {
            let mut events = self.iter();
            events.find_map(|(event_type, Active { highest, .. })| {
                let reads = context.newest(event_type);
                let is_unknown = context.has(event_type) && reads < highest;
                is_unknown.then(|| Unreadable {
                    event_type: event_type.into(),
                    written: highest,
                    reads,
                })
            })
        })
    }
}

/// A context, and the newest version that a binary knows of each of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownVersions {
    pub context: String,
    /// What the full names of its events begin with.
    prefix: String,
    /// By full name.
    pub versions: BTreeMap<String, u32>,
}

impl KnownVersions {
    /// What was compiled in.
    pub fn of(schemas: &ContextSchemas) -> Self {
        // Oldest first: the last one stays.
        let files = schemas.files();
        Self {
            context: schemas.context().into(),
            prefix: schemas.full_name(""),
            versions: files
                .map(|file| (schemas.full_name(&file.event), file.version))
                .collect(),
        }
    }

    /// Whether an event is the context's, by its full name.
    pub fn has(&self, event_type: &str) -> bool {
        event_type.starts_with(&self.prefix)
    }

    /// By full name: 0 of an event that is not known.
    pub fn newest(&self, event_type: &str) -> u32 {
        self.versions.get(event_type).copied().unwrap_or_default()
    }
}

impl FromIterator<(String, Active)> for ActiveVersions {
    fn from_iter<T: IntoIterator<Item = (String, Active)>>(versions: T) -> Self {
        Self(versions.into_iter().collect())
    }
}

/// A record of ours that this release cannot read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the record {key} cannot be read: {reason}")]
    Value { key: String, reason: String },
    #[error("a batch cannot be read")]
    Batch(#[from] BatchError),
}

/// A generation's versions, record by record.
pub(super) struct Fold {
    prefix: String,
    active: Arc<ActiveVersions>,
}

impl Fold {
    pub(super) fn of(generation: &str) -> Self {
        Self {
            prefix: prefix(generation),
            active: Arc::default(),
        }
    }

    pub(super) fn active(&self) -> Arc<ActiveVersions> {
        self.active.clone()
    }

    /// Records under other keys are somebody else's.
    pub(super) fn take(&mut self, batch: &Batch) -> Result<(), RecordError> {
        if batch.control {
            return Ok(());
        }
        for record in batch.records() {
            let record = record?;
            let key = record.key.unwrap_or_default();
            let Ok(key) = std::str::from_utf8(&key) else {
                continue;
            };
            let Some(event_type) = key.strip_prefix(&self.prefix) else {
                continue;
            };
            let versions = &mut Arc::make_mut(&mut self.active).0;
            match record.value {
                None => {
                    versions.remove(event_type);
                }
                Some(value) => {
                    let active = serde_json::from_slice(&value);
                    let active = active.map_err(|error| RecordError::Value {
                        key: key.into(),
                        reason: error.to_string(),
                    })?;
                    versions.insert(event_type.into(), active);
                }
            }
        }
        Ok(())
    }
}

/// As a record of the topic; `by` and `at` are for people who look at it.
pub(super) fn push(
    batch: &mut BatchBuilder,
    generation: &str,
    event_type: &str,
    active: Active,
    by: &str,
) {
    #[derive(Serialize)]
    struct Record<'a> {
        #[serde(flatten)]
        active: Active,
        by: &'a str,
        at: chrono::DateTime<chrono::Utc>,
    }
    let at = std::time::SystemTime::now().into();
    let value = serde_json::to_vec(&Record { active, by, at });
    let value = value.expect("a record has nothing that JSON cannot say");
    let key = format!("{}{event_type}", prefix(generation));
    batch.push(key.as_bytes(), Some(&value), |_| {});
}

fn prefix(generation: &str) -> String {
    format!("active/{generation}/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(versions: &[(&str, u32, u32)]) -> ActiveVersions {
        let versions = versions.iter().map(|(event_type, version, highest)| {
            let active = Active {
                version: *version,
                highest: *highest,
            };
            ((*event_type).to_owned(), active)
        });
        versions.collect()
    }

    /// A context with the events `Created` and `Done`, of which `Created` has so many versions.
    fn tasks(versions: u32) -> [KnownVersions; 1] {
        let text = |event| {
            format!(
                r#"{{"type":"record","namespace":"annals.tasks","name":"{event}","fields":[]}}"#
            )
        };
        let files =
            (1..=versions).map(|version| (format!("Created.v{version}.avsc"), text("Created")));
        let files: Vec<_> = files
            .chain([("Done.v1.avsc".into(), text("Done"))])
            .collect();
        let files = files.iter().map(|(name, text)| (&**name, &**text));
        [KnownVersions::of(
            &ContextSchemas::load("tasks", files).unwrap(),
        )]
    }

    #[test]
    fn a_binary_knows_the_newest_version_of_each_event() {
        let [tasks] = tasks(2);
        assert_eq!(tasks.newest("annals.tasks.Created"), 2);
        assert_eq!(tasks.newest("annals.tasks.Done"), 1);
        assert_eq!(tasks.newest("annals.tasks.Renamed"), 0);
    }

    #[test]
    fn who_does_not_read_what_was_ever_active_is_told_which_event() {
        // Version 1 is written again, but the log has events of version 2.
        let active = active(&[
            ("annals.tasks.Created", 1, 2),
            ("annals.tasks_old.Done", 9, 9),
        ]);
        let found = active.unreadable(&tasks(1)).unwrap();
        assert_eq!((found.written, found.reads), (2, 1));
        assert_eq!(active.unreadable(&tasks(2)), None);
    }

    #[test]
    fn an_event_that_is_not_written_yet_may_be_unknown() {
        let not_yet = active(&[("annals.tasks.Renamed", 0, 0)]);
        assert_eq!(not_yet.unreadable(&tasks(1)), None);
        let written = active(&[("annals.tasks.Renamed", 1, 1)]);
        let found = written.unreadable(&tasks(1)).unwrap();
        assert!(found.to_string().contains("does not know"), "{found}");
    }
}
