//! The answer that shows one stream's row.

use axum::{
    Json,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use kernel::StreamVersion;
use serde::Serialize;

/// A body with `ETag: "<stream version>"`, which a command takes back as `If-Match`.
///
/// There is no 304 for `If-None-Match`: a row may show more than its stream, such as the name of
/// an assignee, and that changes while the version does not.
#[derive(Clone, Debug)]
pub struct Versioned<T> {
    pub version: StreamVersion,
    pub body: T,
}

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        let etag = HeaderValue::try_from(format!("\"{}\"", self.version))
            .expect("a number in quotes is a header's value");
        ([(header::ETAG, etag)], Json(self.body)).into_response()
    }
}
