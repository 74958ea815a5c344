//! How each outcome that is not an acceptance is answered.

use axum::http::{HeaderValue, StatusCode, header};
use kernel::Ground;
use service_kit::Problem;

use crate::outcome::CommandError;

impl From<CommandError> for Problem {
    fn from(error: CommandError) -> Self {
        use StatusCode as S;
        // What is wrong behind the scenes is for the log and readiness, not for clients.
        let detail = match &error {
            CommandError::NotServed { .. } => {
                "the shard of this stream is not served at present; send the command again with \
                 the same key"
                    .to_owned()
            }
            CommandError::StreamStopped { .. } => {
                "what happened on this stream cannot be read or decided; an operator has to look \
                 at it"
                    .to_owned()
            }
            other => other.to_string(),
        };
        let problem =
            |status, code, title| Problem::new(status, code, title).detail(detail.clone());
        match error {
            CommandError::Rejected { code, ground, .. } => problem(
                match ground {
                    Ground::Rule => S::CONFLICT,
                    Ground::Missing => S::NOT_FOUND,
                    Ground::Forbidden => S::FORBIDDEN,
                    Ground::Invalid => S::UNPROCESSABLE_ENTITY,
                },
                code,
                "The command was rejected",
            ),
            CommandError::Stale { current } => problem(
                S::PRECONDITION_FAILED,
                "stale-version",
                "The stream has another version",
            )
            .with("current_version", current)
            .header(
                header::ETAG,
                HeaderValue::from_str(&format!("\"{current}\""))
                    .unwrap_or_else(|_| unreachable!("a version is a number")),
            ),
            CommandError::KeyReused => problem(
                S::UNPROCESSABLE_ENTITY,
                "idempotency-key-reused",
                "The idempotency key belongs to another command",
            ),
            CommandError::WindowPassed { forgotten_until } => problem(
                S::CONFLICT,
                "window-passed",
                "The command is older than what is remembered",
            )
            .with("forgotten_until", forgotten_until),
            CommandError::UnknownCommand => {
                problem(S::NOT_FOUND, "unknown-command", "No such command")
            }
            CommandError::TooLarge { limit_bytes } => problem(
                S::PAYLOAD_TOO_LARGE,
                "too-large",
                "The command's events are too large",
            )
            .with("limit_bytes", limit_bytes),
            CommandError::NotActive {
                event_type, active, ..
            } => problem(
                S::CONFLICT,
                "not-active",
                "What the command needs is not active yet",
            )
            .with("event_type", event_type)
            .with("active_version", active),
            CommandError::Refused { .. } => problem(
                S::PAYLOAD_TOO_LARGE,
                "append-refused",
                "The log refused the command's events",
            ),
            CommandError::StreamStopped { .. } => {
                problem(S::CONFLICT, "stream-stopped", "The stream is stopped")
            }
            CommandError::Busy => {
                problem(S::SERVICE_UNAVAILABLE, "busy", "Too many commands wait").retry_after(1)
            }
            CommandError::NotServed { .. } => problem(
                S::SERVICE_UNAVAILABLE,
                "not-served",
                "The shard is not served at present",
            )
            .retry_after(1),
            CommandError::NoAnswerYet { .. } => problem(
                S::SERVICE_UNAVAILABLE,
                "no-answer-yet",
                "The log has not answered in time",
            )
            .retry_after(1),
            CommandError::Bug { .. } => Problem::internal(&error),
        }
    }
}
