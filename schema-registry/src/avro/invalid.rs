//! Why a text is not a schema.

/// Why a text is not an Avro schema.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSchema {
    #[error("the schema is not JSON, or nested deeper than 128 levels")]
    NotJson(#[source] serde_json::Error),
    #[error("a type is a name, an object or an array of types, not {0}")]
    NotAType(&'static str),
    #[error("`{0}` is no type, and no type of this name is defined before its use")]
    UnknownType(String),
    #[error("a {kind} needs an attribute `{attribute}`, {expected}")]
    Attribute {
        kind: &'static str,
        attribute: &'static str,
        expected: &'static str,
    },
    #[error(
        "`{0}` is not a name: letters, digits and `_`, not a digit first; dots in full names only"
    )]
    BadName(String),
    #[error("a type must not be named `{0}`, like a primitive type")]
    NamedLikePrimitive(String),
    #[error("`{0}` is defined twice")]
    DefinedTwice(String),
    #[error("record `{record}` has two fields `{field}`")]
    DuplicateField { record: String, field: String },
    #[error("enum `{name}` has the symbol `{symbol}` twice")]
    DuplicateSymbol { name: String, symbol: String },
    #[error("the default `{default}` is not a symbol of enum `{name}`")]
    BadEnumDefault { name: String, default: String },
    #[error("a union must not contain a union directly")]
    NestedUnion,
    #[error("a union has two branches of type `{0}`")]
    DuplicateBranch(String),
    #[error("there are more than {most} objects in its defaults and attributes")]
    TooManyObjects { most: usize },
    #[error("record `{0}` holds itself without end: no value of it can ever be written")]
    Endless(String),
    #[error("the default of field `{field}` of record `{record}` {reason}")]
    BadDefault {
        record: String,
        field: String,
        reason: &'static str,
    },
}
