//! The answer to a command that was carried out.

use axum::{
    Json,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use event_log::PositionToken;
use kernel::StreamId;
use serde::Serialize;
use utoipa::ToSchema;

use crate::outcome::Acceptance;

/// Carries the position token, in answers to commands and in reads that wait.
pub const POSITION: HeaderName = HeaderName::from_static("annals-position");
/// Says `true` when this is the recorded answer of an earlier attempt.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// A command was carried out: 200, or 201 with `Location` when it made something new.
///
/// `ETag` is the stream's version, for the next command's `If-Match`;
/// `Annals-Position` is the token with which a read waits for these events.
#[derive(Clone, Debug)]
pub struct Accepted {
    acceptance: Acceptance,
    location: Option<String>,
}

/// The body of an answer to a command. A function of the recorded events.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AcceptedBody {
    /// Name of the stream that decided, `tenant/kind/id`.
    #[schema(example = "main/task/5d2c1f3e-7c53-5d8e-9b11-0c7a3a0f4d6b")]
    pub stream: String,
    /// The last part of the stream's name.
    #[schema(example = "5d2c1f3e-7c53-5d8e-9b11-0c7a3a0f4d6b")]
    pub id: String,
    /// Version of the stream after this command.
    #[schema(example = 1)]
    pub version: u64,
    /// How many events the command caused; 0 when there was nothing to do.
    #[schema(example = 1)]
    pub events: u32,
    /// Token with which a read waits until it sees these events.
    pub position: String,
}

impl Accepted {
    pub fn new(acceptance: Acceptance) -> Self {
        Self {
            acceptance,
            location: None,
        }
    }

    /// What was made can be read at this path: answers 201 with `Location`.
    pub fn created_at(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    pub fn acceptance(&self) -> &Acceptance {
        &self.acceptance
    }
}

impl IntoResponse for Accepted {
    fn into_response(self) -> Response {
        let Acceptance {
            stream,
            version,
            events,
            position,
            repeated,
        } = self.acceptance;
        let token = token(position, &stream);
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, text(&format!("\"{version}\"")));
        headers.insert(POSITION, text(&token));
        if repeated {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        let status = match &self.location {
            Some(location) => {
                headers.insert(header::LOCATION, text(location));
                StatusCode::CREATED
            }
            None => StatusCode::OK,
        };
        let body = AcceptedBody {
            id: stream.id().to_owned(),
            stream: stream.as_str().to_owned(),
            version: version.0,
            events,
            position: token,
        };
        (status, headers, Json(body)).into_response()
    }
}

pub(super) fn token(position: Option<event_log::Position>, stream: &StreamId) -> String {
    match position {
        Some(position) => PositionToken::of(position, Some(stream.clone())),
        None => PositionToken::default(),
    }
    .encode()
}

/// Ids, versions and tokens are visible ASCII by their types.
pub(super) fn text(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).unwrap_or_else(|_| HeaderValue::from_static(""))
}
