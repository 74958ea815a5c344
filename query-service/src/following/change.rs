//! What a follower is sent, in the forms of SSE, WebSocket and long-poll.

use std::sync::{Arc, OnceLock};

use axum::{body::Bytes, extract::ws::Utf8Bytes};
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::history::StreamEvent;

/// What an event changed in a read model, or the event itself where streams are followed.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Change {
    Keys {
        /// The keys of the model whose rows are to be read again.
        keys: Vec<String>,
        /// The stream of the event that changed them.
        #[schema(example = "main/task/7")]
        stream: String,
        /// The event's version in its stream.
        version: i64,
    },
    Event(Box<StreamEvent>),
}

/// The answer to a long-poll.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ChangesPage {
    /// What was changed after the position, in order for each stream; empty when nothing was
    /// while it was waited for.
    #[schema(value_type = Vec<Change>)]
    pub(crate) changes: Vec<Arc<RawValue>>,
    /// The next `since`.
    #[schema(value_type = String)]
    pub(crate) position: Arc<str>,
}

/// A change on its way, written once for all who follow.
#[derive(Debug)]
pub(crate) struct Delivery {
    /// The place after it.
    pub position: Arc<str>,
    pub data: Arc<RawValue>,
    /// Of the tail's readings, the one that found it; 0 if it was not the tail's.
    pub reading: u64,
    event_stream: OnceLock<Bytes>,
    message: OnceLock<Utf8Bytes>,
}

/// Why somebody does not follow any longer. The position tells from where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    TooSlow,
    Pruned,
    Stopping,
    TokenExpired,
}

impl Delivery {
    pub fn new(change: &Change, position: Arc<str>, reading: u64) -> Self {
        Self {
            position,
            reading,
            data: raw(change),
            event_stream: OnceLock::new(),
            message: OnceLock::new(),
        }
    }

    pub fn event_stream(&self) -> Bytes {
        let written = || event_stream("change", &self.position, self.data.get());
        self.event_stream.get_or_init(written).clone()
    }

    pub fn message(&self) -> Utf8Bytes {
        let written = || message("change", &self.position, Some(&self.data));
        self.message.get_or_init(written).clone()
    }
}

impl Ended {
    pub fn code(self) -> &'static str {
        match self {
            Self::TooSlow => "too-slow",
            Self::Pruned => "position-too-old",
            Self::Stopping => "stopping",
            Self::TokenExpired => "token-expired",
        }
    }

    pub fn detail(self) -> &'static str {
        match self {
            Self::TooSlow => {
                "changes came faster than they were read: go on from the last position"
            }
            Self::Pruned => {
                "the changes after the position are not kept any more: read anew, and follow \
                 without a position"
            }
            Self::Stopping => "the service is stopping: go on from the last position",
            Self::TokenExpired => {
                "the bearer token has expired: go on from the last position with another"
            }
        }
    }

    pub fn data(self) -> Arc<RawValue> {
        raw(&serde_json::json!({ "code": self.code(), "detail": self.detail() }))
    }

    /// The status of the close frame: see RFC 6455, 7.4.
    pub fn close_code(self) -> u16 {
        match self {
            Self::TooSlow => 1013,
            Self::Stopping => 1001,
            Self::Pruned | Self::TokenExpired => 1008,
        }
    }
}

/// An event of `text/event-stream`. `data` is JSON, which has line ends only between its parts.
pub(crate) fn event_stream(event: &str, position: &str, data: &str) -> Bytes {
    let mut text = format!("event: {event}\nid: {position}\n");
    for line in data.lines() {
        text.push_str("data: ");
        text.push_str(line);
        text.push('\n');
    }
    text.push('\n');
    text.into()
}

/// Moves the client's last event id on and says that the connection lives; no event for it.
pub(crate) fn heartbeat(position: &str) -> Bytes {
    format!("id: {position}\n\n").into()
}

/// A message of a WebSocket.
pub(crate) fn message(event: &str, position: &str, data: Option<&RawValue>) -> Utf8Bytes {
    #[derive(Serialize)]
    struct Message<'a> {
        event: &'a str,
        position: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
    }
    let message = Message {
        event,
        position,
        data,
    };
    let text = serde_json::to_string(&message).expect("text and JSON serialize");
    text.into()
}

pub(crate) fn raw(value: &impl Serialize) -> Arc<RawValue> {
    let raw = serde_json::value::to_raw_value(value).expect("a change is plain data");
    raw.into()
}
