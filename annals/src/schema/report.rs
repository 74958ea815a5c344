//! The findings of `lint` and `check`, for people and for CI.

use serde::Serialize;

use super::{
    SchemaError,
    files::Files,
    finding::{Finding, errors},
    output::{self, count},
};

#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// No errors; there may be warnings.
    pub(super) sound: bool,
    files: String,
    events: usize,
    errors: usize,
    warnings: usize,
    findings: Vec<Finding>,
}

impl Report {
    pub(super) fn new(files: &Files, events: usize, mut findings: Vec<Finding>) -> Self {
        findings.sort_by(|one, other| {
            let place = |it: &Finding| (it.level, it.file.clone(), it.path.clone());
            place(one).cmp(&place(other))
        });
        let errors = errors(&findings);
        Self {
            sound: errors == 0,
            files: files.place(),
            events,
            errors,
            warnings: findings.len() - errors,
            findings,
        }
    }

    pub(super) fn shown(&self, json: bool) -> String {
        output::shown(json, self, Self::text)
    }

    pub(super) fn verdict(&self) -> Result<(), SchemaError> {
        match self.errors {
            0 => Ok(()),
            errors => Err(SchemaError::Found(errors)),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut lines: Vec<_> = self.findings.iter().map(Finding::to_string).collect();
        lines.push(format!(
            "{} in {}: {}, {}",
            count(self.events, "event"),
            self.files,
            count(self.errors, "error"),
            count(self.warnings, "warning")
        ));
        lines.join("\n")
    }
}
