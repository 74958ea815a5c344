//! From one schema version to another: what an event of one version is in the other.
//!
//! An edge ([`Migration`]) leads from version N−1 to N and back, by a rule each way. Rules are
//! checked against both schemas before anything runs ([`Migration::check`]) and compiled once for
//! each pair of written and read version ([`Plan`]). Pure: no files, no registry, no clock.

mod action;
mod attribute;
mod binary;
mod compile;
mod conform;
mod decimal;
mod fingerprint;
mod fits;
mod history;
mod json;
mod jsonata;
#[cfg(test)]
mod laws;
mod number;
mod operation;
mod path;
mod plan;
mod reason;
mod report;
mod rules;
pub(crate) mod schema;
mod split;
#[cfg(test)]
mod tests;
mod types;
mod value;

pub use attribute::{with_attribute, without_attribute};
pub use binary::Malformed;
pub use decimal::{Decimal, Rounding};
pub use history::{History, HistoryError};
pub use operation::{NotInvertible, Operation};
pub use path::{Path, PathError};
pub use plan::{MigrateError, Plan, PlanError, Step};
pub use report::{Code, Direction, Finding, Report, Severity};
pub use rules::{MigrationRule, RuleMode};
pub use schema::{Schema, SchemaError};
pub use split::Parts;
pub use value::{Record, Value};

use serde::{Deserialize, Serialize};

pub(crate) use fingerprint::fingerprint;
pub(crate) use reason::UNTOLD;

/// The edge between a schema version and the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    upgrade: Option<Rule>,
    downgrade: Option<Rule>,
    /// Why nothing leads back, when `downgrade` is missing.
    not_invertible: Option<NotInvertible>,
    revision: u32,
    file: File,
}

/// One way over an edge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Rule {
    #[serde(rename = "ANNALS")]
    Annals {
        operations: Vec<Operation>,
        /// Paths of what may be lost.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        drops: Vec<Path>,
    },
    /// Other people's rules: one expression, the event as JSON in and out.
    #[serde(rename = "JSONATA")]
    Jsonata { expression: String },
}

/// `<Event>.v<N>.migration.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    doc: Option<String>,
    upgrade: Option<Rule>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    downgrade: Option<WrittenDowngrade>,
}

/// A way back as it is written: its operations may be left to be inverted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
enum WrittenDowngrade {
    #[serde(rename = "ANNALS")]
    Annals {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        operations: Option<Vec<Operation>>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        drops: Vec<Path>,
    },
    #[serde(rename = "JSONATA")]
    Jsonata { expression: String },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MigrationError {
    #[error("it is not a migration: {0}")]
    Json(String),
    #[error("rule {name} is of type {kind}, which is not executed here")]
    Type { name: String, kind: String },
    #[error("rule {name} has no expression")]
    Empty { name: String },
    #[error("{first} and {second} both lead the same way: there can be one rule each way")]
    Several { first: String, second: String },
}

impl Migration {
    /// Reads a migration file.
    pub fn parse(text: &str) -> Result<Self, MigrationError> {
        let file = serde_json::from_str(text).map_err(|e| MigrationError::Json(e.to_string()))?;
        Ok(Self::of(file, 1))
    }

    fn of(file: File, revision: u32) -> Self {
        let (downgrade, not_invertible) = match downgrade_of(&file) {
            Ok(downgrade) => (downgrade, None),
            Err(not_invertible) => (None, Some(not_invertible)),
        };
        Self {
            upgrade: file.upgrade.clone(),
            downgrade,
            not_invertible,
            revision,
            file,
        }
    }

    /// The rule of this direction; a downgrade that is not written is the upgrade's inverse.
    pub fn rule(&self, direction: Direction) -> Option<&Rule> {
        match direction {
            Direction::Upgrade => self.upgrade.as_ref(),
            Direction::Downgrade => self.downgrade.as_ref(),
        }
    }

    /// 1 as it was registered with its version; more when it was mended since.
    pub fn revision(&self) -> u32 {
        self.revision
    }

    #[must_use]
    pub fn with_revision(mut self, revision: u32) -> Self {
        self.revision = revision;
        self
    }

    /// Of what the rules do, both ways: hexadecimal, the same for the same rules however they are
    /// written down.
    pub fn fingerprint(&self) -> String {
        let rules = serde_json::json!([self.upgrade, self.downgrade]);
        fingerprint([fingerprint::canonical(&rules).as_bytes()])
    }

    /// The file's text, in a form that is the same for the same migration.
    pub fn to_text(&self) -> String {
        let json = serde_json::to_value(&self.file).unwrap_or_default();
        fingerprint::canonical(&json)
    }

    /// Checks both rules against both schemas: fields exist, types fit, everything is produced,
    /// what is lost is accepted.
    pub fn check(&self, older: &Schema, newer: &Schema) -> Report {
        let mut report = Report::default();
        for direction in [Direction::Upgrade, Direction::Downgrade] {
            let (from, to) = match direction {
                Direction::Upgrade => (older, newer),
                Direction::Downgrade => (newer, older),
            };
            match self.rule(direction) {
                Some(rule) => {
                    let (_, found) = rule.compile(from, to, direction);
                    report.findings.extend(found.findings);
                }
                None => {
                    let message = match &self.not_invertible {
                        Some(why) => format!("{why}: write a downgrade"),
                        None => format!("there is no {}", direction.name()),
                    };
                    let (severity, code) = (Severity::Error, Code::NotInvertible);
                    report.find(severity, code, direction, "", message);
                }
            }
        }
        report
    }
}

fn downgrade_of(file: &File) -> Result<Option<Rule>, NotInvertible> {
    let inverse = || match &file.upgrade {
        Some(Rule::Annals { operations, .. }) => Operation::invert(operations).map(Some),
        _ => Ok(None),
    };
    Ok(match &file.downgrade {
        Some(WrittenDowngrade::Jsonata { expression }) => Some(Rule::Jsonata {
            expression: expression.clone(),
        }),
        Some(WrittenDowngrade::Annals { operations, drops }) => {
            let operations = match operations {
                Some(operations) => Some(operations.clone()),
                None => inverse()?,
            };
            let drops = drops.clone();
            operations.map(|operations| Rule::Annals { operations, drops })
        }
        None => inverse()?.map(|operations| Rule::Annals {
            operations,
            drops: Vec::new(),
        }),
    })
}
