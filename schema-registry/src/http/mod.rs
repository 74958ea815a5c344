//! The routes of Confluent's REST API. A handler reads the request, asks the [`Registry`] and says
//! what it answered.

mod api;
mod compatibility;
mod config;
mod failure;
mod media;
mod mode;
mod path;
mod request;
mod rules;
mod schemas;
mod server_metadata;
mod subjects;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::get;
use serde_json::{Value, json};
use tower_http::catch_panic::CatchPanicLayer;

use crate::access::{Access, authenticate};
use crate::content::Submitted;
use crate::registry::{MendedRules, Registered, Registry};
use crate::settings::Settings;
use crate::store::rules::RuleRevision;
use crate::store::{Place, StoredSchema, SubjectVersion};
use api::{Api, Route};
use compatibility::Verdict;

/// Longest request body that is accepted, in bytes, if nothing else is said: a longer schema would
/// not fit into a Kafka message with the usual limits either.
pub const DEFAULT_MOST_BYTES: usize = 1024 * 1024;

const LISTED: [&str; 5] = ["subjectPrefix", "deleted", "deletedOnly", "offset", "limit"];

/// The whole API, to be served with its own fallbacks: every error, also for unknown routes, has
/// the form `{error_code, message}`.
pub(crate) fn routes(registry: Registry, access: Access, most_bytes: usize) -> Router {
    let (api, openapi) = api().finish();
    let description = axum::Json(openapi);
    Router::new()
        .merge(api.clone())
        .nest("/contexts/{context}", api)
        .with_state(registry)
        .layer(from_fn(move |request, next| {
            authenticate(access.clone(), request, next)
        }))
        .route("/", get(async || axum::Json(json!({}))))
        .route("/openapi.json", get(async move || description))
        .fallback(async || failure::answer(404, "HTTP 404 Not Found"))
        .method_not_allowed_fallback(async || failure::answer(405, "HTTP 405 Method Not Allowed"))
        .layer(from_fn(limit_time))
        .layer(CatchPanicLayer::custom(|_| {
            failure::answer(500, "Internal server error")
        }))
        .layer(from_fn(media::negotiate))
        .layer(DefaultBodyLimit::disable())
        .layer(axum::Extension(request::MostBytes(most_bytes)))
}

fn api() -> Api {
    let api = subjects(Api::new());
    let api = schemas(api);
    let api = scopes(api);
    api.route(
        Route::ask(
            "/compatibility/subjects/{subject}/versions",
            "Could this schema become the next version?",
        )
        .query(&["verbose", "normalize"])
        .takes::<Submitted>()
        .answers::<Verdict>(),
        compatibility::check_all,
    )
    .route(
        Route::ask(
            "/compatibility/subjects/{subject}/versions/{version}",
            "Is this schema compatible with that version?",
        )
        .query(&["verbose", "normalize"])
        .takes::<Submitted>()
        .answers::<Verdict>(),
        compatibility::check_version,
    )
    .route(
        Route::get("/v1/metadata/id", "Which registry this is").answers::<Value>(),
        server_metadata::id,
    )
    .route(
        Route::get("/v1/metadata/version", "Which release this is").answers::<Value>(),
        server_metadata::version,
    )
}

fn subjects(api: Api) -> Api {
    const VERSION: &str = "/subjects/{subject}/versions/{version}";
    api.route(
        Route::get("/subjects", "The names of all subjects")
            .query(&LISTED)
            .answers::<Vec<String>>(),
        subjects::list_subjects,
    )
    .route(
        Route::ask(
            "/subjects/{subject}",
            "Which version of the subject has this schema?",
        )
        .query(&["deleted", "normalize", "format"])
        .takes::<Submitted>()
        .answers::<SubjectVersion>(),
        subjects::look_up_schema,
    )
    .route(
        Route::delete("/subjects/{subject}", "Delete all versions")
            .query(&["permanent"])
            .answers::<Vec<i32>>(),
        subjects::delete_subject,
    )
    .route(
        Route::get("/subjects/{subject}/versions", "The subject's versions")
            .query(&["deleted", "deletedOnly", "deletedAsNegative"])
            .query(&["offset", "limit"])
            .answers::<Vec<i32>>(),
        subjects::list_versions,
    )
    .route(
        Route::post(
            "/subjects/{subject}/versions",
            "Register a schema as the next version",
        )
        .query(&["normalize", "format"])
        .takes::<Submitted>()
        .answers::<Registered>(),
        subjects::register_schema,
    )
    .route(
        Route::get(
            "/subjects/{subject}/metadata",
            "The newest version whose metadata have these properties",
        )
        .query(&["key", "value", "deleted", "format"])
        .answers::<SubjectVersion>(),
        subjects::find_by_metadata,
    )
    .route(
        Route::get(VERSION, "A version with its schema")
            .query(&["deleted", "format"])
            .answers::<SubjectVersion>(),
        subjects::get_version,
    )
    .route(
        Route::delete(VERSION, "Delete a version")
            .query(&["permanent"])
            .answers::<i32>(),
        subjects::delete_version,
    )
    .route(
        Route::get(
            "/subjects/{subject}/versions/{version}/schema",
            "A version's schema alone",
        )
        .query(&["deleted", "format"])
        .answers::<Value>(),
        subjects::get_version_schema,
    )
    .route(
        Route::get(
            "/subjects/{subject}/versions/{version}/referencedby",
            "The ids of the schemas that refer to a version",
        )
        .query(&["deleted", "offset", "limit"])
        .answers::<Vec<i32>>(),
        subjects::list_referring,
    )
    .route(
        Route::get(
            "/subjects/{subject}/versions/{version}/rules",
            "All revisions of a version's migration rules",
        )
        .answers::<Vec<RuleRevision>>(),
        rules::list_revisions,
    )
    .route(
        Route::post(
            "/subjects/{subject}/versions/{version}/rules",
            "Mend a version's migration rules",
        )
        .takes::<MendedRules>()
        .answers::<RuleRevision>(),
        rules::mend_rules,
    )
}

fn schemas(api: Api) -> Api {
    api.route(
        Route::get("/schemas", "All versions of all subjects")
            .query(&LISTED)
            .query(&["latestOnly", "ruleType"])
            .answers::<Vec<SubjectVersion>>(),
        schemas::list_schemas,
    )
    .route(
        Route::get("/schemas/types", "The types of schemas that are known")
            .answers::<Vec<String>>(),
        schemas::list_types,
    )
    .route(
        Route::get("/schemas/ids/{id}", "The schema of an id")
            .query(&["subject", "format", "fetchMaxId"])
            .answers::<StoredSchema>(),
        schemas::get_schema,
    )
    .route(
        Route::get("/schemas/ids/{id}/schema", "The text of a schema alone")
            .query(&["subject", "format"])
            .answers::<Value>(),
        schemas::get_schema_text,
    )
    .route(
        Route::get(
            "/schemas/ids/{id}/subjects",
            "The subjects that have a schema",
        )
        .query(&["subject", "deleted", "offset", "limit"])
        .answers::<Vec<String>>(),
        schemas::list_subjects,
    )
    .route(
        Route::get(
            "/schemas/ids/{id}/versions",
            "The versions that are a schema",
        )
        .query(&["subject", "deleted", "offset", "limit"])
        .answers::<Vec<Place>>(),
        schemas::list_versions,
    )
    .route(
        Route::get("/schemas/guids/{guid}", "The schema of a guid")
            .query(&["format"])
            .answers::<StoredSchema>(),
        schemas::get_schema_by_guid,
    )
    .route(
        Route::get("/schemas/guids/{guid}/ids", "The id of a guid, by context")
            .answers::<Vec<schemas::IdInContext>>(),
        schemas::list_ids,
    )
    .route(
        Route::get("/contexts", "The contexts that have subjects")
            .query(&["contextPrefix", "offset", "limit"])
            .answers::<Vec<String>>(),
        schemas::list_contexts,
    )
}

/// Settings and modes, of subjects, of contexts (`:.context:`) and of all.
fn scopes(mut api: Api) -> Api {
    for path in ["/config", "/config/{subject}"] {
        api = api
            .route(
                Route::get(path, "Settings")
                    .query(&["defaultToGlobal"])
                    .answers::<Settings>(),
                config::get,
            )
            .route(
                Route::put(path, "Change settings")
                    .takes::<Settings>()
                    .answers::<Settings>(),
                config::put,
            )
            .route(
                Route::delete(path, "Inherit settings again").answers::<Settings>(),
                config::delete,
            );
    }
    for path in ["/mode", "/mode/{subject}"] {
        api = api
            .route(
                Route::get(path, "The mode")
                    .query(&["defaultToGlobal"])
                    .answers::<mode::ModeIs>(),
                mode::get,
            )
            .route(
                Route::put(path, "Set the mode")
                    .query(&["force"])
                    .takes::<mode::ModeIs>()
                    .answers::<mode::ModeIs>(),
                mode::put,
            )
            .route(
                Route::delete(path, "Inherit the mode again").answers::<mode::ModeIs>(),
                mode::delete,
            );
    }
    api
}

/// A database that has fallen silent must not hold requests for ever. Postgres itself gives up a
/// statement sooner.
async fn limit_time(request: Request, next: Next) -> Response {
    const LONGEST: Duration = Duration::from_secs(20);
    tokio::time::timeout(LONGEST, next.run(request))
        .await
        .unwrap_or_else(|_| failure::answer(50_002, "Operation timed out"))
}

/// A schema's text, which is JSON itself.
fn schema_text(schema: String) -> Response {
    media::json(schema)
}

type Answer<T> = Result<axum::Json<T>, crate::Error>;
type JsonObject = serde_json::Map<String, Value>;
