//! Whether a field's default is a value of its type (Avro specification, "Complex Types", the
//! table of default values).

use serde_json::Value;

use super::{AvroSchema, Primitive, Shape, TypeId};

/// Steps that checking the defaults of one schema may take, some 50 ms. Only hostile schemas come
/// near: an array of thousands of defaults for a union of thousands of branches.
const MOST_STEPS: usize = 2_000_000;

/// Checks the default of every field; answers with the record, the field and the reason otherwise.
pub(super) fn check_defaults(schema: &AvroSchema) -> Result<(), (String, String, &'static str)> {
    let mut check = Check { schema, steps: 0 };
    for type_ in &schema.types {
        let Shape::Record { named, fields, .. } = &type_.shape else {
            continue;
        };
        for field in &fields.list {
            let Some(default) = &field.default else {
                continue;
            };
            let reason = match check.is_value(field.type_, default) {
                Ok(true) => continue,
                Ok(false) => "is not a value of its type",
                Err(TooCostly) => "is too costly to check",
            };
            return Err((named.name.full(), field.name.clone(), reason));
        }
    }
    Ok(())
}

struct Check<'a> {
    schema: &'a AvroSchema,
    steps: usize,
}

struct TooCostly;

impl Check<'_> {
    fn is_value(&mut self, id: TypeId, value: &Value) -> Result<bool, TooCostly> {
        self.spend(1)?;
        let schema = self.schema;
        match (&schema.get(id).shape, value) {
            (Shape::Primitive(primitive), value) => Ok(is_primitive(*primitive, value)),
            (Shape::Enum { symbols, .. }, Value::String(symbol)) => {
                self.spend(symbols.len())?;
                Ok(symbols.contains(symbol))
            }
            // One byte for each code point up to 255.
            (Shape::Fixed { size, .. }, Value::String(bytes)) => {
                Ok(is_bytes(bytes) && i32::try_from(bytes.chars().count()) == Ok(*size))
            }
            (Shape::Array(items), Value::Array(values)) => {
                self.all(values.iter().map(|value| (*items, value)))
            }
            (Shape::Map(values), Value::Object(object)) => {
                self.all(object.values().map(|value| (*values, value)))
            }
            (Shape::Record { fields, .. }, Value::Object(object)) => {
                self.spend(fields.list.len())?;
                for field in &fields.list {
                    let fits = match object.get(&field.name) {
                        Some(value) => self.is_value(field.type_, value)?,
                        // The field's own default is checked in its own place.
                        None => field.default.is_some(),
                    };
                    if !fits {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            // Since version 1.12 of the specification any branch, before it the first.
            (Shape::Union(branches), value) => {
                for branch in branches {
                    if self.is_value(*branch, value)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            (
                Shape::Enum { .. }
                | Shape::Fixed { .. }
                | Shape::Array(_)
                | Shape::Map(_)
                | Shape::Record { .. },
                _,
            ) => Ok(false),
        }
    }

    fn spend(&mut self, steps: usize) -> Result<(), TooCostly> {
        self.steps += steps;
        if self.steps > MOST_STEPS {
            Err(TooCostly)
        } else {
            Ok(())
        }
    }

    fn all<'v>(
        &mut self,
        values: impl Iterator<Item = (TypeId, &'v Value)>,
    ) -> Result<bool, TooCostly> {
        for (id, value) in values {
            if !self.is_value(id, value)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn is_primitive(primitive: Primitive, value: &Value) -> bool {
    match primitive {
        Primitive::Null => value.is_null(),
        Primitive::Boolean => value.is_boolean(),
        Primitive::Int => value
            .as_i64()
            .is_some_and(|number| i32::try_from(number).is_ok()),
        Primitive::Long => value.as_i64().is_some(),
        Primitive::Float | Primitive::Double => value.is_number(),
        Primitive::Bytes => value.as_str().is_some_and(is_bytes),
        Primitive::String => value.is_string(),
    }
}

fn is_bytes(text: &str) -> bool {
    text.chars().all(|byte| u32::from(byte) <= 0xff)
}
