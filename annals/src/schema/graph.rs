//! `annals schema graph`: the versions of events, and what leads from one to the next.

use std::fmt::Write;

use serde::Serialize;

use super::{
    SchemaError,
    bridge::{Bridge, Way, bridges},
    files::EventFiles,
};

#[derive(Debug, Serialize)]
pub(super) struct Graph {
    events: Vec<Event>,
    /// The same, drawn.
    pub(super) mermaid: String,
}

#[derive(Debug, Serialize)]
struct Event {
    subject: String,
    context: String,
    event: String,
    newest: u32,
    bridges: Vec<Bridge>,
}

pub(super) fn graph(events: &[&EventFiles]) -> Result<Graph, SchemaError> {
    let mut drawn = Vec::new();
    for event in events {
        drawn.push(Event {
            subject: event.subject.clone(),
            context: event.context.clone(),
            event: event.event.clone(),
            newest: event.newest().version,
            bridges: bridges(event)?,
        });
    }
    Ok(Graph::of(drawn))
}

impl Graph {
    fn of(events: Vec<Event>) -> Self {
        let mermaid = mermaid(&events);
        Self { events, mermaid }
    }
}

/// A flowchart: solid where a version reads the one before by its schema alone, thick where a rule
/// leads there, dotted where nothing does.
fn mermaid(events: &[Event]) -> String {
    let mut text = "flowchart LR".to_owned();
    for event in events {
        let Event {
            subject, newest, ..
        } = event;
        let _ = write!(text, "\n  subgraph {}[\"{subject}\"]", event.node());
        for version in 1..=*newest {
            let _ = write!(text, "\n    {}[v{version}]", event.version(version));
        }
        for Bridge {
            from,
            to,
            upgrade,
            downgrade,
            ..
        } in &event.bridges
        {
            let (from, to) = (event.version(*from), event.version(*to));
            let _ = write!(text, "\n    {from} {}", arrow(upgrade, &to));
            if downgrade.is_there() {
                let _ = write!(text, "\n    {to} {}", arrow(downgrade, &from));
            }
        }
        text.push_str("\n  end");
    }
    text
}

fn arrow(way: &Way, to: &str) -> String {
    let word = way.word();
    match way {
        Way::Schema => format!("-->|{word}| {to}"),
        Way::Rule { .. } => format!("==>|{word}| {to}"),
        Way::Nothing { .. } => format!("-.-|{word}| {to}"),
    }
}

impl Event {
    fn node(&self) -> String {
        format!("{}_{}", self.context.replace('-', "_"), self.event)
    }

    fn version(&self, version: u32) -> String {
        format!("{}_v{version}", self.node())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_tells_schemas_rules_and_gaps_apart() {
        let rule = Way::Rule {
            rule: "ANNALS".into(),
            does: Vec::new(),
        };
        let nothing = Way::Nothing {
            because: Vec::new(),
        };
        let bridge = |from, upgrade, downgrade| Bridge {
            event: "annals.tasks.Done".into(),
            from,
            to: from + 1,
            upgrade,
            downgrade,
            loses: Vec::new(),
            repeats: None,
            report: Default::default(),
        };
        let graph = Graph::of(vec![Event {
            subject: "annals.tasks.Done".into(),
            context: "tasks".into(),
            event: "Done".into(),
            newest: 3,
            bridges: vec![
                bridge(1, rule, Way::Schema),
                bridge(2, nothing.clone(), nothing),
            ],
        }]);
        assert_eq!(
            graph.mermaid,
            r#"flowchart LR
  subgraph tasks_Done["annals.tasks.Done"]
    tasks_Done_v1[v1]
    tasks_Done_v2[v2]
    tasks_Done_v3[v3]
    tasks_Done_v1 ==>|ANNALS| tasks_Done_v2
    tasks_Done_v2 -->|schema| tasks_Done_v1
    tasks_Done_v2 -.-|nothing| tasks_Done_v3
  end"#
        );
    }
}
