//! Settings and modes of subjects, of contexts and of the registry.

use sqlx::PgExecutor;
use sqlx::types::Json;

use super::Result;
use crate::mode::Mode;
use crate::settings::Settings;
use crate::subject::Scope;

/// The settings of a scope itself; `None` if nothing was ever set.
pub(crate) async fn find(executor: impl PgExecutor<'_>, scope: &Scope) -> Result<Option<Settings>> {
    let settings: Option<Json<Settings>> =
        sqlx::query_scalar("select settings from registry.settings where subject = $1")
            .bind(scope.key())
            .fetch_optional(executor)
            .await?;
    Ok(settings.map(|Json(settings)| settings))
}

/// What holds in the scope: its own settings, completed with those above it.
pub(crate) async fn in_scope(executor: impl PgExecutor<'_>, scope: &Scope) -> Result<Settings> {
    let chain = scope.chain();
    let found: Vec<(String, Json<Settings>)> =
        sqlx::query_as("select subject, settings from registry.settings where subject = any($1)")
            .bind(&chain[..])
            .fetch_all(executor)
            .await?;
    let mut settings = Settings::default();
    for key in chain {
        if let Some((_, Json(own))) = found.iter().find(|(subject, _)| subject == key) {
            settings = settings.or(own.clone());
        }
    }
    Ok(settings.or_default())
}

pub(crate) async fn put(
    executor: impl PgExecutor<'_>,
    scope: &Scope,
    settings: &Settings,
    change: i64,
) -> Result<()> {
    sqlx::query(
        "insert into registry.settings (subject, settings, change) values ($1, $2, $3)
         on conflict (subject) do update set settings = $2, change = $3",
    )
    .bind(scope.key())
    .bind(Json(settings))
    .bind(change)
    .execute(executor)
    .await?;
    Ok(())
}

pub(crate) async fn delete(executor: impl PgExecutor<'_>, scope: &Scope) -> Result<bool> {
    let deleted = sqlx::query("delete from registry.settings where subject = $1")
        .bind(scope.key())
        .execute(executor)
        .await?;
    Ok(deleted.rows_affected() > 0)
}

/// The mode of a scope itself.
pub(crate) async fn find_mode(
    executor: impl PgExecutor<'_>,
    scope: &Scope,
) -> Result<Option<Mode>> {
    let mode: Option<String> =
        sqlx::query_scalar("select mode from registry.modes where subject = $1")
            .bind(scope.key())
            .fetch_optional(executor)
            .await?;
    Ok(mode.and_then(|mode| Mode::parse(&mode).ok()))
}

/// The mode that holds in the scope.
pub(crate) async fn mode_in_scope(executor: impl PgExecutor<'_>, scope: &Scope) -> Result<Mode> {
    let chain = scope.chain();
    let found: Vec<(String, String)> = sqlx::query_as(
        "select subject, mode from registry.modes
         where subject = any($1) or (subject = '' and mode = 'READONLY_OVERRIDE')",
    )
    .bind(&chain[..])
    .fetch_all(executor)
    .await?;
    let modes: Vec<(&str, Mode)> = found
        .iter()
        .filter_map(|(subject, mode)| Some((subject.as_str(), Mode::parse(mode).ok()?)))
        .collect();
    let overriding = modes.iter().any(|(subject, mode)| {
        ["", ":.__GLOBAL:"].contains(subject) && *mode == Mode::ReadOnlyOverride
    });
    if overriding {
        return Ok(Mode::ReadOnlyOverride);
    }
    let nearest = chain
        .iter()
        .find_map(|key| modes.iter().find(|(subject, _)| subject == key));
    Ok(nearest.map_or(Mode::ReadWrite, |(_, mode)| *mode))
}

pub(crate) async fn put_mode(
    executor: impl PgExecutor<'_>,
    scope: &Scope,
    mode: Mode,
    change: i64,
) -> Result<()> {
    sqlx::query(
        "insert into registry.modes (subject, mode, change) values ($1, $2, $3)
         on conflict (subject) do update set mode = $2, change = $3",
    )
    .bind(scope.key())
    .bind(mode.name())
    .bind(change)
    .execute(executor)
    .await?;
    Ok(())
}

pub(crate) async fn delete_mode(executor: impl PgExecutor<'_>, scope: &Scope) -> Result<bool> {
    let deleted = sqlx::query("delete from registry.modes where subject = $1")
        .bind(scope.key())
        .execute(executor)
        .await?;
    Ok(deleted.rows_affected() > 0)
}
