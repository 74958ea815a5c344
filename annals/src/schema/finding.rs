//! What `lint` and `check` have to say, with what to do about it.

use std::fmt;

use serde::Serialize;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    pub(super) rule: Rule,
    /// Within the folder of schemas.
    pub(super) file: String,
    /// The field, with the fields that it lies in; empty for all of the file.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) path: String,
    pub(super) message: String,
    /// What to do next.
    pub(super) advice: String,
}

/// Errors are what CI fails for, and come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Level {
    Error,
    Warning,
}

/// Stable names, for those who count or filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Rule {
    /// The file is no Avro schema.
    Avro,
    Name,
    Doc,
    Default,
    LogicalType,
    Money,
    Inexact,
    Personal,
    /// A rule does not fit the schemas.
    Migration,
    /// A released file has changed or is gone.
    Released,
    /// A version that others build on is not released.
    Unreleased,
    /// A version says what an earlier one says.
    Unchanged,
    /// A version cannot read the one before it.
    Unreadable,
    /// The version before cannot read a version.
    NoWayBack,
}

pub(super) fn errors(findings: &[Finding]) -> usize {
    let errors = findings.iter().filter(|it| it.level == Level::Error);
    errors.count()
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Error => "error",
            Level::Warning => "warning",
        };
        write!(f, "{level} {}", self.file)?;
        if !self.path.is_empty() {
            write!(f, " {}", self.path)?;
        }
        write!(f, ": {}\n  → {}", self.message, self.advice)
    }
}
