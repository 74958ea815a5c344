//! What the verbs reach by the settings: the registry, the log, and who says what they read.

use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use super::{SchemaError, registry::Registry};
use crate::{
    announcing::{Announcement, announcements},
    replay::log::Log,
    settings::{Settings, SettingsError},
};

pub(super) fn registry(settings: &Settings) -> Result<Registry, SchemaError> {
    Ok(Registry::new(settings.registry()?)?)
}

pub(super) fn log(settings: &Settings) -> Result<Log, SettingsError> {
    Ok(Log {
        cluster: settings.kafka()?,
        generation: settings.generation(),
    })
}

/// Who says what they read and write; nobody where there is no Postgres, or no table yet.
pub(super) async fn members(settings: &Settings) -> Result<Vec<Announcement>, SchemaError> {
    const NO_SUCH_TABLE: &str = "42P01";
    let Some(address) = &settings.postgres else {
        return Ok(Vec::new());
    };
    let options = PgConnectOptions::from_str(address.expose()).map_err(SchemaError::Address)?;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options);
    match announcements(&pool, &settings.generation).await {
        Ok(members) => Ok(members),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NO_SUCH_TABLE) => {
            Ok(Vec::new())
        }
        Err(error) => Err(SchemaError::Announcements(error)),
    }
}
