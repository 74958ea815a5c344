//! `annals schema apply`: exactly what was planned, or nothing.

use event_log::{registry::RegistryError, schemas::SchemaFile};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    SchemaError,
    files::{EventFiles, Files},
    plan::{Plan, Step, plan},
    registry::Registry,
    standing::{EventStanding, VersionStanding},
};

#[derive(Debug, Serialize)]
pub(super) struct Applied {
    pub(super) done: Vec<Done>,
}

#[derive(Debug, Serialize)]
pub(super) struct Done {
    #[serde(flatten)]
    step: Step,
    id: Option<u32>,
}

/// Stops before anything is changed when files or registry are not as they were planned with, or
/// the plan is not as it was made.
pub(super) async fn unmoved(
    registry: &Registry,
    files: &Files,
    planned: &Plan,
) -> Result<(), SchemaError> {
    let now = plan(registry, files).await?;
    match &moved(planned, &now)[..] {
        [] => now.verdict(),
        moved => Err(SchemaError::Moved(moved.join("; "))),
    }
}

fn moved(planned: &Plan, now: &Plan) -> Vec<String> {
    let mut moved: Vec<_> = now
        .events
        .iter()
        .flat_map(|event| {
            let before = planned.events.iter().find(|it| it.subject == event.subject);
            what_moved(before, event)
        })
        .collect();
    if now.registry != planned.registry {
        moved.push(format!(
            "it was planned for the registry {}, and this is {}",
            planned.registry, now.registry
        ));
    }
    if moved.is_empty() && now != planned {
        moved.push("the plan is not what `annals schema plan` wrote".into());
    }
    moved
}

pub(super) async fn apply(
    registry: &Registry,
    files: &Files,
    plan: &Plan,
) -> Result<Applied, SchemaError> {
    let mut done = Vec::new();
    for step in &plan.steps {
        let event = files.event(step.subject())?;
        let id = match step {
            Step::Register { version, .. } => Some(put_as(registry, event, *version).await?),
            Step::Mend {
                version, revision, ..
            } => {
                let rules = rules(event.version(*version)?);
                let comment = Some("annals schema apply");
                let mended = registry.mend(&event.subject, *version, &rules, *revision, comment);
                match mended.await {
                    // Not every registry keeps revisions.
                    Err(RegistryError::Unknown { .. }) => {
                        return Err(SchemaError::NoRevisions {
                            subject: event.subject.clone(),
                            version: *version,
                        });
                    }
                    mended => mended?,
                };
                None
            }
        };
        done.push(Done {
            step: step.clone(),
            id,
        });
    }
    Ok(Applied { done })
}

/// Registers a version, which must become that number; answers its id.
async fn put_as(registry: &Registry, event: &EventFiles, version: u32) -> Result<u32, SchemaError> {
    let subject = &event.subject;
    let id = registry.put(subject, event.version(version)?).await?;
    let newest = registry.versions(subject).await?.last().copied();
    match newest {
        Some(newest) if newest == version => Ok(id),
        newest => Err(SchemaError::OtherVersion {
            subject: subject.clone(),
            version,
            newest: newest.unwrap_or_default(),
        }),
    }
}

/// The migration rules of a file in the form of Confluent's data contracts.
fn rules(file: &SchemaFile) -> Value {
    let rules = file.migration.as_ref().map(|it| it.to_rules(file.version));
    json!(rules.unwrap_or_default())
}

fn what_moved(before: Option<&EventStanding>, now: &EventStanding) -> Vec<String> {
    let subject = &now.subject;
    let Some(before) = before else {
        return vec![format!("{subject} is new in the files")];
    };
    let mut moved = Vec::new();
    for version in &now.versions {
        let number = version.version;
        let was = before.versions.iter().find(|it| it.version == number);
        let what = match was {
            Some(was) if was == version => continue,
            Some(was) => difference(was, version),
            None => "is new in the files".into(),
        };
        moved.push(format!("{subject} v{number} {what}"));
    }
    if before.unknown != now.unknown {
        moved.push(format!("{subject} has other versions in the registry"));
    }
    if before.level != now.level {
        moved.push(format!("{subject} has another compatibility level"));
    }
    moved
}

fn difference(was: &VersionStanding, is: &VersionStanding) -> String {
    if was.schema != is.schema {
        "has another schema file".into()
    } else if was.rules != is.rules {
        "has other rules in its file".into()
    } else {
        format!("was {}, and is {}", was.standing, is.standing)
    }
}

impl Applied {
    pub(super) fn text(&self) -> String {
        let lines = self.done.iter().map(|done| match (&done.step, done.id) {
            (
                Step::Register {
                    subject, version, ..
                },
                id,
            ) => {
                format!(
                    "{subject} v{version} is registered, id {}",
                    id.unwrap_or_default()
                )
            }
            (
                Step::Mend {
                    subject,
                    version,
                    revision,
                },
                _,
            ) => format!("the rules of {subject} v{version} have revision {revision}"),
        });
        let mut lines: Vec<_> = lines.collect();
        let is = |wanted: fn(&Step) -> bool| self.done.iter().any(|it| wanted(&it.step));
        if is(|it| matches!(it, Step::Register { .. })) {
            lines.push("  → deploy binaries that read it, then `annals schema activate`".into());
        }
        if is(|it| matches!(it, Step::Mend { .. })) {
            lines.push(
                "  → start the services again, which take rules when they start; models and \
                 snapshots that were built with the others say that they need a rebuild"
                    .into(),
            );
        }
        if self.done.is_empty() {
            lines.push("there was nothing to do".into());
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::standing::Standing;

    fn standing(standing: Standing, schema: &str, rules: &str) -> EventStanding {
        EventStanding {
            subject: "annals.tasks.Done".into(),
            versions: vec![VersionStanding {
                version: 1,
                schema: schema.into(),
                rules: rules.into(),
                standing,
            }],
            unknown: Vec::new(),
            level: None,
        }
    }

    #[test]
    fn a_plan_that_was_changed_is_not_applied() {
        let (id, of) = ("f".repeat(64), "annals.tasks.Done");
        let plan = |steps: Value| -> Plan {
            let plan = json!({
                "format": "annals-plan/1", "registry": "http://localhost", "fingerprint": id,
                "events": [], "steps": steps, "obstacles": [],
            });
            serde_json::from_value(plan).unwrap()
        };
        let step = |version: u32| json!({ "step": "register", "subject": of, "version": version, "by_rule": true });
        let whole = plan(json!([step(2), step(3)]));
        assert_eq!(moved(&whole, &whole), [""; 0]);
        let half = plan(json!([step(3)]));
        let expected = "the plan is not what `annals schema plan` wrote";
        assert_eq!(moved(&half, &whole), [expected]);
    }

    #[test]
    fn whoever_applies_is_told_what_has_moved() {
        let before = standing(Standing::Missing, "s", "r");
        for (now, expected) in [
            (standing(Standing::Missing, "s", "r"), ""),
            (
                standing(Standing::There { id: 7 }, "s", "r"),
                "annals.tasks.Done v1 was to be registered, and is registered, id 7",
            ),
            (
                standing(Standing::Missing, "t", "r"),
                "annals.tasks.Done v1 has another schema file",
            ),
            (
                standing(Standing::Missing, "s", "q"),
                "annals.tasks.Done v1 has other rules in its file",
            ),
        ] {
            assert_eq!(what_moved(Some(&before), &now).join("; "), expected);
        }
        let now = standing(Standing::Missing, "s", "r");
        assert_eq!(
            what_moved(None, &now),
            ["annals.tasks.Done is new in the files"]
        );
    }
}
