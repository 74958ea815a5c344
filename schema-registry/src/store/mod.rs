//! The registry's tables. Every statement names the schema `registry`, so that the registry gets
//! along with whatever else lives in the database.

pub(crate) mod deletion;
pub(crate) mod listing;
pub(crate) mod recording;
pub(crate) mod registration;
pub(crate) mod rules;
pub(crate) mod settings;

use serde::Serialize;
use sqlx::types::Json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::contract::{Metadata, RuleSet};
use crate::references::Reference;

type Result<T> = std::result::Result<T, sqlx::Error>;

/// Which versions count, by whether they are soft-deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// Which subjects are meant, by how their names begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prefix {
    /// In whatever context: what stands behind the context begins like this.
    AnyContext(String),
    /// The qualified name begins like this. What has no context is in the default one.
    OneContext(String),
}

impl Prefix {
    /// As clients write it: `:*:` stands for all contexts.
    pub fn parse(text: &str) -> Self {
        match text.strip_prefix(":*:") {
            Some(rest) => Self::AnyContext(rest.to_owned()),
            None => Self::OneContext(text.strip_prefix(":.:").unwrap_or(text).to_owned()),
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::AnyContext(text) | Self::OneContext(text) => text,
        }
    }

    fn any_context(&self) -> bool {
        matches!(self, Self::AnyContext(_))
    }
}

/// One version of a subject, as clients see it.
#[derive(Clone, Debug, Serialize, ToSchema, sqlx::FromRow)]
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
#[derive(Clone, Debug, Serialize, ToSchema, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct StoredSchema {
    /// The same in every registry that has this content.
    pub guid: Uuid,
    #[serde(skip_serializing_if = "is_avro")]
    pub schema_type: String,
    pub schema: String,
    #[sqlx(rename = "refs")]
    #[serde(skip_serializing_if = "is_empty")]
    #[schema(value_type = Vec<Reference>)]
    pub references: Json<Vec<Reference>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Metadata>)]
    pub metadata: Option<Json<Metadata>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<RuleSet>)]
    pub rule_set: Option<Json<RuleSet>>,
}

/// Where a schema is used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema, sqlx::FromRow)]
pub struct Place {
    pub subject: String,
    pub version: i32,
}

fn is_avro(schema_type: &str) -> bool {
    schema_type == "AVRO"
}

fn is_empty(references: &Json<Vec<Reference>>) -> bool {
    references.is_empty()
}

/// `select_versions!("where …")`: versions with their schemas as clients see them, which is with
/// the newest revision of their migration rules. `v` is the version, `s` its schema.
macro_rules! select_versions {
    ($rest:literal) => {
        concat!(
            "select v.subject, v.version, s.id, s.guid, s.schema_type, s.schema, s.refs, s.metadata,
                    case when mended.migration_rules is null then s.rule_set
                         else jsonb_set(coalesce(s.rule_set, '{}'), '{migrationRules}',
                                        mended.migration_rules) end as rule_set,
                    v.deleted_at is not null as deleted
             from registry.versions v
             join registry.schemas s on s.id = v.schema_id
             left join lateral (
                 select r.migration_rules from registry.rule_revisions r
                 where r.subject = v.subject and r.version = v.version
                 order by r.revision desc limit 1) mended on true ",
            $rest
        )
    };
}
use select_versions;
