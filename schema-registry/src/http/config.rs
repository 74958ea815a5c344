//! `/config`: the settings of the registry, of contexts and of subjects.

use axum::Json;
use axum::extract::{Query, State};

use super::path::InPath;
use super::request::{Body, Parameters};
use super::{Answer, JsonObject};
use crate::Registry;
use crate::settings::{Settings, SettingsUpdate};

pub(super) async fn get(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<Settings> {
    registry
        .settings(&path.scope()?, parameters.default_to_global)
        .await
        .map(Json)
}

/// Answers with what was set.
pub(super) async fn put(
    State(registry): State<Registry>,
    path: InPath,
    Body(request): Body<JsonObject>,
) -> Answer<JsonObject> {
    let update = SettingsUpdate::from_request(request)?;
    registry.set(&path.scope()?, &update).await?;
    Ok(Json(update.into_answer()))
}

pub(super) async fn delete(State(registry): State<Registry>, path: InPath) -> Answer<Settings> {
    registry.delete_settings(&path.scope()?).await.map(Json)
}
