//! What the database has to say to the topic, and what it takes from there.

use chrono::{DateTime, Utc};
use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};

use super::Result;
use super::registration::refer;
use crate::contract::{Metadata, Rule, RuleSet};
use crate::journal::{Fate, Holds, Record, RulesRecord, ScopeRecord, VersionRecord};
use crate::mode::Mode;
use crate::references::Reference;
use crate::settings::Settings;
use crate::subject::Subject;

#[derive(sqlx::FromRow)]
struct VersionRow {
    change: i64,
    subject: String,
    version: i32,
    id: i32,
    deleted: bool,
    registered_at: DateTime<Utc>,
    fingerprint: String,
    lookup_fingerprint: String,
    schema_fingerprint: String,
    schema_type: String,
    schema: String,
    refs: Json<Vec<Reference>>,
    metadata: Option<Json<Metadata>>,
    rule_set: Option<Json<RuleSet>>,
}

/// One version, or all, with their contents as they were registered.
pub(crate) async fn versions(
    executor: impl PgExecutor<'_>,
    one: Option<(&Subject, i32)>,
) -> Result<Vec<VersionRecord>> {
    let rows: Vec<VersionRow> = sqlx::query_as(
        "select v.change, v.subject, v.version, s.id, v.deleted_at is not null as deleted,
                v.registered_at, encode(s.fingerprint, 'hex') as fingerprint,
                encode(coalesce(s.lookup_fingerprint, s.fingerprint), 'hex') as lookup_fingerprint,
                encode(s.schema_fingerprint, 'hex') as schema_fingerprint,
                s.schema_type, s.schema, s.refs, s.metadata, s.rule_set
         from registry.versions v join registry.schemas s on s.id = v.schema_id
         where (v.subject = $1 and v.version = $2) or $1 is null",
    )
    .bind(one.map(|(subject, _)| subject.as_str()))
    .bind(one.map(|(_, version)| version))
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(VersionRecord::from).collect())
}

impl From<VersionRow> for VersionRecord {
    fn from(row: VersionRow) -> Self {
        Self {
            change: row.change,
            subject: row.subject,
            version: row.version,
            id: row.id,
            fate: if row.deleted {
                Fate::Deleted
            } else {
                Fate::Live
            },
            registered_at: row.registered_at,
            fingerprint: row.fingerprint,
            lookup_fingerprint: row.lookup_fingerprint,
            schema_fingerprint: row.schema_fingerprint,
            schema_type: row.schema_type,
            schema: row.schema,
            references: row.refs.0,
            metadata: row.metadata.map(|metadata| metadata.0),
            rule_set: row.rule_set.map(|rules| rules.0),
        }
    }
}

/// Everything that the database knows.
pub(crate) async fn everything(connection: &mut PgConnection) -> Result<Vec<Record>> {
    let identity = sqlx::query_scalar("select identity from registry.identity")
        .fetch_one(&mut *connection)
        .await?;
    let mut records = vec![Record::Registry { identity }];
    let versions = versions(&mut *connection, None).await?;
    records.extend(versions.into_iter().map(Record::from));
    let settings: Vec<(i64, String, Json<Settings>)> =
        sqlx::query_as("select change, subject, settings from registry.settings")
            .fetch_all(&mut *connection)
            .await?;
    records.extend(settings.into_iter().map(|(change, scope, settings)| {
        Record::from(ScopeRecord {
            change,
            scope,
            holds: Holds::Settings(Some(Box::new(settings.0))),
        })
    }));
    let modes: Vec<(i64, String, String)> =
        sqlx::query_as("select change, subject, mode from registry.modes")
            .fetch_all(&mut *connection)
            .await?;
    records.extend(modes.into_iter().map(|(change, scope, mode)| {
        Record::from(ScopeRecord {
            change,
            scope,
            holds: Holds::Mode(Mode::parse(&mode).ok()),
        })
    }));
    let rules: Vec<RulesRow> = sqlx::query_as(
        "select change, subject, version, revision, migration_rules, comment, author, revised_at
         from registry.rule_revisions",
    )
    .fetch_all(connection)
    .await?;
    records.extend(rules.into_iter().map(|row| {
        Record::from(RulesRecord {
            change: row.change,
            subject: row.subject,
            version: row.version,
            revision: row.revision,
            migration_rules: row.migration_rules.0,
            comment: row.comment,
            author: row.author,
            revised_at: row.revised_at,
        })
    }));
    Ok(records)
}

#[derive(sqlx::FromRow)]
struct RulesRow {
    change: i64,
    subject: String,
    version: i32,
    revision: i32,
    migration_rules: Json<Vec<Rule>>,
    comment: Option<String>,
    author: Option<String>,
    revised_at: DateTime<Utc>,
}

/// Whether the database has the id for something else, or the content under another id.
pub(crate) async fn contradicts(
    connection: &mut PgConnection,
    record: &VersionRecord,
) -> Result<bool> {
    sqlx::query_scalar(
        "select exists (select from registry.schemas
                        where (id = $1) <> (fingerprint = decode($2, 'hex')))",
    )
    .bind(record.id)
    .bind(&record.fingerprint)
    .fetch_one(connection)
    .await
}

/// Makes the database say what the record says.
pub(crate) async fn apply(connection: &mut PgConnection, record: &Record) -> Result<()> {
    match record {
        Record::Registry { identity } => {
            sqlx::query("update registry.identity set identity = $1")
                .bind(identity)
                .execute(connection)
                .await?;
            Ok(())
        }
        Record::Version(record) => apply_version(connection, record).await,
        Record::Scope(record) => apply_scope(connection, record).await,
        Record::Rules(record) => {
            sqlx::query(
                "insert into registry.rule_revisions
                     (subject, version, revision, migration_rules, comment, author, revised_at, change)
                 values ($1, $2, $3, $4, $5, $6, $7, $8)
                 on conflict (subject, version, revision) do update
                     set migration_rules = $4, comment = $5, author = $6, revised_at = $7, change = $8",
            )
            .bind(&record.subject)
            .bind(record.version)
            .bind(record.revision)
            .bind(Json(&record.migration_rules))
            .bind(&record.comment)
            .bind(&record.author)
            .bind(record.revised_at)
            .bind(record.change)
            .execute(connection)
            .await?;
            Ok(())
        }
    }
}

async fn apply_version(connection: &mut PgConnection, record: &VersionRecord) -> Result<()> {
    sqlx::query(
        "insert into registry.schemas
             (id, fingerprint, lookup_fingerprint, schema_fingerprint,
              schema_type, schema, refs, metadata, rule_set)
         values ($1, decode($2, 'hex'), nullif(decode($3, 'hex'), decode($2, 'hex')),
                 decode($4, 'hex'), $5, $6, $7, $8, $9)
         on conflict (id) do nothing",
    )
    .bind(record.id)
    .bind(&record.fingerprint)
    .bind(&record.lookup_fingerprint)
    .bind(&record.schema_fingerprint)
    .bind(&record.schema_type)
    .bind(&record.schema)
    .bind(Json(&record.references))
    .bind(record.metadata.as_ref().map(Json))
    .bind(record.rule_set.as_ref().map(Json))
    .execute(&mut *connection)
    .await?;
    if let Ok(subject) = Subject::parse(&record.subject) {
        refer(&mut *connection, &subject, record.id, &record.references).await?;
    }
    if record.fate == Fate::Removed {
        for table in [
            "delete from registry.rule_revisions where subject = $1 and version = $2",
            "delete from registry.versions where subject = $1 and version = $2",
        ] {
            sqlx::query(table)
                .bind(&record.subject)
                .bind(record.version)
                .execute(&mut *connection)
                .await?;
        }
        return Ok(());
    }
    sqlx::query(
        "insert into registry.versions
             (subject, version, schema_id, change, deleted_at, registered_at)
         values ($1, $2, $3, $4, case when $5 then now() end, $6)
         on conflict (subject, version) do update
             set schema_id = $3, change = $4, deleted_at = case when $5 then now() end,
                 registered_at = $6",
    )
    .bind(&record.subject)
    .bind(record.version)
    .bind(record.id)
    .bind(record.change)
    .bind(record.fate == Fate::Deleted)
    .bind(record.registered_at)
    .execute(connection)
    .await?;
    Ok(())
}

async fn apply_scope(connection: &mut PgConnection, record: &ScopeRecord) -> Result<()> {
    let (delete, put) = match record.holds {
        Holds::Settings(_) => (
            "delete from registry.settings where subject = $1",
            "insert into registry.settings (subject, settings, change) values ($1, $2::jsonb, $3)
             on conflict (subject) do update set settings = excluded.settings, change = $3",
        ),
        Holds::Mode(_) => (
            "delete from registry.modes where subject = $1",
            "insert into registry.modes (subject, mode, change) values ($1, $2, $3)
             on conflict (subject) do update set mode = excluded.mode, change = $3",
        ),
    };
    let value = match &record.holds {
        Holds::Settings(settings) => settings
            .as_ref()
            .map(serde_json::to_string)
            .transpose()
            .map_err(|error| sqlx::Error::Encode(error.into()))?,
        Holds::Mode(mode) => mode.map(|mode| mode.name().to_owned()),
    };
    match value {
        None => {
            sqlx::query(delete)
                .bind(&record.scope)
                .execute(connection)
                .await?
        }
        Some(value) => {
            sqlx::query(put)
                .bind(&record.scope)
                .bind(value)
                .bind(record.change)
                .execute(connection)
                .await?
        }
    };
    Ok(())
}

/// Sees to it that ids and numbers of changes go on behind those that are there; nobody may be
/// taking any at the moment.
pub(crate) async fn go_on_behind(connection: &mut PgConnection, change: i64) -> Result<()> {
    sqlx::query(
        "select setval('registry.changes', $1) from registry.changes where last_value <= $1",
    )
    .bind(change)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "select setval('registry.schemas_id_seq', highest)
         from registry.schemas_id_seq, (select max(id) as highest from registry.schemas) as s
         where last_value <= highest",
    )
    .execute(connection)
    .await?;
    Ok(())
}
