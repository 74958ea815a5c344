//! Between an event enum and Confluent's wire format: a zero byte, the id of
//! the schema, the Avro datum.
//!
//! Each variant of the enum is a record schema of its own. serde tells the
//! variants' names, the schema files their form, the registry their ids.

pub(crate) mod tagged;
pub(crate) mod variants;

use std::{collections::HashMap, io::Read, marker::PhantomData};

use kernel::Event;
use serde_avro_fast::{
    Schema,
    de::DeserializerState,
    ser::{SerializerConfig, SerializerState},
};
use serde_json::Value;

use crate::{
    registry::{RegistryClient, RegistryError},
    schemas::ContextSchemas,
};
use tagged::Tagged;
use variants::{variant_index, variant_names};

/// Encodes and decodes the events of one enum at the schema versions that it was compiled for.
#[derive(Debug)]
pub struct EventCodec<E> {
    variants: Vec<Variant>,
    by_schema_id: HashMap<u32, usize>,
    events: PhantomData<fn() -> E>,
}

#[derive(Debug)]
struct Variant {
    name: &'static str,
    event_type: String,
    schema_id: u32,
    schema: Schema,
}

/// The codec cannot be made: the enum, its files and the registry do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("event {event} has no schema file in schemas/ of {contexts}")]
    NoSchema { event: String, contexts: String },
    #[error("event {event} may be {first} or {second}: read them with an enum each")]
    Ambiguous {
        event: String,
        first: String,
        second: String,
    },
    #[error("the schema of {event} is not usable Avro: {reason}")]
    Schema { event: String, reason: String },
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

#[derive(Debug, thiserror::Error)]
#[error("failed to encode {event_type}: {reason}")]
pub struct EncodeError {
    pub event_type: String,
    pub reason: String,
}

/// A recorded value that this enum cannot take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the value is not in Confluent's wire format")]
    NotFramed,
    #[error("{event_type} was written with schema id {schema_id}, which this binary does not read")]
    UnknownSchema { event_type: String, schema_id: u32 },
    /// The registry has given the id to another schema than when this was written.
    #[error("{event_type} was written with schema id {schema_id}, which is that of {schema_of}")]
    OtherType {
        event_type: String,
        schema_id: u32,
        schema_of: String,
    },
    #[error("{event_type} cannot be read with its schema: {reason}")]
    Malformed { event_type: String, reason: String },
}

impl<E: Event> EventCodec<E> {
    /// Makes the codec for an enum whose variants all are events of these contexts.
    ///
    /// Every schema must be registered already (`annals schema register`).
    pub async fn connect(
        contexts: &[&ContextSchemas],
        registry: &RegistryClient,
    ) -> Result<Self, CodecError> {
        let mut variants = Vec::new();
        for name in variant_names::<E>() {
            let (event_type, text) = schema_of(contexts, name)?;
            let schema_id = registry.look_up(&event_type, text).await?;
            variants.push(Variant::new(name, event_type, schema_id, text)?);
        }
        Ok(Self::of(variants))
    }

    /// Makes the codec without a registry, with ids 1, 2, … in the order of the variants.
    pub fn offline(contexts: &[&ContextSchemas]) -> Result<Self, CodecError> {
        let mut variants = Vec::new();
        for (name, schema_id) in variant_names::<E>().iter().zip(1..) {
            let (event_type, text) = schema_of(contexts, name)?;
            variants.push(Variant::new(name, event_type, schema_id, text)?);
        }
        Ok(Self::of(variants))
    }

    fn of(variants: Vec<Variant>) -> Self {
        let by_schema_id = variants
            .iter()
            .enumerate()
            .map(|(index, variant)| (variant.schema_id, index))
            .collect();
        Self {
            variants,
            by_schema_id,
            events: PhantomData,
        }
    }

    /// Full names of the event types, such as `annals.tasks.TaskCreated`.
    pub fn event_types(&self) -> impl Iterator<Item = &str> {
        self.variants.iter().map(|variant| &*variant.event_type)
    }

    /// Appends the event's value to `into` and answers its event type.
    ///
    /// After an error `into` is as it was.
    pub fn encode(&self, event: &E, into: &mut Vec<u8>) -> Result<&str, EncodeError> {
        let variant = &self.variants[variant_index(event)];
        let before = into.len();
        into.push(0);
        into.extend_from_slice(&variant.schema_id.to_be_bytes());
        let mut config = SerializerConfig::new(&variant.schema);
        let mut state = SerializerState::from_writer(&mut *into, &mut config);
        if let Err(error) = event.serialize(state.serializer()) {
            into.truncate(before);
            return Err(EncodeError {
                event_type: variant.event_type.clone(),
                reason: error.to_string(),
            });
        }
        Ok(&variant.event_type)
    }

    /// Reads a value; `None` when its event type is none of the enum's variants.
    pub fn decode(&self, event_type: &str, value: &[u8]) -> Result<Option<E>, DecodeError> {
        let framed = split_schema_id(value);
        let known = framed.and_then(|(id, datum)| Some((self.by_schema_id.get(&id)?, datum)));
        let Some((index, datum)) = known else {
            let ours = self.event_types().any(|known| known == event_type);
            return match framed {
                _ if !ours => Ok(None),
                None => Err(DecodeError::NotFramed),
                Some((schema_id, _)) => Err(DecodeError::UnknownSchema {
                    event_type: event_type.into(),
                    schema_id,
                }),
            };
        };
        let variant = &self.variants[*index];
        if variant.event_type != event_type {
            return Err(DecodeError::OtherType {
                event_type: event_type.into(),
                schema_id: framed.map_or(0, |(id, _)| id),
                schema_of: variant.event_type.clone(),
            });
        }
        let malformed = |reason: String| DecodeError::Malformed {
            event_type: variant.event_type.clone(),
            reason,
        };
        let mut state = DeserializerState::from_slice(datum, &variant.schema);
        let event = E::deserialize(Tagged {
            name: variant.name,
            content: state.deserializer(),
        })
        .map_err(|error| malformed(error.to_string()))?;
        // Bytes that the schema does not account for: it was written with another one.
        match state.into_reader().bytes().next() {
            None => Ok(Some(event)),
            Some(_) => Err(malformed("bytes are left over".into())),
        }
    }
}

impl Variant {
    fn new(
        name: &'static str,
        event_type: String,
        schema_id: u32,
        text: &str,
    ) -> Result<Self, CodecError> {
        let schema = parse_schema(text).map_err(|reason| CodecError::Schema {
            event: event_type.clone(),
            reason,
        })?;
        Ok(Self {
            name,
            event_type,
            schema_id,
            schema,
        })
    }
}

/// Full name and schema text of the event's current version.
fn schema_of<'a>(
    contexts: &[&'a ContextSchemas],
    event: &str,
) -> Result<(String, &'a str), CodecError> {
    let mut found = contexts.iter().filter_map(|schemas| {
        let file = schemas.current(event)?;
        Some((schemas.full_name(event), &*file.text))
    });
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only),
        (Some((first, _)), Some((second, _))) => Err(CodecError::Ambiguous {
            event: event.into(),
            first,
            second,
        }),
        (None, _) => {
            let names: Vec<_> = contexts.iter().map(|schemas| schemas.context()).collect();
            Err(CodecError::NoSchema {
                event: event.into(),
                contexts: names.join(", "),
            })
        }
    }
}

/// Our logical types `decimal` and `json` stand on strings; `serde_avro_fast`
/// knows a `decimal` on bytes alone. The Avro specification has a reader
/// ignore what it does not know, and the bytes are those of a string.
fn parse_schema(text: &str) -> Result<Schema, String> {
    let mut json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    drop_string_logical_types(&mut json);
    json.to_string()
        .parse()
        .map_err(|error: serde_avro_fast::schema::SchemaError| error.to_string())
}

fn drop_string_logical_types(node: &mut Value) {
    match node {
        Value::Object(fields) => {
            if fields.get("type").is_some_and(|kind| kind == "string") {
                fields.remove("logicalType");
            }
            fields.values_mut().for_each(drop_string_logical_types);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_string_logical_types),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Splits a value into the schema's id and the Avro datum.
fn split_schema_id(value: &[u8]) -> Option<(u32, &[u8])> {
    match value {
        [0, a, b, c, d, datum @ ..] => Some((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kernel::Decimal;
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Ledger {
        Opened {},
        Charged {
            amount: Decimal,
            note: Option<String>,
        },
    }

    /// A reader of its own that takes one event, and one field of it.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Amounts {
        Charged { amount: Decimal },
    }

    fn schemas() -> ContextSchemas {
        ContextSchemas::load(
            "billing",
            [
                (
                    "Opened.v1.avsc",
                    r#"{"type":"record","namespace":"annals.billing","name":"Opened","fields":[]}"#,
                ),
                (
                    "Charged.v1.avsc",
                    r#"{"type":"record","namespace":"annals.billing","name":"Charged","fields":[
                        {"name":"amount","type":{"type":"string","logicalType":"decimal"}},
                        {"name":"note","type":["null","string"],"default":null}]}"#,
                ),
            ],
        )
        .unwrap()
    }

    fn charged() -> Ledger {
        Ledger::Charged {
            amount: "13.14000".parse().unwrap(),
            note: Some("fee".into()),
        }
    }

    #[test]
    fn an_event_is_read_back_as_it_was_written() {
        let codec = EventCodec::<Ledger>::offline(&[&schemas()]).unwrap();
        for event in [Ledger::Opened {}, charged()] {
            let mut value = Vec::new();
            let event_type = codec.encode(&event, &mut value).unwrap();
            assert_eq!(codec.decode(event_type, &value), Ok(Some(event)));
        }
    }

    #[test]
    fn a_decimal_keeps_its_scale_in_the_log() {
        let codec = EventCodec::<Ledger>::offline(&[&schemas()]).unwrap();
        let mut value = Vec::new();
        codec.encode(&charged(), &mut value).unwrap();
        assert_eq!(value[..5], [0, 0, 0, 0, 2]);
        assert!(value.windows(8).any(|bytes| bytes == b"13.14000"));
    }

    #[test]
    fn a_reader_takes_the_fields_that_it_names() {
        let writer = EventCodec::<Ledger>::offline(&[&schemas()]).unwrap();
        let mut value = Vec::new();
        writer.encode(&charged(), &mut value).unwrap();
        value[4] = 1; // the reader's own numbering
        let reader = EventCodec::<Amounts>::offline(&[&schemas()]).unwrap();
        let amount = "13.14000".parse().unwrap();
        assert_eq!(
            reader.decode("annals.billing.Charged", &value),
            Ok(Some(Amounts::Charged { amount }))
        );
        assert_eq!(
            reader.decode("annals.billing.Opened", &[0, 0, 0, 0, 9]),
            Ok(None)
        );
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let codec = EventCodec::<Ledger>::offline(&[&schemas()]).unwrap();
        let decode = |value: &[u8]| codec.decode("annals.billing.Charged", value).unwrap_err();
        assert_eq!(decode(b"{}"), DecodeError::NotFramed);
        assert_eq!(codec.decode("annals.other.Else", b"{}"), Ok(None));
        assert!(matches!(
            codec.decode("annals.billing.Opened", &[0, 0, 0, 0, 2, 1]),
            Err(DecodeError::OtherType { schema_id: 2, .. })
        ));
        assert!(matches!(
            decode(&[0, 0, 0, 0, 9, 1]),
            DecodeError::UnknownSchema { schema_id: 9, .. }
        ));
        assert!(matches!(
            decode(&[0, 0, 0, 0, 2, 80]),
            DecodeError::Malformed { .. }
        ));
        let mut value = Vec::new();
        codec.encode(&charged(), &mut value).unwrap();
        value.push(0);
        assert!(
            matches!(decode(&value), DecodeError::Malformed { reason, .. } if reason == "bytes are left over")
        );
    }
}
