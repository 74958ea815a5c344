//! What registering needs: a turn, the earlier versions, an id and the next version.

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};

use super::{Registered, Result};
use crate::content::Content;
use crate::level::Earlier;
use crate::subject::Subject;

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
