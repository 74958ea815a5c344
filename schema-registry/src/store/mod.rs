//! The registry's tables. Every statement names the schema `registry`, so that the registry gets
//! along with whatever else lives in the database.

pub(crate) mod deletion;
pub(crate) mod listing;
pub(crate) mod registration;
pub(crate) mod settings;

use serde::Serialize;
use serde_json::Value;
use sqlx::types::Json;

type Result<T> = std::result::Result<T, sqlx::Error>;

/// Which versions count, by whether they are soft-deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deleted {
    Without,
    With,
    Only,
}

impl Deleted {
    fn live(self) -> bool {
        self != Self::Only
    }

    fn deleted(self) -> bool {
        self != Self::Without
    }
}

/// A part of a list: as many as `limit` (all if it is negative), from `offset` on.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    pub offset: i64,
    pub limit: i64,
}

impl Page {
    fn limit(self) -> Option<i64> {
        (self.limit >= 0).then_some(self.limit)
    }
}

/// One version of a subject, as clients see it.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
pub struct SubjectVersion {
    pub subject: String,
    pub version: i32,
    pub id: i32,
    #[serde(flatten)]
    #[sqlx(flatten)]
    pub stored: StoredSchema,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub deleted: bool,
}

/// A schema without the subjects that it belongs to. Like Confluent's registry, it leaves out what
/// is not there and the type where it is the default.
#[derive(Clone, Debug, Serialize, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct StoredSchema {
    #[serde(skip_serializing_if = "is_avro")]
    pub schema_type: String,
    pub schema: String,
    #[sqlx(rename = "refs")]
    #[serde(skip_serializing_if = "is_empty_array")]
    pub references: Json<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Json<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_set: Option<Json<Value>>,
}

/// Where a schema is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Place {
    pub subject: String,
    pub version: i32,
}

/// What a registration answers: the id, and the version of the subject that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Registered {
    pub id: i32,
    pub version: i32,
}

fn is_avro(schema_type: &str) -> bool {
    schema_type == "AVRO"
}

fn is_empty_array(references: &Json<Value>) -> bool {
    references.as_array().is_none_or(Vec::is_empty)
}
