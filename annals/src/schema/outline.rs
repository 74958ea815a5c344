//! A schema's JSON as `lint`, `diff` and `new` walk it: types by their names, and in words.
//!
//! Whether a text is Avro at all, and who can read whom, says the registry's own model.

use std::collections::BTreeMap;

use schema_registry::avro::{AvroSchema, InvalidSchema, can_read};
use serde_json::Value;

/// A valid schema.
pub(super) struct Outline {
    pub(super) root: Value,
    /// Records, enums and fixed types by their names, full and simple.
    named: BTreeMap<String, Value>,
    avro: AvroSchema,
}

impl Outline {
    pub(super) fn read(text: &str) -> Result<Self, InvalidSchema> {
        let avro = AvroSchema::parse(text)?;
        let root: Value = serde_json::from_str(text).map_err(InvalidSchema::NotJson)?;
        let mut named = BTreeMap::new();
        collect_named(&root, "", &mut named);
        Ok(Self { root, named, avro })
    }

    /// The text that stands for this schema whatever its white space is.
    pub(super) fn canonical(&self) -> String {
        self.avro.canonical()
    }

    /// Why a reader of this schema cannot read what was written with the other; nothing if it can.
    pub(super) fn objections(&self, writer: &Self) -> Vec<String> {
        match can_read(&self.avro, &writer.avro) {
            Ok(differences) => differences
                .into_iter()
                .map(|it| format!("{:?} at {}: {}", it.kind, it.path, it.detail))
                .collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    /// The type itself where there is but its name.
    pub(super) fn resolve<'a>(&'a self, type_: &'a Value) -> &'a Value {
        match type_ {
            Value::String(name) => self.named.get(name).unwrap_or(type_),
            Value::Object(object) => match object.get("type") {
                // {"type": "Status"} and {"type": {"type": …}} mean what is inside.
                Some(Value::String(name)) if self.named.contains_key(name) => &self.named[name],
                Some(inner @ (Value::Object(_) | Value::Array(_))) => self.resolve(inner),
                _ => type_,
            },
            _ => type_,
        }
    }

    /// The type in words: `decimal (string)`, `array of string`, `enum Status or null`.
    pub(super) fn describe(&self, type_: &Value) -> String {
        let type_ = self.resolve(type_);
        if let Value::Array(branches) = type_ {
            let (null, others): (Vec<_>, Vec<_>) =
                branches.iter().partition(|it| kind(it) == "null");
            let named = others.into_iter().chain(null).map(|it| self.describe(it));
            return named.collect::<Vec<_>>().join(" or ");
        }
        let inner = |key: &str| self.describe(type_.get(key).unwrap_or(&Value::Null));
        let plain = match kind(type_) {
            "array" => format!("array of {}", inner("items")),
            "map" => format!("map of {}", inner("values")),
            kind @ ("record" | "enum" | "fixed" | "error") => {
                format!("{kind} {}", text(type_, "name").unwrap_or_default())
            }
            kind => kind.to_owned(),
        };
        match text(type_, "logicalType") {
            Some(logical) => format!("{logical} ({plain})"),
            None => plain,
        }
    }
}

/// The fields of a record, each an object with `name` and `type`.
pub(super) fn fields(record: &Value) -> impl Iterator<Item = &Value> {
    record
        .get("fields")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

pub(super) fn field<'a>(record: &'a Value, name: &str) -> Option<&'a Value> {
    fields(record).find(|it| text(it, "name") == Some(name))
}

/// `record`, `enum`, `union`, `string`, …
pub(super) fn kind(type_: &Value) -> &str {
    match type_ {
        Value::String(name) => name,
        Value::Array(_) => "union",
        Value::Object(object) => match object.get("type") {
            Some(Value::String(name)) => name,
            Some(inner) => kind(inner),
            None => "",
        },
        _ => "",
    }
}

pub(super) fn text<'a>(of: &'a Value, name: &str) -> Option<&'a str> {
    of.get(name).and_then(Value::as_str)
}

pub(super) fn texts(of: &Value, name: &str) -> Vec<String> {
    let list = of.get(name).and_then(Value::as_array).into_iter().flatten();
    list.filter_map(Value::as_str).map(str::to_owned).collect()
}

/// What a field of a record holds.
pub(super) fn type_of(field: &Value) -> &Value {
    field.get("type").unwrap_or(&Value::Null)
}

/// A simple name stands for the first type that has it, as it does in Avro within one namespace.
fn collect_named(type_: &Value, namespace: &str, named: &mut BTreeMap<String, Value>) {
    match type_ {
        Value::Array(branches) => {
            for branch in branches {
                collect_named(branch, namespace, named);
            }
        }
        Value::Object(object) => {
            let mut namespace = text(type_, "namespace").unwrap_or(namespace).to_owned();
            if matches!(kind(type_), "record" | "enum" | "fixed" | "error")
                && let Some(name) = text(type_, "name")
            {
                let simple = match name.rsplit_once('.') {
                    Some((within, simple)) => {
                        namespace = within.to_owned();
                        simple
                    }
                    None => name,
                };
                let full = format!("{namespace}.{simple}");
                named.insert(full, type_.clone());
                named
                    .entry(simple.to_owned())
                    .or_insert_with(|| type_.clone());
            }
            for key in ["type", "items", "values"] {
                if let Some(inner @ (Value::Object(_) | Value::Array(_))) = object.get(key) {
                    collect_named(inner, &namespace, named);
                }
            }
            for field in fields(type_) {
                collect_named(type_of(field), &namespace, named);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_put_into_words() {
        let outline = Outline::read(
            r#"{"type":"record","name":"Charged","namespace":"annals.billing","fields":[
                {"name":"amount","type":{"type":"string","logicalType":"decimal"}},
                {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["fee"]}},
                {"name":"again","type":["null","Kind"]},
                {"name":"notes","type":{"type":"map","values":{"type":"array","items":"annals.billing.Kind"}}}]}"#,
        )
        .unwrap();
        let words: Vec<_> = fields(&outline.root)
            .map(|field| outline.describe(type_of(field)))
            .collect();
        assert_eq!(
            words,
            [
                "decimal (string)",
                "enum Kind",
                "enum Kind or null",
                "map of array of enum Kind"
            ]
        );
    }
}
