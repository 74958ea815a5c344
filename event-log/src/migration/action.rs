//! A rule that was checked, at work on one event.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    decimal::Rounding,
    number::{NumberForm, convert},
    path::{Path, Step},
    reason::Reason,
    split::Splitter,
    value::Value,
};

/// One operation, compiled for its two schemas.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// Within each value that the anchor leads to.
    Move {
        anchor: Box<[Step]>,
        from: Box<[Step]>,
        to: Box<[Step]>,
    },
    Copy {
        anchor: Box<[Step]>,
        from: Box<[Step]>,
        to: Box<[Step]>,
    },
    Default(Path, Value),
    Constant(Path, Value),
    Drop(Path),
    Map {
        field: Path,
        becomes: Becomes,
    },
    Convert {
        field: Path,
        shift: i32,
        rounding: Option<Rounding>,
        into: NumberForm,
    },
    Split(Box<[Step]>, Splitter),
    Join(Box<[Step]>, Splitter),
}

/// What symbols and texts become.
#[derive(Clone, Debug)]
pub(super) struct Becomes {
    /// Of a few symbols mostly: comparing them is faster than hashing.
    pub table: BTreeMap<Arc<str>, Arc<str>>,
    pub otherwise: Option<Arc<str>>,
    /// Of the enum that the result is one of; otherwise it is text.
    pub enum_name: Option<Arc<str>>,
}

/// A value that an operation cannot take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    pub field: String,
    pub reason: Reason,
}

impl Action {
    pub fn apply(&self, event: &mut Value) -> Result<(), Refused> {
        match self {
            Self::Move { anchor, from, to } => event.each(anchor, &mut |place| {
                if let Some(value) = place.take_at(from) {
                    place.put_at(to, value);
                }
                Ok(())
            }),
            Self::Copy { anchor, from, to } => event.each(anchor, &mut |place| {
                if let Some(value) = place.get_at(from).cloned() {
                    place.put_at(to, value);
                }
                Ok(())
            }),
            Self::Default(path, value) => on_record(event, path, &mut |record, name| {
                if matches!(record.get(name), None | Some(Value::Null)) {
                    record.set(name, value.clone());
                }
            }),
            Self::Constant(path, value) => on_record(event, path, &mut |record, name| {
                record.set(name, value.clone());
            }),
            Self::Drop(path) => on_record(event, path, &mut |record, name| {
                record.take(name);
            }),
            Self::Map { field, becomes } => event.each(field.steps(), &mut |value| {
                becomes.replace(value);
                Ok(())
            }),
            Self::Convert {
                field,
                shift,
                rounding,
                into,
            } => event.each(field.steps(), &mut |value| {
                let converted = convert(value, *shift, *rounding, *into);
                *value = converted.map_err(|reason| Refused {
                    field: field.to_string(),
                    reason,
                })?;
                Ok(())
            }),
            Self::Split(record, splitter) => event.each_record(record, &mut |record| {
                splitter.split(record);
                Ok(())
            }),
            Self::Join(record, splitter) => event.each_record(record, &mut |record| {
                splitter.join(record);
                Ok(())
            }),
        }
    }
}

fn on_record(
    event: &mut Value,
    path: &Path,
    change: &mut dyn FnMut(&mut super::value::Record, &Arc<str>),
) -> Result<(), Refused> {
    let Some((parents, name)) = path.split_field() else {
        return Ok(());
    };
    event.each_record(parents, &mut |record| {
        change(record, name);
        Ok(())
    })
}

impl Becomes {
    fn replace(&self, value: &mut Value) {
        let known: &str = match value {
            Value::Enum(_, symbol) => symbol,
            Value::String(text) => text,
            _ => return,
        };
        let mapped = self.table.get(known).or(self.otherwise.as_ref());
        let symbol: Arc<str> = match mapped {
            Some(mapped) => mapped.clone(),
            None => known.into(),
        };
        *value = match &self.enum_name {
            Some(name) => Value::Enum(name.clone(), symbol),
            None => Value::String(symbol.to_string()),
        };
    }
}
