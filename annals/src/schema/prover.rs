//! One stored event to the newest version and back: is it what it was?

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use event_log::migration::{History, Plan, Schema, Value};

use super::{
    SchemaError,
    bridge::bridges,
    diff::{What, changes},
    files::{EventFiles, Files},
    standing::EventStanding,
};
use crate::{context::Context, replay::kinds::Typed};

/// The provers of all versions that stored events may have, by the registry's ids.
pub(super) struct Provers {
    by_id: HashMap<u32, Prover>,
    event_types: BTreeSet<String>,
}

/// Of one version of one event.
pub(super) struct Prover {
    pub(super) event_type: String,
    pub(super) version: u32,
    schema: Arc<Schema>,
    /// To the newest version, and back where anything leads back; nothing for the newest itself.
    up: Option<Plan>,
    down: Option<Plan>,
    /// What this binary makes of the newest version, if that is the one that it was built with.
    typed: Option<Arc<dyn Typed>>,
    /// Paths that may be lost.
    drops: Vec<String>,
}

impl Provers {
    /// # Errors
    /// `Unreadable` when the rules do not fit the schemas: `check` says more.
    pub(super) fn new(
        files: &Files,
        standings: &[EventStanding],
        contexts: &[Context],
    ) -> Result<Self, SchemaError> {
        let mut by_id = HashMap::new();
        for event in &files.events {
            let standing = standings.iter().find(|it| it.subject == event.subject);
            let history = event.history()?;
            let typed = typed(event, contexts)?;
            for file in &event.versions {
                let Some(id) = standing.and_then(|it| it.id(file.version)) else {
                    continue;
                };
                let prover = Prover::new(event, &history, file.version, typed.clone())?;
                by_id.insert(id, prover);
            }
        }
        let event_types = files.events.iter().map(|it| it.subject.clone());
        Ok(Self {
            by_id,
            event_types: event_types.collect(),
        })
    }

    pub(super) fn knows(&self, event_type: &str) -> bool {
        self.event_types.contains(event_type)
    }

    /// Nothing when the id is that of another event, as it may be after the registry was made anew.
    pub(super) fn of(&self, event_type: &str, id: u32) -> Option<&Prover> {
        self.by_id(id).filter(|it| it.event_type == event_type)
    }

    pub(super) fn by_id(&self, id: u32) -> Option<&Prover> {
        self.by_id.get(&id)
    }
}

impl Prover {
    fn new(
        event: &EventFiles,
        history: &History,
        version: u32,
        typed: Option<Arc<dyn Typed>>,
    ) -> Result<Self, SchemaError> {
        let newest = history.newest();
        let unreadable = |source| SchemaError::Unreadable {
            event: event.subject.clone(),
            version,
            newest,
            source,
        };
        let schema = history.schema(version);
        let schema = schema.unwrap_or_else(|| unreachable!("every file is in its history"));
        let up = (version < newest).then(|| history.plan(version, newest));
        // Nothing may lead back: `check` has warned of it.
        let down = (version < newest).then(|| history.plan(newest, version).ok());
        Ok(Self {
            event_type: event.subject.clone(),
            version,
            schema: schema.clone(),
            up: up.transpose().map_err(unreadable)?,
            down: down.flatten(),
            typed,
            drops: drops(event, version)?,
        })
    }

    /// Why the datum does not come through, in words that have nothing of what is personal.
    pub(super) fn prove(&self, datum: &[u8]) -> Result<(), String> {
        let decoded = || self.schema.decode(datum).map_err(|it| it.to_string());
        let Some(up) = &self.up else {
            return match &self.typed {
                None => decoded().map(drop),
                Some(typed) => self.take(typed, datum),
            };
        };
        let value = decoded()?;
        let there = up
            .apply(value.clone())
            .map_err(|error| format!("on the way up, {error}"))?;
        if let Some(typed) = &self.typed {
            let mut newest = Vec::with_capacity(datum.len() + 16);
            let encoded = up.reader().encode(&there, &mut newest);
            encoded.map_err(|error| format!("on the way up, {error}"))?;
            self.take(typed, &newest)?;
        }
        let Some(down) = &self.down else {
            return Ok(());
        };
        let back = down
            .apply(there)
            .map_err(|error| format!("on the way back, {error}"))?;
        match value == back {
            true => Ok(()),
            false => match difference(&value, &back, "", &self.drops) {
                None => Ok(()),
                Some(path) => Err(format!("`{path}` is not what it was when it is back")),
            },
        }
    }

    fn take(&self, typed: &Arc<dyn Typed>, datum: &[u8]) -> Result<(), String> {
        let taken = typed.take(&self.event_type, datum);
        taken.map_err(|error| format!("this binary cannot take it: {error}"))
    }

    /// The event as JSON, without what is personal.
    pub(super) fn shown(&self, datum: &[u8]) -> Option<serde_json::Value> {
        let event = self.schema.decode(datum).ok()?;
        Some(self.schema.shown(&event))
    }
}

/// The binary's types of the event, where its newest version is that of the files.
fn typed(event: &EventFiles, contexts: &[Context]) -> Result<Option<Arc<dyn Typed>>, SchemaError> {
    let context = contexts
        .iter()
        .find(|it| it.schemas.context() == event.context);
    let is_built_in = |it: &&Context| {
        let newest = it.schemas.current(&event.event);
        newest.is_some_and(|it| {
            it.version == event.newest().version && it.text == event.newest().text
        })
    };
    let Some(context) = context.filter(is_built_in) else {
        return Ok(None);
    };
    for kind in &context.kinds {
        let typed = kind.typed(&context.schemas).map_err(SchemaError::Codec)?;
        if typed.has(&event.subject) {
            return Ok(Some(typed));
        }
    }
    Ok(None)
}

/// What a version may lose on its way to the newest and back: what the rules accept, and the fields
/// that a version does not have any more where the schemas alone lead on.
fn drops(event: &EventFiles, version: u32) -> Result<Vec<String>, SchemaError> {
    let mut drops = Vec::new();
    for bridge in bridges(event)?.into_iter().filter(|it| it.from >= version) {
        drops.extend(bridge.loses);
        let (from, to) = (event.version(bridge.from)?, event.version(bridge.to)?);
        if to.migration.is_none() {
            let changes = changes(&event.outline(from)?, &event.outline(to)?);
            let removed = changes
                .into_iter()
                .filter(|it| matches!(it.what, What::Removed { .. }));
            drops.extend(removed.map(|it| it.path));
        }
    }
    Ok(drops)
}

/// The first place where they differ and may not.
fn difference(one: &Value, other: &Value, path: &str, drops: &[String]) -> Option<String> {
    if one == other || drops.iter().any(|it| it == path) {
        return None;
    }
    match (one, other) {
        (Value::Record(one), Value::Record(other)) if one.fields.len() == other.fields.len() => {
            let mut pairs = one.fields.iter().zip(&other.fields);
            pairs.find_map(|((name, one), (_, other))| {
                let path = match path {
                    "" => name.to_string(),
                    path => format!("{path}.{name}"),
                };
                difference(one, other, &path, drops)
            })
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let path = format!("{path}[]");
            let mut pairs = one.iter().zip(other);
            pairs.find_map(|(one, other)| difference(one, other, &path, drops))
        }
        (Value::Map(one), Value::Map(other)) if one.len() == other.len() => {
            let path = format!("{path}{{}}");
            let other: BTreeMap<_, _> = other.iter().map(|(key, value)| (key, value)).collect();
            one.iter().find_map(|(key, value)| match other.get(key) {
                Some(beside) => difference(value, beside, &path, drops),
                None => Some(path.clone()),
            })
        }
        _ => Some(path.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use event_log::avro::DecodeError;

    use super::*;
    use crate::schema::files::testing;

    const NOTED: &str = r#"{"type":"record","name":"Noted","namespace":"annals.tasks","fields":[
        {"name":"note","type":"string","personal":true},{"name":"rank","type":"long"}]}"#;

    fn event(newer: &str, migration: &str) -> EventFiles {
        let newer = format!(
            r#"{{"type":"record","name":"Noted","namespace":"annals.tasks","fields":[{newer}]}}"#
        );
        let versions = [(NOTED, None), (newer.as_str(), Some(migration))];
        testing::event("tasks", "Noted", &versions)
    }

    /// What becomes of an event with this note and rank.
    fn check(event: &EventFiles, note: &str, rank: i8) -> Result<(), String> {
        let prover = Prover::new(event, &event.history().unwrap(), 1, None).unwrap();
        let mut datum = vec![note.len() as u8 * 2];
        datum.extend(note.as_bytes());
        datum.push(rank as u8 * 2);
        prover.prove(&datum)
    }

    #[test]
    fn what_comes_back_as_it_was_is_proved() {
        let renamed = event(
            r#"{"name":"text","type":"string"},{"name":"rank","type":"long"}"#,
            r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"rename","from":"note","to":"text"}]}}"#,
        );
        assert_eq!(check(&renamed, "a", 7), Ok(()));
    }

    #[test]
    fn what_the_rule_drops_may_be_lost() {
        let dropped = event(
            r#"{"name":"rank","type":"long"}"#,
            r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"drop","field":"note"}],"drops":["note"]},
                "downgrade":{"type":"ANNALS","operations":[{"op":"default","field":"note","value":""}]}}"#,
        );
        assert_eq!(check(&dropped, "a", 7), Ok(()));
    }

    #[test]
    fn an_event_that_the_rule_cannot_take_is_found() {
        let narrowed = event(
            r#"{"name":"note","type":"long"},{"name":"rank","type":"long"}"#,
            r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"convert","field":"note"}],"drops":["note"]},
                "downgrade":{"type":"ANNALS","operations":[{"op":"convert","field":"note"}]}}"#,
        );
        assert_eq!(check(&narrowed, "7", 7), Ok(()));
        let refused = check(&narrowed, "seven", 7).unwrap_err();
        assert_eq!(
            refused,
            "on the way up, field `note` cannot be migrated: it is not a decimal number"
        );
    }

    #[test]
    fn an_event_that_comes_back_otherwise_is_found_with_its_field() {
        let shouted = event(
            r#"{"name":"note","type":"string"},{"name":"rank","type":"long"}"#,
            r#"{"upgrade":{"type":"JSONATA","expression":"{\"note\": note & \"!\", \"rank\": rank}"},
                "downgrade":{"type":"JSONATA","expression":"$"}}"#,
        );
        let changed = check(&shouted, "a", 7).unwrap_err();
        assert_eq!(changed, "`note` is not what it was when it is back");
    }

    struct RefusesAll;

    impl Typed for RefusesAll {
        fn has(&self, _: &str) -> bool {
            true
        }

        fn take(&self, _: &str, datum: &[u8]) -> Result<(), DecodeError> {
            assert_eq!(datum, [2, b'a', 14], "it is the newest version's");
            Err(DecodeError::NotFramed)
        }
    }

    #[test]
    fn an_event_that_the_rust_type_refuses_is_found() {
        let renamed = event(
            r#"{"name":"text","type":"string"},{"name":"rank","type":"long"}"#,
            r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"rename","from":"note","to":"text"}]}}"#,
        );
        let history = renamed.history().unwrap();
        for version in [1, 2] {
            let typed = Some(Arc::new(RefusesAll) as Arc<dyn Typed>);
            let prover = Prover::new(&renamed, &history, version, typed).unwrap();
            let refused = prover.prove(&[2, b'a', 14]).unwrap_err();
            assert!(
                refused.starts_with("this binary cannot take it"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_sample_shows_nothing_personal() {
        let event = event(
            r#"{"name":"text","type":"string"},{"name":"rank","type":"long"}"#,
            r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"rename","from":"note","to":"text"}]}}"#,
        );
        let prover = Prover::new(&event, &event.history().unwrap(), 1, None).unwrap();
        let shown = prover.shown(&[2, b'a', 14]).unwrap();
        assert_eq!(
            shown,
            serde_json::json!({ "note": "(personal)", "rank": 7 })
        );
    }
}
