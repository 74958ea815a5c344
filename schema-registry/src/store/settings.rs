//! The settings of subjects and of the registry.

use sqlx::PgExecutor;
use sqlx::postgres::PgPool;
use sqlx::types::Json;

use super::Result;
use crate::settings::Settings;
use crate::subject::Subject;

/// The settings of a subject, of the registry if there is none; `None` if nothing was ever set.
pub(crate) async fn find(
    executor: impl PgExecutor<'_>,
    subject: Option<&Subject>,
) -> Result<Option<Settings>> {
    let settings: Option<Json<Settings>> =
        sqlx::query_scalar("select settings from registry.settings where subject = $1")
            .bind(key(subject))
            .fetch_optional(executor)
            .await?;
    Ok(settings.map(|Json(settings)| settings))
}

/// Adds to the settings, where what is new takes the place of what was there.
pub(crate) async fn add(
    pool: &PgPool,
    subject: Option<&Subject>,
    settings: &Settings,
) -> Result<()> {
    sqlx::query(
        "insert into registry.settings as old (subject, settings) values ($1, $2)
         on conflict (subject) do update set settings = old.settings || excluded.settings",
    )
    .bind(key(subject))
    .bind(Json(settings))
    .execute(pool)
    .await?;
    Ok(())
}

/// Removes the settings and answers with what they were.
pub(crate) async fn delete(
    executor: impl PgExecutor<'_>,
    subject: Option<&Subject>,
) -> Result<Option<Settings>> {
    let settings: Option<Json<Settings>> =
        sqlx::query_scalar("delete from registry.settings where subject = $1 returning settings")
            .bind(key(subject))
            .fetch_optional(executor)
            .await?;
    Ok(settings.map(|Json(settings)| settings))
}

/// No subject has an empty name.
fn key(subject: Option<&Subject>) -> &str {
    subject.map_or("", Subject::as_str)
}
