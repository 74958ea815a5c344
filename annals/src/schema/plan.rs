//! `annals schema plan`: what `apply` would do, and what that means for those who read and write.
//!
//! A plan says where everything stands, so that `apply` can tell whether anything has moved since.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::{
    SchemaError,
    bridge::{Bridge, bridges},
    files::{EventFiles, Files},
    output,
    registry::Registry,
    released::sum,
    standing::{EventStanding, Standing, standing},
};
use crate::announcing::Announcement;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    format: Format,
    pub(super) registry: String,
    /// SHA-256 of everything below: of the files, and of what the registry has.
    pub(super) fingerprint: String,
    pub(super) events: Vec<EventStanding>,
    pub(super) steps: Vec<Step>,
    /// Why it cannot be applied.
    pub(super) obstacles: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "annals-plan/1")]
    One,
}

/// Something that `apply` does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub(super) enum Step {
    /// A version is registered.
    Register {
        subject: String,
        version: u32,
        /// It is carried by a rule: the registry, which goes by schemas alone, is told to let it in.
        by_rule: bool,
    },
    /// The rules of a version get a new revision.
    Mend {
        subject: String,
        version: u32,
        revision: u32,
    },
}

/// A plan, and what people should know before it is applied.
#[derive(Debug, Serialize)]
pub(super) struct Planned {
    #[serde(flatten)]
    pub(super) plan: Plan,
    /// Of the versions that would be new, or be read otherwise.
    bridges: Vec<Bridge>,
    /// Who reads and writes the events in question at present.
    members: Vec<Announcement>,
    /// What is to be done, by whom, in this order; the first are those of `apply`.
    order: Vec<Deed>,
}

#[derive(Debug, Serialize)]
struct Deed {
    what: String,
    /// Whether everything is as before when it is undone.
    reversible: bool,
    why: String,
}

pub(super) async fn plan(registry: &Registry, files: &Files) -> Result<Plan, SchemaError> {
    let (mut events, mut steps, mut obstacles) = (Vec::new(), Vec::new(), Vec::new());
    for event in &files.events {
        let standing = standing(registry, event).await?;
        obstacles.append(&mut standing.obstacles());
        steps.append(&mut steps_of(event, &standing, &mut obstacles)?);
        events.push(standing);
    }
    let mut plan = Plan {
        format: Format::One,
        registry: registry.place(),
        fingerprint: String::new(),
        events,
        steps,
        obstacles,
    };
    plan.fingerprint = sum(&output::to_json(&plan));
    Ok(plan)
}

fn steps_of(
    event: &EventFiles,
    standing: &EventStanding,
    obstacles: &mut Vec<String>,
) -> Result<Vec<Step>, SchemaError> {
    let bridges = bridges(event)?;
    let mut steps = Vec::new();
    for version in &standing.versions {
        let number = version.version;
        let subject = event.subject.clone();
        steps.push(match version.standing {
            Standing::Missing => Step::Register {
                subject,
                version: number,
                by_rule: event.version(number)?.migration.is_some(),
            },
            Standing::OtherRules { revision, .. } => Step::Mend {
                subject,
                version: number,
                revision: revision + 1,
            },
            Standing::There { .. } | Standing::Conflict { .. } | Standing::Taken { .. } => continue,
        });
        let found = bridges.iter().filter(|it| it.to == number);
        let found = found.flat_map(Bridge::obstacles);
        obstacles.extend(found.map(|it| format!("{it}; see `annals schema check`")));
    }
    Ok(steps)
}

impl Plan {
    /// Whether it can be applied.
    pub(super) fn verdict(&self) -> Result<(), SchemaError> {
        match &self.obstacles[..] {
            [] => Ok(()),
            obstacles => Err(SchemaError::InTheWay(obstacles.join("; "))),
        }
    }

    /// Versions that stored events may have and that would be read by a rule they were not read by
    /// before: `verify` has to have seen them.
    pub(super) fn needs_proof(&self) -> bool {
        self.steps.iter().any(|step| match step {
            Step::Register {
                version, by_rule, ..
            } => *by_rule && *version > 1,
            Step::Mend { .. } => true,
        })
    }

    fn touches(&self, subject: &str) -> bool {
        self.steps.iter().any(|step| step.subject() == subject)
    }
}

impl Step {
    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Register { subject, .. } | Self::Mend { subject, .. } => subject,
        }
    }

    fn deed(&self) -> Deed {
        match self {
            Self::Register {
                subject,
                version,
                by_rule,
            } => Deed {
                what: format!(
                    "apply: register {subject} v{version}{}",
                    match by_rule {
                        true => ", with the registry told to let it in, since a rule carries it",
                        false => "",
                    }
                ),
                reversible: false,
                why: "its number and its id are given for good; nobody writes it yet".into(),
            },
            Self::Mend {
                subject,
                version,
                revision,
            } => Deed {
                what: format!("apply: give the rules of {subject} v{version} revision {revision}"),
                reversible: true,
                why: format!(
                    "`annals schema rollback` makes revision {} the newest again; models and \
                     snapshots that were built with either say that they need a rebuild",
                    revision - 1
                ),
            },
        }
    }
}

impl Planned {
    pub(super) fn new(
        plan: Plan,
        files: &Files,
        members: Vec<Announcement>,
    ) -> Result<Self, SchemaError> {
        let mut all = Vec::new();
        let mut order: Vec<_> = plan.steps.iter().map(Step::deed).collect();
        if plan.needs_proof() {
            order.insert(
                0,
                Deed {
                    what: "verify: read every stored event by the rules, and back".into(),
                    reversible: true,
                    why:
                        "nothing is changed; `apply` takes its report, and looks at what came since"
                            .into(),
                },
            );
        }
        for event in files.events.iter().filter(|it| plan.touches(&it.subject)) {
            let steps = plan.steps.iter().filter(|it| it.subject() == event.subject);
            let touched: Vec<u32> = steps
                .map(|step| match step {
                    Step::Register { version, .. } | Step::Mend { version, .. } => *version,
                })
                .collect();
            let bridges = bridges(event)?;
            all.extend(bridges.into_iter().filter(|it| touched.contains(&it.to)));
            let newest = event.newest().version;
            let is_new = |step: &Step| {
                matches!(step, Step::Register { subject, version, .. }
                    if *subject == event.subject && *version == newest)
            };
            if newest > 1 && plan.steps.iter().any(is_new) {
                order.append(&mut rollout(event, &all));
            }
        }
        let members = members
            .into_iter()
            .filter(|it| plan.touches(&it.event_type));
        Ok(Self {
            members: members.collect(),
            plan,
            bridges: all,
            order,
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for event in &self.plan.events {
            let _ = writeln!(text, "{}", event.subject);
            for version in &event.versions {
                let _ = writeln!(text, "  v{} {}", version.version, version.standing);
            }
            if let Some(level) = &event.level {
                let _ = writeln!(text, "  has a compatibility level of its own, {level}");
            }
            for unknown in &event.unknown {
                let _ = writeln!(
                    text,
                    "  v{unknown} is in the registry alone: a newer release has it"
                );
            }
        }
        if !self.bridges.is_empty() {
            let _ = writeln!(text, "Who can read it:");
        }
        for bridge in &self.bridges {
            for line in bridge.text().lines() {
                let _ = writeln!(text, "  {line}");
            }
        }
        for member in &self.members {
            let Announcement {
                role,
                member,
                event_type,
                reads_up_to,
                writes,
                expired,
                ..
            } = member;
            let writes = writes.map_or_else(String::new, |it| format!(", writes v{it}"));
            let gone = if *expired {
                " (not heard of lately)"
            } else {
                ""
            };
            let role = role.name();
            let _ = writeln!(
                text,
                "  {role} {member} reads {event_type} up to v{reads_up_to}{writes}{gone}"
            );
        }
        for obstacle in &self.plan.obstacles {
            let _ = writeln!(text, "In the way: {obstacle}");
        }
        if self.order.is_empty() {
            text.push_str("nothing to do: the registry has what the files say");
            return text;
        }
        let _ = write!(text, "In this order:");
        for (number, deed) in (1..).zip(&self.order) {
            let sign = if deed.reversible {
                ""
            } else {
                " (irreversible)"
            };
            let _ = write!(text, "\n  {number}. {}{sign}\n     {}", deed.what, deed.why);
        }
        text
    }
}

/// What comes behind `apply`.
fn rollout(event: &EventFiles, bridges: &[Bridge]) -> Vec<Deed> {
    let newest = event.newest().version;
    let (subject, before) = (&event.subject, newest - 1);
    let to_newest = |it: &&Bridge| it.event == *subject && it.to == newest;
    let back = bridges.iter().find(to_newest).map(|it| &it.downgrade);
    let back = match back {
        Some(way) if way.is_there() => format!(
            "events of v{newest} stay in the log; `activate {} {before}` has v{before} written \
             again, and v{before} reads v{newest} {}",
            event.event,
            way.sentence()
        ),
        _ => format!(
            "events of v{newest} stay in the log, and v{before} cannot read them: there is no way \
             back to binaries of v{before}"
        ),
    };
    vec![
        Deed {
            what: format!(
                "deploy binaries that read {subject} v{newest}; they go on writing v{before}"
            ),
            reversible: true,
            why: "until it is activated, nothing of it is in the log".into(),
        },
        Deed {
            what: format!("annals schema activate {} {newest}", event.event),
            reversible: false,
            why: back,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{files::testing, standing::VersionStanding};

    const RENAME: &str =
        r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"rename","from":"a","to":"b"}]}}"#;

    const A: &str = r#"{"type":"record","name":"Done","namespace":"annals.tasks","fields":[{"name":"a","type":"string"}]}"#;
    const B: &str = r#"{"type":"record","name":"Done","namespace":"annals.tasks","fields":[{"name":"b","type":"string"}]}"#;

    fn files(rule: Option<&str>) -> Files {
        testing::files(testing::event("tasks", "Done", &[(A, None), (B, rule)]))
    }

    fn planned(files: &Files, standings: [Standing; 2]) -> Planned {
        let versions = (1..)
            .zip(standings)
            .map(|(version, standing)| VersionStanding {
                version,
                schema: String::new(),
                rules: String::new(),
                standing,
            });
        let standing = EventStanding {
            subject: "annals.tasks.Done".into(),
            versions: versions.collect(),
            unknown: Vec::new(),
            level: None,
        };
        let mut obstacles = standing.obstacles();
        let steps = steps_of(&files.events[0], &standing, &mut obstacles).unwrap();
        let plan = Plan {
            format: Format::One,
            registry: String::new(),
            fingerprint: String::new(),
            events: vec![standing],
            steps,
            obstacles,
        };
        Planned::new(plan, files, Vec::new()).unwrap()
    }

    /// The first words of what is to be done, and whether it is for good.
    fn order(planned: &Planned) -> Vec<(&str, bool)> {
        let words = |it: &Deed| (it.what.find(' ').unwrap_or_default(), it.reversible);
        let deeds = planned.order.iter();
        deeds
            .map(|it| (&it.what[..words(it).0], !words(it).1))
            .collect()
    }

    #[test]
    fn a_version_that_a_rule_carries_is_verified_first_and_activated_last() {
        let files = files(Some(RENAME));
        let planned = planned(&files, [Standing::There { id: 7 }, Standing::Missing]);
        assert!(planned.plan.needs_proof());
        assert_eq!(
            order(&planned),
            [
                ("verify:", false),
                ("apply:", true),
                ("deploy", false),
                ("annals", true)
            ]
        );
        let text = planned.text();
        assert!(
            text.contains("v2 reads v1 by the ANNALS rule: rename a → b"),
            "{text}"
        );
    }

    #[test]
    fn a_mended_rule_is_verified_and_needs_no_deployment() {
        let files = files(Some(RENAME));
        let other = Standing::OtherRules { id: 8, revision: 2 };
        let planned = planned(&files, [Standing::There { id: 7 }, other]);
        assert_eq!(order(&planned), [("verify:", false), ("apply:", false)]);
    }

    #[test]
    fn a_rule_that_does_not_fit_is_in_the_way_whether_it_is_new_or_mended() {
        const NOBODY: &str = r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"rename","from":"a","to":"b"}]},
            "downgrade":{"type":"ANNALS","operations":[{"op":"rename","from":"nobody","to":"a"}]}}"#;
        for standing in [
            Standing::Missing,
            Standing::OtherRules { id: 8, revision: 2 },
        ] {
            let planned = planned(&files(Some(NOBODY)), [Standing::There { id: 7 }, standing]);
            let obstacles = planned.plan.obstacles.join("; ");
            let expected = "the rule from annals.tasks.Done v2 back to v1 does not fit: ";
            assert!(obstacles.contains(expected), "{obstacles}");
        }
    }

    #[test]
    fn a_version_that_repeats_another_is_in_the_way() {
        let same = testing::event("tasks", "Done", &[(A, None), (A, None)]);
        let planned = planned(
            &testing::files(same),
            [Standing::There { id: 7 }, Standing::Missing],
        );
        let obstacles = &planned.plan.obstacles;
        assert_eq!(obstacles.len(), 1, "{obstacles:?}");
        assert!(obstacles[0].starts_with("annals.tasks.Done v2 says the same as v1"));
    }

    #[test]
    fn what_is_there_needs_nothing() {
        let files = files(Some(RENAME));
        let planned = planned(
            &files,
            [Standing::There { id: 7 }, Standing::There { id: 8 }],
        );
        assert!(planned.plan.steps.is_empty() && planned.order.is_empty());
        assert!(
            planned
                .text()
                .ends_with("the registry has what the files say")
        );
    }

    #[test]
    fn what_cannot_be_read_or_was_registered_otherwise_is_in_the_way() {
        let planned_one = planned(&files(None), [Standing::There { id: 7 }, Standing::Missing]);
        assert_eq!(planned_one.plan.obstacles.len(), 1);
        assert!(planned_one.plan.obstacles[0].contains("v2 cannot read v1"));
        let conflict = [Standing::Conflict { id: 7 }, Standing::Taken { next: 4 }];
        let planned_two = planned(&files(Some(RENAME)), conflict);
        assert_eq!(planned_two.plan.obstacles.len(), 2);
        assert!(planned_two.plan.steps.is_empty());
    }
}
