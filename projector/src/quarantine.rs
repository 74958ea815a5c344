//! Streams that a model cannot project. From the poisoned event on, the stream's events are held
//! back for that model, and all others go on; the operator retries when the cause is mended, or
//! leaves the event out.
//!
//! Poison is what no further attempt can mend: bytes that cannot be decoded, and values that
//! Postgres refuses (SQLSTATE classes 22 and 23). Everything else is tried again.

mod keeping;
mod release;
mod stream_log;

pub use release::{Desk, QuarantineError, Released, Skip};
pub use stream_log::ReadError;

pub(crate) use keeping::{Held, Kept, Poison, Quarantined, keep, load, room, was_skipped};

use chrono::{DateTime, Utc};
use event_log::Position;
use serde::Serialize;
use sqlx::{FromRow, PgExecutor};

/// A stream that is held back for one edition of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct QuarantinedStream {
    pub model: String,
    pub edition: i32,
    /// `tenant/kind/id`
    pub stream: String,
    pub topic: String,
    pub partition: i32,
    /// Of the poisoned event, the first of the stream that is not in the rows.
    pub offset: i64,
    /// Full name of the poisoned event's type; `None` when its headers are damaged.
    pub event_type: Option<String>,
    /// The poisoned event's place in its stream.
    pub version: Option<i64>,
    /// `unreadable`, or the SQLSTATE with which Postgres refused it.
    pub code: String,
    pub reason: String,
    pub since: DateTime<Utc>,
    /// How many later events of the stream were held back.
    pub held: i64,
    /// Where the last of them lies.
    pub last_offset: i64,
    /// How often it was tried again in vain, and when last.
    pub retries: i32,
    pub retried_at: Option<DateTime<Utc>>,
}

impl QuarantinedStream {
    /// Where the poisoned event lies.
    pub fn position(&self) -> Position {
        Position {
            topic: self.topic.clone(),
            partition: self.partition,
            offset: self.offset,
        }
    }
}

/// An event that an operator has decided to leave out, in every edition of the model's version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct SkippedEvent {
    pub model: String,
    /// Of the model's code; a later one is asked anew.
    pub version: i32,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// `tenant/kind/id`; `None` of a record that names none.
    pub stream: Option<String>,
    pub reason: String,
    pub skipped_by: String,
    pub skipped_at: DateTime<Utc>,
}

/// What was left out, the latest last; of one model, if one is named.
pub async fn skipped(
    postgres: impl PgExecutor<'_>,
    model: Option<&str>,
) -> Result<Vec<SkippedEvent>, sqlx::Error> {
    sqlx::query_as(
        r#"select model, version, topic, partition, "offset", stream, reason, skipped_by, skipped_at
             from annals.skipped_events where $1::text is null or model = $1
            order by skipped_at, model, topic, partition, "offset""#,
    )
    .bind(model)
    .fetch_all(postgres)
    .await
}

/// What is in quarantine, the longest first; of one model, if one is named.
pub async fn list(
    postgres: impl PgExecutor<'_>,
    model: Option<&str>,
) -> Result<Vec<QuarantinedStream>, sqlx::Error> {
    sqlx::query_as(
        r#"select model, edition, stream, topic, partition, "offset", event_type, version, code,
                  reason, since, held, last_offset, retries, retried_at
             from annals.quarantine where $1::text is null or model = $1
            order by since, model, edition, topic, stream"#,
    )
    .bind(model)
    .fetch_all(postgres)
    .await
}
