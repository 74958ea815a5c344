//! `/compatibility`: whether a schema could become a subject's next version.

use axum::Json;
use axum::extract::{Path, Query, State};
use serde::Serialize;

use super::Answer;
use super::request::{Body, Parameters};
use crate::content::Submitted;
use crate::subject::{Subject, VersionNumber};
use crate::{Error, Registry};

#[derive(Serialize)]
pub(super) struct Verdict {
    is_compatible: bool,
    /// Why not, if the client wants to know.
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<String>>,
}

/// Against the versions that registering would look at.
pub(super) async fn check_all(
    State(registry): State<Registry>,
    Path(subject): Path<String>,
    Query(parameters): Query<Parameters>,
    Body(submitted): Body<Submitted>,
) -> Answer<Verdict> {
    check(&registry, &subject, None, &parameters, submitted).await
}

pub(super) async fn check_version(
    State(registry): State<Registry>,
    Path((subject, version)): Path<(String, String)>,
    Query(parameters): Query<Parameters>,
    Body(submitted): Body<Submitted>,
) -> Answer<Verdict> {
    let version = VersionNumber::parse(&version)?;
    check(&registry, &subject, Some(version), &parameters, submitted).await
}

async fn check(
    registry: &Registry,
    subject: &str,
    version: Option<VersionNumber>,
    parameters: &Parameters,
    submitted: Submitted,
) -> Result<Json<Verdict>, Error> {
    let objections = registry
        .objections(&Subject::parse(subject)?, version, submitted)
        .await?;
    Ok(Json(Verdict {
        is_compatible: objections.is_empty(),
        messages: parameters.verbose.then_some(objections),
    }))
}
