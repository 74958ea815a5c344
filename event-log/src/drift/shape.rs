//! What a type of the schema is called in findings, and which Rust type goes with it.

use crate::migration::schema::{Kind, NodeId, Schema};

/// The Rust type that goes with it.
pub(super) fn rust_type(kind: &Kind) -> &'static str {
    match kind {
        Kind::Null => "()",
        Kind::Boolean => "bool",
        Kind::Int => "i32",
        Kind::Long => "i64",
        Kind::Float => "f32",
        Kind::Double => "f64",
        Kind::Bytes | Kind::Decimal { .. } | Kind::Fixed { .. } => "bytes (serde_bytes)",
        Kind::String => "String",
        Kind::Record { .. } => "a struct",
        Kind::Enum { .. } => "an enum",
        Kind::Array(_) => "Vec",
        Kind::Map(_) => "a map of String",
        Kind::Union(_) => "an Option or an enum of the branches",
    }
}

pub(super) fn in_words(schema: &Schema, node: NodeId) -> String {
    match schema.kind(node) {
        Kind::Fixed { size, .. } => format!("fixed of {size} bytes"),
        Kind::Record { .. } => "a record".into(),
        Kind::Enum { symbols, .. } => format!("an enum of {}", symbols.join(", ")),
        Kind::Array(_) => "an array".into(),
        Kind::Map(_) => "a map".into(),
        Kind::Union(_) => "a union".into(),
        Kind::Null
        | Kind::Boolean
        | Kind::Int
        | Kind::Long
        | Kind::Float
        | Kind::Double
        | Kind::Bytes
        | Kind::Decimal { .. }
        | Kind::String => schema.describe(node),
    }
}

/// What the codec calls a branch of a union: a named type by its full name, others by their type.
pub(super) fn branch_name(schema: &Schema, branch: NodeId) -> &str {
    match schema.kind(branch) {
        Kind::Null => "Null",
        Kind::Boolean => "Boolean",
        Kind::Int => "Int",
        Kind::Long => "Long",
        Kind::Float => "Float",
        Kind::Double => "Double",
        Kind::Bytes => "Bytes",
        Kind::Decimal { .. } => "Decimal",
        Kind::String => "String",
        Kind::Array(_) => "Array",
        Kind::Map(_) => "Map",
        Kind::Union(_) => "Union",
        Kind::Fixed { name, .. } | Kind::Enum { name, .. } | Kind::Record { name, .. } => name,
    }
}
