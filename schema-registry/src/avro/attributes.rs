//! The attributes of a type or field, each read in the form that the specification gives it. What
//! has been read is removed, so that what is left is custom.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::names::is_namespace;
use super::{FullName, InvalidSchema, Named, Primitive};

pub(super) fn read_named(
    kind: &'static str,
    object: &mut Map<String, Value>,
    enclosing: &str,
) -> Result<Named, InvalidSchema> {
    let Some(Value::String(name)) = object.remove("name") else {
        return Err(attribute(kind, "name", "a string"));
    };
    let namespace = match object.remove("namespace") {
        None => enclosing.to_owned(),
        Some(Value::String(namespace)) if is_namespace(&namespace) => namespace,
        Some(namespace) => return Err(InvalidSchema::BadName(namespace.to_string())),
    };
    let name = FullName::parse(&name, &namespace).ok_or(InvalidSchema::BadName(name))?;
    if name.namespace.is_empty() && Primitive::named(&name.name).is_some() {
        return Err(InvalidSchema::NamedLikePrimitive(name.name));
    }
    let aliases = read_strings(kind, "aliases", object)?
        .unwrap_or_default()
        .into_iter()
        .map(|alias| FullName::parse(&alias, &name.namespace).ok_or(InvalidSchema::BadName(alias)))
        .collect::<Result<_, _>>()?;
    Ok(Named {
        name,
        aliases,
        doc: read_doc(object),
    })
}

pub(super) fn read_doc(object: &mut Map<String, Value>) -> Option<String> {
    match object.remove("doc") {
        Some(Value::String(doc)) => Some(doc),
        _ => None,
    }
}

pub(super) fn read_strings(
    kind: &'static str,
    name: &'static str,
    object: &mut Map<String, Value>,
) -> Result<Option<Vec<String>>, InvalidSchema> {
    let wrong = || attribute(kind, name, "an array of strings");
    match object.remove(name) {
        None => Ok(None),
        Some(Value::Array(values)) => values
            .into_iter()
            .map(|value| {
                if let Value::String(string) = value {
                    Ok(string)
                } else {
                    Err(wrong())
                }
            })
            .collect::<Result<_, _>>()
            .map(Some),
        Some(_) => Err(wrong()),
    }
}

/// What is left of a type's attributes when those that the specification reserves are gone.
/// `default` is reserved in enums only.
pub(super) fn custom(object: Map<String, Value>, is_enum: bool) -> BTreeMap<String, Value> {
    const RESERVED: [&str; 10] = [
        "aliases",
        "doc",
        "fields",
        "items",
        "name",
        "namespace",
        "size",
        "symbols",
        "type",
        "values",
    ];
    object
        .into_iter()
        .filter(|(name, _)| !(RESERVED.contains(&name.as_str()) || is_enum && name == "default"))
        .collect()
}

pub(super) fn attribute(
    kind: &'static str,
    attribute: &'static str,
    expected: &'static str,
) -> InvalidSchema {
    InvalidSchema::Attribute {
        kind,
        attribute,
        expected,
    }
}
