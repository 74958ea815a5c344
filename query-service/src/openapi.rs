//! The description of the queries, completed with what all of them have in common.

use service_kit::openapi::{Common, complete, empty, text_parameter};
use utoipa::openapi::{OpenApi, path::ParameterIn};
use utoipa_axum::router::OpenApiRouter;

use crate::{
    history,
    position::{POSITION, POSITION_PARAMETER},
    reader::Reads,
};

/// The refusals that any query may give besides its own.
const REFUSALS: [(&str, &str); 4] = [
    ("400", "The path, the cursor or the position is malformed"),
    ("401", "There is no valid bearer token"),
    ("422", "A parameter is not valid or not known"),
    (
        "503",
        "The read side is away, or the position is not visible yet",
    ),
];

/// The OpenAPI description of these queries, as the service gives it at `/openapi.json`.
pub fn openapi(queries: Vec<OpenApiRouter<Reads>>) -> OpenApi {
    merge(queries).into_openapi()
}

/// All routes as one, each declared with the bearer token, the position and the common refusals.
///
/// # Panics
/// If two contexts have the same route.
pub(crate) fn merge(queries: Vec<OpenApiRouter<Reads>>) -> OpenApiRouter<Reads> {
    let platform = OpenApiRouter::with_openapi(empty("Annals queries")).merge(history::queries());
    let mut all = queries.into_iter().fold(platform, OpenApiRouter::merge);
    let position = "The token of a command's answer: wait until its events are visible";
    let header = POSITION;
    let common = Common {
        refusals: &REFUSALS,
        parameters: vec![
            text_parameter(header.as_str(), ParameterIn::Header, position),
            text_parameter(POSITION_PARAMETER, ParameterIn::Query, position),
        ],
    };
    complete(all.get_openapi_mut(), &common);
    all
}
