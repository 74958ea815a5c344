//! How each version of an event is read: by serde alone, or led there by a plan.

use std::sync::Arc;

use super::CodecError;
use crate::{
    migration::{History, HistoryError, Migration, Plan, PlanError, Schema},
    registry::{RegistryClient, RegistryError},
    schemas::SchemaFile,
};

/// What to do with a value of a known schema id.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    /// Index of the variant.
    pub variant: usize,
    /// To the newest version; none when it is that.
    pub plan: Option<Arc<Plan>>,
}

/// The versions of one event that a binary has files of, with the rules that hold now.
#[derive(Debug)]
pub(super) struct Versions {
    pub(super) history: History,
    /// Of each version; none of one that the registry does not know, so that nothing was written
    /// with it.
    ids: Vec<Option<u32>>,
    /// From each older version to the newest.
    plans: Vec<Arc<Plan>>,
}

impl Versions {
    /// Asks for the ids of all files, and for the rules as they were mended since.
    pub async fn ask(
        event_type: &str,
        files: &[SchemaFile],
        registry: &RegistryClient,
    ) -> Result<Self, CodecError> {
        let mut ids = Vec::with_capacity(files.len());
        let mut migrations = Vec::with_capacity(files.len());
        for (index, file) in files.iter().enumerate() {
            let found = match registry.find(event_type, file).await {
                Ok(found) => Some(found),
                Err(RegistryError::Unknown { .. }) if index + 1 < files.len() => None,
                Err(error) => return Err(error.into()),
            };
            ids.push(found.map(|found| found.id));
            let written = file.migration.as_deref().cloned();
            // Nothing leads to the first version.
            let registered = match found {
                Some(found) if index > 0 => {
                    let asked = registry.version(event_type, found.version, file.version);
                    asked.await?.migration
                }
                _ => None,
            };
            migrations.push(registered.or(written));
        }
        Self::new(event_type, files, ids, migrations)
    }

    pub fn offline(
        event_type: &str,
        files: &[SchemaFile],
        newest_id: u32,
        next_id: &mut u32,
    ) -> Result<Self, CodecError> {
        let older = files.len().saturating_sub(1);
        let mut ids: Vec<_> = (*next_id..).take(older).map(Some).collect();
        *next_id += older as u32;
        ids.push(Some(newest_id));
        let migrations = files.iter().map(|file| file.migration.as_deref().cloned());
        Self::new(event_type, files, ids, migrations.collect())
    }

    fn new(
        event_type: &str,
        files: &[SchemaFile],
        ids: Vec<Option<u32>>,
        migrations: Vec<Option<Migration>>,
    ) -> Result<Self, CodecError> {
        let mut history = History::default();
        for (file, migration) in files.iter().zip(migrations) {
            let pushed = history.push(&file.text, migration);
            pushed.map_err(|error| CodecError::Schema {
                event: event_type.into(),
                reason: error.to_string(),
            })?;
        }
        let newest = history.newest();
        let plan = |from| {
            let plan = history.plan(from, newest);
            plan.map(Arc::new).map_err(|error| CodecError::Plan {
                event: event_type.into(),
                from,
                to: newest,
                reason: unfit(event_type, &history, from, &error),
            })
        };
        let plans = (1..newest).map(plan).collect::<Result<_, _>>()?;
        Ok(Self {
            history,
            ids,
            plans,
        })
    }

    pub fn newest(&self) -> u32 {
        self.history.newest()
    }

    pub fn newest_id(&self) -> u32 {
        self.ids.last().copied().flatten().unwrap_or_default()
    }

    pub fn newest_text(&self) -> &str {
        self.newest_schema().map_or("", |schema| schema.text())
    }

    pub fn newest_schema(&self) -> Option<&Schema> {
        self.history.schema(self.newest()).map(|schema| &**schema)
    }

    pub fn id(&self, version: u32) -> Option<u32> {
        *self.ids.get((version as usize).checked_sub(1)?)?
    }

    /// From an older version to the newest.
    pub fn upward(&self, version: u32) -> Option<&Arc<Plan>> {
        self.plans.get((version as usize).checked_sub(1)?)
    }

    pub fn reading_plans(&self) -> impl Iterator<Item = &Plan> {
        self.plans.iter().map(|plan| &**plan)
    }

    /// Every schema id with the plan that leads from it, for the variant of this index.
    pub fn readings(
        &self,
        event_type: &str,
        variant: usize,
    ) -> Result<Vec<(u32, Reading)>, CodecError> {
        let plans = self.plans.iter().cloned().map(Some).chain([None]);
        let mut readings: Vec<(u32, Reading)> = Vec::new();
        for (id, plan) in self.ids.iter().zip(plans) {
            let Some(id) = *id else { continue };
            if readings.iter().any(|(known, _)| *known == id) {
                return Err(CodecError::Schema {
                    event: event_type.into(),
                    reason: format!("two of its versions have schema id {id}: they are the same"),
                });
            }
            readings.push((id, Reading { variant, plan }));
        }
        Ok(readings)
    }
}

/// Which rule does not fit and why, and what to do about it: on one line.
fn unfit(event_type: &str, history: &History, from: u32, error: &HistoryError) -> String {
    let why = match error {
        HistoryError::Plan(PlanError(report)) => {
            let errors: Vec<_> = report.errors().map(ToString::to_string).collect();
            errors.join("; ")
        }
        HistoryError::NoSuchVersion(_) => error.to_string(),
    };
    let does_not_fit = |edge: &u32| history.plan(edge - 1, *edge).is_err();
    let Some(edge) = (from + 1..=history.newest()).find(does_not_fit) else {
        return why;
    };
    let event = event_type.rsplit('.').next().unwrap_or(event_type);
    let revision = history.migration(edge).map(Migration::revision);
    match revision {
        Some(revision @ 2..) => format!(
            "revision {revision} of the rules of version {edge} does not fit: {why}; see `annals \
             schema history {event}`, and go back with `annals schema rollback {event} --version \
             {edge}`"
        ),
        _ => format!(
            "the rules of version {edge} do not fit: {why}; mend them in the file, see `annals \
             schema check`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(version: u32, field: &str) -> SchemaFile {
        let text = format!(
            r#"{{"type":"record","name":"TaskCreated","fields":[{{"name":"{field}","type":"string"}}]}}"#
        );
        SchemaFile {
            event: "TaskCreated".into(),
            version,
            text,
            migration: None,
        }
    }

    fn rename(from: &str, to: &str, revision: u32) -> Option<Migration> {
        let text = format!(
            r#"{{"upgrade":{{"type":"ANNALS","operations":[
                {{"op":"rename","from":"{from}","to":"{to}"}}]}}}}"#
        );
        Some(Migration::parse(&text).unwrap().with_revision(revision))
    }

    fn refused(migrations: Vec<Option<Migration>>) -> String {
        let files = [file(1, "title"), file(2, "name"), file(3, "label")];
        let event = "annals.tasks.TaskCreated";
        let ids = vec![Some(1), Some(2), Some(3)];
        let error = Versions::new(event, &files, ids, migrations).unwrap_err();
        error.to_string()
    }

    #[test]
    fn rules_that_do_not_fit_are_named_with_the_way_back() {
        let told = refused(vec![
            None,
            rename("titel", "name", 3),
            rename("name", "label", 1),
        ]);
        for expected in [
            "version 1 of annals.tasks.TaskCreated cannot be read as version 3",
            "revision 3 of the rules of version 2",
            "`titel`",
            "`annals schema rollback TaskCreated --version 2`",
        ] {
            assert!(told.contains(expected), "{told}");
        }
        assert!(!told.contains('\n'), "{told}");
    }

    #[test]
    fn rules_that_were_never_mended_have_no_way_back() {
        let told = refused(vec![
            None,
            rename("title", "name", 2),
            rename("named", "label", 1),
        ]);
        assert!(told.contains("the rules of version 3"), "{told}");
        assert!(told.contains("`annals schema check`"), "{told}");
        assert!(!told.contains("rollback"), "{told}");
    }
}
