//! `annals schema export` and `import`: subjects from one registry into another, ids kept, since
//! they stand in every stored event.

use event_log::registry::RegistryError;
use serde::{Deserialize, Serialize};

use super::registry::{Registered, Registry, Revision};

/// What an export holds, as JSON.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Export {
    format: Format,
    /// By id, so that each comes behind what it refers to.
    schemas: Vec<Exported>,
    /// Of subjects that have a compatibility level of their own.
    levels: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "annals-schemas/1")]
    One,
}

/// A version as it was registered, and the rules that it was given since.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Exported {
    #[serde(flatten)]
    registered: Registered,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    mended: Vec<Revision>,
}

/// What an import did.
#[derive(Debug, Default, PartialEq, Serialize)]
pub(super) struct Imported {
    pub(super) versions: usize,
    /// Of rules.
    pub(super) revisions: usize,
    pub(super) subjects: usize,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ImportError {
    #[error("failed to import version {version} of {subject}")]
    Version {
        subject: String,
        version: u32,
        #[source]
        source: RegistryError,
    },
    #[error("{subject} is left in mode IMPORT: set it back with DELETE /mode/{subject}")]
    LeftInImport {
        subject: String,
        #[source]
        source: RegistryError,
    },
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl Export {
    pub(super) fn versions(&self) -> usize {
        self.schemas.len()
    }
}

/// Everything of the subjects whose names begin like this.
pub(super) async fn export(registry: &Registry, prefix: &str) -> Result<Export, RegistryError> {
    let (mut schemas, mut levels) = (Vec::new(), Vec::new());
    for subject in registry.subjects(prefix).await? {
        for mut registered in registry.all(&subject).await? {
            let revisions = registry.revisions(&subject, registered.version).await?;
            let mut mended = revisions.unwrap_or_default();
            mended.retain(|it| it.revision > 1);
            // By its number it comes with the newest rules; by its id as it was registered.
            registered.content = registry.by_id(registered.id).await?;
            schemas.push(Exported { registered, mended });
        }
        if let Some(level) = registry.own_level(&subject).await? {
            levels.push((subject, level));
        }
    }
    schemas.sort_by(|one, other| {
        let place = |it: &Exported| (it.registered.id, it.registered.subject.clone());
        place(one).cmp(&place(other))
    });
    Ok(Export {
        format: Format::One,
        schemas,
        levels,
    })
}

/// What is there already stays; what contradicts it is refused by the registry.
pub(super) async fn import(registry: &Registry, export: &Export) -> Result<Imported, ImportError> {
    let mut imported = Imported::default();
    let mut subjects: Vec<_> = export
        .schemas
        .iter()
        .map(|it| &*it.registered.subject)
        .collect();
    subjects.sort_unstable();
    subjects.dedup();
    imported.subjects = subjects.len();
    let mut modes = Vec::new();
    for subject in subjects {
        let mode = registry.own_mode(subject).await?;
        registry.set_mode(subject, Some("IMPORT")).await?;
        modes.push((subject, mode));
    }
    let filled = fill(registry, export, &mut imported).await;
    // Whatever came of it: nobody could register anything otherwise.
    for (subject, mode) in modes {
        let restored = registry.set_mode(subject, mode.as_deref()).await;
        restored.map_err(|source| ImportError::LeftInImport {
            subject: subject.into(),
            source,
        })?;
    }
    filled?;
    for exported in &export.schemas {
        imported.revisions += mend(registry, exported).await?;
    }
    for (subject, level) in &export.levels {
        registry.set_level(subject, Some(level)).await?;
    }
    Ok(imported)
}

async fn fill(
    registry: &Registry,
    export: &Export,
    imported: &mut Imported,
) -> Result<(), ImportError> {
    for Exported { registered, .. } in &export.schemas {
        let done = registry.import(registered).await;
        done.map_err(|source| ImportError::Version {
            subject: registered.subject.clone(),
            version: registered.version,
            source,
        })?;
        imported.versions += 1;
    }
    Ok(())
}

async fn mend(registry: &Registry, exported: &Exported) -> Result<usize, RegistryError> {
    let Exported { registered, mended } = exported;
    let (subject, version) = (&registered.subject, registered.version);
    let there = match mended.is_empty() {
        true => return Ok(0),
        false => registry.revisions(subject, version).await?,
    };
    let newest = there.unwrap_or_default().last().map_or(1, |it| it.revision);
    let mut added = 0;
    for revision in mended.iter().filter(|it| it.revision > newest) {
        let Revision {
            migration_rules,
            comment,
            ..
        } = revision;
        let number = revision.revision;
        let mended = registry.mend(
            subject,
            version,
            migration_rules,
            number,
            comment.as_deref(),
        );
        mended.await?;
        added += 1;
    }
    Ok(added)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_export_is_read_back_as_it_was_written() {
        let text = json!({
            "format": "annals-schemas/1",
            "schemas": [{
                "subject": "annals.tasks.Done",
                "version": 2,
                "id": 7,
                "schema": "\"string\"",
                "ruleSet": { "migrationRules": [] },
                "mended": [{
                    "revision": 2,
                    "migrationRules": [{ "name": "up" }],
                    "fingerprint": "f",
                    "revisedAt": "2026-11-21T10:00:00Z",
                }],
            }],
            "levels": [["annals.tasks.Done", "NONE"]],
        });
        let export: Export = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&export).unwrap(), text);
        assert!(
            serde_json::from_value::<Export>(json!({"format": "2", "schemas": [], "levels": []}))
                .is_err()
        );
    }
}
