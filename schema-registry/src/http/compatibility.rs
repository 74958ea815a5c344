//! `/compatibility`: whether a schema could become a subject's next version.

use axum::Json;
use axum::extract::{Query, State};
use serde::Serialize;
use utoipa::ToSchema;

use super::Answer;
use super::path::InPath;
use super::request::{Body, Parameters};
use crate::content::Submitted;
use crate::subject::VersionNumber;
use crate::{Error, Registry};

#[derive(Serialize, ToSchema)]
pub(super) struct Verdict {
    is_compatible: bool,
    /// Why not, if the client wants to know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    messages: Vec<String>,
}

/// Against the versions that registering would look at.
pub(super) async fn check_all(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
    Body(submitted): Body<Submitted>,
) -> Answer<Verdict> {
    check(&registry, &path, None, &parameters, submitted).await
}

pub(super) async fn check_version(
    State(registry): State<Registry>,
    path: InPath,
    Query(parameters): Query<Parameters>,
    Body(submitted): Body<Submitted>,
) -> Answer<Verdict> {
    let version = path.version()?;
    check(&registry, &path, Some(version), &parameters, submitted).await
}

async fn check(
    registry: &Registry,
    path: &InPath,
    version: Option<VersionNumber>,
    parameters: &Parameters,
    submitted: Submitted,
) -> Answer<Verdict> {
    let subject = path.subject(registry).await?;
    let objections = match registry.objections(&subject, version, submitted).await {
        // Who asks for reasons is given this one as well.
        Err(
            error @ (Error::InvalidSchema(_)
            | Error::UnsupportedSchema(_)
            | Error::TooComplex(_)
            | Error::TooManyVersions { .. }),
        ) if parameters.verbose => vec![error.to_string()],
        objections => objections?,
    };
    Ok(Json(Verdict {
        is_compatible: objections.is_empty(),
        messages: if parameters.verbose {
            objections
        } else {
            Vec::new()
        },
    }))
}
