//! `annals schema check`: whether these files may be merged. Nothing but the files is looked at.

use serde::Serialize;

use super::{
    SchemaError,
    bridge::{Bridge, bridges},
    files::{Broken, EventFiles, Files},
    finding::{Finding, Level, Rule},
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

pub(super) fn check(files: &Files, broken: &[Broken], lock: &Lock) -> Checked {
    // What lies in a binary was compared when it was built.
    let mut findings = match files.folder {
        Some(_) => lock.check(&files.events),
        None => Vec::new(),
    };
    // It is there, and is told of once.
    findings.retain(|found| !broken.iter().any(|it| it.has(&found.file)));
    findings.extend(broken.iter().map(Broken::finding));
    let mut all = Vec::new();
    for event in &files.events {
        let (mut found, mut built) = check_event(event, lock);
        findings.append(&mut found);
        all.append(&mut built);
    }
    Checked {
        report: Report::new(files, files.events.len(), findings),
        bridges: all,
    }
}

fn check_event(event: &EventFiles, lock: &Lock) -> (Vec<Finding>, Vec<Bridge>) {
    let mut findings = lint(event, lock);
    if findings.iter().any(|it| it.rule == Rule::Avro) {
        return (findings, Vec::new());
    }
    let bridges = match bridges(event) {
        Ok(bridges) => bridges,
        Err(error) => {
            findings.push(Finding {
                level: Level::Error,
                rule: Rule::Avro,
                file: event.path(event.newest().version),
                path: String::new(),
                message: service_kit::problem::Chain(&error).to_string(),
                advice: "mend the file: nobody could read an event with it".into(),
            });
            return (findings, Vec::new());
        }
    };
    for bridge in &bridges {
        findings.append(&mut bridge.findings(event));
    }
    (findings, bridges)
}

/// What is wrong with the event's rules; nothing is said of schemas that are no Avro.
pub(super) fn check_rules(event: &EventFiles) -> Vec<Finding> {
    let bridges = bridges(event).unwrap_or_default();
    let findings = bridges.iter().flat_map(|it| it.findings(event));
    findings.filter(|it| it.rule == Rule::Migration).collect()
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

#[cfg(test)]
mod tests {
    use event_log::{migration::Migration, schemas::SchemaFile};

    use super::*;

    const ASSIGNEE: &str = r#"{"name":"assignee","doc":"D.","type":"string"}"#;
    const WORKER: &str = r#"{"name":"worker","doc":"D.","type":"string"}"#;
    const RANK: &str = r#"{"name":"rank","doc":"D.","type":"long"}"#;

    fn event(versions: &[&str], rule: Option<&str>) -> EventFiles {
        let versions = versions.iter().zip(1..).map(|(fields, version)| SchemaFile {
            event: "Done".into(),
            version,
            text: format!(
                r#"{{"type":"record","name":"Done","namespace":"annals.tasks","doc":"D.","fields":[{fields}]}}"#
            ),
            migration: rule
                .filter(|_| version > 1)
                .map(|it| Migration::parse(it).unwrap().into()),
        });
        EventFiles {
            context: "tasks".into(),
            event: "Done".into(),
            subject: "annals.tasks.Done".into(),
            versions: versions.collect(),
        }
    }

    /// What is found, and how the second version reads the first and is read by it.
    fn check(event: &EventFiles, findings: &[(Level, Rule)], ways: [&str; 2]) {
        let (found, bridges) = check_event(event, &Lock::default());
        let rules: Vec<_> = found.iter().map(|it| (it.level, it.rule)).collect();
        assert_eq!(rules, findings, "{found:?}");
        let words = [&bridges[0].upgrade, &bridges[0].downgrade].map(|it| it.word());
        assert_eq!(words, ways);
    }

    #[test]
    fn a_version_that_reads_the_one_before_by_itself_needs_no_rule() {
        let note = r#"{"name":"note","doc":"D.","type":["null","string"],"default":null}"#;
        let with_note = format!("{ASSIGNEE},{note}");
        check(
            &event(&[ASSIGNEE, &with_note], None),
            &[],
            ["schema", "schema"],
        );
    }

    #[test]
    fn a_version_that_nothing_leads_to_is_an_error() {
        check(
            &event(&[ASSIGNEE, WORKER], None),
            &[
                (Level::Error, Rule::Unreadable),
                (Level::Warning, Rule::NoWayBack),
            ],
            ["nothing", "nothing"],
        );
    }

    #[test]
    fn a_rule_carries_a_version_and_is_named() {
        let rename = r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"rename","from":"assignee","to":"worker"}]}}"#;
        let event = event(&[ASSIGNEE, WORKER], Some(rename));
        check(&event, &[], ["ANNALS", "ANNALS"]);
        let (_, bridges) = check_event(&event, &Lock::default());
        let text = bridges[0].text();
        assert!(
            text.contains("v2 reads v1 by the ANNALS rule: rename assignee → worker"),
            "{text}"
        );
    }

    #[test]
    fn a_rule_that_does_not_fit_is_an_error() {
        let of_nobody = r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"rename","from":"nobody","to":"worker"}]}}"#;
        let event = event(&[ASSIGNEE, WORKER], Some(of_nobody));
        let (found, bridges) = check_event(&event, &Lock::default());
        assert!(
            found
                .iter()
                .any(|it| (it.level, it.rule) == (Level::Error, Rule::Migration)),
            "{found:?}"
        );
        assert_eq!(bridges[0].upgrade.word(), "nothing");
        assert_eq!(check_rules(&event), found);
    }

    #[test]
    fn the_lock_is_held_against_a_folder_and_not_against_a_binary() {
        let rename = r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"rename","from":"assignee","to":"worker"}]}}"#;
        for (folder, expected) in [(Some("schemas".into()), 1), (None, 0)] {
            let events = vec![event(&[ASSIGNEE, WORKER], Some(rename))];
            let checked = super::check(&Files { folder, events }, &[], &Lock::default());
            assert_eq!(
                checked.verdict().is_err() as usize,
                expected,
                "{}",
                checked.text()
            );
        }
    }

    #[test]
    fn an_expression_that_would_round_is_refused() {
        let expression = r#"{"upgrade":{"type":"JSONATA","expression":"$"},"downgrade":{"type":"JSONATA","expression":"$"}}"#;
        check(
            &event(&[RANK, RANK], Some(expression)),
            &[
                (Level::Error, Rule::Migration),
                (Level::Error, Rule::Migration),
            ],
            ["JSONATA", "JSONATA"],
        );
    }
}
