//! The description of the commands, completed with what all of them have in common.

use service_kit::openapi::{Common, complete, empty, text_parameter};
use utoipa::openapi::{OpenApi, PathItem, Required, path::ParameterIn};
use utoipa_axum::router::OpenApiRouter;

use crate::{commands::Commands, http::recall_routes};

/// The refusals that any command may give besides its own.
const REFUSALS: [(&str, &str); 8] = [
    (
        "400",
        "`key-missing`, `key-malformed`, `if-match-malformed`, `issued-at-malformed`, \
         `malformed-json`",
    ),
    ("401", "There is no valid bearer token"),
    (
        "409",
        "`stream-stopped`: what happened on the stream cannot be read or decided; \
         `window-passed`: the command is older than what is remembered",
    ),
    (
        "412",
        "`stale-version`: `If-Match` names another version than the stream has",
    ),
    ("413", "`too-large`, `append-refused`"),
    ("415", "`unsupported-media-type`: the body is not JSON"),
    ("422", "`invalid-field`, `idempotency-key-reused`"),
    (
        "503",
        "`not-served`, `busy`, `no-answer-yet`: send it again with the same key",
    ),
];

/// The OpenAPI description of these commands, as the service gives it at `/openapi.json`.
pub fn openapi(routes: Vec<OpenApiRouter<Commands>>) -> OpenApi {
    merge(routes).into_openapi()
}

/// All routes as one, each declared with the bearer token, the key and the common refusals.
///
/// # Panics
/// If two contexts have the same route.
pub(crate) fn merge(routes: Vec<OpenApiRouter<Commands>>) -> OpenApiRouter<Commands> {
    let empty = OpenApiRouter::with_openapi(empty("Annals commands"));
    let mut all = routes.into_iter().fold(empty, OpenApiRouter::merge);
    let mut key = text_parameter(
        "Idempotency-Key",
        ParameterIn::Header,
        "The command's id, 1–128 visible ASCII characters; the same again gets the same answer",
    );
    key.required = Required::True;
    let common = Common {
        refusals: &REFUSALS,
        parameters: vec![
            key,
            text_parameter(
                "If-Match",
                ParameterIn::Header,
                "The stream version from an `ETag`, in double quotes, or `*`",
            ),
            text_parameter(
                "Annals-Issued-At",
                ParameterIn::Header,
                "When the command was made, by RFC 3339, the same for every retry: a command \
                 whose answer may have been forgotten is refused instead of decided anew",
            ),
        ],
    };
    all = all.merge(recall_routes());
    let reads = complete_reads(all.get_openapi_mut());
    complete(all.get_openapi_mut(), &common);
    for (path, read) in reads.paths.paths {
        if let Some(item) = all.get_openapi_mut().paths.paths.get_mut(&path) {
            item.get = read.get;
        }
    }
    all
}

/// Takes out what only asks: it needs no key of its own.
fn complete_reads(all: &mut OpenApi) -> OpenApi {
    let mut reads = empty("");
    for (path, item) in &mut all.paths.paths {
        let mut read = PathItem::default();
        read.get = item.get.take();
        reads.paths.paths.insert(path.clone(), read);
    }
    let common = Common {
        refusals: &[
            ("401", "There is no valid bearer token"),
            ("409", "`stream-stopped`"),
            ("422", "`invalid-field`"),
            ("503", "`not-served`, `busy`, `no-answer-yet`"),
        ],
        parameters: Vec::new(),
    };
    complete(&mut reads, &common);
    reads
}
