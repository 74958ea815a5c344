//! Avro's binary form, read and written without rounding anything.

use std::sync::Arc;

use super::{
    decimal::Decimal,
    schema::{Kind, NodeId, Schema},
    value::{Record, Value},
};

/// As deep as `serde_avro_fast` goes.
const DEEPEST: usize = 64;
/// Items without a byte of their own (nulls, empty records) that one datum may claim to have.
const MOST_EMPTY_ITEMS: usize = 100_000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the datum is not what its schema says: {0}")]
pub struct Malformed(pub &'static str);

impl Schema {
    /// Reads a datum of this schema; nothing may be left over.
    pub fn decode(&self, datum: &[u8]) -> Result<Value, Malformed> {
        let mut reader = Reader {
            schema: self,
            rest: datum,
            empty_items: MOST_EMPTY_ITEMS,
        };
        let value = reader.value(self.root(), DEEPEST)?;
        match reader.rest {
            [] => Ok(value),
            _ => Err(Malformed("bytes are left over")),
        }
    }

    /// Appends the datum of a value that is of this schema.
    ///
    /// # Errors
    /// The value is not of this schema; `into` then has the beginning of it.
    pub fn encode(&self, value: &Value, into: &mut Vec<u8>) -> Result<(), Malformed> {
        write(self, self.root(), value, into)
    }
}

struct Reader<'a> {
    schema: &'a Schema,
    rest: &'a [u8],
    empty_items: usize,
}

const SHORT: Malformed = Malformed("it ends too early");

impl<'a> Reader<'a> {
    fn value(&mut self, node: NodeId, depth: usize) -> Result<Value, Malformed> {
        let depth = depth
            .checked_sub(1)
            .ok_or(Malformed("it is nested too deeply"))?;
        let schema = self.schema;
        Ok(match schema.kind(node) {
            Kind::Null => Value::Null,
            Kind::Boolean => match self.take(1)? {
                [0] => Value::Boolean(false),
                [1] => Value::Boolean(true),
                _ => return Err(Malformed("a boolean is neither 0 nor 1")),
            },
            Kind::Int => Value::Int(
                i32::try_from(self.long()?).map_err(|_| Malformed("an int is too large"))?,
            ),
            Kind::Long => Value::Long(self.long()?),
            Kind::Float => Value::Float(f32::from_le_bytes(self.array()?)),
            Kind::Double => Value::Double(f64::from_le_bytes(self.array()?)),
            Kind::Bytes => Value::Bytes(self.bytes()?.to_vec()),
            Kind::String => Value::String(self.string()?),
            Kind::Decimal { scale, fixed, .. } => {
                let bytes = match fixed {
                    Some(size) => self.take(*size)?,
                    None => self.bytes()?,
                };
                Value::Decimal(Decimal::from_bytes(bytes, *scale))
            }
            Kind::Fixed { name, size } => Value::Fixed(name.clone(), self.take(*size)?.to_vec()),
            Kind::Enum { name, symbols, .. } => {
                let symbol = self.index(symbols)?;
                Value::Enum(name.clone(), symbol.clone())
            }
            Kind::Union(branches) => {
                let branch = *self.index(branches)?;
                // A union adds no level to what people see.
                return self.value(branch, depth);
            }
            Kind::Array(items) => {
                let mut list = Vec::new();
                self.blocks(|reader| {
                    list.push(reader.value(*items, depth)?);
                    Ok(())
                })?;
                Value::Array(list)
            }
            Kind::Map(values) => {
                let mut entries = Vec::new();
                self.blocks(|reader| {
                    let key = reader.string()?;
                    entries.push((key, reader.value(*values, depth)?));
                    Ok(())
                })?;
                Value::Map(entries)
            }
            Kind::Record { name, fields } => {
                let mut values: Vec<(Arc<str>, Value)> = Vec::with_capacity(fields.len() + 2);
                for field in fields {
                    values.push((field.name.clone(), self.value(field.node, depth)?));
                }
                Value::Record(Record {
                    name: name.clone(),
                    fields: values,
                })
            }
        })
    }

    fn blocks(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                let before = self.rest.len();
                item(self)?;
                if self.rest.len() == before {
                    self.empty_items = self
                        .empty_items
                        .checked_sub(1)
                        .ok_or(Malformed("it claims too many empty items"))?;
                }
            }
        }
    }

    fn index<T>(&mut self, of: &'a [T]) -> Result<&'a T, Malformed> {
        let index = usize::try_from(self.long()?).ok();
        index
            .and_then(|index| of.get(index))
            .ok_or(Malformed("there is no such branch or symbol"))
    }

    fn string(&mut self) -> Result<String, Malformed> {
        match std::str::from_utf8(self.bytes()?) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(Malformed("a string is not UTF-8")),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length =
            usize::try_from(self.long()?).map_err(|_| Malformed("a length is negative"))?;
        self.take(length)
    }

    fn long(&mut self) -> Result<i64, Malformed> {
        let mut number: u64 = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.rest.split_first().ok_or(SHORT)?;
            self.rest = rest;
            if shift == 63 && *byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err(Malformed("a number has more than 64 bits"))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(SHORT)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(SHORT)?;
        self.rest = rest;
        Ok(taken)
    }
}

const UNFIT: Malformed = Malformed("a value is of another type");

fn write(
    schema: &Schema,
    node: NodeId,
    value: &Value,
    into: &mut Vec<u8>,
) -> Result<(), Malformed> {
    match (schema.kind(node), value) {
        (Kind::Null, Value::Null) => {}
        (Kind::Boolean, Value::Boolean(value)) => into.push(u8::from(*value)),
        (Kind::Int, Value::Int(value)) => write_long((*value).into(), into),
        (Kind::Long, Value::Long(value)) => write_long(*value, into),
        (Kind::Float, Value::Float(value)) => into.extend(value.to_le_bytes()),
        (Kind::Double, Value::Double(value)) => into.extend(value.to_le_bytes()),
        (Kind::Bytes, Value::Bytes(bytes)) => write_bytes(bytes, into),
        (Kind::String, Value::String(text)) => write_bytes(text.as_bytes(), into),
        (Kind::Fixed { size, .. }, Value::Fixed(_, bytes)) if bytes.len() == *size => {
            into.extend(bytes);
        }
        (Kind::Decimal { scale, fixed, .. }, Value::Decimal(decimal))
            if decimal.scale() == i64::from(*scale) =>
        {
            let bytes = decimal.unscaled_bytes();
            match fixed {
                None => write_bytes(&bytes, into),
                Some(size) => {
                    let missing = size.checked_sub(bytes.len()).ok_or(UNFIT)?;
                    let sign = if decimal.is_negative() { 0xff } else { 0 };
                    into.extend(std::iter::repeat_n(sign, missing));
                    into.extend(bytes);
                }
            }
        }
        (Kind::Enum { symbols, .. }, Value::Enum(_, symbol)) => {
            let index = symbols.iter().position(|known| known == symbol);
            write_long(index.ok_or(UNFIT)? as i64, into);
        }
        (Kind::Array(items), Value::Array(list)) => {
            write_count(list.len(), into);
            for item in list {
                write(schema, *items, item, into)?;
            }
            into.push(0);
        }
        (Kind::Map(values), Value::Map(entries)) => {
            write_count(entries.len(), into);
            for (key, value) in entries {
                write_bytes(key.as_bytes(), into);
                write(schema, *values, value, into)?;
            }
            into.push(0);
        }
        (Kind::Record { fields, .. }, Value::Record(record)) => {
            if fields.len() != record.fields.len() {
                return Err(UNFIT);
            }
            for (field, (name, value)) in fields.iter().zip(&record.fields) {
                if field.name != *name {
                    return Err(UNFIT);
                }
                write(schema, field.node, value, into)?;
            }
        }
        (Kind::Union(branches), value) => {
            let index = branches
                .iter()
                .position(|branch| is_branch(schema, *branch, value));
            let index = index.ok_or(UNFIT)?;
            write_long(index as i64, into);
            write(schema, branches[index], value, into)?;
        }
        _ => return Err(UNFIT),
    }
    Ok(())
}

/// Whether a value is one of this branch of a union: they have all different types or names.
pub(super) fn is_branch(schema: &Schema, branch: NodeId, value: &Value) -> bool {
    match (schema.kind(branch), value) {
        (Kind::Null, Value::Null)
        | (Kind::Boolean, Value::Boolean(_))
        | (Kind::Int, Value::Int(_))
        | (Kind::Long, Value::Long(_))
        | (Kind::Float, Value::Float(_))
        | (Kind::Double, Value::Double(_))
        | (Kind::Bytes, Value::Bytes(_))
        | (Kind::String, Value::String(_))
        | (Kind::Array(_), Value::Array(_))
        | (Kind::Map(_), Value::Map(_)) => true,
        (Kind::Decimal { scale, .. }, Value::Decimal(decimal)) => {
            i64::from(*scale) == decimal.scale()
        }
        (Kind::Fixed { name, .. }, Value::Fixed(known, _))
        | (Kind::Enum { name, .. }, Value::Enum(known, _)) => name == known,
        (Kind::Record { name, .. }, Value::Record(record)) => *name == record.name,
        _ => false,
    }
}

fn write_bytes(bytes: &[u8], into: &mut Vec<u8>) {
    write_long(bytes.len() as i64, into);
    into.extend_from_slice(bytes);
}

fn write_count(count: usize, into: &mut Vec<u8>) {
    if count > 0 {
        write_long(count as i64, into);
    }
}

fn write_long(number: i64, into: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    while rest > 0x7f {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}
