//! `/subjects`: registering schemas, looking them up, listing and deleting versions.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;

use super::request::{Body, Parameters};
use super::{Answer, schema_text};
use crate::content::Submitted;
use crate::store::{Registered, SubjectVersion};
use crate::subject::{Subject, VersionNumber};
use crate::{Error, Registry};

pub(super) async fn list_subjects(
    State(registry): State<Registry>,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<String>> {
    registry
        .subjects(parameters.prefix(), parameters.deleted(), parameters.page())
        .await
        .map(Json)
}

pub(super) async fn register_schema(
    State(registry): State<Registry>,
    Path(subject): Path<String>,
    Body(submitted): Body<Submitted>,
) -> Answer<Registered> {
    registry
        .register(&Subject::parse(&subject)?, submitted)
        .await
        .map(Json)
}

pub(super) async fn look_up_schema(
    State(registry): State<Registry>,
    Path(subject): Path<String>,
    Query(parameters): Query<Parameters>,
    Body(submitted): Body<Submitted>,
) -> Answer<SubjectVersion> {
    registry
        .look_up(&Subject::parse(&subject)?, submitted, parameters.deleted())
        .await
        .map(Json)
}

pub(super) async fn list_versions(
    State(registry): State<Registry>,
    Path(subject): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<i32>> {
    registry
        .versions(&Subject::parse(&subject)?, parameters.deleted())
        .await
        .map(Json)
}

pub(super) async fn get_version(
    State(registry): State<Registry>,
    Path((subject, version)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Answer<SubjectVersion> {
    let (subject, version) = (Subject::parse(&subject)?, VersionNumber::parse(&version)?);
    registry
        .version(&subject, version, parameters.deleted())
        .await
        .map(Json)
}

pub(super) async fn get_version_schema(
    State(registry): State<Registry>,
    Path((subject, version)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Error> {
    let (subject, version) = (Subject::parse(&subject)?, VersionNumber::parse(&version)?);
    let found = registry
        .version(&subject, version, parameters.deleted())
        .await?;
    Ok(schema_text(found.stored.schema))
}

/// Nothing can refer to a schema yet, so nothing does.
pub(super) async fn list_referring(
    State(registry): State<Registry>,
    Path((subject, version)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<i32>> {
    let (subject, version) = (Subject::parse(&subject)?, VersionNumber::parse(&version)?);
    registry
        .version(&subject, version, parameters.deleted())
        .await?;
    Ok(Json(Vec::new()))
}

pub(super) async fn delete_subject(
    State(registry): State<Registry>,
    Path(subject): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<i32>> {
    registry
        .delete_subject(&Subject::parse(&subject)?, parameters.permanent)
        .await
        .map(Json)
}

pub(super) async fn delete_version(
    State(registry): State<Registry>,
    Path((subject, version)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
) -> Answer<i32> {
    let (subject, version) = (Subject::parse(&subject)?, VersionNumber::parse(&version)?);
    registry
        .delete_version(&subject, version, parameters.permanent)
        .await
        .map(Json)
}
