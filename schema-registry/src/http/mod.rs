//! The routes of Confluent's REST API. A handler reads the request, asks the [`Registry`] and says
//! what it answered.

mod compatibility;
mod config;
mod failure;
mod media;
mod request;
mod schemas;
mod subjects;

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::{Value, json};
use tower_http::catch_panic::CatchPanicLayer;

use crate::registry::Registry;

/// Longest request body that [`router`](crate::router) accepts, in bytes, if nothing else is said: a longer schema
/// would not fit into a Kafka message with the usual limits either.
pub const DEFAULT_MOST_BYTES: usize = 1024 * 1024;

/// The whole API, to be served with its own fallbacks: every error, also for unknown routes, has
/// the form `{error_code, message}`.
pub(crate) fn routes(registry: Registry, most_bytes: usize) -> Router {
    Router::new()
        .route("/", get(async || axum::Json(json!({}))))
        .route("/subjects", get(subjects::list_subjects))
        .route(
            "/subjects/{subject}",
            post(subjects::look_up_schema).delete(subjects::delete_subject),
        )
        .route(
            "/subjects/{subject}/versions",
            get(subjects::list_versions).post(subjects::register_schema),
        )
        .route(
            "/subjects/{subject}/versions/{version}",
            get(subjects::get_version).delete(subjects::delete_version),
        )
        .route(
            "/subjects/{subject}/versions/{version}/schema",
            get(subjects::get_version_schema),
        )
        .route(
            "/subjects/{subject}/versions/{version}/referencedby",
            get(subjects::list_referring),
        )
        .route("/schemas", get(schemas::list_schemas))
        .route("/schemas/types", get(schemas::list_types))
        .route("/schemas/ids/{id}", get(schemas::get_schema))
        .route("/schemas/ids/{id}/schema", get(schemas::get_schema_text))
        .route("/schemas/ids/{id}/subjects", get(schemas::list_subjects))
        .route("/schemas/ids/{id}/versions", get(schemas::list_versions))
        .route(
            "/config",
            get(config::get_global)
                .put(config::put_global)
                .delete(config::delete_global),
        )
        .route(
            "/config/{subject}",
            get(config::get_subject)
                .put(config::put_subject)
                .delete(config::delete_subject),
        )
        .route(
            "/compatibility/subjects/{subject}/versions",
            post(compatibility::check_all),
        )
        .route(
            "/compatibility/subjects/{subject}/versions/{version}",
            post(compatibility::check_version),
        )
        .with_state(registry)
        .fallback(async || failure::answer(404, "HTTP 404 Not Found"))
        .method_not_allowed_fallback(async || failure::answer(405, "HTTP 405 Method Not Allowed"))
        .layer(axum::middleware::from_fn(limit_time))
        .layer(CatchPanicLayer::custom(|_| {
            failure::answer(500, "Internal server error")
        }))
        .layer(axum::middleware::from_fn(media::negotiate))
        .layer(DefaultBodyLimit::disable())
        .layer(axum::Extension(request::MostBytes(most_bytes)))
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
