//! Following as server-sent events: one answer that does not end.

use std::convert::Infallible;

use axum::{
    body::{Body, Bytes},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};

use super::{
    change::{event_stream, heartbeat},
    follower::{Follower, Happening},
};
use crate::position::POSITION;

pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// `state` is what is told first: the resource as it was at the beginning.
pub(crate) fn answer(follower: Follower, state: Option<Bytes>) -> Response {
    let position = follower.position();
    let mut first = String::from("retry: 1000\n").into_bytes();
    first.extend_from_slice(&match &state {
        Some(state) => event_stream("state", position, &String::from_utf8_lossy(state)),
        None => heartbeat(position),
    });
    let position = HeaderValue::try_from(&**position).expect("a position is base64");
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (POSITION, position),
    ];
    let changes = stream::unfold(Some(follower), async |follower| {
        let mut follower = follower?;
        Some(match follower.next().await {
            Happening::Change(change) => (change.event_stream(), Some(follower)),
            Happening::Quiet(position) => (heartbeat(&position), Some(follower)),
            Happening::Ended(why, position) => {
                (event_stream("end", &position, why.data().get()), None)
            }
        })
    });
    let told = stream::once(async { Bytes::from(first) }).chain(changes);
    let body = Body::from_stream(told.map(Ok::<_, Infallible>));
    (headers, body).into_response()
}
