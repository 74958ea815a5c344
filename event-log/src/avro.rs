//! Between an event enum and Confluent's wire format: a zero byte, the id of
//! the schema, the Avro datum.
//!
//! Each variant of the enum is a record schema of its own. serde tells the
//! variants' names, the schema files their form, the registry their ids. What
//! was written in the newest version is read by serde alone; other versions are
//! led there by a plan first (`reading`), and to an older one that is written
//! until the newest is activated (`writing`).

mod learning;
pub(crate) mod reading;
pub(crate) mod tagged;
pub(crate) mod variants;
mod writing;

use std::{collections::HashMap, io::BufRead, marker::PhantomData, sync::RwLock};

use kernel::Event;
use serde_avro_fast::{
    Schema,
    de::DeserializerState,
    ser::{SerializerConfig, SerializerState},
};
use serde_json::Value;

use crate::{
    migration::{UNTOLD, fingerprint},
    registry::{RegistryClient, RegistryError},
    schemas::{ContextSchemas, SchemaFile},
};
pub use learning::LearnError;
use reading::{Reading, Versions};
use tagged::Tagged;
use variants::{variant_index, variant_names};
use writing::Older;

/// Encodes and decodes the events of one enum: the newest schema version of its files, and every
/// other that rules lead to and from.
#[derive(Debug)]
pub struct EventCodec<E> {
    variants: Vec<Variant>,
    /// So few that it is faster to look through them than to search or hash.
    by_schema_id: Vec<(u32, Reading)>,
    /// Versions that came later than this binary.
    learned: RwLock<HashMap<u32, Reading>>,
    registry: Option<RegistryClient>,
    events: PhantomData<fn() -> E>,
}

#[derive(Debug)]
struct Variant {
    name: &'static str,
    event_type: String,
    /// Of the newest version.
    schema_id: u32,
    schema: Schema,
    versions: Versions,
    older: Older,
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
    /// The reason says which rule does not fit, and how to go back to one that does.
    #[error("version {from} of {event} cannot be read as version {to}: {reason}")]
    Plan {
        event: String,
        from: u32,
        to: u32,
        reason: String,
    },
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("failed to encode {event_type}: {reason}")]
    Refused { event_type: String, reason: String },
    /// The version that is written cannot hold this event: `field` would not come back from it.
    #[error(
        "{event_type} is written as version {version}, which cannot hold its field `{field}`: {reason}"
    )]
    NotActive {
        event_type: String,
        version: u32,
        field: String,
        reason: String,
    },
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
    /// The rules do not lead from the version that it was written in to ours.
    #[error("{event_type} of schema id {schema_id} cannot be migrated: {reason}")]
    NotMigrated {
        event_type: String,
        schema_id: u32,
        reason: String,
    },
}

impl<E: Event> EventCodec<E> {
    /// Makes the codec for an enum whose variants all are events of these contexts.
    ///
    /// The newest version of every schema must be registered already (`annals schema register`).
    /// Older ones are read by the rules that the registry has, or else by those of the files;
    /// later ones are learned when they are met ([`learn`](Self::learn)).
    pub async fn connect(
        contexts: &[&ContextSchemas],
        registry: &RegistryClient,
    ) -> Result<Self, CodecError> {
        let mut variants = Vec::new();
        for name in variant_names::<E>() {
            let (event_type, files) = schemas_of(contexts, name)?;
            let versions = Versions::ask(&event_type, files, registry).await?;
            variants.push(Variant::new(name, event_type, versions)?);
        }
        let mut codec = Self::of(variants)?;
        codec.registry = Some(registry.clone());
        Ok(codec)
    }

    /// Makes the codec without a registry: the newest versions have the ids 1, 2, … in the order
    /// of the variants, and older ones that are offered behind them.
    pub fn offline(contexts: &[&ContextSchemas]) -> Result<Self, CodecError> {
        let names = variant_names::<E>();
        let mut variants = Vec::new();
        let mut next_id = names.len() as u32 + 1;
        for (name, schema_id) in names.iter().zip(1..) {
            let (event_type, files) = schemas_of(contexts, name)?;
            let versions = Versions::offline(&event_type, files, schema_id, &mut next_id)?;
            variants.push(Variant::new(name, event_type, versions)?);
        }
        Self::of(variants)
    }

    fn of(variants: Vec<Variant>) -> Result<Self, CodecError> {
        let mut by_schema_id = Vec::new();
        for (index, variant) in variants.iter().enumerate() {
            by_schema_id.extend(variant.versions.readings(&variant.event_type, index)?);
        }
        Ok(Self {
            variants,
            by_schema_id,
            learned: RwLock::default(),
            registry: None,
            events: PhantomData,
        })
    }

    /// Full names of the event types, such as `annals.tasks.TaskCreated`.
    pub fn event_types(&self) -> impl Iterator<Item = &str> {
        self.variants.iter().map(|variant| &*variant.event_type)
    }

    /// Of everything that decides what an older event is when it is read: the schemas and the
    /// rules between them. What was computed with another one has to be computed again.
    ///
    /// Versions that came later than this binary do not count.
    pub fn fingerprint(&self) -> String {
        let mut parts = Vec::new();
        for variant in &self.variants {
            let plans = variant.versions.reading_plans();
            parts.push(variant.event_type.clone());
            parts.push(variant.schema.json().to_owned());
            parts.extend(plans.map(|plan| plan.fingerprint().to_owned()));
        }
        fingerprint(parts.iter().map(String::as_bytes))
    }

    /// Appends the event's value to `into`, in the newest version, and answers its event type.
    ///
    /// After an error `into` is as it was.
    pub fn encode(&self, event: &E, into: &mut Vec<u8>) -> Result<&str, EncodeError> {
        let variant = &self.variants[variant_index(event)];
        variant.encode_newest(event, into)?;
        Ok(&variant.event_type)
    }

    /// The same in the version that `written` says of an event's name, such as `TaskCreated`, if
    /// it says one; the newest instead of one that is newer.
    ///
    /// # Errors
    /// `NotActive` when the event would not come back from that version as it is.
    pub fn encode_as(
        &self,
        event: &E,
        written: impl FnOnce(&str) -> Option<u32>,
        into: &mut Vec<u8>,
    ) -> Result<&str, EncodeError> {
        let variant = &self.variants[variant_index(event)];
        match written(variant.name) {
            Some(version) if version < variant.versions.newest() => {
                variant.encode_older(event, version, into)?;
            }
            _ => variant.encode_newest(event, into)?,
        }
        Ok(&variant.event_type)
    }

    /// Reads a value; `None` when its event type is none of the enum's variants.
    ///
    /// After `UnknownSchema`, [`learn`](Self::learn) may help.
    pub fn decode(&self, event_type: &str, value: &[u8]) -> Result<Option<E>, DecodeError> {
        let Some((schema_id, datum)) = split_schema_id(value) else {
            return match self.variant(event_type) {
                None => Ok(None),
                Some(_) => Err(DecodeError::NotFramed),
            };
        };
        let learned;
        let reading = match self.known(schema_id) {
            Some(reading) => reading,
            None if self.variant(event_type).is_none() => return Ok(None),
            None => {
                let unknown = || DecodeError::UnknownSchema {
                    event_type: event_type.into(),
                    schema_id,
                };
                learned = self.learned(schema_id).ok_or_else(unknown)?;
                &learned
            }
        };
        self.read(reading, event_type, schema_id, datum).map(Some)
    }

    fn known(&self, schema_id: u32) -> Option<&Reading> {
        let mut known = self.by_schema_id.iter();
        let (_, reading) = known.find(|(id, _)| *id == schema_id)?;
        Some(reading)
    }

    fn variant(&self, event_type: &str) -> Option<usize> {
        self.event_types().position(|known| known == event_type)
    }

    fn read(
        &self,
        reading: &Reading,
        event_type: &str,
        schema_id: u32,
        datum: &[u8],
    ) -> Result<E, DecodeError> {
        let variant = &self.variants[reading.variant];
        if variant.event_type != event_type {
            return Err(DecodeError::OtherType {
                event_type: event_type.into(),
                schema_id,
                schema_of: variant.event_type.clone(),
            });
        }
        let mut migrated = Vec::new();
        let datum = match &reading.plan {
            None => datum,
            Some(plan) => {
                migrated.reserve(datum.len() + 16);
                let led = plan.migrate(datum, &mut migrated);
                led.map_err(|error| DecodeError::NotMigrated {
                    event_type: event_type.into(),
                    schema_id,
                    reason: error.to_string(),
                })?;
                &migrated
            }
        };
        variant.decode_newest(datum)
    }
}

impl Variant {
    fn new(name: &'static str, event_type: String, versions: Versions) -> Result<Self, CodecError> {
        let schema = parse_schema(versions.newest_text()).map_err(|reason| CodecError::Schema {
            event: event_type.clone(),
            reason,
        })?;
        Ok(Self {
            name,
            event_type,
            schema_id: versions.newest_id(),
            schema,
            older: Older::of(&versions),
            versions,
        })
    }

    fn encode_newest<E: Event>(&self, event: &E, into: &mut Vec<u8>) -> Result<(), EncodeError> {
        let before = into.len();
        push_frame(self.schema_id, into);
        let mut config = SerializerConfig::new(&self.schema);
        let mut state = SerializerState::from_writer(&mut *into, &mut config);
        if let Err(error) = event.serialize(state.serializer()) {
            into.truncate(before);
            return Err(EncodeError::Refused {
                event_type: self.event_type.clone(),
                reason: error.to_string(),
            });
        }
        Ok(())
    }

    fn decode_newest<E: Event>(&self, datum: &[u8]) -> Result<E, DecodeError> {
        let malformed = |reason: String| DecodeError::Malformed {
            event_type: self.event_type.clone(),
            reason,
        };
        let mut state = DeserializerState::from_slice(datum, &self.schema);
        let event = E::deserialize(Tagged {
            name: self.name,
            content: state.deserializer(),
        });
        match event {
            Ok(event) if matches!(state.fill_buf(), Ok([])) => Ok(event),
            // The schema does not account for them: it was written with another one.
            Ok(_) => Err(malformed("bytes are left over".into())),
            Err(error) => Err(malformed(self.told(datum, error.to_string()))),
        }
    }

    /// serde may quote what it does not take, which nobody is to read of personal fields.
    fn told(&self, datum: &[u8], error: String) -> String {
        match self.versions.newest_schema() {
            Some(schema) if schema.has_personal_fields() => match schema.decode(datum) {
                Err(malformed) => malformed.to_string(),
                Ok(_) => format!("its Rust type does not take it; {UNTOLD}"),
            },
            _ => error,
        }
    }
}

/// Full name and schema files of an event.
fn schemas_of<'a>(
    contexts: &[&'a ContextSchemas],
    event: &str,
) -> Result<(String, &'a [SchemaFile]), CodecError> {
    let mut found = contexts.iter().filter_map(|schemas| {
        let files = schemas.versions(event);
        (!files.is_empty()).then(|| (schemas.full_name(event), files))
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

fn push_frame(schema_id: u32, into: &mut Vec<u8>) {
    into.push(0);
    into.extend_from_slice(&schema_id.to_be_bytes());
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

    /// Takes no text.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Strict {
        Noted { note: i64 },
    }

    #[test]
    fn what_is_personal_is_in_no_error() {
        let error = |personal: bool, datum: &[u8]| {
            let noted = format!(
                r#"{{"type":"record","namespace":"annals.billing","name":"Noted","fields":[
                    {{"name":"note","type":"string","personal":{personal}}}]}}"#
            );
            let schemas = ContextSchemas::load("billing", [("Noted.v1.avsc", &*noted)]).unwrap();
            let codec = EventCodec::<Strict>::offline(&[&schemas]).unwrap();
            let value = [&[0, 0, 0, 0, 1], datum].concat();
            let error = codec.decode("annals.billing.Noted", &value);
            error.unwrap_err().to_string()
        };
        let secret = b"\x0csecret";
        assert!(error(false, secret).contains("secret"));
        assert!(error(true, secret).ends_with(&format!("does not take it; {UNTOLD}")));
        assert!(error(true, b"\x0csec").ends_with("it ends too early"));
    }

    /// The first version of the ledger's charge, as an old binary has it.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Cents {
        Charged { cents: i64 },
    }

    /// The second.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Charges {
        Charged {
            amount: Decimal,
            note: Option<String>,
        },
    }

    const CENTS: (&str, &str) = (
        "Charged.v1.avsc",
        r#"{"type":"record","namespace":"annals.billing","name":"Charged","fields":[
            {"name":"cents","type":"long"}]}"#,
    );
    const AMOUNT: (&str, &str) = (
        "Charged.v2.avsc",
        r#"{"type":"record","namespace":"annals.billing","name":"Charged","fields":[
            {"name":"amount","type":{"type":"string","logicalType":"decimal"}},
            {"name":"note","type":["null","string"],"default":null}]}"#,
    );

    fn versions(rules: &str) -> ContextSchemas {
        let rules = ("Charged.v2.migration.json", rules);
        ContextSchemas::load("billing", [CENTS, AMOUNT, rules]).unwrap()
    }

    const RULES: &str = r#"{
        "upgrade": { "type": "ANNALS", "operations": [
            { "op": "rename", "from": "cents", "to": "amount" },
            { "op": "convert", "field": "amount", "shift": -2 } ] },
        "downgrade": { "type": "ANNALS", "drops": ["amount", "note"] } }"#;

    fn charge(amount: &str, note: Option<&str>) -> Charges {
        Charges::Charged {
            amount: amount.parse().unwrap(),
            note: note.map(Into::into),
        }
    }

    #[test]
    fn an_older_version_is_read_by_its_rules() {
        let codec = EventCodec::<Charges>::offline(&[&versions(RULES)]).unwrap();
        let mut written = Vec::new();
        let old = ContextSchemas::load("billing", [CENTS]).unwrap();
        let old = EventCodec::<Cents>::offline(&[&old]).unwrap();
        let cents = 9_007_199_254_740_993;
        let event_type = old.encode(&Cents::Charged { cents }, &mut written).unwrap();
        written[4] = 2; // the newest has id 1, the older comes behind
        let read = codec.decode(event_type, &written);
        assert_eq!(read, Ok(Some(charge("90071992547409.93", None))));
        assert!(matches!(
            codec.decode(event_type, &written[..5]),
            Err(DecodeError::NotMigrated { schema_id: 2, .. })
        ));
    }

    #[test]
    fn an_older_version_is_written_only_if_it_holds_the_event() {
        let codec = EventCodec::<Charges>::offline(&[&versions(RULES)]).unwrap();
        let encode = |event: &Charges, version: u32| {
            let mut value = b"before".to_vec();
            let written = |name: &str| (name == "Charged").then_some(version);
            let encoded = codec
                .encode_as(event, written, &mut value)
                .map(str::to_owned);
            (encoded, value)
        };
        let fits = charge("13.14", None);
        let (encoded, value) = encode(&fits, 1);
        assert_eq!(encoded, Ok("annals.billing.Charged".to_owned()));
        assert_eq!(value[..11], *b"before\0\0\0\0\x02");
        assert_eq!(
            codec.decode("annals.billing.Charged", &value[6..]),
            Ok(Some(fits.clone()))
        );
        for (event, lost) in [
            (charge("13.14", Some("fee")), "note"),
            (charge("13.140", None), "amount"),
            (charge("0.001", None), "amount"),
        ] {
            let (refused, value) = encode(&event, 1);
            assert!(
                matches!(&refused, Err(EncodeError::NotActive { field, version: 1, .. }) if field == lost),
                "{refused:?}"
            );
            assert_eq!(value, b"before");
            // The newest version holds everything, and so does one that is newer still.
            assert!(encode(&event, 2).0.is_ok() && encode(&event, 3).0.is_ok());
        }
    }

    #[test]
    fn other_rules_make_another_fingerprint() {
        let fingerprint = |rules: &str| {
            let codec = EventCodec::<Charges>::offline(&[&versions(rules)]).unwrap();
            codec.fingerprint()
        };
        assert_eq!(fingerprint(RULES), fingerprint(&RULES.replace("\n", " ")));
        let mended = RULES.replace("-2", "-3");
        assert_ne!(fingerprint(RULES), fingerprint(&mended));
        let codec = EventCodec::<Amounts>::offline(&[&schemas()]).unwrap();
        assert_ne!(fingerprint(RULES), codec.fingerprint());
    }

    #[test]
    fn rules_that_do_not_fit_make_no_codec() {
        let codec = EventCodec::<Charges>::offline(&[&versions(
            r#"{"upgrade":{"type":"ANNALS","operations":[]}}"#,
        )]);
        let error = codec.unwrap_err();
        assert!(
            matches!(error, CodecError::Plan { from: 1, to: 2, .. }),
            "{error:?}"
        );
    }
}
