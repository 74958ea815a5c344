//! An HTTP answer as a client understands it.

use event_log::{Position, PositionToken};
use reqwest::header::HeaderMap;
use serde_json::Value;

use crate::chaos::history::{Answer, Ask, Place, Task};

const DOMAIN: &[&str] = &[
    "no-such-task",
    "task-exists",
    "not-the-assignee",
    "already-completed",
];

pub(super) fn read(ask: &Ask, status: u16, headers: &HeaderMap, body: &str) -> Answer {
    let nonsense = || Answer::Nonsense(format!("{status} {headers:?} {body}"));
    let json: Value = serde_json::from_str(body).unwrap_or_default();
    let code = json["code"].as_str().unwrap_or_default();
    let is_read = matches!(ask, Ask::StrongRead | Ask::BoardRead { .. });
    match status {
        200 if is_read => shown(headers, &json).unwrap_or_else(nonsense),
        200 | 201 => accepted(headers, &json).unwrap_or_else(nonsense),
        404 if is_read && matches!(code, "no-such-task" | "not-found") => Answer::Shown {
            version: 0,
            task: Task::Unknown,
        },
        404 if code == "unknown-command" => Answer::UnknownCommand,
        412 if code == "stale-version" => match json["current_version"].as_u64() {
            Some(current) => Answer::Stale { current },
            None => nonsense(),
        },
        422 if code == "idempotency-key-reused" => Answer::KeyReused,
        403 | 404 | 409 if DOMAIN.contains(&code) => Answer::Rejected(code.into()),
        // Somebody wrote past us: an operator has to look at it.
        409 if code == "stream-stopped" => Answer::Open(code.into()),
        421 | 429 | 503 => Answer::Open(code.into()),
        _ => nonsense(),
    }
}

/// The token that came with this place, of an event of this stream.
pub(super) fn token(stream: &str, place: Option<&Place>) -> String {
    let token = place.map_or_else(PositionToken::default, |place| {
        let position = Position {
            topic: place.topic.clone(),
            partition: place.partition,
            offset: place.offset,
        };
        PositionToken::of(position, stream.parse().ok())
    });
    token.encode()
}

fn accepted(headers: &HeaderMap, json: &Value) -> Option<Answer> {
    let token = PositionToken::decode(json["position"].as_str()?).ok()?;
    let place = token.marks.into_iter().next().map(|mark| Place {
        topic: mark.position.topic,
        partition: mark.position.partition,
        offset: mark.position.offset,
    });
    let repeated = headers.get("idempotency-replayed");
    Some(Answer::Accepted {
        version: json["version"].as_u64()?,
        events: json["events"].as_u64()?,
        place,
        repeated: repeated.is_some_and(|it| it == "true"),
    })
}

fn shown(headers: &HeaderMap, json: &Value) -> Option<Answer> {
    let version = headers.get("etag")?.to_str().ok()?;
    let assignee = json["assignee"].as_str().map(str::to_owned);
    Some(Answer::Shown {
        version: version.trim_matches('"').parse().ok()?,
        task: match json["status"].as_str()? {
            "open" => Task::Open { assignee },
            // The board says it in its own word.
            "closed" | "done" => Task::Done,
            _ => return None,
        },
    })
}
