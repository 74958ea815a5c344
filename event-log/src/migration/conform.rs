//! What the rules left, in the form of the schema that it is for: fields in their order, defaults
//! for what is missing, numbers promoted as Avro's schema resolution has it.

use super::{
    binary::is_branch,
    decimal::Decimal,
    reason::Reason,
    schema::{Field, Kind, NodeId, Schema},
    value::{Record, Value},
};

/// Why a value has no place in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfit {
    /// Names of fields, innermost first.
    path: Vec<String>,
    pub reason: Reason,
}

impl Unfit {
    fn new(reason: Reason) -> Self {
        Self {
            path: Vec::new(),
            reason,
        }
    }

    fn plain(words: impl Into<String>) -> Self {
        Self::new(Reason::plain(words))
    }

    fn at(mut self, field: &str) -> Self {
        self.path.push(field.to_owned());
        self
    }

    pub fn path(&self) -> String {
        let names: Vec<_> = self.path.iter().rev().map(String::as_str).collect();
        names.join(".").replace(".[]", "[]").replace(".{}", "{}")
    }
}

impl Schema {
    pub(crate) fn conform(&self, value: Value) -> Result<Value, Unfit> {
        conform(self, self.root(), value)
    }
}

fn conform(schema: &Schema, node: NodeId, value: Value) -> Result<Value, Unfit> {
    let unfit = |value: &Value| {
        Unfit::plain(format!(
            "a {} is no {}",
            value.kind(),
            schema.describe(node)
        ))
    };
    Ok(match (schema.kind(node), value) {
        // Mostly a rule leaves the fields as they are: then the record is not made anew.
        (Kind::Record { name, fields }, Value::Record(mut record))
            if has_fields(&record, fields) =>
        {
            for (field, (_, value)) in fields.iter().zip(&mut record.fields) {
                let given = std::mem::replace(value, Value::Null);
                *value =
                    conform(schema, field.node, given).map_err(|unfit| unfit.at(&field.name))?;
            }
            record.name = name.clone();
            Value::Record(record)
        }
        (Kind::Record { name, fields }, Value::Record(mut record)) => {
            let mut conformed = Vec::with_capacity(fields.len() + 2);
            for field in fields {
                let given = record.take(&field.name).or_else(|| {
                    let mut aliases = field.aliases.iter();
                    aliases.find_map(|alias| record.take(alias))
                });
                let value = match (given, &field.default) {
                    (Some(value), _) => {
                        conform(schema, field.node, value).map_err(|unfit| unfit.at(&field.name))?
                    }
                    (None, Some(default)) => default.clone(),
                    (None, None) => {
                        let reason = "it is missing and has no default";
                        return Err(Unfit::plain(reason).at(&field.name));
                    }
                };
                conformed.push((field.name.clone(), value));
            }
            Value::Record(Record {
                name: name.clone(),
                fields: conformed,
            })
        }
        (Kind::Union(branches), value) => {
            let exact = branches
                .iter()
                .find(|branch| is_branch(schema, **branch, &value));
            match exact {
                Some(branch) => conform(schema, *branch, value)?,
                None => branches
                    .iter()
                    .find_map(|branch| conform(schema, *branch, value.clone()).ok())
                    .ok_or_else(|| unfit(&value))?,
            }
        }
        (Kind::Array(items), Value::Array(list)) => {
            let list = list.into_iter().map(|item| conform(schema, *items, item));
            let list: Result<_, Unfit> = list.collect();
            Value::Array(list.map_err(|unfit| unfit.at("[]"))?)
        }
        (Kind::Map(values), Value::Map(entries)) => {
            let entries = entries
                .into_iter()
                .map(|(key, value)| Ok((key, conform(schema, *values, value)?)));
            let entries: Result<_, Unfit> = entries.collect();
            Value::Map(entries.map_err(|unfit| unfit.at("{}"))?)
        }
        (
            Kind::Enum {
                name,
                symbols,
                default,
            },
            Value::Enum(_, symbol),
        ) => {
            let known = symbols.iter().find(|known| **known == symbol);
            let symbol = known.or(default.as_ref()).ok_or_else(|| {
                let words = format!("is no symbol of {name}, which has no default");
                Unfit::new(Reason::of(symbol, words))
            })?;
            Value::Enum(name.clone(), symbol.clone())
        }
        (Kind::Fixed { name, size }, Value::Fixed(_, bytes)) if bytes.len() == *size => {
            Value::Fixed(name.clone(), bytes)
        }
        (
            Kind::Decimal {
                precision,
                scale,
                fixed,
            },
            Value::Decimal(decimal),
        ) if decimal.scale() == i64::from(*scale)
            && decimal.digits() <= *precision as usize
            && fixed.is_none_or(|size| decimal.unscaled_bytes().len() <= size) =>
        {
            Value::Decimal(decimal)
        }
        (Kind::Decimal { scale, .. }, Value::Bytes(bytes) | Value::Fixed(_, bytes)) => {
            Value::Decimal(Decimal::from_bytes(&bytes, *scale))
        }
        (Kind::Bytes, Value::Decimal(decimal)) => Value::Bytes(decimal.unscaled_bytes()),
        (Kind::Bytes, Value::String(text)) => Value::Bytes(text.into_bytes()),
        (Kind::String, Value::Bytes(bytes)) => match String::from_utf8(bytes) {
            Ok(text) => Value::String(text),
            Err(_) => return Err(Unfit::plain("these bytes are no text")),
        },
        (Kind::Long, Value::Int(number)) => Value::Long(number.into()),
        (Kind::Float, Value::Int(number)) => Value::Float(number as f32),
        (Kind::Float, Value::Long(number)) => Value::Float(number as f32),
        (Kind::Double, Value::Int(number)) => Value::Double(number.into()),
        (Kind::Double, Value::Long(number)) => Value::Double(number as f64),
        (Kind::Double, Value::Float(number)) => Value::Double(number.into()),
        (Kind::Null, value @ Value::Null)
        | (Kind::Boolean, value @ Value::Boolean(_))
        | (Kind::Int, value @ Value::Int(_))
        | (Kind::Long, value @ Value::Long(_))
        | (Kind::Float, value @ Value::Float(_))
        | (Kind::Double, value @ Value::Double(_))
        | (Kind::Bytes, value @ Value::Bytes(_))
        | (Kind::String, value @ Value::String(_)) => value,
        (_, value) => return Err(unfit(&value)),
    })
}

/// Whether a record has these fields and no others, in their order.
fn has_fields(record: &Record, fields: &[Field]) -> bool {
    let given = record.fields.iter().map(|(name, _)| name);
    given.eq(fields.iter().map(|field| &field.name))
}
