//! A datum between two schemas: exact, and telling by itself which branch of a union it is.

use std::{fmt, sync::Arc};

use super::decimal::Decimal;

/// One Avro datum with nothing rounded: 64-bit integers and decimals are what they were.
///
/// Names are full names of fixed, enum and record types.
#[derive(Clone, Debug)]
pub enum Value {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    Bytes(Vec<u8>),
    String(String),
    /// Bytes or a fixed with the logical type `decimal`. (Ours, a string, is a `String`.)
    Decimal(Decimal),
    Fixed(Arc<str>, Vec<u8>),
    /// Name and symbol.
    Enum(Arc<str>, Arc<str>),
    Array(Vec<Value>),
    /// In the order in which it was written.
    Map(Vec<(String, Value)>),
    Record(Record),
}

/// A record's name and its fields, in the order of its schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub name: Arc<str>,
    pub fields: Vec<(Arc<str>, Value)>,
}

impl Value {
    pub(crate) fn text(text: &str) -> Self {
        Self::String(text.to_owned())
    }

    /// What kind of value it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "boolean",
            Self::Int(_) => "int",
            Self::Long(_) => "long",
            Self::Float(_) => "float",
            Self::Double(_) => "double",
            Self::Bytes(_) => "bytes",
            Self::String(_) => "string",
            Self::Decimal(_) => "decimal",
            Self::Fixed(..) => "fixed",
            Self::Enum(..) => "enum",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Record(_) => "record",
        }
    }

    /// The path of the first place where the two differ; `None` when they are the same.
    pub fn first_difference(&self, other: &Self) -> Option<String> {
        let mut path = String::new();
        differs(self, other, &mut path).then_some(path)
    }
}

/// Floats are the same when their bits are, so that NaN is what it was.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Boolean(a), Self::Boolean(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Long(a), Self::Long(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::Bytes(a), Self::Bytes(b)) => a == b,
            (Self::String(a), Self::String(b)) => a == b,
            (Self::Decimal(a), Self::Decimal(b)) => a == b,
            (Self::Fixed(a, x), Self::Fixed(b, y)) => a == b && x == y,
            (Self::Enum(a, x), Self::Enum(b, y)) => a == b && x == y,
            (Self::Array(a), Self::Array(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => same_entries(a, b),
            (Self::Record(a), Self::Record(b)) => a == b,
            _ => false,
        }
    }
}

/// A map has no order: a writer may put its entries as it likes.
fn same_entries(a: &[(String, Value)], b: &[(String, Value)]) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(entry, beside)| {
            entry == beside
                || b.iter()
                    .any(|(key, value)| *key == entry.0 && *value == entry.1)
        })
}

fn differs(a: &Value, b: &Value, path: &mut String) -> bool {
    if a == b {
        return false;
    }
    let before = path.len();
    match (a, b) {
        (Value::Record(a), Value::Record(b)) => {
            for ((name, a), (_, b)) in a.fields.iter().zip(&b.fields) {
                if before > 0 {
                    path.push('.');
                }
                path.push_str(name);
                if differs(a, b, path) {
                    return true;
                }
                path.truncate(before);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            path.push_str("[]");
            for (a, b) in a.iter().zip(b) {
                if differs(a, b, path) {
                    return true;
                }
            }
        }
        _ => {}
    }
    true
}

impl Record {
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        let (_, value) = self.fields.iter().find(|(known, _)| **known == *name)?;
        Some(value)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        let (_, value) = self.fields.iter_mut().find(|(known, _)| **known == *name)?;
        Some(value)
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        let index = self.fields.iter().position(|(known, _)| **known == *name)?;
        Some(self.fields.swap_remove(index).1)
    }

    pub(crate) fn set(&mut self, name: &Arc<str>, value: Value) {
        match self.get_mut(name) {
            Some(known) => *known = value,
            None => self.fields.push((name.clone(), value)),
        }
    }
}

impl fmt::Display for Value {
    /// As JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_json().fmt(f)
    }
}
