//! Values as JSON: defaults of schemas, literals of rules, what JSONATA gives, samples for people.

use serde_json::{Map, Number, Value as Json, json};

use super::{
    binary::is_branch,
    decimal::Decimal,
    schema::{Kind, NodeId, Schema},
    value::{Record, Value},
};

/// Deeper than this no literal is.
const DEEPEST: usize = 128;

/// Where JSON comes from, which decides how bytes and unions are read.
#[derive(Clone, Copy, PartialEq)]
enum Origin {
    /// A schema's default: a decimal is its bytes.
    Schema,
    /// A rule: a decimal is written out; a union's branch may be named, `{"long": 1}`.
    Rule,
}

impl Value {
    pub(super) fn from_schema_default(
        json: &Json,
        schema: &Schema,
        node: NodeId,
    ) -> Result<Self, String> {
        read(json, schema, node, Origin::Schema, DEEPEST)
    }

    /// What a rule's JSON says, as the schema has it; nothing is rounded.
    pub(super) fn from_rule(json: &Json, schema: &Schema, node: NodeId) -> Result<Self, String> {
        read(json, schema, node, Origin::Rule, DEEPEST)
    }

    /// As JSON, for people: decimals as text, bytes as Latin-1 text.
    pub fn to_json(&self) -> Json {
        match self {
            Self::Null => Json::Null,
            Self::Boolean(value) => json!(value),
            Self::Int(value) => json!(value),
            Self::Long(value) => json!(value),
            Self::Float(value) => float(f64::from(*value)),
            Self::Double(value) => float(*value),
            Self::String(text) => json!(text),
            Self::Decimal(decimal) => json!(decimal.to_string()),
            Self::Enum(_, symbol) => json!(**symbol),
            Self::Bytes(bytes) | Self::Fixed(_, bytes) => {
                json!(
                    bytes
                        .iter()
                        .map(|byte| char::from(*byte))
                        .collect::<String>()
                )
            }
            Self::Array(items) => items.iter().map(Self::to_json).collect(),
            Self::Map(entries) => {
                let entries = entries.iter();
                Json::Object(
                    entries
                        .map(|(key, value)| (key.clone(), value.to_json()))
                        .collect(),
                )
            }
            Self::Record(record) => {
                let fields = record.fields.iter();
                let fields: Map<_, _> = fields
                    .map(|(name, value)| (name.to_string(), value.to_json()))
                    .collect();
                Json::Object(fields)
            }
        }
    }
}

impl Schema {
    /// A value of this schema as JSON, for people, without what is in personal fields.
    pub fn shown(&self, value: &Value) -> Json {
        shown(self, self.root(), value)
    }
}

fn shown(schema: &Schema, node: NodeId, value: &Value) -> Json {
    match (schema.kind(node), value) {
        (Kind::Record { .. }, Value::Record(record)) => {
            let fields = record.fields.iter().enumerate();
            let fields = fields.map(|(index, (name, value))| {
                let of = schema.fields(node).and_then(|fields| fields.get(index));
                let json = match of {
                    Some(field) if !schema.is_personal(node, index) => {
                        shown(schema, field.node, value)
                    }
                    _ => json!("(personal)"),
                };
                (name.to_string(), json)
            });
            Json::Object(fields.collect())
        }
        (Kind::Array(items), Value::Array(list)) => list
            .iter()
            .map(|item| shown(schema, *items, item))
            .collect(),
        (Kind::Map(values), Value::Map(entries)) => {
            let entries = entries.iter();
            let entries = entries.map(|(key, value)| (key.clone(), shown(schema, *values, value)));
            Json::Object(entries.collect())
        }
        (Kind::Union(branches), value) => {
            let mut branches = branches.iter();
            let branch = branches.find(|branch| is_branch(schema, **branch, value));
            branch.map_or(Json::Null, |branch| shown(schema, *branch, value))
        }
        (_, value) => value.to_json(),
    }
}

/// JSON has no number for these three.
fn float(value: f64) -> Json {
    match Number::from_f64(value) {
        Some(number) => Json::Number(number),
        None if value.is_nan() => json!("NaN"),
        None if value > 0.0 => json!("Infinity"),
        None => json!("-Infinity"),
    }
}

fn read(
    json: &Json,
    schema: &Schema,
    node: NodeId,
    origin: Origin,
    depth: usize,
) -> Result<Value, String> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err("is nested too deeply".into());
    };
    let unfit = || format!("{json} is no {}", schema.describe(node));
    let fitting = |value: Option<Value>| value.ok_or_else(unfit);
    match schema.kind(node) {
        Kind::Null => fitting(json.is_null().then_some(Value::Null)),
        Kind::Boolean => fitting(json.as_bool().map(Value::Boolean)),
        Kind::Int => {
            let int = integer(json).and_then(|number| i32::try_from(number).ok());
            fitting(int.map(Value::Int))
        }
        Kind::Long => fitting(integer(json).map(Value::Long)),
        Kind::Float => fitting(number(json).map(|number| Value::Float(number as f32))),
        Kind::Double => fitting(number(json).map(Value::Double)),
        Kind::String => fitting(json.as_str().map(Value::text)),
        Kind::Bytes => fitting(json.as_str().and_then(latin1).map(Value::Bytes)),
        Kind::Fixed { name, size } => {
            let bytes = json.as_str().and_then(latin1);
            let bytes = bytes.filter(|bytes| bytes.len() == *size);
            fitting(bytes.map(|bytes| Value::Fixed(name.clone(), bytes)))
        }
        Kind::Decimal {
            precision, scale, ..
        } => {
            let text = json.as_str();
            let decimal = match origin {
                Origin::Schema => text
                    .and_then(latin1)
                    .map(|bytes| Decimal::from_bytes(&bytes, *scale)),
                Origin::Rule => text
                    .map(str::to_owned)
                    .or_else(|| Some(json.as_i64()?.to_string()))
                    .and_then(|text| text.parse().ok())
                    .and_then(|decimal: Decimal| decimal.with_scale((*scale).into(), None))
                    .filter(|decimal| decimal.digits() <= *precision as usize),
            };
            fitting(decimal.map(Value::Decimal))
        }
        Kind::Enum { name, symbols, .. } => {
            let symbol = json
                .as_str()
                .and_then(|text| symbols.iter().find(|symbol| ***symbol == *text));
            fitting(symbol.map(|symbol| Value::Enum(name.clone(), symbol.clone())))
        }
        Kind::Array(items) => {
            let list = json.as_array().ok_or_else(unfit)?.iter();
            let list: Result<_, _> = list
                .map(|item| read(item, schema, *items, origin, depth))
                .collect();
            Ok(Value::Array(list?))
        }
        Kind::Map(values) => {
            let entries = json.as_object().ok_or_else(unfit)?.iter();
            let entries: Result<_, String> = entries
                .map(|(key, value)| Ok((key.clone(), read(value, schema, *values, origin, depth)?)))
                .collect();
            Ok(Value::Map(entries?))
        }
        Kind::Record { name, fields } => {
            let object = json.as_object().ok_or_else(unfit)?;
            let known = |key: &String| fields.iter().any(|field| *field.name == **key);
            if let Some(other) = object.keys().find(|key| !known(key)) {
                return Err(format!("{name} has no field {other}"));
            }
            let mut values = Vec::with_capacity(fields.len());
            for field in fields {
                let value = match (object.get(&*field.name), &field.default) {
                    (Some(value), _) => read(value, schema, field.node, origin, depth)
                        .map_err(|reason| format!("{}: {reason}", field.name))?,
                    (None, Some(default)) => default.clone(),
                    (None, None) => return Err(format!("{name} needs field {}", field.name)),
                };
                values.push((field.name.clone(), value));
            }
            Ok(Value::Record(Record {
                name: name.clone(),
                fields: values,
            }))
        }
        Kind::Union(branches) => {
            let branch = |node: &NodeId| read(json, schema, *node, origin, depth).ok();
            let bare = branches.iter().find_map(branch);
            let tagged = || named_branch(json, schema, branches, origin, depth);
            fitting(bare.or_else(|| (origin == Origin::Rule).then(tagged).flatten()))
        }
    }
}

/// `{"string": "text"}`, Avro's own form of a union's value.
fn named_branch(
    json: &Json,
    schema: &Schema,
    branches: &[NodeId],
    origin: Origin,
    depth: usize,
) -> Option<Value> {
    let object = json.as_object().filter(|object| object.len() == 1)?;
    let (name, value) = object.iter().next()?;
    let branch = branches.iter().find(|branch| {
        let kind = schema.describe(**branch);
        schema.type_name(**branch).unwrap_or(&kind) == name
    })?;
    read(value, schema, *branch, origin, depth).ok()
}

/// A whole number; JSONATA has no other numbers than floats.
fn integer(json: &Json) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let whole = |number: &f64| number.fract() == 0.0 && number.abs() <= EXACT;
    json.as_i64()
        .or_else(|| json.as_f64().filter(whole).map(|number| number as i64))
}

fn number(json: &Json) -> Option<f64> {
    match json.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => json.as_f64(),
    }
}

fn latin1(text: &str) -> Option<Vec<u8>> {
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).ok())
        .collect()
}
