//! Following over a WebSocket: the same events as messages of JSON.

use std::time::Duration;

use axum::{
    body::Bytes,
    extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade},
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::{
    change::{Ended, message, raw},
    follower::{Follower, Happening},
};

/// The subprotocol of these messages. Who asks for none gets the same.
const PROTOCOL: &str = "annals.changes";
/// Before a bearer token that comes as the name of a subprotocol.
const BEARER: &str = "annals.bearer.";

/// A browser's WebSocket can bring no header of its own, only names of subprotocols: the token is
/// taken from among them. It is never answered, and a URL, which is logged in many places, has none.
pub(crate) fn take_bearer(headers: &mut HeaderMap) {
    let offered = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered: Vec<_> = offered
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    let Some(token) = offered.iter().find_map(|name| name.strip_prefix(BEARER)) else {
        return;
    };
    let others: Vec<_> = offered
        .iter()
        .filter(|name| !name.starts_with(BEARER))
        .map(String::as_str)
        .collect();
    // Both are parts of what was a header's value.
    let authorization = HeaderValue::try_from(format!("Bearer {token}"));
    let others = HeaderValue::try_from(others.join(", "));
    if let (Ok(mut authorization), Ok(others)) = (authorization, others) {
        authorization.set_sensitive(true);
        headers
            .entry(header::AUTHORIZATION)
            .or_insert(authorization);
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, others);
    }
}

/// What a client may send, which is next to nothing: it is not listened to.
const MAX_MESSAGE_BYTES: usize = 4 * 1024;
/// What may wait to be sent to a client.
const MAX_UNSENT_BYTES: usize = 256 * 1024;
/// A client that takes nothing for so long is cut off.
const SENT_WITHIN: Duration = Duration::from_secs(30);

pub(crate) fn answer(
    upgrade: WebSocketUpgrade,
    follower: Follower,
    state: Option<Bytes>,
) -> Response {
    let upgrade = upgrade
        .protocols([PROTOCOL])
        .read_buffer_size(MAX_MESSAGE_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_UNSENT_BYTES)
        .max_message_size(MAX_MESSAGE_BYTES)
        .max_frame_size(MAX_MESSAGE_BYTES);
    upgrade.on_upgrade(async move |mut socket| {
        if let Err(error) = tell(&mut socket, follower, state).await {
            tracing::debug!("a WebSocket has ended: {error}");
        }
    })
}

async fn tell(
    socket: &mut WebSocket,
    mut follower: Follower,
    state: Option<Bytes>,
) -> Result<(), axum::Error> {
    let state = state.map(|state| json(&state));
    let first = match &state {
        Some(state) => message("state", follower.position(), Some(state)),
        None => message("position", follower.position(), None),
    };
    send(socket, Message::Text(first)).await?;
    loop {
        let happening = tokio::select! {
            happening = follower.next() => happening,
            // Pings are answered by themselves, as long as somebody reads.
            received = socket.recv() => match received {
                Some(Ok(Message::Close(_))) | None => return Ok(()),
                Some(received) => {
                    received?;
                    continue;
                }
            },
        };
        let told = match &happening {
            Happening::Change(change) => change.message(),
            Happening::Quiet(position) => message("position", position, None),
            Happening::Ended(why, position) => message("end", position, Some(&why.data())),
        };
        send(socket, Message::Text(told)).await?;
        if let Happening::Ended(why, _) = happening {
            return close(socket, why).await;
        }
    }
}

async fn send(socket: &mut WebSocket, message: Message) -> Result<(), axum::Error> {
    match timeout(SENT_WITHIN, socket.send(message)).await {
        Ok(sent) => sent,
        Err(elapsed) => Err(axum::Error::new(elapsed)),
    }
}

async fn close(socket: &mut WebSocket, why: Ended) -> Result<(), axum::Error> {
    let frame = CloseFrame {
        code: why.close_code(),
        reason: why.code().into(),
    };
    send(socket, Message::Close(Some(frame))).await
}

/// The body of an answer, which a handler may have written in another form.
fn json(body: &[u8]) -> std::sync::Arc<RawValue> {
    match serde_json::from_slice::<Box<RawValue>>(body) {
        Ok(json) => json.into(),
        Err(_) => raw(&String::from_utf8_lossy(body)),
    }
}
