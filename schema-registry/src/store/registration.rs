//! What registering needs: a turn, the earlier versions, an id and the next version.

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};

use super::{Result, SubjectVersion, select_versions};
use crate::content::Content;
use crate::references::Reference;
use crate::subject::Subject;

/// Sets our locks apart from those of others in the database: "regi" in ASCII.
const OURS: i32 = 0x7265_6769;

/// Makes this transaction the only one that changes the subject, over all instances of the
/// registry. Subjects that share a hash wait for each other and do no other harm.
pub(crate) async fn lock_subject(connection: &mut PgConnection, subject: &str) -> Result<()> {
    sqlx::query("select pg_advisory_xact_lock($1, hashtext($2))")
        .bind(OURS)
        .bind(subject)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whoever changes anything shares this with all others who do; who restores has it alone.
pub(crate) async fn lock_all(connection: &mut PgConnection, alone: bool) -> Result<()> {
    let lock = if alone {
        "select pg_advisory_xact_lock($1)"
    } else {
        "select pg_advisory_xact_lock_shared($1)"
    };
    // One number is another space than two.
    let lock = sqlx::query(lock).bind(i64::from(OURS));
    lock.execute(connection).await?;
    Ok(())
}

/// What there is to know of a version before its text is fetched.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Outline {
    pub version: i32,
    /// Of its text.
    bytes: i32,
}

impl Outline {
    pub fn bytes(&self) -> usize {
        usize::try_from(self.bytes).unwrap_or(0)
    }
}

/// The live versions of the subject, newest first: with a group those whose metadata have this value
/// of the property, or have none of it as well. `most` are enough.
pub(crate) async fn live_versions(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    group: Option<(&str, Option<&str>)>,
    most: Option<i64>,
) -> Result<Vec<Outline>> {
    sqlx::query_as(
        "select v.version, octet_length(s.schema) as bytes
         from registry.versions v
         join registry.schemas s on s.id = v.schema_id
         where v.subject = $1 and v.deleted_at is null
           and ($2 is null or s.metadata -> 'properties' ->> $2 is not distinct from $3)
         order by v.version desc limit $4",
    )
    .bind(subject.as_str())
    .bind(group.map(|(property, _)| property))
    .bind(group.and_then(|(_, value)| value))
    .bind(most)
    .fetch_all(executor)
    .await
}

/// These versions of the subject, newest first, as far as they are live.
pub(crate) async fn versions(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    numbers: &[i32],
) -> Result<Vec<SubjectVersion>> {
    sqlx::query_as(select_versions!(
        "where v.subject = $1 and v.version = any($2) and v.deleted_at is null
         order by v.version desc"
    ))
    .bind(subject.as_str())
    .bind(numbers)
    .fetch_all(executor)
    .await
}

/// One more than the highest version that the subject has, soft-deleted ones included.
pub(crate) async fn next_version(executor: impl PgExecutor<'_>, subject: &Subject) -> Result<i32> {
    sqlx::query_scalar(
        "select coalesce(max(version), 0) + 1 from registry.versions where subject = $1",
    )
    .bind(subject.as_str())
    .fetch_one(executor)
    .await
}

pub(crate) async fn id_of(executor: impl PgExecutor<'_>, content: &Content) -> Result<Option<i32>> {
    sqlx::query_scalar("select id from registry.schemas where fingerprint = $1")
        .bind(content.fingerprint())
        .fetch_optional(executor)
        .await
}

/// Whether an id is given, if only to what is deleted.
pub(crate) async fn is_taken(executor: impl PgExecutor<'_>, id: i32) -> Result<bool> {
    sqlx::query_scalar("select exists (select from registry.schemas where id = $1)")
        .bind(id)
        .fetch_one(executor)
        .await
}

/// The id of the content, given now if it has none yet, and then the one that is wanted if there is
/// one. Two instances that store the same content at once meet at the unique fingerprint: the
/// second waits, stores nothing and finds the first's.
pub(crate) async fn intern(
    connection: &mut PgConnection,
    subject: &Subject,
    content: &Content,
    wanted: Option<i32>,
) -> Result<i32> {
    // Asked first, because an insert in vain would use up an id.
    if let Some(id) = id_of(&mut *connection, content).await? {
        return Ok(id);
    }
    let fingerprint = content.fingerprint();
    let lookup = content.lookup_fingerprint();
    let stored: Option<i32> = sqlx::query_scalar(
        "insert into registry.schemas
             (id, fingerprint, schema_fingerprint, lookup_fingerprint,
              schema, refs, metadata, rule_set, schema_type)
         values (coalesce($1, nextval(pg_get_serial_sequence('registry.schemas', 'id'))),
                 $2, $3, $4, $5, $6, $7, $8, $9)
         on conflict (fingerprint) do nothing returning id",
    )
    .bind(wanted)
    .bind(fingerprint)
    .bind(content.schema_fingerprint())
    .bind((lookup != fingerprint).then_some(lookup))
    .bind(&content.schema)
    .bind(Json(&content.references))
    .bind(content.metadata.as_ref().map(Json))
    .bind(content.rule_set.as_ref().map(Json))
    .bind(content.schema_type.name())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(id) = stored else {
        let id = id_of(&mut *connection, content).await?;
        return id.ok_or(sqlx::Error::RowNotFound);
    };
    if wanted.is_some() {
        pass_over_ids(connection).await?;
    }
    refer(connection, subject, id, &content.references).await?;
    Ok(id)
}

/// Sees to it that ids that came from elsewhere are not given again.
async fn pass_over_ids(connection: &mut PgConnection) -> Result<()> {
    sqlx::query(
        "select setval(sequence, greatest(nextval(sequence), (select max(id) from registry.schemas)))
         from (select pg_get_serial_sequence('registry.schemas', 'id')::regclass as sequence) as s",
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes which versions the schema builds on. Names of subjects are as in a schema of `subject`.
pub(crate) async fn refer(
    connection: &mut PgConnection,
    subject: &Subject,
    id: i32,
    references: &[Reference],
) -> Result<()> {
    for reference in references {
        let Ok(target) = subject.sibling(&reference.subject) else {
            continue;
        };
        sqlx::query(
            "insert into registry.schema_references (schema_id, subject, version)
             values ($1, $2, $3) on conflict do nothing",
        )
        .bind(id)
        .bind(target.as_str())
        .bind(reference.version)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// The version of the subject, which the caller has locked. A soft-deleted version that is imported
/// again lives again.
pub(crate) async fn put_version(
    connection: &mut PgConnection,
    subject: &Subject,
    version: i32,
    id: i32,
    change: i64,
) -> Result<()> {
    sqlx::query(
        "insert into registry.versions (subject, version, schema_id, change) values ($1, $2, $3, $4)
         on conflict (subject, version)
             do update set schema_id = $3, change = $4, deleted_at = null",
    )
    .bind(subject.as_str())
    .bind(version)
    .bind(id)
    .bind(change)
    .execute(connection)
    .await?;
    Ok(())
}
