//! `annals schema check`: whether these files may be merged. Nothing but the files is looked at.

use serde::Serialize;

use super::{
    SchemaError,
    bridge::{Bridge, bridges},
    files::{EventFiles, Files},
    finding::{Finding, Rule},
    lint::lint,
    released::Lock,
    report::Report,
};

#[derive(Debug, Serialize)]
pub(super) struct Checked {
    #[serde(flatten)]
    report: Report,
    bridges: Vec<Bridge>,
}

pub(super) fn check(files: &Files, lock: &Lock) -> Result<Checked, SchemaError> {
    let mut findings = lock.check(&files.events);
    let mut all = Vec::new();
    for event in &files.events {
        let (mut found, mut built) = check_event(event, lock)?;
        findings.append(&mut found);
        all.append(&mut built);
    }
    Ok(Checked {
        report: Report::new(files, files.events.len(), findings),
        bridges: all,
    })
}

fn check_event(
    event: &EventFiles,
    lock: &Lock,
) -> Result<(Vec<Finding>, Vec<Bridge>), SchemaError> {
    let mut findings = lint(event, lock);
    if findings.iter().any(|it| it.rule == Rule::Avro) {
        return Ok((findings, Vec::new()));
    }
    let bridges = bridges(event)?;
    for bridge in &bridges {
        findings.append(&mut bridge.findings(event));
    }
    Ok((findings, bridges))
}

impl Checked {
    pub(super) fn text(&self) -> String {
        let bridges = self.bridges.iter().map(Bridge::text);
        let lines: Vec<_> = bridges.chain([self.report.text()]).collect();
        lines.join("\n")
    }

    pub(super) fn verdict(&self) -> Result<(), SchemaError> {
        self.report.verdict()
    }
}
