//! `/schemas`: what a consumer asks that has met an id in a message.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;

use super::request::Parameters;
use super::{Answer, schema_text};
use crate::store::{Place, StoredSchema, SubjectVersion};
use crate::{Error, Registry};

pub(super) async fn list_schemas(
    State(registry): State<Registry>,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<SubjectVersion>> {
    registry
        .schemas(
            parameters.prefix(),
            parameters.deleted(),
            parameters.latest_only,
            parameters.page(),
        )
        .await
        .map(Json)
}

pub(super) async fn list_types() -> Json<[&'static str; 1]> {
    Json(["AVRO"])
}

pub(super) async fn get_schema(
    State(registry): State<Registry>,
    Path(id): Path<String>,
) -> Answer<StoredSchema> {
    registry.schema_by_id(parse_id(&id)?).await.map(Json)
}

pub(super) async fn get_schema_text(
    State(registry): State<Registry>,
    Path(id): Path<String>,
) -> Result<Response, Error> {
    registry
        .schema_by_id(parse_id(&id)?)
        .await
        .map(|stored| schema_text(stored.schema))
}

pub(super) async fn list_subjects(
    State(registry): State<Registry>,
    Path(id): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<String>> {
    let places = registry
        .places(parse_id(&id)?, parameters.deleted())
        .await?;
    let mut subjects: Vec<String> = places.into_iter().map(|place| place.subject).collect();
    subjects.dedup();
    Ok(Json(subjects))
}

pub(super) async fn list_versions(
    State(registry): State<Registry>,
    Path(id): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<Place>> {
    registry
        .places(parse_id(&id)?, parameters.deleted())
        .await
        .map(Json)
}

/// What is no number is no id that we have given.
fn parse_id(id: &str) -> Result<i32, Error> {
    id.parse().map_err(|_| Error::SchemaNotFound)
}
