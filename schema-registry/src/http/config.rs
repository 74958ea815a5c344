//! `/config`: the settings of the registry and of subjects.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde_json::Value;

use super::request::{Body, Parameters};
use super::{Answer, JsonObject};
use crate::settings::Settings;
use crate::subject::Subject;
use crate::{Error, Registry};

pub(super) async fn get_global(State(registry): State<Registry>) -> Answer<Settings> {
    registry.global_settings().await.map(Json)
}

pub(super) async fn put_global(
    State(registry): State<Registry>,
    Body(request): Body<JsonObject>,
) -> Answer<JsonObject> {
    put(&registry, None, &request).await
}

pub(super) async fn delete_global(State(registry): State<Registry>) -> Answer<Settings> {
    registry.delete_settings(None).await.map(Json)
}

pub(super) async fn get_subject(
    State(registry): State<Registry>,
    Path(subject): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Answer<Settings> {
    registry
        .subject_settings(&Subject::parse(&subject)?, parameters.default_to_global)
        .await
        .map(Json)
}

pub(super) async fn put_subject(
    State(registry): State<Registry>,
    Path(subject): Path<String>,
    Body(request): Body<JsonObject>,
) -> Answer<JsonObject> {
    put(&registry, Some(&Subject::parse(&subject)?), &request).await
}

pub(super) async fn delete_subject(
    State(registry): State<Registry>,
    Path(subject): Path<String>,
) -> Answer<Settings> {
    registry
        .delete_settings(Some(&Subject::parse(&subject)?))
        .await
        .map(Json)
}

/// Answers with what was set, the level under the name that a request gives it.
async fn put(
    registry: &Registry,
    subject: Option<&Subject>,
    request: &JsonObject,
) -> Result<Json<JsonObject>, Error> {
    let settings = Settings::from_request(request)?;
    registry.set(subject, &settings).await?;
    let mut answer = JsonObject::new();
    if let Some(level) = settings.compatibility_level {
        answer.insert("compatibility".to_owned(), Value::from(level.name()));
    }
    if let Some(normalize) = settings.normalize {
        answer.insert("normalize".to_owned(), Value::from(normalize));
    }
    Ok(Json(answer))
}
