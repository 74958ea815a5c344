//! An Avro schema as the engine walks it: names resolved, defaults as values.

use std::{collections::HashMap, fmt, sync::Arc};

use serde_json::Value as Json;

use super::value::Value;

/// A parsed schema. Attributes that Avro does not know are passed over.
#[derive(Clone)]
pub struct Schema {
    text: Arc<str>,
    nodes: Vec<Node>,
    /// Fields marked `"personal"`: the record, and the field's index.
    personal: Vec<(NodeId, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NodeId(u32);

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub kind: Kind,
    /// Of what stands on an int, a long, a string, bytes or a fixed; a `decimal` on the latter two
    /// is a kind of its own.
    pub logical: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    /// On bytes, or on a fixed of this many.
    Decimal {
        precision: u32,
        scale: u32,
        fixed: Option<usize>,
    },
    Fixed {
        name: Arc<str>,
        size: usize,
    },
    Enum {
        name: Arc<str>,
        symbols: Vec<Arc<str>>,
        default: Option<Arc<str>>,
    },
    Array(NodeId),
    Map(NodeId),
    Union(Vec<NodeId>),
    Record {
        name: Arc<str>,
        fields: Vec<Field>,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Field {
    pub name: Arc<str>,
    pub node: NodeId,
    pub default: Option<Value>,
    pub aliases: Vec<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schema is not usable Avro: {0}")]
pub struct SchemaError(pub String);

const PRIMITIVES: &[(&str, Kind)] = &[
    ("null", Kind::Null),
    ("boolean", Kind::Boolean),
    ("int", Kind::Int),
    ("long", Kind::Long),
    ("float", Kind::Float),
    ("double", Kind::Double),
    ("bytes", Kind::Bytes),
    ("string", Kind::String),
];
/// No event has as many; it bounds what a foreign registry may hand us.
const MOST_NODES: usize = 50_000;

impl Schema {
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let json: Json = serde_json::from_str(text).map_err(|e| SchemaError(e.to_string()))?;
        let mut parser = Parser::default();
        parser.node(&json, None)?;
        let mut schema = Self {
            text: text.into(),
            nodes: parser.nodes.into_iter().flatten().collect(),
            personal: parser.personal,
        };
        for (record, index, json) in parser.defaults {
            schema.set_default(record, index, &json)?;
        }
        Ok(schema)
    }

    /// The text that it was parsed from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Full name of the record, enum or fixed that it is.
    pub fn name(&self) -> Option<&str> {
        self.type_name(self.root())
    }

    /// Whether a field, however deep, is marked `"personal"`.
    pub fn has_personal_fields(&self) -> bool {
        !self.personal.is_empty()
    }

    pub(super) fn is_personal(&self, record: NodeId, field: usize) -> bool {
        self.personal.contains(&(record, field))
    }

    pub(crate) fn root(&self) -> NodeId {
        NodeId(0)
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub(crate) fn kind(&self, id: NodeId) -> &Kind {
        &self.node(id).kind
    }

    pub(crate) fn fields(&self, id: NodeId) -> Option<&[Field]> {
        match self.kind(id) {
            Kind::Record { fields, .. } => Some(fields),
            _ => None,
        }
    }

    pub(crate) fn type_name(&self, id: NodeId) -> Option<&str> {
        match self.kind(id) {
            Kind::Record { name, .. } | Kind::Enum { name, .. } | Kind::Fixed { name, .. } => {
                Some(name)
            }
            _ => None,
        }
    }

    /// For messages: `string`, `long (timestamp-micros)`, `["null", "string"]`.
    pub(crate) fn describe(&self, id: NodeId) -> String {
        let node = self.node(id);
        let plain = match &node.kind {
            Kind::Decimal {
                precision, scale, ..
            } => return format!("decimal({precision}, {scale})"),
            Kind::Union(branches) => {
                let branches: Vec<_> = branches.iter().map(|b| self.describe(*b)).collect();
                return format!("union of {}", branches.join(", "));
            }
            Kind::Array(items) => return format!("array of {}", self.describe_shallow(*items)),
            Kind::Map(values) => return format!("map of {}", self.describe_shallow(*values)),
            _ => self.describe_shallow(id),
        };
        match &node.logical {
            Some(logical) => format!("{plain} ({logical})"),
            None => plain,
        }
    }

    fn describe_shallow(&self, id: NodeId) -> String {
        match self.kind(id) {
            Kind::Null => "null".into(),
            Kind::Boolean => "boolean".into(),
            Kind::Int => "int".into(),
            Kind::Long => "long".into(),
            Kind::Float => "float".into(),
            Kind::Double => "double".into(),
            Kind::Bytes => "bytes".into(),
            Kind::String => "string".into(),
            Kind::Decimal { .. } => "decimal".into(),
            Kind::Fixed { name, .. } => format!("fixed {name}"),
            Kind::Enum { name, .. } => format!("enum {name}"),
            Kind::Record { name, .. } => format!("record {name}"),
            Kind::Array(_) => "array".into(),
            Kind::Map(_) => "map".into(),
            Kind::Union(_) => "union".into(),
        }
    }

    fn set_default(
        &mut self,
        record: NodeId,
        index: usize,
        json: &Json,
    ) -> Result<(), SchemaError> {
        let Some(fields) = self.fields(record) else {
            return Ok(());
        };
        let field = &fields[index];
        let value = Value::from_schema_default(json, self, field.node).map_err(|reason| {
            SchemaError(format!("the default of field {}: {reason}", field.name))
        })?;
        if let Kind::Record { fields, .. } = &mut self.nodes[record.0 as usize].kind {
            fields[index].default = Some(value);
        }
        Ok(())
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Two schemas are the same when their types, names and defaults are, however they are written
/// down: registries write them in their own way.
impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.nodes == other.nodes
    }
}

#[derive(Default)]
struct Parser {
    nodes: Vec<Option<Node>>,
    names: HashMap<String, NodeId>,
    /// Record, index of the field, its default.
    defaults: Vec<(NodeId, usize, Json)>,
    personal: Vec<(NodeId, usize)>,
}

impl Parser {
    fn node(&mut self, json: &Json, namespace: Option<&str>) -> Result<NodeId, SchemaError> {
        match json {
            Json::String(name) => self.named(name, None, namespace),
            Json::Array(branches) => {
                let id = self.reserve()?;
                let branches: Result<Vec<_>, _> =
                    branches.iter().map(|b| self.node(b, namespace)).collect();
                self.fill(id, Kind::Union(branches?), None);
                Ok(id)
            }
            Json::Object(_) => match &json["type"] {
                Json::String(kind) => self.complex(kind, json, namespace),
                inner @ (Json::Object(_) | Json::Array(_)) => self.node(inner, namespace),
                _ => Err(SchemaError("a type is missing".into())),
            },
            other => Err(SchemaError(format!("{other} is no type"))),
        }
    }

    fn named(
        &mut self,
        name: &str,
        logical: Option<&str>,
        namespace: Option<&str>,
    ) -> Result<NodeId, SchemaError> {
        if let Some((_, kind)) = PRIMITIVES.iter().find(|(known, _)| *known == name) {
            let id = self.reserve()?;
            self.fill(id, kind.clone(), logical.map(Into::into));
            return Ok(id);
        }
        let full = full_name(name, namespace);
        let known = self.names.get(&full).or_else(|| self.names.get(name));
        known
            .copied()
            .ok_or_else(|| SchemaError(format!("type {name} is not defined")))
    }

    fn complex(
        &mut self,
        kind: &str,
        json: &Json,
        namespace: Option<&str>,
    ) -> Result<NodeId, SchemaError> {
        let logical = json["logicalType"].as_str();
        match kind {
            "array" => {
                let id = self.reserve()?;
                let items = self.node(&json["items"], namespace)?;
                self.fill(id, Kind::Array(items), None);
                Ok(id)
            }
            "map" => {
                let id = self.reserve()?;
                let values = self.node(&json["values"], namespace)?;
                self.fill(id, Kind::Map(values), None);
                Ok(id)
            }
            "record" | "error" => self.record(json, namespace),
            "enum" => self.enumeration(json, namespace),
            "fixed" => {
                let (id, name, _) = self.define(json, namespace)?;
                let size = json["size"]
                    .as_u64()
                    .and_then(|size| usize::try_from(size).ok());
                let size = size.ok_or_else(|| SchemaError(format!("fixed {name} has no size")))?;
                let kind = match decimal(json, Some(size)) {
                    Some(decimal) => decimal,
                    None => Kind::Fixed { name, size },
                };
                self.fill(id, kind, logical.map(Into::into));
                Ok(id)
            }
            "bytes" => {
                let id = self.reserve()?;
                self.fill(
                    id,
                    decimal(json, None).unwrap_or(Kind::Bytes),
                    logical.map(Into::into),
                );
                Ok(id)
            }
            name => self.named(name, logical, namespace),
        }
    }

    fn record(&mut self, json: &Json, namespace: Option<&str>) -> Result<NodeId, SchemaError> {
        let (id, name, namespace) = self.define(json, namespace)?;
        let mut fields: Vec<Field> = Vec::new();
        for (index, field) in list(json, "fields").iter().enumerate() {
            let field_name = field["name"]
                .as_str()
                .ok_or_else(|| SchemaError(format!("a field of {name} has no name")))?;
            if fields.iter().any(|known| &*known.name == field_name) {
                return Err(SchemaError(format!("{name} has field {field_name} twice")));
            }
            if let Some(default) = field.get("default") {
                self.defaults.push((id, index, default.clone()));
            }
            if !matches!(field["personal"], Json::Null | Json::Bool(false)) {
                self.personal.push((id, index));
            }
            fields.push(Field {
                name: field_name.into(),
                node: self.node(&field["type"], namespace.as_deref())?,
                default: None,
                aliases: list(field, "aliases")
                    .iter()
                    .filter_map(|alias| Some(alias.as_str()?.into()))
                    .collect(),
            });
        }
        self.fill(id, Kind::Record { name, fields }, None);
        Ok(id)
    }

    fn enumeration(&mut self, json: &Json, namespace: Option<&str>) -> Result<NodeId, SchemaError> {
        let (id, name, _) = self.define(json, namespace)?;
        let symbols: Vec<Arc<str>> = list(json, "symbols")
            .iter()
            .filter_map(|symbol| Some(symbol.as_str()?.into()))
            .collect();
        let default = json["default"].as_str().map(Into::into);
        self.fill(
            id,
            Kind::Enum {
                name,
                symbols,
                default,
            },
            None,
        );
        Ok(id)
    }

    /// Makes a place for a named type, which may be named inside of itself.
    fn define(
        &mut self,
        json: &Json,
        namespace: Option<&str>,
    ) -> Result<(NodeId, Arc<str>, Option<String>), SchemaError> {
        let name = json["name"]
            .as_str()
            .ok_or_else(|| SchemaError("a named type has no name".into()))?;
        let namespace = json["namespace"].as_str().or(namespace);
        let full = full_name(name, namespace);
        let id = self.reserve()?;
        if self.names.insert(full.clone(), id).is_some() {
            return Err(SchemaError(format!("{full} is defined twice")));
        }
        let inner = full
            .rsplit_once('.')
            .map(|(namespace, _)| namespace.to_owned());
        Ok((id, full.into(), inner))
    }

    fn reserve(&mut self) -> Result<NodeId, SchemaError> {
        if self.nodes.len() >= MOST_NODES {
            return Err(SchemaError("it has too many types".into()));
        }
        self.nodes.push(None);
        Ok(NodeId(self.nodes.len() as u32 - 1))
    }

    fn fill(&mut self, id: NodeId, kind: Kind, logical: Option<Arc<str>>) {
        self.nodes[id.0 as usize] = Some(Node { kind, logical });
    }
}

fn full_name(name: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) if !name.contains('.') && !namespace.is_empty() => {
            format!("{namespace}.{name}")
        }
        _ => name.to_owned(),
    }
}

fn list<'a>(json: &'a Json, key: &str) -> &'a [Json] {
    json[key].as_array().map_or(&[], Vec::as_slice)
}

/// A decimal that is not well-formed is plain bytes, as the specification has it.
fn decimal(json: &Json, fixed: Option<usize>) -> Option<Kind> {
    if json["logicalType"] != "decimal" {
        return None;
    }
    let number = |key: &str| u32::try_from(json[key].as_u64()?).ok();
    let precision = number("precision").filter(|precision| *precision > 0)?;
    let scale = match json.get("scale") {
        Some(_) => number("scale")?,
        None => 0,
    };
    (scale <= precision).then_some(Kind::Decimal {
        precision,
        scale,
        fixed,
    })
}
