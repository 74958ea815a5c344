//! Following by asking again: an answer with what was changed, as soon as something was.

use std::time::Duration;

use axum::{
    Json,
    http::HeaderValue,
    response::{IntoResponse, Response},
};
use futures::FutureExt;
use service_kit::Problem;
use tokio::time::{Instant, timeout_at};

use super::{
    change::{ChangesPage, Ended},
    follower::{Follower, Happening, too_old},
};
use crate::position::POSITION;

const MOST_CHANGES: usize = 200;

/// Waits for a change for so long, then takes what else is there.
pub(crate) async fn answer(mut follower: Follower, wait: Duration) -> Result<Response, Problem> {
    let deadline = Instant::now() + wait;
    let mut changes = Vec::new();
    while changes.is_empty() {
        match timeout_at(deadline, follower.next()).await {
            Ok(Happening::Change(change)) => changes.push(change.data.clone()),
            Ok(Happening::Quiet(_)) => {}
            Ok(Happening::Ended(Ended::Pruned, _)) => return Err(too_old()),
            Ok(Happening::Ended(..)) | Err(_) => break,
        }
    }
    while !changes.is_empty() && changes.len() < MOST_CHANGES {
        match follower.next().now_or_never() {
            Some(Happening::Change(change)) => changes.push(change.data.clone()),
            Some(Happening::Quiet(_) | Happening::Ended(..)) | None => break,
        }
    }
    follower.settle();
    let position = follower.position().clone();
    let header = HeaderValue::try_from(&*position).expect("a position is base64");
    let page = ChangesPage { changes, position };
    Ok(([(POSITION, header)], Json(page)).into_response())
}
