//! `/subjects`: registering schemas, looking them up, listing and deleting versions.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Query, RawQuery, State};
use axum::response::Response;

use super::path::InPath;
use super::request::{Body, Parameters};
use super::{Answer, schema_text};
use crate::content::Submitted;
use crate::registry::Registered;
use crate::store::{Deleted, SubjectVersion};
use crate::subject::Subject;
use crate::{Error, Registry};

pub(super) async fn list_subjects(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<String>> {
    let prefix = parameters.prefix(&path, ":*:")?;
    registry
        .subjects(&prefix, parameters.deleted(), parameters.page())
        .await
        .map(Json)
}

pub(super) async fn register_schema(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
    Body(submitted): Body<Submitted>,
) -> Answer<Registered> {
    let subject = path.subject(&registry).await?;
    let mut registered = registry.register(&subject, submitted).await?;
    if parameters.resolve() {
        registered.stored.schema = registry.resolved(&subject, &registered.stored).await?;
    }
    Ok(Json(registered))
}

pub(super) async fn look_up_schema(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
    Body(submitted): Body<Submitted>,
) -> Answer<SubjectVersion> {
    let subject = path.subject(&registry).await?;
    let found = registry.look_up(&subject, submitted, parameters.deleted());
    formatted(&registry, &subject, &parameters, found.await?).await
}

pub(super) async fn list_versions(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<i32>> {
    let subject = path.subject(&registry).await?;
    if !parameters.deleted_as_negative {
        let versions = registry.versions(&subject, parameters.deleted(), parameters.page());
        return versions.await.map(Json);
    }
    let all = registry.versions(&subject, Deleted::With, parameters.page());
    let mut versions = all.await?;
    let deleted = registry.versions(&subject, Deleted::Only, Parameters::default().page());
    let deleted = match deleted.await {
        Err(Error::SubjectNotFound(_)) => Vec::new(),
        deleted => deleted?,
    };
    for version in &mut versions {
        if deleted.contains(version) {
            *version = -*version;
        }
    }
    Ok(Json(versions))
}

pub(super) async fn get_version(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<SubjectVersion> {
    let subject = path.subject(&registry).await?;
    let found = registry.version(&subject, path.version()?, parameters.deleted());
    formatted(&registry, &subject, &parameters, found.await?).await
}

pub(super) async fn get_version_schema(
    state: State<Registry>,
    path: InPath,
    parameters: Query<Parameters>,
) -> Result<Response, Error> {
    let Json(found) = get_version(state, path, parameters).await?;
    Ok(schema_text(found.stored.schema))
}

/// The properties are pairs of `key` and `value`, as many as there are.
pub(super) async fn find_by_metadata(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
    RawQuery(query): RawQuery,
) -> Answer<SubjectVersion> {
    let subject = path.subject(&registry).await?;
    let query = query.unwrap_or_default();
    let all = |wanted: &'static str| {
        form_urlencoded::parse(query.as_bytes())
            .filter(move |(name, _)| name == wanted)
            .map(|(_, text)| text.replace('\0', ""))
    };
    let properties: BTreeMap<String, String> = all("key").zip(all("value")).collect();
    let found = registry.version_with(&subject, properties, parameters.deleted());
    formatted(&registry, &subject, &parameters, found.await?).await
}

pub(super) async fn list_referring(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<i32>> {
    let subject = path.subject(&registry).await?;
    let referring = registry.referring(&subject, path.version()?, parameters.deleted());
    Ok(Json(parameters.cut(referring.await?.into_iter())))
}

pub(super) async fn delete_subject(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<i32>> {
    let subject = path.subject(&registry).await?;
    registry
        .delete_subject(&subject, parameters.permanent)
        .await
        .map(Json)
}

pub(super) async fn delete_version(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<i32> {
    let subject = path.subject(&registry).await?;
    registry
        .delete_version(&subject, path.version()?, parameters.permanent)
        .await
        .map(Json)
}

async fn formatted(
    registry: &Registry,
    subject: &Subject,
    parameters: &Parameters,
    mut found: SubjectVersion,
) -> Answer<SubjectVersion> {
    if parameters.resolve() {
        found.stored.schema = registry.resolved(subject, &found.stored).await?;
    }
    Ok(Json(found))
}
