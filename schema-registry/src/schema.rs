//! A schema of either type.

use crate::avro::AvroSchema;
use crate::error::Error;
use crate::json_schema::JsonSchema;
use crate::references::Referenced;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SchemaType {
    Avro,
    Json,
}

impl SchemaType {
    pub const NAMES: [&str; 2] = ["JSON", "AVRO"];

    /// Avro unless something else is said.
    pub fn parse(name: Option<&str>) -> Result<Self, Error> {
        match name {
            None | Some("AVRO") => Ok(Self::Avro),
            Some("JSON") => Ok(Self::Json),
            Some(other) => {
                let other: String = other.chars().take(100).collect();
                Err(Error::UnsupportedSchema(format!(
                    "schema type {other} is not supported, AVRO and JSON are"
                )))
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
        }
    }
}

#[derive(Debug)]
pub(crate) enum Schema {
    Avro(AvroSchema),
    Json(JsonSchema),
}

impl Schema {
    pub fn parse(type_: SchemaType, others: &[Referenced], text: &str) -> Result<Self, Error> {
        if let Some(other) = others
            .iter()
            .find(|other| other.schema_type != type_.name())
        {
            return Err(Error::UnsupportedSchema(format!(
                "`{}` is a schema of another type",
                other.name
            )));
        }
        match type_ {
            SchemaType::Avro => AvroSchema::parse_with(others, text)
                .map(Self::Avro)
                .map_err(Error::InvalidSchema),
            SchemaType::Json => JsonSchema::parse(names_and_texts(others), text)
                .map(Self::Json)
                .map_err(Error::UnsupportedSchema),
        }
    }

    /// The same for one that was found valid before, which saves a JSON Schema half of the work.
    pub fn parse_known(
        type_: SchemaType,
        others: &[Referenced],
        text: &str,
    ) -> Result<Self, Error> {
        match type_ {
            SchemaType::Avro => Self::parse(type_, others, text),
            SchemaType::Json => JsonSchema::parse_known(names_and_texts(others), text)
                .map(Self::Json)
                .map_err(Error::UnsupportedSchema),
        }
    }

    /// The text that stands for this schema: what is stored, compared and returned.
    pub fn canonical(&self) -> String {
        match self {
            Self::Avro(avro) => avro.canonical(),
            Self::Json(json) => json.canonical(),
        }
    }

    /// The text with what it refers to where that is used first; for Avro alone.
    pub fn resolved(&self) -> Option<String> {
        match self {
            Self::Avro(avro) => Some(avro.resolved()),
            Self::Json(_) => None,
        }
    }

    /// The length of the texts that it was read from: what working on it costs goes with it.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Avro(avro) => avro.text_bytes(),
            Self::Json(json) => json.text_bytes(),
        }
    }
}

fn names_and_texts(others: &[Referenced]) -> impl Iterator<Item = (&str, &str)> {
    others
        .iter()
        .map(|other| (other.name.as_str(), other.text.as_str()))
}
