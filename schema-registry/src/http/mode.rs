//! `/mode`: what may be written.

use axum::Json;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Answer;
use super::path::InPath;
use super::request::{Body, Parameters};
use crate::mode::Mode;
use crate::{Error, Registry};

#[derive(Serialize, ToSchema)]
pub(super) struct ModeIs {
    mode: Mode,
}

#[derive(Deserialize)]
pub(super) struct ModeRequest {
    mode: Option<String>,
}

pub(super) async fn get(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<ModeIs> {
    let scope = path.scope()?;
    let mode = registry.mode(&scope, parameters.default_to_global).await?;
    Ok(Json(ModeIs { mode }))
}

pub(super) async fn put(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
    Body(request): Body<ModeRequest>,
) -> Answer<ModeIs> {
    let mode = Mode::parse(&request.mode.ok_or(Error::InvalidMode)?)?;
    registry
        .set_mode(&path.scope()?, mode, parameters.force)
        .await?;
    Ok(Json(ModeIs { mode }))
}

pub(super) async fn delete(State(registry): State<Registry>, path: InPath) -> Answer<ModeIs> {
    let mode = registry.delete_mode(&path.scope()?).await?;
    Ok(Json(ModeIs { mode }))
}
