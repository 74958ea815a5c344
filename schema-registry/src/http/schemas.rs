//! `/schemas`: what a consumer asks that has met an id in a message.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::path::InPath;
use super::request::Parameters;
use super::{Answer, schema_text};
use crate::schema::SchemaType;
use crate::store::{Deleted, Place, StoredSchema, SubjectVersion};
use crate::subject::Subject;
use crate::{Error, Registry};

pub(super) async fn list_schemas(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<SubjectVersion>> {
    registry
        .schemas(
            &parameters.prefix(&path, "")?,
            parameters.deleted(),
            parameters.latest_only,
            parameters.rule_type(),
            parameters.page(),
        )
        .await
        .map(Json)
}

pub(super) async fn list_types() -> Json<[&'static str; 2]> {
    Json(SchemaType::NAMES)
}

pub(super) async fn list_contexts(
    State(registry): State<Registry>,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<String>> {
    let contexts = registry.contexts().await?.into_iter();
    let wanted = contexts.filter(|context| context.starts_with(&parameters.context_prefix));
    Ok(Json(parameters.cut(wanted)))
}

/// A schema, and the highest id if it is asked for.
#[derive(Serialize)]
struct SchemaAnswer<'a> {
    #[serde(flatten)]
    stored: &'a StoredSchema,
    #[serde(rename = "maxId", skip_serializing_if = "Option::is_none")]
    highest_id: Option<i32>,
}

pub(super) async fn get_schema(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Error> {
    let id = path.id()?;
    let stored = find(&registry, &path, &parameters, id).await?;
    let highest_id = if parameters.fetch_max_id {
        Some(registry.highest_id().await?)
    } else {
        None
    };
    let answer = SchemaAnswer {
        stored: &stored,
        highest_id,
    };
    Ok(Json(answer).into_response())
}

pub(super) async fn get_schema_text(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Error> {
    let stored = find(&registry, &path, &parameters, path.id()?).await?;
    Ok(schema_text(stored.schema))
}

pub(super) async fn get_schema_by_guid(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<StoredSchema> {
    let id = registry.id_of_guid(path.guid()?).await?;
    find(&registry, &path, &parameters, id).await.map(Json)
}

/// Ids are the same in all contexts, so a guid has one.
#[derive(Serialize, ToSchema)]
pub(super) struct IdInContext {
    context: String,
    id: i32,
}

pub(super) async fn list_ids(
    State(registry): State<Registry>,
    path: InPath,
) -> Answer<Vec<IdInContext>> {
    let id = registry.id_of_guid(path.guid()?).await?;
    let places = registry.places(id, Deleted::With).await?;
    let contexts: BTreeSet<String> = places.iter().map(context_of).collect();
    let ids = contexts
        .into_iter()
        .map(|context| IdInContext { context, id });
    Ok(Json(ids.collect()))
}

pub(super) async fn list_subjects(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<String>> {
    let places = places(&registry, &path, &parameters, parameters.deleted()).await?;
    let mut subjects: Vec<String> = places.into_iter().map(|place| place.subject).collect();
    subjects.dedup();
    Ok(Json(parameters.cut(subjects.into_iter())))
}

pub(super) async fn list_versions(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
) -> Answer<Vec<Place>> {
    let places = places(&registry, &path, &parameters, parameters.deleted()).await?;
    Ok(Json(parameters.cut(places.into_iter())))
}

/// The schema, in the form that is asked for; not there for a context that does not have it.
async fn find(
    registry: &Registry,
    path: &InPath,
    parameters: &Parameters,
    id: i32,
) -> Result<StoredSchema, Error> {
    let stored = registry.schema_by_id(id).await?;
    let within = within(path, parameters)?;
    let resolve = parameters.resolve() && !stored.references.is_empty();
    if within.is_none() && !resolve {
        return Ok(std::sync::Arc::unwrap_or_clone(stored));
    }
    let places = registry.places(id, Deleted::With).await?;
    let place = places.iter().find(|place| is_within(place, &within));
    let place = place.ok_or(Error::IdNotFound(id))?;
    let mut stored = std::sync::Arc::unwrap_or_clone(stored);
    if resolve {
        let subject = Subject::parse(&place.subject)?;
        stored.schema = registry.resolved(&subject, &stored).await?;
    }
    Ok(stored)
}

async fn places(
    registry: &Registry,
    path: &InPath,
    parameters: &Parameters,
    deleted: Deleted,
) -> Result<Vec<Place>, Error> {
    let id = path.id()?;
    let mut places = registry.places(id, deleted).await?;
    let within = within(path, parameters)?;
    if within.is_some() {
        places.retain(|place| is_within(place, &within));
        if places.is_empty() {
            return Err(Error::IdNotFound(id));
        }
    }
    Ok(places)
}

/// The context that the request is about, as names of subjects begin in it; `None` for any.
fn within(path: &InPath, parameters: &Parameters) -> Result<Option<String>, Error> {
    let subject = path.qualified(&parameters.subject)?;
    let context = subject
        .strip_prefix(":.")
        .and_then(|rest| rest.split_once(':'));
    Ok(context
        .filter(|(context, _)| !context.is_empty())
        .map(|(context, _)| format!(":.{context}:")))
}

fn is_within(place: &Place, context: &Option<String>) -> bool {
    context
        .as_ref()
        .is_none_or(|context| place.subject.starts_with(context.as_str()))
}

fn context_of(place: &Place) -> String {
    let context = place.subject.strip_prefix(":.");
    let context = context.and_then(|rest| rest.split_once(':'));
    context.map_or_else(|| ".".to_owned(), |(context, _)| format!(".{context}"))
}
