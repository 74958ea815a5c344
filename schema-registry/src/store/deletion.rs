//! Deleting in two steps: marking, then removing.

use sqlx::PgConnection;

use super::{Result, SubjectVersion, select_versions};
use crate::subject::{Scope, Subject};

/// Marks the version as deleted.
pub(crate) async fn mark(
    connection: &mut PgConnection,
    subject: &Subject,
    version: i32,
    change: i64,
) -> Result<()> {
    sqlx::query(
        "update registry.versions set deleted_at = now(), change = $3
         where subject = $1 and version = $2",
    )
    .bind(subject.as_str())
    .bind(version)
    .bind(change)
    .execute(connection)
    .await?;
    Ok(())
}

/// Removes the version with all that belongs to it.
pub(crate) async fn remove(
    connection: &mut PgConnection,
    subject: &Subject,
    version: i32,
) -> Result<()> {
    sqlx::query("delete from registry.rule_revisions where subject = $1 and version = $2")
        .bind(subject.as_str())
        .bind(version)
        .execute(&mut *connection)
        .await?;
    sqlx::query("delete from registry.versions where subject = $1 and version = $2")
        .bind(subject.as_str())
        .bind(version)
        .execute(connection)
        .await?;
    Ok(())
}

/// All versions of the scope, soft-deleted ones included.
pub(crate) async fn all_within(
    connection: &mut PgConnection,
    scope: &Scope,
) -> Result<Vec<SubjectVersion>> {
    sqlx::query_as(select_versions!(
        "where case when not $2 then v.subject = $1
                    when $1 = '' then not starts_with(v.subject, ':.')
                    else starts_with(v.subject, $1) or $1 = ':.__GLOBAL:' end
         order by v.subject, v.version"
    ))
    .bind(scope.key())
    .bind(scope.is_context())
    .fetch_all(connection)
    .await
}
