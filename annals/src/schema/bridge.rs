//! What leads from one version of an event to the next, and back: the schemas alone, or a rule.

use event_log::{
    migration::{Code, Direction, History, Operation, Report, Rule as MigrationRule, Severity},
    schemas::SchemaFile,
};
use serde::Serialize;

use super::{
    SchemaError,
    files::EventFiles,
    finding::{Finding, Level, Rule},
    outline::Outline,
};

/// One version and the next.
#[derive(Debug, Serialize)]
pub(super) struct Bridge {
    pub(super) event: String,
    pub(super) from: u32,
    pub(super) to: u32,
    /// How the later version reads what was written with the earlier one.
    pub(super) upgrade: Way,
    /// How the earlier version reads what was written with the later one.
    pub(super) downgrade: Way,
    /// What an event does not have any more when it has gone there and back.
    pub(super) loses: Vec<String>,
    /// The earlier version that the later one only repeats: a registry takes both for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repeats: Option<u32>,
    /// What the static check of the rules found.
    #[serde(skip)]
    pub(super) report: Report,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "kebab-case")]
pub(super) enum Way {
    /// Readable as it is, by Avro's rules.
    Schema,
    /// Readable by a rule: its type, and what it does.
    Rule { rule: String, does: Vec<String> },
    /// Not readable.
    Nothing { because: Vec<String> },
}

/// All bridges of an event, oldest first.
pub(super) fn bridges(event: &EventFiles) -> Result<Vec<Bridge>, SchemaError> {
    let history = event.history()?;
    let mut bridges = Vec::new();
    for (from, to) in event.steps() {
        bridges.push(bridge(event, &history, from, to)?);
    }
    Ok(bridges)
}

fn bridge(
    event: &EventFiles,
    history: &History,
    from: &SchemaFile,
    to: &SchemaFile,
) -> Result<Bridge, SchemaError> {
    let (old, new) = (event.outline(from)?, event.outline(to)?);
    let report = history.check(to.version).map_err(SchemaError::History)?;
    let way = |direction, reader: &Outline, writer: &Outline| {
        let migration = to.migration.as_ref();
        match migration.and_then(|it| it.rule(direction)) {
            Some(rule) => Way::by_rule(rule, direction, &report),
            None => Way::by_schema(reader, writer),
        }
    };
    Ok(Bridge {
        event: event.subject.clone(),
        from: from.version,
        to: to.version,
        upgrade: way(Direction::Upgrade, &new, &old),
        downgrade: way(Direction::Downgrade, &old, &new),
        loses: losses(&report),
        repeats: repeated(event, to, &new)?,
        report,
    })
}

/// The first version before this one with the same schema and rules that do the same.
fn repeated(
    event: &EventFiles,
    file: &SchemaFile,
    outline: &Outline,
) -> Result<Option<u32>, SchemaError> {
    let text = outline.canonical();
    let rules = |it: &SchemaFile| it.migration.as_ref().map(|it| it.fingerprint());
    let earlier = event.versions.iter().filter(|it| it.version < file.version);
    for before in earlier.filter(|it| rules(it) == rules(file)) {
        if event.outline(before)?.canonical() == text {
            return Ok(Some(before.version));
        }
    }
    Ok(None)
}

/// Paths that are lost on the way there, or on the way back.
fn losses(report: &Report) -> Vec<String> {
    let ways = [Direction::Upgrade, Direction::Downgrade];
    let lost = ways.into_iter().flat_map(|it| report.lost(it));
    lost.map(str::to_owned).collect()
}

/// Where a rule does not fit the schemas, and why.
fn misfits(report: &Report, direction: Direction) -> Vec<String> {
    let errors = report.errors().filter(|it| it.direction == direction);
    let words = errors.map(|it| format!("{}: {}", it.path, it.message));
    words.collect()
}

impl Way {
    fn by_rule(rule: &MigrationRule, direction: Direction, report: &Report) -> Self {
        let because = misfits(report, direction);
        if !because.is_empty() {
            return Self::Nothing { because };
        }
        match rule {
            MigrationRule::Annals { operations, .. } => Self::Rule {
                rule: "ANNALS".into(),
                does: operations.iter().map(words).collect(),
            },
            MigrationRule::Jsonata { .. } => Self::Rule {
                rule: "JSONATA".into(),
                does: vec!["an expression".into()],
            },
        }
    }

    fn by_schema(reader: &Outline, writer: &Outline) -> Self {
        match reader.objections(writer) {
            none if none.is_empty() => Self::Schema,
            because => Self::Nothing { because },
        }
    }

    /// This way, and then that.
    pub(super) fn then(self, next: Self) -> Self {
        match (self, next) {
            (Self::Nothing { because }, _) | (_, Self::Nothing { because }) => {
                Self::Nothing { because }
            }
            (Self::Schema, way) | (way, Self::Schema) => way,
            (
                Self::Rule { rule, mut does },
                Self::Rule {
                    rule: other,
                    does: more,
                },
            ) => {
                does.extend(more);
                let rule = if rule == other {
                    rule
                } else {
                    format!("{rule} and {other}")
                };
                Self::Rule { rule, does }
            }
        }
    }

    pub(super) fn is_there(&self) -> bool {
        !matches!(self, Self::Nothing { .. })
    }

    /// `schema`, the type of the rule, or `nothing`.
    pub(super) fn word(&self) -> &str {
        match self {
            Self::Schema => "schema",
            Self::Rule { rule, .. } => rule,
            Self::Nothing { .. } => "nothing",
        }
    }

    pub(super) fn sentence(&self) -> String {
        match self {
            Self::Schema => "by its schema alone".into(),
            Self::Rule { rule, does } if does.is_empty() => format!("by an empty {rule} rule"),
            Self::Rule { rule, does } => format!("by the {rule} rule: {}", does.join(", ")),
            Self::Nothing { because } => format!("not at all: {}", because.join("; ")),
        }
    }
}

impl Bridge {
    pub(super) fn text(&self) -> String {
        let Self {
            event, from, to, ..
        } = self;
        format!(
            "{event} v{to} reads v{from} {}\n{event} v{from} reads v{to} {}",
            self.upgrade.sentence(),
            self.downgrade.sentence()
        )
    }

    /// Why the later version must not be registered, nor its rules.
    pub(super) fn obstacles(&self) -> Vec<String> {
        let Self {
            event, from, to, ..
        } = self;
        let mut obstacles = Vec::new();
        if let Some(earlier) = self.repeats {
            obstacles.push(format!("{event} v{to} says the same as v{earlier}"));
        }
        if let Way::Nothing { because } = &self.upgrade {
            let because = because.join("; ");
            obstacles.push(format!("{event} v{to} cannot read v{from}: {because}"));
        }
        let because = misfits(&self.report, Direction::Downgrade).join("; ");
        if !because.is_empty() {
            obstacles.push(format!(
                "the rule from {event} v{to} back to v{from} does not fit: {because}"
            ));
        }
        obstacles
    }

    /// What is missing of it.
    pub(super) fn findings(&self, event: &EventFiles) -> Vec<Finding> {
        let Self { from, to, .. } = self;
        let finding = |level, rule, message: String, advice: String| Finding {
            level,
            rule,
            file: event.path(*to),
            path: String::new(),
            message,
            advice,
        };
        let mut findings: Vec<_> = self
            .report
            .findings
            .iter()
            .filter_map(|found| {
                let level = match (found.severity, found.code) {
                    // It would be right in most events, and wrong in some.
                    (Severity::Error, _) | (_, Code::Rounds) => Level::Error,
                    (Severity::Warning, _) => Level::Warning,
                    (Severity::Note, _) => return None,
                };
                Some(Finding {
                    level,
                    rule: Rule::Migration,
                    file: event.migration_path(*to),
                    path: found.path.clone(),
                    message: format!("{}: {}", found.code, found.message),
                    advice: "mend the rule; what it may say is in docs/schema-cli.md".into(),
                })
            })
            .collect();
        let by_rule = |direction| !misfits(&self.report, direction).is_empty();
        if let Some(earlier) = self.repeats {
            findings.push(finding(
                Level::Error,
                Rule::Unchanged,
                format!("v{to} says the same as v{earlier}, and would be that to a registry"),
                "change it, or take the file away".into(),
            ));
        }
        if let Way::Nothing { because } = &self.upgrade
            && !by_rule(Direction::Upgrade)
        {
            findings.push(finding(
                Level::Error,
                Rule::Unreadable,
                format!("v{to} cannot read v{from}: {}", because.join("; ")),
                format!(
                    "draft a rule with `annals schema new {}`, or give the fields defaults",
                    event.event
                ),
            ));
        }
        if let Way::Nothing { because } = &self.downgrade
            && !by_rule(Direction::Downgrade)
        {
            findings.push(finding(
                Level::Warning,
                Rule::NoWayBack,
                format!("v{from} cannot read v{to}: {}", because.join("; ")),
                format!(
                    "without a \"downgrade\" in {} there is no way back once v{to} is written",
                    event.migration_path(*to)
                ),
            ));
        }
        findings
    }
}

/// Such as `rename note → comment`.
fn words(operation: &Operation) -> String {
    let json = serde_json::to_value(operation).unwrap_or_default();
    let text = |key: &str| json[key].as_str().unwrap_or_default();
    match operation {
        Operation::Rename { .. } | Operation::Copy { .. } => {
            format!("{} {} → {}", text("op"), text("from"), text("to"))
        }
        _ => format!("{} {}", text("op"), text("field")),
    }
}
