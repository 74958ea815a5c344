//! Places in the log, and the token by which a reader waits for them.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use kernel::StreamId;
use serde::{Deserialize, Serialize};

/// Where a record lies: topic, partition, offset.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// What a command's answer carries so that a later read can wait for it:
/// positions, and the streams that they belong to. Opaque to clients.
///
/// It covers the command's own events, not what policies do because of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PositionToken {
    pub marks: Vec<PositionMark>,
}

/// One position of a token: a reader has caught up when its checkpoint in the
/// partition is above `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionMark {
    pub position: Position,
    /// The stream whose event lies there, if one does.
    pub stream: Option<StreamId>,
}

/// The text is not a token that Annals gave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a position token")]
pub struct MalformedToken;

/// Longer tokens than this are refused unread.
const MAX_TOKEN_BYTES: usize = 4096;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written(u8, Vec<(String, i32, i64, Option<StreamId>)>);

/// The same form, of what is there.
#[derive(Serialize)]
struct Writing<'a>(u8, Vec<(&'a str, i32, i64, Option<&'a StreamId>)>);

impl PositionToken {
    pub fn of(position: Position, stream: Option<StreamId>) -> Self {
        Self {
            marks: vec![PositionMark { position, stream }],
        }
    }

    /// The token as text, safe in headers and URLs.
    pub fn encode(&self) -> String {
        let marks = self
            .marks
            .iter()
            .map(|PositionMark { position, stream }| {
                let Position {
                    topic,
                    partition,
                    offset,
                } = position;
                (topic.as_str(), *partition, *offset, stream.as_ref())
            })
            .collect();
        let json = serde_json::to_vec(&Writing(1, marks))
            .unwrap_or_else(|error| unreachable!("a token is plain JSON: {error}"));
        BASE64_URL_SAFE_NO_PAD.encode(json)
    }

    pub fn decode(text: &str) -> Result<Self, MalformedToken> {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(MalformedToken);
        }
        let json = BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| MalformedToken)?;
        let Written(form, marks) = serde_json::from_slice(&json).map_err(|_| MalformedToken)?;
        if form != 1 {
            return Err(MalformedToken);
        }
        let marks = marks
            .into_iter()
            .map(|(topic, partition, offset, stream)| PositionMark {
                position: Position {
                    topic,
                    partition,
                    offset,
                },
                stream,
            })
            .collect();
        Ok(Self { marks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_back_as_it_was_given() {
        let position = Position {
            topic: "annals.tasks.events.1".into(),
            partition: 3,
            offset: 1 << 40,
        };
        let token = PositionToken::of(position, Some("main/task/7".parse().unwrap()));
        assert_eq!(PositionToken::decode(&token.encode()), Ok(token));
    }

    #[test]
    fn a_forged_token_is_refused() {
        for text in ["", "x", "e30", "W10", "!!!", &"A".repeat(5000)] {
            assert_eq!(PositionToken::decode(text), Err(MalformedToken), "{text}");
        }
    }
}
