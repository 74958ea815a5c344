//! The answer to a strong read.

use axum::{
    Json,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use kernel::{Decider, StreamId, StreamVersion};
use serde::Serialize;
use service_kit::{Identity, Problem};

use super::accepted::{POSITION, text, token};
use crate::commands::{Commands, Current};

impl Commands {
    /// The state of the stream `id` of `D`'s kind, in the caller's tenant, as it is now.
    ///
    /// # Errors
    /// 404 `not-found` when the stream has no events.
    pub async fn current<D: Decider>(
        &self,
        id: &str,
        caller: &Identity,
    ) -> Result<Current<D>, Problem> {
        let missing = || {
            Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing")
                .detail(format!("there is no {} with this id", D::KIND))
        };
        let stream = StreamId::new(&caller.tenant, D::KIND, id).map_err(|_| missing())?;
        let current = self.read::<D>(&stream).await?;
        match current.version {
            StreamVersion::NONE => Err(missing()),
            _ => Ok(current),
        }
    }
}

impl<T> Current<T> {
    /// What a client gets to see of the state.
    pub fn map<U>(self, show: impl FnOnce(T) -> U) -> Current<U> {
        Current {
            state: show(self.state),
            stream: self.stream,
            version: self.version,
            position: self.position,
        }
    }
}

/// 200 with the state as JSON. `ETag` is the stream's version, for the next command's
/// `If-Match`; `Annals-Position` is the token with which a read model's reader waits until it
/// shows as much.
impl<T: Serialize> IntoResponse for Current<T> {
    fn into_response(self) -> Response {
        let mut headers = HeaderMap::new();
        headers.insert(header::ETAG, text(&format!("\"{}\"", self.version)));
        headers.insert(POSITION, text(&token(self.position, &self.stream)));
        (headers, Json(self.state)).into_response()
    }
}
