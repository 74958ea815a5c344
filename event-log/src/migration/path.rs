//! Where a rule works: `title`, `address.zip`, `items[].price`, `labels{}.text`.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::value::{Record, Value};

/// Steps from the event's record to a value; `[]` is each item of an array, `{}` each value of a
/// map. What is null on the way is passed over.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Step {
    Field(Arc<str>),
    Items,
    Values,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no path: field names with '.' between them, and [] or {{}} behind those of arrays or maps"
)]
pub struct PathError(String);

impl FromStr for Path {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let malformed = || PathError(text.to_owned());
        let mut steps = Vec::new();
        for part in text.split('.') {
            let end = part.find(['[', '{']).unwrap_or(part.len());
            let (name, mut brackets) = part.split_at(end);
            if !is_name(name) {
                return Err(malformed());
            }
            steps.push(Step::Field(name.into()));
            while !brackets.is_empty() {
                let (step, rest) = match (brackets.strip_prefix("[]"), brackets.strip_prefix("{}"))
                {
                    (Some(rest), _) => (Step::Items, rest),
                    (_, Some(rest)) => (Step::Values, rest),
                    (None, None) => return Err(malformed()),
                };
                steps.push(step);
                brackets = rest;
            }
        }
        Ok(Self(steps))
    }
}

fn is_name(text: &str) -> bool {
    !text.starts_with(|first: char| first.is_ascii_digit())
        && !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Path {
    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    pub(crate) fn of(steps: &[Step]) -> Self {
        Self(steps.to_vec())
    }

    /// The record that a field is in, and the field; `None` for items or values.
    pub(crate) fn split_field(&self) -> Option<(&[Step], &Arc<str>)> {
        match self.0.split_last()? {
            (Step::Field(name), parents) => Some((parents, name)),
            _ => None,
        }
    }

    /// Where this path leads when what is at `from` moves to `to`.
    pub(crate) fn moved(&self, from: &Self, to: &Self) -> Self {
        match self.0.strip_prefix(&*from.0) {
            Some(rest) => Self([&*to.0, rest].concat()),
            None => self.clone(),
        }
    }

    pub(crate) fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }

    /// How many steps two paths share up to the last item or value: one of them is meant by both.
    pub(crate) fn shared_items(&self, other: &Self) -> usize {
        let shared = self
            .0
            .iter()
            .zip(&other.0)
            .take_while(|(a, b)| a == b)
            .count();
        let among = self.0[..shared]
            .iter()
            .rposition(|step| !matches!(step, Step::Field(_)));
        among.map_or(0, |index| index + 1)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(name) if index > 0 => write!(f, ".{name}")?,
                Step::Field(name) => f.write_str(name)?,
                Step::Items => f.write_str("[]")?,
                Step::Values => f.write_str("{}")?,
            }
        }
        Ok(())
    }
}

impl Serialize for Path {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl Value {
    /// Calls `change` with everything that the steps lead to.
    pub(super) fn each<E>(
        &mut self,
        steps: &[Step],
        change: &mut dyn FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some((step, rest)) = steps.split_first() else {
            return change(self);
        };
        match (step, self) {
            (Step::Field(name), Self::Record(record)) => match record.get_mut(name) {
                Some(value) => value.each(rest, change),
                None => Ok(()),
            },
            (Step::Items, Self::Array(items)) => items
                .iter_mut()
                .try_for_each(|item| item.each(rest, change)),
            (Step::Values, Self::Map(entries)) => entries
                .iter_mut()
                .try_for_each(|(_, value)| value.each(rest, change)),
            _ => Ok(()),
        }
    }

    /// Calls `change` with every record that the steps lead to.
    pub(super) fn each_record<E>(
        &mut self,
        steps: &[Step],
        change: &mut dyn FnMut(&mut Record) -> Result<(), E>,
    ) -> Result<(), E> {
        self.each(steps, &mut |value| match value {
            Self::Record(record) => change(record),
            _ => Ok(()),
        })
    }

    /// Takes the field at the end of these names out of its record.
    pub(super) fn take_at(&mut self, steps: &[Step]) -> Option<Self> {
        let (Step::Field(name), parents) = steps.split_last()? else {
            return None;
        };
        let mut taken = None;
        let _ = self.each_record::<()>(parents, &mut |record| {
            taken = record.take(name);
            Ok(())
        });
        taken
    }

    /// The value at the end of these names.
    pub(super) fn get_at(&self, steps: &[Step]) -> Option<&Self> {
        match (steps.split_first(), self) {
            (None, value) => Some(value),
            (Some((Step::Field(name), rest)), Self::Record(record)) => {
                record.get(name)?.get_at(rest)
            }
            _ => None,
        }
    }

    /// Puts a value at the end of these names; records on the way are made.
    pub(super) fn put_at(&mut self, steps: &[Step], value: Self) {
        let (Some((Step::Field(name), rest)), Self::Record(record)) = (steps.split_first(), self)
        else {
            return;
        };
        if rest.is_empty() {
            return record.set(name, value);
        }
        if !matches!(record.get(name), Some(Self::Record(_))) {
            let made = Record {
                name: "".into(),
                fields: Vec::new(),
            };
            record.set(name, Self::Record(made));
        }
        if let Some(inner) = record.get_mut(name) {
            inner.put_at(rest, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_written_as_it_was_read() {
        for text in ["title", "address.zip", "items[].price", "a{}[].b", "tags[]"] {
            assert_eq!(text.parse::<Path>().unwrap().to_string(), text);
        }
        for text in ["", ".", "a.", "a b", "[]", "a[0]", "1a", "a[].[]"] {
            assert!(text.parse::<Path>().is_err(), "{text:?} was accepted");
        }
    }
}
