//! `annals schema new`: the next version of an event, and then a draft of the rule that leads to it.

use std::path::PathBuf;

use event_log::schemas::SchemaFile;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    SchemaError,
    diff::{Change, What, changes},
    files::{EventFiles, Files},
    outline::{Outline, field, fields, kind, texts, type_of},
    output,
    released::Lock,
};

/// What was written, and what is left for people.
#[derive(Debug, Serialize)]
pub(super) struct Drafted {
    file: Option<PathBuf>,
    /// What the draft had to guess.
    guesses: Vec<String>,
    next: String,
}

impl Drafted {
    pub(super) fn text(&self) -> String {
        let mut lines = Vec::new();
        if let Some(file) = &self.file {
            lines.push(format!("wrote {}", file.display()));
        }
        lines.extend(
            self.guesses
                .iter()
                .map(|guess| format!("  look at: {guess}")),
        );
        lines.push(format!("  → {}", self.next));
        lines.join("\n")
    }
}

/// The newest version is copied to be changed if it is released; if it is not, the rule from the
/// one before it is drafted.
pub(super) fn next(
    files: &Files,
    event: &EventFiles,
    lock: &Lock,
    overwrite: bool,
) -> Result<Drafted, SchemaError> {
    let newest = event.newest();
    if lock.has(&event.path(newest.version)) {
        return copy(files, event, newest);
    }
    match event.steps().last() {
        None => Err(SchemaError::NotReleased {
            file: event.path(newest.version),
        }),
        Some((from, to)) => rule(files, event, from, to, overwrite),
    }
}

fn copy(files: &Files, event: &EventFiles, newest: &SchemaFile) -> Result<Drafted, SchemaError> {
    let path = files.folder()?.join(event.path(newest.version + 1));
    output::write(&path, &newest.text)?;
    Ok(Drafted {
        next: format!(
            "change it, then run `annals schema new {}` again for a draft of its rule",
            event.event
        ),
        guesses: Vec::new(),
        file: Some(path),
    })
}

fn rule(
    files: &Files,
    event: &EventFiles,
    from: &SchemaFile,
    to: &SchemaFile,
    overwrite: bool,
) -> Result<Drafted, SchemaError> {
    let (old, new) = (event.outline(from)?, event.outline(to)?);
    let plain = new.objections(&old).is_empty() && old.objections(&new).is_empty();
    if plain {
        return Ok(Drafted {
            file: None,
            guesses: Vec::new(),
            next: format!(
                "v{} and v{} read each other by their schemas alone: no rule is needed",
                from.version, to.version
            ),
        });
    }
    let path = files.folder()?.join(event.migration_path(to.version));
    if to.migration.is_some() && !overwrite {
        return Err(SchemaError::RuleExists { path });
    }
    let draft = Draft::of(&old, &new);
    output::write(&path, &format!("{}\n", output::to_json(&draft.migration())))?;
    Ok(Drafted {
        file: Some(path),
        next:
            "see that it says what is meant, then `annals schema check`, and `annals schema verify`"
                .into(),
        guesses: draft.guesses,
    })
}

#[derive(Debug, Default)]
struct Draft {
    upgrade: Vec<Value>,
    downgrade: Vec<Value>,
    drops: Vec<String>,
    guesses: Vec<String>,
    /// What leads up does not lead back by being turned round.
    is_one_way: bool,
}

impl Draft {
    fn of(old: &Outline, new: &Outline) -> Self {
        let mut draft = Self::default();
        let mut changes = changes(old, new);
        // Removed ones that came back under another name.
        let mut moved = Vec::new();
        for change in &changes {
            let What::Added { type_, .. } = &change.what else {
                continue;
            };
            let same = |it: &&Change| {
                matches!(&it.what, What::Removed { type_: was } if was == type_)
                    && !moved
                        .iter()
                        .any(|(from, _): &(String, String)| *from == it.path)
                    && parent(&it.path) == parent(&change.path)
            };
            if let Some(gone) = changes.iter().find(same) {
                moved.push((gone.path.clone(), change.path.clone()));
            }
        }
        changes.retain(|it| {
            !moved
                .iter()
                .any(|(from, to)| it.path == *from || it.path == *to)
        });
        for (from, to) in moved {
            draft.guesses.push(format!(
                "{from} may have become {to}: they have the same type"
            ));
            draft.rename(&from, &to);
        }
        for change in &changes {
            draft.take(old, new, change);
        }
        draft
    }

    fn take(&mut self, old: &Outline, new: &Outline, change: &Change) {
        let path = &change.path;
        match &change.what {
            What::Renamed { from } => {
                let from = match parent(path) {
                    "" => from.clone(),
                    parent => format!("{parent}.{from}"),
                };
                self.rename(&from, path);
            }
            What::Added { default: None, .. } => {
                let value = placeholder(new, find(new, path));
                self.guesses
                    .push(format!("{path} is {value} in events that do not have it"));
                self.upgrade
                    .push(json!({ "op": "default", "field": path, "value": value }));
            }
            What::Removed { .. } => {
                self.drops.push(path.clone());
                self.guesses.push(format!("{path} is lost"));
                let field = find(old, path);
                if field.is_some_and(|it| it.get("default").is_none()) {
                    let value = placeholder(old, field);
                    self.guesses
                        .push(format!("{path} is {value} again for old readers"));
                    self.downgrade
                        .push(json!({ "op": "default", "field": path, "value": value }));
                    self.is_one_way = true;
                }
            }
            What::Symbols { added, removed, .. } if !removed.is_empty() => {
                let is = texts(
                    new.resolve(find(new, path).map_or(&Value::Null, type_of)),
                    "symbols",
                );
                let mut symbols = serde_json::Map::new();
                for (place, gone) in removed.iter().enumerate() {
                    let to = added.get(place).or_else(|| is.first());
                    let to = to.cloned().unwrap_or_default();
                    self.guesses.push(format!("{path}: {gone} becomes {to}"));
                    symbols.insert(gone.clone(), to.into());
                }
                self.upgrade
                    .push(json!({ "op": "map", "field": path, "symbols": symbols }));
                if added.len() != removed.len() {
                    self.guesses
                        .push(format!("{path}: say what each symbol was before"));
                    let first = removed.first().cloned().unwrap_or_default();
                    let back: serde_json::Map<_, _> = added
                        .iter()
                        .enumerate()
                        .map(|(place, it)| {
                            (
                                it.clone(),
                                removed.get(place).unwrap_or(&first).clone().into(),
                            )
                        })
                        .collect();
                    self.downgrade
                        .push(json!({ "op": "map", "field": path, "symbols": back }));
                    self.is_one_way = true;
                }
            }
            What::Type { from, to } => {
                self.guesses.push(format!("{path}: {from} becomes {to}"));
                self.upgrade.push(json!({ "op": "convert", "field": path }));
                self.downgrade
                    .push(json!({ "op": "convert", "field": path }));
            }
            What::Added { .. }
            | What::Symbols { .. }
            | What::Default { .. }
            | What::Doc { .. }
            | What::Attribute { .. } => {}
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.upgrade
            .push(json!({ "op": "rename", "from": from, "to": to }));
        self.downgrade
            .push(json!({ "op": "rename", "from": to, "to": from }));
    }

    /// Without a downgrade where turning the upgrade round is one.
    fn migration(&self) -> Value {
        let mut migration = json!({ "upgrade": { "type": "ANNALS", "operations": self.upgrade } });
        if !self.drops.is_empty() {
            migration["upgrade"]["drops"] = self.drops.clone().into();
        }
        if self.is_one_way {
            let back: Vec<_> = self.downgrade.iter().rev().cloned().collect();
            migration["downgrade"] = json!({ "type": "ANNALS", "operations": back });
        }
        migration
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// The field at the end of the path.
fn find<'a>(outline: &'a Outline, path: &str) -> Option<&'a Value> {
    let mut record = &outline.root;
    let mut found = None;
    for step in path.split('.') {
        let name = step.trim_end_matches(['[', ']', '{', '}']);
        let next = field(record, name)?;
        found = Some(next);
        record = record_in(outline, type_of(next));
    }
    found
}

/// The record inside of arrays, maps and unions.
fn record_in<'a>(outline: &'a Outline, type_: &'a Value) -> &'a Value {
    let type_ = outline.resolve(type_);
    match kind(type_) {
        "array" => record_in(outline, &type_["items"]),
        "map" => record_in(outline, &type_["values"]),
        "union" => {
            let mut branches = type_.as_array().into_iter().flatten();
            let inner = branches.find(|it| kind(outline.resolve(it)) != "null");
            inner.map_or(type_, |it| record_in(outline, it))
        }
        _ => type_,
    }
}

/// A value of the field's type that people will see is none.
fn placeholder(outline: &Outline, field: Option<&Value>) -> Value {
    field.map_or(Value::Null, |field| placeholder_of(outline, type_of(field)))
}

fn placeholder_of(outline: &Outline, type_: &Value) -> Value {
    let type_ = outline.resolve(type_);
    match kind(type_) {
        "union" => match type_.as_array().and_then(|it| it.first()) {
            Some(first) => placeholder_of(outline, first),
            None => Value::Null,
        },
        "boolean" => false.into(),
        "int" | "long" | "float" | "double" => 0.into(),
        "enum" => texts(type_, "symbols").first().cloned().into(),
        "array" => json!([]),
        "map" => json!({}),
        "record" | "error" => {
            let members = fields(type_).filter_map(|it| {
                let name = it.get("name")?.as_str()?.to_owned();
                Some((name, placeholder_of(outline, type_of(it))))
            });
            Value::Object(members.collect())
        }
        "null" => Value::Null,
        _ if type_.get("logicalType").is_some_and(|it| it == "decimal") => "0".into(),
        _ => "".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(fields: &str) -> Outline {
        let text = format!(
            r#"{{"type":"record","name":"Done","namespace":"annals.tasks","fields":[{fields}]}}"#
        );
        Outline::read(&text).unwrap()
    }

    fn check(old: &str, new: &str, expected: Value) {
        let draft = Draft::of(&outline(old), &outline(new));
        assert_eq!(draft.migration(), expected, "{:?}", draft.guesses);
    }

    #[test]
    fn a_field_that_comes_as_one_goes_was_renamed() {
        check(
            r#"{"name":"by","type":"string"}"#,
            r#"{"name":"completed_by","type":"string"}"#,
            json!({ "upgrade": { "type": "ANNALS", "operations": [
                { "op": "rename", "from": "by", "to": "completed_by" }] } }),
        );
    }

    #[test]
    fn what_is_lost_is_named_and_had_back_as_a_placeholder() {
        check(
            r#"{"name":"note","type":"string"}"#,
            r#"{"name":"rank","type":"int"}"#,
            json!({
                "upgrade": { "type": "ANNALS", "drops": ["note"], "operations": [
                    { "op": "default", "field": "rank", "value": 0 }] },
                "downgrade": { "type": "ANNALS", "operations": [
                    { "op": "default", "field": "note", "value": "" }] },
            }),
        );
    }

    #[test]
    fn symbols_are_mapped_in_their_order() {
        let status = |symbols: &str| {
            format!(
                r#"{{"name":"status","type":{{"type":"enum","name":"Status","symbols":[{symbols}]}}}}"#
            )
        };
        check(
            &status(r#""open","closed""#),
            &status(r#""open","done""#),
            json!({ "upgrade": { "type": "ANNALS", "operations": [
                { "op": "map", "field": "status", "symbols": { "closed": "done" } }] } }),
        );
    }

    #[test]
    fn the_field_deep_inside_is_found() {
        let lines = |fields: &str| {
            format!(
                r#"{{"name":"lines","type":{{"type":"array","items":["null",
                     {{"type":"record","name":"Line","fields":[{fields}]}}]}}}}"#
            )
        };
        check(
            &lines(r#"{"name":"a","type":"int"}"#),
            &lines(
                r#"{"name":"a","type":"int"},{"name":"kind","type":{"type":"enum","name":"Kind","symbols":["x"]}}"#,
            ),
            json!({ "upgrade": { "type": "ANNALS", "operations": [
                { "op": "default", "field": "lines[].kind", "value": "x" }] } }),
        );
    }
}
