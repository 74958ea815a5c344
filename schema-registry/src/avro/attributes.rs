//! The attributes of a type or field, each read in the form that the specification gives it. What
//! has been read is removed, so that what is left is custom.

use std::borrow::Cow;

use serde_json::Value;

use super::json::{Json, Members};
use super::names::is_namespace;
use super::{FullName, InvalidSchema, Named, Primitive};

pub(super) fn read_named(
    kind: &'static str,
    object: &mut Members<'_>,
    enclosing: &str,
) -> Result<Named, InvalidSchema> {
    let Some(Json::String(name)) = object.remove("name") else {
        return Err(attribute(kind, "name", "a string"));
    };
    let namespace = match object.remove("namespace") {
        None => enclosing.into(),
        Some(Json::String(namespace)) if is_namespace(&namespace) => namespace,
        Some(namespace) => return Err(InvalidSchema::BadName(Value::from(namespace).to_string())),
    };
    let name = FullName::parse(&name, &namespace)
        .ok_or_else(|| InvalidSchema::BadName(name.into_owned()))?;
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

pub(super) fn read_doc(object: &mut Members<'_>) -> Option<String> {
    match object.remove("doc") {
        Some(Json::String(doc)) => Some(doc.into_owned()),
        _ => None,
    }
}

pub(super) fn read_strings(
    kind: &'static str,
    name: &'static str,
    object: &mut Members<'_>,
) -> Result<Option<Vec<String>>, InvalidSchema> {
    let wrong = || attribute(kind, name, "an array of strings");
    match object.remove(name) {
        None => Ok(None),
        Some(Json::Array(values)) => values
            .into_iter()
            .map(|value| {
                if let Json::String(string) = value {
                    Ok(string.into_owned())
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
pub(super) fn custom(
    object: Members<'_>,
    is_enum: bool,
) -> impl Iterator<Item = (Cow<'_, str>, Json<'_>)> {
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
    object.into_iter().filter(move |(name, _)| {
        !(RESERVED.contains(&name.as_ref()) || is_enum && name == "default")
    })
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
