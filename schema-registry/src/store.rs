//! The registry's tables. Every statement names the schema `registry`, so that the registry gets
//! along with whatever else lives in the database.

use serde::Serialize;
use serde_json::Value;
use sqlx::postgres::PgPool;
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};

use crate::content::Content;
use crate::level::Earlier;
use crate::settings::Settings;
use crate::subject::{Subject, VersionNumber};

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

/// Makes this transaction the only one that changes the subject, over all instances of the
/// registry. Subjects that share a hash wait for each other and do no other harm.
pub(crate) async fn lock_subject(connection: &mut PgConnection, subject: &Subject) -> Result<()> {
    /// Sets our locks apart from those of others in the database: "regi" in ASCII.
    const OURS: i32 = 0x7265_6769;
    sqlx::query("select pg_advisory_xact_lock($1, hashtext($2))")
        .bind(OURS)
        .bind(subject.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

pub(crate) async fn find_registered(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    content: &Content,
) -> Result<Option<Registered>> {
    sqlx::query_as(
        "select s.id, v.version
         from registry.schemas s join registry.versions v on v.schema_id = s.id
         where s.fingerprint = $1 and v.subject = $2 and v.deleted_at is null
         order by v.version desc limit 1",
    )
    .bind(content.fingerprint())
    .bind(subject.as_str())
    .fetch_optional(executor)
    .await
}

/// The version of the subject that has this content; failing that, and if the content has neither
/// metadata nor rules, the newest version that differs from it in those only.
pub(crate) async fn look_up(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    content: &Content,
    deleted: Deleted,
) -> Result<Option<SubjectVersion>> {
    let plain = content.metadata.is_none() && content.rule_set.is_none();
    sqlx::query_as(
        "select v.subject, v.version, s.id, s.schema_type, s.schema, s.refs, s.metadata, s.rule_set,
                v.deleted_at is not null as deleted
         from registry.schemas s join registry.versions v on v.schema_id = s.id
         where v.subject = $1 and s.schema_fingerprint = $3
           and (s.fingerprint = $2 or $4) and (v.deleted_at is null or $5)
         order by (s.fingerprint = $2) desc, v.version desc limit 1",
    )
    .bind(subject.as_str())
    .bind(content.fingerprint())
    .bind(content.schema_fingerprint())
    .bind(plain)
    .bind(deleted.deleted())
    .fetch_optional(executor)
    .await
}

/// The id of the content, given now if it has none yet. Two instances that store the same content
/// at once meet at the unique fingerprint: the second waits, stores nothing and finds the first's.
pub(crate) async fn intern(connection: &mut PgConnection, content: &Content) -> Result<i32> {
    const FIND: &str = "select id from registry.schemas where fingerprint = $1";
    let fingerprint = content.fingerprint();
    // Asked first, because an insert in vain would use up an id.
    if let Some(id) = sqlx::query_scalar(FIND)
        .bind(fingerprint)
        .fetch_optional(&mut *connection)
        .await?
    {
        return Ok(id);
    }
    let stored = sqlx::query_scalar(
        "insert into registry.schemas (fingerprint, schema_fingerprint, schema, refs, metadata, rule_set)
         values ($1, $2, $3, $4, $5, $6)
         on conflict (fingerprint) do nothing returning id",
    )
    .bind(fingerprint)
    .bind(content.schema_fingerprint())
    .bind(&content.schema)
    .bind(Json(&content.references))
    .bind(content.metadata.as_ref().map(Json))
    .bind(content.rule_set.as_ref().map(Json))
    .fetch_optional(&mut *connection)
    .await?;
    match stored {
        Some(id) => Ok(id),
        None => {
            sqlx::query_scalar(FIND)
                .bind(fingerprint)
                .fetch_one(connection)
                .await
        }
    }
}

/// The next version of the subject, which the caller has locked.
pub(crate) async fn append_version(
    connection: &mut PgConnection,
    subject: &Subject,
    id: i32,
) -> Result<i32> {
    sqlx::query_scalar(
        "insert into registry.versions (subject, version, schema_id)
         select $1, coalesce(max(version), 0) + 1, $2 from registry.versions where subject = $1
         returning version",
    )
    .bind(subject.as_str())
    .bind(id)
    .fetch_one(connection)
    .await
}

/// The live versions of the subject, newest first; the newest only unless `all`.
pub(crate) async fn earlier(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    all: bool,
) -> Result<Vec<Earlier>> {
    sqlx::query_as(
        "select v.version, s.schema, s.metadata, s.rule_set
         from registry.versions v join registry.schemas s on s.id = v.schema_id
         where v.subject = $1 and v.deleted_at is null
         order by v.version desc limit $2",
    )
    .bind(subject.as_str())
    .bind((!all).then_some(1_i64))
    .fetch_all(executor)
    .await
}

pub(crate) async fn subjects(
    pool: &PgPool,
    prefix: &str,
    deleted: Deleted,
    page: Page,
) -> Result<Vec<String>> {
    sqlx::query_scalar(
        "select subject from registry.versions where starts_with(subject, $1)
         group by subject
         having (bool_or(deleted_at is null) and $2) or (bool_and(deleted_at is not null) and $3)
         order by subject offset $4 limit $5",
    )
    .bind(prefix)
    .bind(deleted.live())
    .bind(deleted.deleted())
    .bind(page.offset)
    .bind(page.limit())
    .fetch_all(pool)
    .await
}

pub(crate) async fn version_numbers(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    deleted: Deleted,
) -> Result<Vec<i32>> {
    sqlx::query_scalar(
        "select version from registry.versions
         where subject = $1 and ((deleted_at is null and $2) or (deleted_at is not null and $3))
         order by version",
    )
    .bind(subject.as_str())
    .bind(deleted.live())
    .bind(deleted.deleted())
    .fetch_all(executor)
    .await
}

pub(crate) async fn version(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    version: VersionNumber,
    deleted: Deleted,
) -> Result<Option<SubjectVersion>> {
    let number = match version {
        VersionNumber::Latest => None,
        VersionNumber::Number(number) => Some(number),
    };
    sqlx::query_as(
        "select v.subject, v.version, s.id, s.schema_type, s.schema, s.refs, s.metadata, s.rule_set,
                v.deleted_at is not null as deleted
         from registry.versions v join registry.schemas s on s.id = v.schema_id
         where v.subject = $1 and (v.version = $2 or $2 is null) and (v.deleted_at is null or $3)
         order by v.version desc limit 1",
    )
    .bind(subject.as_str())
    .bind(number)
    .bind(deleted.deleted())
    .fetch_optional(executor)
    .await
}

/// All versions of all subjects with the prefix, or the newest of each.
pub(crate) async fn schemas(
    pool: &PgPool,
    prefix: &str,
    deleted: Deleted,
    latest_only: bool,
    page: Page,
) -> Result<Vec<SubjectVersion>> {
    sqlx::query_as(
        "select v.subject, v.version, s.id, s.schema_type, s.schema, s.refs, s.metadata, s.rule_set,
                v.deleted_at is not null as deleted
         from registry.versions v join registry.schemas s on s.id = v.schema_id
         where starts_with(v.subject, $1) and (v.deleted_at is null or $2)
           and (not $3 or v.version = (select max(n.version) from registry.versions n
                where n.subject = v.subject and (n.deleted_at is null or $2)))
         order by v.subject, v.version offset $4 limit $5",
    )
    .bind(prefix)
    .bind(deleted.deleted())
    .bind(latest_only)
    .bind(page.offset)
    .bind(page.limit())
    .fetch_all(pool)
    .await
}

/// The schema of an id, as long as any version has it, soft-deleted ones included: messages written
/// with it may still be around.
pub(crate) async fn schema_by_id(pool: &PgPool, id: i32) -> Result<Option<StoredSchema>> {
    sqlx::query_as(
        "select s.schema_type, s.schema, s.refs, s.metadata, s.rule_set from registry.schemas s
         where s.id = $1 and exists (select from registry.versions v where v.schema_id = s.id)",
    )
    .bind(id)
    .fetch_optional(pool)
    .await
}

pub(crate) async fn places(pool: &PgPool, id: i32, deleted: Deleted) -> Result<Vec<Place>> {
    sqlx::query_as(
        "select subject, version from registry.versions
         where schema_id = $1 and (deleted_at is null or $2) order by subject, version",
    )
    .bind(id)
    .bind(deleted.deleted())
    .fetch_all(pool)
    .await
}

/// Marks the version as deleted, or all of the subject; answers with those that it has marked.
pub(crate) async fn soft_delete(
    connection: &mut PgConnection,
    subject: &Subject,
    version: Option<i32>,
) -> Result<Vec<i32>> {
    sqlx::query_scalar(
        "with deleted as (
             update registry.versions set deleted_at = now()
             where subject = $1 and (version = $2 or $2 is null) and deleted_at is null returning version)
         select version from deleted order by version",
    )
    .bind(subject.as_str())
    .bind(version)
    .fetch_all(connection)
    .await
}

/// Removes versions that are marked as deleted.
pub(crate) async fn hard_delete(
    connection: &mut PgConnection,
    subject: &Subject,
    version: Option<i32>,
) -> Result<Vec<i32>> {
    sqlx::query_scalar(
        "with deleted as (
             delete from registry.versions
             where subject = $1 and (version = $2 or $2 is null) and deleted_at is not null returning version)
         select version from deleted order by version",
    )
    .bind(subject.as_str())
    .bind(version)
    .fetch_all(connection)
    .await
}

/// The settings of a subject, of the registry if there is none; `None` if nothing was ever set.
pub(crate) async fn settings(
    executor: impl PgExecutor<'_>,
    subject: Option<&Subject>,
) -> Result<Option<Settings>> {
    let settings: Option<Json<Settings>> =
        sqlx::query_scalar("select settings from registry.settings where subject = $1")
            .bind(settings_key(subject))
            .fetch_optional(executor)
            .await?;
    Ok(settings.map(|Json(settings)| settings))
}

/// Adds to the settings, where what is new takes the place of what was there.
pub(crate) async fn add_settings(
    pool: &PgPool,
    subject: Option<&Subject>,
    settings: &Settings,
) -> Result<()> {
    sqlx::query(
        "insert into registry.settings as old (subject, settings) values ($1, $2)
         on conflict (subject) do update set settings = old.settings || excluded.settings",
    )
    .bind(settings_key(subject))
    .bind(Json(settings))
    .execute(pool)
    .await?;
    Ok(())
}

/// Removes the settings and answers with what they were.
pub(crate) async fn delete_settings(
    executor: impl PgExecutor<'_>,
    subject: Option<&Subject>,
) -> Result<Option<Settings>> {
    let settings: Option<Json<Settings>> =
        sqlx::query_scalar("delete from registry.settings where subject = $1 returning settings")
            .bind(settings_key(subject))
            .fetch_optional(executor)
            .await?;
    Ok(settings.map(|Json(settings)| settings))
}

/// No subject has an empty name.
fn settings_key(subject: Option<&Subject>) -> &str {
    subject.map_or("", Subject::as_str)
}

fn is_avro(schema_type: &str) -> bool {
    schema_type == "AVRO"
}

fn is_empty_array(references: &Json<Value>) -> bool {
    references.as_array().is_none_or(Vec::is_empty)
}
