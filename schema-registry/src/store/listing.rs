//! What can be asked: subjects, versions, schemas by id.

use sqlx::PgExecutor;
use uuid::Uuid;

use super::{Deleted, Page, Place, Prefix, Result, StoredSchema, SubjectVersion, select_versions};
use crate::content::Content;
use crate::contract::Metadata;
use crate::subject::{Subject, VersionNumber};

pub(crate) async fn subjects(
    executor: impl PgExecutor<'_>,
    prefix: &Prefix,
    deleted: Deleted,
    page: Page,
) -> Result<Vec<String>> {
    sqlx::query_scalar(
        r"select subject from registry.versions
         where case when $6 then starts_with(regexp_replace(subject, '^:\.[^:]*:', ''), $1)
                    else starts_with(subject, $1)
                         and (starts_with($1, ':.') or not starts_with(subject, ':.')) end
         group by subject
         having (bool_or(deleted_at is null) and $2) or (bool_and(deleted_at is not null) and $3)
         order by subject offset $4 limit $5",
    )
    .bind(prefix.text())
    .bind(deleted.live())
    .bind(deleted.deleted())
    .bind(page.offset)
    .bind(page.limit())
    .bind(prefix.any_context())
    .fetch_all(executor)
    .await
}

/// The contexts that have subjects, as they stand in a subject's name: `.context`.
pub(crate) async fn contexts(executor: impl PgExecutor<'_>) -> Result<Vec<String>> {
    sqlx::query_scalar(
        "select distinct split_part(subject, ':', 2) from registry.versions
         where starts_with(subject, ':.') order by 1",
    )
    .fetch_all(executor)
    .await
}

pub(crate) async fn version_numbers(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    deleted: Deleted,
    page: Page,
) -> Result<Vec<i32>> {
    sqlx::query_scalar(
        "select version from registry.versions
         where subject = $1 and ((deleted_at is null and $2) or (deleted_at is not null and $3))
         order by version offset $4 limit $5",
    )
    .bind(subject.as_str())
    .bind(deleted.live())
    .bind(deleted.deleted())
    .bind(page.offset)
    .bind(page.limit())
    .fetch_all(executor)
    .await
}

/// Whether the subject has any version that counts.
pub(crate) async fn exists(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    deleted: Deleted,
) -> Result<bool> {
    let page = Page {
        offset: 0,
        limit: 1,
    };
    let found = version_numbers(executor, subject, deleted, page).await?;
    Ok(!found.is_empty())
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
    sqlx::query_as(select_versions!(
        "where v.subject = $1 and (v.version = $2 or $2 is null) and (v.deleted_at is null or $3)
         order by v.version desc limit 1"
    ))
    .bind(subject.as_str())
    .bind(number)
    .bind(deleted.deleted())
    .fetch_optional(executor)
    .await
}

/// The newest version of the subject whose metadata have all of these properties.
pub(crate) async fn newest_with(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    properties: Metadata,
    deleted: Deleted,
) -> Result<Option<SubjectVersion>> {
    sqlx::query_as(select_versions!(
        "where v.subject = $1 and s.metadata -> 'properties' @> $2
           and (v.deleted_at is null or $3)
         order by v.version desc limit 1"
    ))
    .bind(subject.as_str())
    .bind(sqlx::types::Json(properties.properties.unwrap_or_default()))
    .bind(deleted.deleted())
    .fetch_optional(executor)
    .await
}

/// The version of the subject that has this content, or else one that can be looked up by it.
pub(crate) async fn look_up(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    content: &Content,
    deleted: Deleted,
) -> Result<Option<SubjectVersion>> {
    sqlx::query_as(select_versions!(
        "where v.subject = $1
           and (s.fingerprint = $2 or coalesce(s.lookup_fingerprint, s.fingerprint) = $3)
           and (v.deleted_at is null or $4)
         order by (s.fingerprint = $2) desc, v.version desc limit 1"
    ))
    .bind(subject.as_str())
    .bind(content.fingerprint())
    .bind(content.lookup_fingerprint())
    .bind(deleted.deleted())
    .fetch_optional(executor)
    .await
}

/// The newest version of the subject that differs from this content in metadata and rules only.
pub(crate) async fn look_up_plain(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    content: &Content,
    deleted: Deleted,
) -> Result<Option<SubjectVersion>> {
    sqlx::query_as(select_versions!(
        "where v.subject = $1 and s.schema_fingerprint = $2 and (v.deleted_at is null or $3)
         order by v.version desc limit 1"
    ))
    .bind(subject.as_str())
    .bind(content.schema_fingerprint())
    .bind(deleted.deleted())
    .fetch_optional(executor)
    .await
}

/// All versions of all subjects with the prefix, or the newest of each; `rule_type` narrows them to
/// those with rules of that type.
pub(crate) async fn schemas(
    executor: impl PgExecutor<'_>,
    prefix: &Prefix,
    deleted: Deleted,
    latest_only: bool,
    rule_type: Option<&str>,
    page: Page,
) -> Result<Vec<SubjectVersion>> {
    sqlx::query_as(select_versions!(
        r"where case when $6 then starts_with(regexp_replace(v.subject, '^:\.[^:]*:', ''), $1)
                     else starts_with(v.subject, $1)
                          and (starts_with($1, ':.') or not starts_with(v.subject, ':.')) end
           and (v.deleted_at is null or $2)
           and (not $3 or v.version = (select max(n.version) from registry.versions n
                where n.subject = v.subject and (n.deleted_at is null or $2)))
           and ($7::text is null or jsonb_path_exists(s.rule_set, '$.*[*].type ? (@ == $type)',
                jsonb_build_object('type', $7::text)))
         order by v.subject, v.version offset $4 limit $5"
    ))
    .bind(prefix.text())
    .bind(deleted.deleted())
    .bind(latest_only)
    .bind(page.offset)
    .bind(page.limit())
    .bind(prefix.any_context())
    .bind(rule_type)
    .fetch_all(executor)
    .await
}

/// The schema of an id, as long as any version has it, soft-deleted ones included: messages written
/// with it may still be around.
pub(crate) async fn schema_by_id(
    executor: impl PgExecutor<'_>,
    id: i32,
) -> Result<Option<StoredSchema>> {
    sqlx::query_as(
        "select s.guid, s.schema_type, s.schema, s.refs, s.metadata, s.rule_set
         from registry.schemas s
         where s.id = $1 and exists (select from registry.versions v where v.schema_id = s.id)",
    )
    .bind(id)
    .fetch_optional(executor)
    .await
}

pub(crate) async fn id_of_guid(executor: impl PgExecutor<'_>, guid: Uuid) -> Result<Option<i32>> {
    sqlx::query_scalar(
        "select s.id from registry.schemas s
         where s.guid = $1 and exists (select from registry.versions v where v.schema_id = s.id)",
    )
    .bind(guid)
    .fetch_optional(executor)
    .await
}

pub(crate) async fn highest_id(executor: impl PgExecutor<'_>) -> Result<i32> {
    sqlx::query_scalar("select coalesce(max(schema_id), 0) from registry.versions")
        .fetch_one(executor)
        .await
}

pub(crate) async fn places(
    executor: impl PgExecutor<'_>,
    id: i32,
    deleted: Deleted,
) -> Result<Vec<Place>> {
    sqlx::query_as(
        "select subject, version from registry.versions
         where schema_id = $1 and (deleted_at is null or $2) order by subject, version",
    )
    .bind(id)
    .bind(deleted.deleted())
    .fetch_all(executor)
    .await
}

/// The ids of schemas that refer to the version, or to any of the subject, and are themselves in
/// use; those that only `but` uses do not count.
pub(crate) async fn referring(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    version: Option<i32>,
    deleted: Deleted,
    but: Option<&Subject>,
) -> Result<Vec<i32>> {
    sqlx::query_scalar(
        "select distinct r.schema_id from registry.schema_references r
         where r.subject = $1 and (r.version = $2 or $2 is null)
           and exists (select from registry.versions v where v.schema_id = r.schema_id
                       and (v.deleted_at is null or $3) and (v.subject <> $4 or $4 is null))
         order by r.schema_id",
    )
    .bind(subject.as_str())
    .bind(version)
    .bind(deleted.deleted())
    .bind(but.map(Subject::as_str))
    .fetch_all(executor)
    .await
}
