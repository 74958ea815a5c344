//! What a node of an Avro schema asks for, with names resolved.

use std::{collections::HashMap, fmt};

use serde_json::Value;

/// A schema and the named types in it.
#[derive(Debug)]
pub(super) struct Names<'a>(HashMap<&'a str, &'a Value>);

/// One node of a schema.
#[derive(Debug)]
pub(super) enum Shape<'a> {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    /// With its logical type, if it has one.
    String(Option<&'a str>),
    Fixed(usize),
    Record(Vec<Field<'a>>),
    Enum(Vec<&'a str>),
    Array(&'a Value),
    Map(&'a Value),
    Union(Vec<&'a Value>),
    Unknown(String),
}

#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub name: &'a str,
    pub schema: &'a Value,
}

impl<'a> Names<'a> {
    pub fn of(schema: &'a Value) -> Self {
        let mut names = HashMap::new();
        collect(schema, &mut names);
        Self(names)
    }

    /// Follows references and wrapping objects until a shape is known.
    pub fn shape(&self, schema: &'a Value) -> Shape<'a> {
        match schema {
            Value::Array(branches) => Shape::Union(branches.iter().collect()),
            Value::String(name) => self.named(name, None),
            Value::Object(node) => match (&schema["type"], node) {
                (Value::String(kind), _) => self.complex(kind, schema),
                (inner, _) => self.shape(inner),
            },
            other => Shape::Unknown(other.to_string()),
        }
    }

    fn complex(&self, kind: &'a str, node: &'a Value) -> Shape<'a> {
        let list = |field: &str| node[field].as_array().map_or(&[][..], Vec::as_slice);
        match kind {
            "record" | "error" => Shape::Record(
                list("fields")
                    .iter()
                    .filter_map(|field| {
                        Some(Field {
                            name: field["name"].as_str()?,
                            schema: &field["type"],
                        })
                    })
                    .collect(),
            ),
            "enum" => Shape::Enum(list("symbols").iter().filter_map(Value::as_str).collect()),
            "array" => Shape::Array(&node["items"]),
            "map" => Shape::Map(&node["values"]),
            "fixed" => Shape::Fixed(node["size"].as_u64().unwrap_or(0) as usize),
            name => self.named(name, node["logicalType"].as_str()),
        }
    }

    fn named(&self, name: &'a str, logical: Option<&'a str>) -> Shape<'a> {
        match name {
            "null" => Shape::Null,
            "boolean" => Shape::Boolean,
            "int" => Shape::Int,
            "long" => Shape::Long,
            "float" => Shape::Float,
            "double" => Shape::Double,
            "bytes" => Shape::Bytes,
            "string" => Shape::String(logical),
            reference => match self.0.get(last_part(reference)) {
                Some(schema) => self.shape(schema),
                None => Shape::Unknown(reference.into()),
            },
        }
    }
}

/// Named types by their last part: one file does not hold two of one name.
fn collect<'a>(schema: &'a Value, names: &mut HashMap<&'a str, &'a Value>) {
    match schema {
        Value::Array(branches) => branches.iter().for_each(|branch| collect(branch, names)),
        Value::Object(node) => {
            if let Some("record" | "error" | "enum" | "fixed") = schema["type"].as_str()
                && let Some(name) = schema["name"].as_str()
            {
                names.insert(last_part(name), schema);
            }
            for (key, inner) in node {
                match (key.as_str(), inner) {
                    ("fields", Value::Array(fields)) => {
                        fields.iter().for_each(|field| collect(field, names));
                    }
                    ("type" | "items" | "values", inner) => collect(inner, names),
                    _ => {}
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn last_part(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(_, last)| last)
}

impl Shape<'_> {
    /// The Rust type that goes with it.
    pub fn rust(&self) -> &'static str {
        match self {
            Self::Null => "()",
            Self::Boolean => "bool",
            Self::Int => "i32",
            Self::Long => "i64",
            Self::Float => "f32",
            Self::Double => "f64",
            Self::Bytes | Self::Fixed(_) => "bytes (serde_bytes)",
            Self::String(_) => "String",
            Self::Record(_) => "a struct",
            Self::Enum(_) => "an enum",
            Self::Array(_) => "Vec",
            Self::Map(_) => "a map of String",
            Self::Union(_) => "an Option or an enum of the branches",
            Self::Unknown(_) => "what the schema says",
        }
    }
}

impl fmt::Display for Shape<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String(Some(logical)) => return write!(f, "string ({logical})"),
            Self::String(None) => "string",
            Self::Fixed(size) => return write!(f, "fixed of {size} bytes"),
            Self::Record(_) => "a record",
            Self::Enum(symbols) => return write!(f, "an enum of {}", symbols.join(", ")),
            Self::Array(_) => "an array",
            Self::Map(_) => "a map",
            Self::Union(_) => "a union",
            Self::Unknown(name) => return write!(f, "`{name}`, which is no Avro type"),
        })
    }
}
