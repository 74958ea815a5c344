//! Avro schemas as the registry sees them: text in, a checked graph of types, canonical text out,
//! and the question whether a reader of one can read what was written with another.
//!
//! The registry never sees Avro data, only schemas, and must judge them as the Java implementation
//! does, whose clients it serves. That is why it has its own model instead of the one of the
//! `apache-avro` crate, whose compatibility check answers differently from Java's; the tests hold
//! the two against each other.

mod attributes;
mod canonical;
mod compatibility;
mod default;
mod endless;
mod invalid;
mod json;
mod names;
mod parse;
mod rules;
mod steps;

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;

pub(crate) use canonical::push_sorted;
pub(crate) use compatibility::differences;
pub use compatibility::{Incompatibility, IncompatibilityKind, can_read};
pub use invalid::InvalidSchema;
use names::FullName;
pub(crate) use steps::Steps;
pub use steps::TooComplex;

/// A valid Avro schema. Types that occur by name more than once are one node of the graph, so a
/// recursive schema is a cycle.
#[derive(Debug)]
pub struct AvroSchema {
    types: Vec<Type>,
    root: TypeId,
    /// How many of the types, the first ones, are from the schemas that it refers to.
    foreign: usize,
    /// Of the text that it was read from.
    bytes: usize,
}

impl AvroSchema {
    /// Reads a schema from its JSON text and checks it against the Avro specification, defaults
    /// included. Linear in the size of the text but for unions in defaults, and bounded there;
    /// text nested deeper than 128 levels is refused.
    pub fn parse(text: &str) -> Result<Self, InvalidSchema> {
        parse::parse::<&str>(&[], text)
    }

    /// The same for a schema that uses types of other schemas by name: `referenced` are their
    /// texts, each behind those that it needs itself.
    pub fn parse_with<T: AsRef<str>>(referenced: &[T], text: &str) -> Result<Self, InvalidSchema> {
        parse::parse(referenced, text)
    }

    /// The text that stands for this schema: what is stored, compared and returned.
    ///
    /// It has the form of Java's `Schema.toString()`, so that two texts which a Confluent registry
    /// takes for the same schema are the same here too: white space, the order of the standard
    /// attributes, `{"type": "string"}` for `"string"` and a namespace inside of `name` make no
    /// difference; docs, defaults, aliases, logical types and custom attributes do, and are kept.
    /// Custom attributes and the keys of object defaults are sorted (Java does so with
    /// `normalize=true` only).
    pub fn canonical(&self) -> String {
        canonical::print(self, self.foreign)
    }

    /// The canonical text of the same schema without references: with the types of other schemas
    /// where they are used first.
    pub fn resolved(&self) -> String {
        canonical::print(self, 0)
    }

    /// The length of the text that it was read from: what working on it costs goes with it.
    pub(crate) fn text_bytes(&self) -> usize {
        self.bytes
    }

    fn get(&self, id: TypeId) -> &Type {
        &self.types[id.0]
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct TypeId(usize);

#[derive(Debug)]
struct Type {
    shape: Shape,
    /// All attributes that the specification does not reserve: logical types and custom ones.
    attributes: BTreeMap<String, Value>,
}

#[derive(Debug)]
enum Shape {
    Primitive(Primitive),
    Record {
        named: Named,
        is_error: bool,
        fields: Fields,
    },
    Enum {
        named: Named,
        symbols: Vec<String>,
        default: Option<String>,
    },
    Fixed {
        named: Named,
        size: i32,
    },
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Primitive {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

#[derive(Debug)]
struct Named {
    name: FullName,
    aliases: Vec<FullName>,
    doc: Option<String>,
}

impl Named {
    /// Whether a reader of this name takes what was written under the other one.
    fn is_called(&self, writer: &Self) -> bool {
        self.name.name == writer.name.name || self.aliases.contains(&writer.name)
    }
}

/// The fields of a record, in their order and by name.
#[derive(Debug, Default)]
struct Fields {
    list: Vec<Field>,
    by_name: HashMap<String, usize>,
}

impl Fields {
    fn named(&self, name: &str) -> Option<&Field> {
        self.by_name.get(name).map(|position| &self.list[*position])
    }
}

#[derive(Debug)]
struct Field {
    name: String,
    type_: TypeId,
    doc: Option<String>,
    default: Option<Value>,
    /// `None` where the schema says nothing or `ascending`, which is the default.
    order: Option<&'static str>,
    aliases: Vec<String>,
    attributes: BTreeMap<String, Value>,
}

impl Primitive {
    const ALL: [Self; 8] = [
        Self::Null,
        Self::Boolean,
        Self::Int,
        Self::Long,
        Self::Float,
        Self::Double,
        Self::Bytes,
        Self::String,
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|primitive| primitive.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
        }
    }
}

impl Shape {
    /// The name of the kind of type, as it stands in a schema.
    fn kind(&self) -> &'static str {
        match self {
            Self::Primitive(primitive) => primitive.name(),
            Self::Record { .. } => "record",
            Self::Enum { .. } => "enum",
            Self::Fixed { .. } => "fixed",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Union(_) => "union",
        }
    }

    fn named(&self) -> Option<&Named> {
        match self {
            Self::Record { named, .. } | Self::Enum { named, .. } | Self::Fixed { named, .. } => {
                Some(named)
            }
            Self::Primitive(_) | Self::Array(_) | Self::Map(_) | Self::Union(_) => None,
        }
    }
}
