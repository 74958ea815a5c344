//! What is there: subjects, versions, schemas by id.

use sqlx::PgExecutor;
use sqlx::postgres::PgPool;

use super::{Deleted, Page, Place, Result, StoredSchema, SubjectVersion};
use crate::content::Content;
use crate::subject::{Subject, VersionNumber};

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
