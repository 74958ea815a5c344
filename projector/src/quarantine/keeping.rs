//! The worker's part: what it knows of the quarantine, and how a batch adds to it.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
};

use event_log::{Envelope, Position};
use kernel::StreamId;
use sqlx::{PgConnection, PgExecutor, PgPool};

use crate::{checkpoint::Start, read_side::Edition};

/// The code of what cannot be decoded.
pub(super) const UNREADABLE: &str = "unreadable";

/// An event that no further attempt can bring into the rows.
#[derive(Clone, Debug)]
pub(crate) struct Poison {
    pub(crate) stream: StreamId,
    pub(crate) offset: i64,
    pub(crate) event_type: Option<String>,
    pub(crate) version: Option<i64>,
    pub(crate) code: String,
    pub(crate) reason: String,
}

impl Poison {
    pub(crate) fn unreadable(stream: StreamId, offset: i64, reason: &dyn fmt::Display) -> Self {
        Self {
            stream,
            offset,
            event_type: None,
            version: None,
            code: UNREADABLE.into(),
            reason: reason.to_string(),
        }
    }

    /// With what the event says about itself.
    pub(crate) fn of(mut self, envelope: &Envelope) -> Self {
        self.event_type = Some(envelope.event_type.to_string());
        self.version = Some(envelope.version.0 as i64);
        self
    }
}

/// What a batch adds to a stream's held events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) count: i64,
    pub(crate) last_offset: i64,
}

/// What a partition's worker knows of the quarantine.
#[derive(Debug, Default)]
pub(crate) struct Quarantined {
    pub(crate) streams: HashSet<StreamId>,
    /// Offsets from the checkpoint on that an operator has decided to leave out.
    pub(crate) skipped: BTreeSet<i64>,
}

pub(crate) async fn load(
    postgres: &PgPool,
    edition: &Edition,
    at: &Start,
) -> Result<Quarantined, sqlx::Error> {
    let streams: Vec<String> = sqlx::query_scalar(
        "select stream from annals.quarantine
         where model = $1 and edition = $2 and topic = $3 and partition = $4",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .bind(&at.topic)
    .bind(at.partition)
    .fetch_all(postgres)
    .await?;
    let skipped: Vec<i64> = sqlx::query_scalar(
        r#"select "offset" from annals.skipped_events
           where model = $1 and version = $2 and topic = $3 and partition = $4 and "offset" >= $5"#,
    )
    .bind(&edition.model)
    .bind(edition.version)
    .bind(&at.topic)
    .bind(at.partition)
    .bind(at.place.next_offset)
    .fetch_all(postgres)
    .await?;
    Ok(Quarantined {
        streams: streams.iter().filter_map(|it| it.parse().ok()).collect(),
        skipped: skipped.into_iter().collect(),
    })
}

/// The offsets of a quarantined stream's partition that are left out, from its poisoned event on.
pub(super) async fn skipped_from(
    postgres: impl PgExecutor<'_>,
    edition: &Edition,
    of: &super::QuarantinedStream,
) -> Result<BTreeSet<i64>, sqlx::Error> {
    let skipped: Vec<i64> = sqlx::query_scalar(
        r#"select "offset" from annals.skipped_events
           where model = $1 and version = $2 and topic = $3 and partition = $4 and "offset" >= $5"#,
    )
    .bind(&edition.model)
    .bind(edition.version)
    .bind(&of.topic)
    .bind(of.partition)
    .bind(of.offset)
    .fetch_all(postgres)
    .await?;
    Ok(skipped.into_iter().collect())
}

/// Whether an operator has decided to leave this event out.
pub(crate) async fn was_skipped(
    postgres: impl PgExecutor<'_>,
    edition: &Edition,
    position: &Position,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar(
        r#"select exists (select from annals.skipped_events
           where model = $1 and version = $2 and topic = $3 and partition = $4 and "offset" = $5)"#,
    )
    .bind(&edition.model)
    .bind(edition.version)
    .bind(&position.topic)
    .bind(position.partition)
    .bind(position.offset)
    .fetch_one(postgres)
    .await
}

/// How many streams may still be quarantined within this minute.
pub(crate) async fn room(
    postgres: impl PgExecutor<'_>,
    edition: &Edition,
    per_minute: u32,
) -> Result<i64, sqlx::Error> {
    let new: i64 = sqlx::query_scalar(
        "select count(*) from annals.quarantine
         where model = $1 and edition = $2 and since > clock_timestamp() - interval '1 minute'",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .fetch_one(postgres)
    .await?;
    Ok(i64::from(per_minute) - new)
}

/// What became of a batch's additions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    Yes,
    /// They are more than a minute may have: the transaction must be given up.
    TooMany,
    /// A stream was let go meanwhile: the transaction must be given up, and its events read again.
    Released,
}

/// Quarantines streams and counts what is held back, in the transaction that moves the checkpoint.
pub(crate) async fn keep(
    transaction: &mut PgConnection,
    edition: &Edition,
    at: &Start,
    poisoned: &[&Poison],
    held: &HashMap<&StreamId, Held>,
    per_minute: u32,
) -> Result<Kept, sqlx::Error> {
    if !poisoned.is_empty() {
        let room = room(&mut *transaction, edition, per_minute).await?;
        if room < poisoned.len() as i64 {
            return Ok(Kept::TooMany);
        }
        put_in(transaction, edition, at, poisoned).await?;
    }
    if held.is_empty() {
        return Ok(Kept::Yes);
    }
    let streams: Vec<_> = held.keys().map(|stream| stream.as_str()).collect();
    let counts: Vec<_> = held.values().map(|held| held.count).collect();
    let last_offsets: Vec<_> = held.values().map(|held| held.last_offset).collect();
    let counted = sqlx::query(
        "update annals.quarantine as q
            set held = q.held + more.count, last_offset = more.last_offset
           from unnest($4::text[], $5::bigint[], $6::bigint[]) as more (stream, count, last_offset)
          where q.model = $1 and q.edition = $2 and q.topic = $3 and q.stream = more.stream",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .bind(&at.topic)
    .bind(&streams)
    .bind(counts)
    .bind(last_offsets)
    .execute(transaction)
    .await?;
    match counted.rows_affected() == streams.len() as u64 {
        true => Ok(Kept::Yes),
        false => Ok(Kept::Released),
    }
}

async fn put_in(
    transaction: &mut PgConnection,
    edition: &Edition,
    at: &Start,
    poisoned: &[&Poison],
) -> Result<(), sqlx::Error> {
    // A few: a minute has no room for many.
    for poison in poisoned {
        sqlx::query(
            r#"insert into annals.quarantine (model, edition, topic, stream, partition, "offset",
                   event_type, version, code, reason, since, last_offset)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp(), $6)"#,
        )
        .bind(&edition.model)
        .bind(edition.number)
        .bind(&at.topic)
        .bind(poison.stream.as_str())
        .bind(at.partition)
        .bind(poison.offset)
        .bind(&poison.event_type)
        .bind(poison.version)
        .bind(&poison.code)
        .bind(&poison.reason)
        .execute(&mut *transaction)
        .await?;
    }
    Ok(())
}
