//! What leads from one version of an event to the next, and back: the schemas alone, or a rule.

use serde::Serialize;
use serde_json::Value;

use super::{
    SchemaError,
    files::{EventFiles, VersionFile},
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
    let bridges = event.steps().map(|(from, to)| bridge(event, from, to));
    bridges.collect()
}

fn bridge(event: &EventFiles, from: &VersionFile, to: &VersionFile) -> Result<Bridge, SchemaError> {
    let outline = |file: &VersionFile| {
        Outline::read(&file.schema).map_err(|source| SchemaError::Invalid {
            file: event.path(file.version),
            source,
        })
    };
    let (old, new) = (outline(from)?, outline(to)?);
    Ok(Bridge {
        event: event.subject.clone(),
        from: from.version,
        to: to.version,
        upgrade: rule(to, "upgrade").unwrap_or_else(|| Way::by_schema(&new, &old)),
        downgrade: rule(to, "downgrade").unwrap_or_else(|| Way::by_schema(&old, &new)),
    })
}

/// What the migration file says of one direction.
fn rule(file: &VersionFile, direction: &str) -> Option<Way> {
    let migration: Value = serde_json::from_str(file.migration.as_deref()?).ok()?;
    let rule = migration.get(direction)?;
    let operations = rule["operations"].as_array().into_iter().flatten();
    let does = operations.filter_map(|it| Some(it.as_object()?.keys().next()?.clone()));
    Some(Way::Rule {
        rule: rule["type"].as_str().unwrap_or("ANNALS").into(),
        does: does.collect(),
    })
}

impl Way {
    fn by_schema(reader: &Outline, writer: &Outline) -> Self {
        match reader.objections(writer) {
            none if none.is_empty() => Self::Schema,
            because => Self::Nothing { because },
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
        let mut findings = Vec::new();
        if let Way::Nothing { because } = &self.upgrade {
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
        if let Way::Nothing { because } = &self.downgrade {
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
