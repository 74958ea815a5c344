//! Errors as Confluent's clients expect them: `{"error_code": 40401, "message": "…"}`.

use std::error::Error as _;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::media;
use crate::Error;

/// The first three digits of the code are the HTTP status.
pub(super) fn answer(code: u32, message: &str) -> Response {
    let mut status = code;
    while status >= 1000 {
        status /= 10;
    }
    let status = u16::try_from(status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok());
    let body = media::json(json!({ "error_code": code, "message": message }).to_string());
    (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body).into_response()
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        if self.code() >= 50_000 || self.code() == 500 {
            // What the client cannot act on is for the log alone.
            let cause = self.source().map(ToString::to_string).unwrap_or_default();
            let (error_code, failed) = (self.code(), "failed to answer a request");
            match self {
                // Readiness says so, once.
                Self::NotRestored => tracing::debug!(error_code, "{failed}: {self}: {cause}"),
                _ => tracing::error!(error_code, "{failed}: {self}: {cause}"),
            }
        }
        answer(self.code(), &self.to_string())
    }
}
