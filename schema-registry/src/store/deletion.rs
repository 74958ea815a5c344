//! Deleting in two steps: marking, then removing.

use sqlx::PgConnection;

use super::Result;
use crate::subject::Subject;

/// Marks the version as deleted, or all of the subject; answers with those that it has marked.
pub(crate) async fn mark(
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
pub(crate) async fn remove(
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
