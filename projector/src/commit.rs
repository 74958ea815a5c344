//! One transaction: the checkpoint first, then the quarantine, then the rows. All or nothing.

use sqlx::{Connection, PgConnection, PgPool};

use crate::{
    checkpoint::{self, Place, Start},
    gathering::Batch,
    quarantine::{self, Kept},
    read_side::{CHANNEL, CheckpointMoved, Edition},
};

/// What became of a batch. Nothing of it is in the tables unless it was committed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    /// The checkpoint was not where we believed, or may not move so far.
    Stale,
    /// More streams would be quarantined than a minute may have.
    Flood,
    /// A stream that we hold back was let go.
    Released,
}

/// Nothing of the batch is in the tables, unless the commit itself was cut off: the checkpoint
/// tells then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// Postgres refuses the values of some event of the batch.
    #[error("Postgres refuses a value of the batch")]
    Unfit(#[source] sqlx::Error),
    /// Not for what is in the batch.
    #[error("the transaction failed")]
    Postgres(#[source] sqlx::Error),
}

/// Brings a batch of one partition into the rows and moves its checkpoint from `from` to `to`.
pub(crate) async fn commit(
    postgres: &PgPool,
    edition: &Edition,
    from: &Start,
    batch: &Batch<'_>,
    to: Place,
    quarantined_per_minute: u32,
) -> Result<Outcome, CommitError> {
    let away = CommitError::Postgres;
    let mut connection = postgres.acquire().await.map_err(away)?;
    let mut transaction = connection.begin().await.map_err(away)?;
    let advanced = checkpoint::advance(&mut transaction, edition, from, to).await;
    if !advanced.map_err(away)? {
        transaction.rollback().await.map_err(away)?;
        return Ok(Outcome::Stale);
    }
    let kept = quarantine::keep(
        &mut transaction,
        edition,
        from,
        &batch.poisoned,
        &batch.held,
        quarantined_per_minute,
    );
    let refused = match kept.await.map_err(away)? {
        Kept::Yes => None,
        Kept::TooMany => Some(Outcome::Flood),
        Kept::Released => Some(Outcome::Released),
    };
    if let Some(outcome) = refused {
        transaction.rollback().await.map_err(away)?;
        return Ok(outcome);
    }
    let events = batch.events;
    if let Err(error) = events.write(0, batch.event_count, &mut transaction).await {
        // Best effort: the connection is cleaned before its next use in any case.
        let _ = transaction.rollback().await;
        return Err(classify(error));
    }
    transaction.commit().await.map_err(classify)?;
    notify(&mut connection, edition, from, to).await;
    Ok(Outcome::Committed)
}

/// Outside the transaction: NOTIFY in one serializes its commit with all others. Who misses it
/// looks at the table.
async fn notify(connection: &mut PgConnection, edition: &Edition, from: &Start, to: Place) {
    let moved = CheckpointMoved {
        model: edition.model.clone(),
        edition: edition.number,
        topic: from.topic.clone(),
        partition: from.partition,
        next_offset: to.next_offset,
    };
    let payload = serde_json::to_string(&moved)
        .unwrap_or_else(|error| unreachable!("a notification is plain JSON: {error}"));
    let sent = sqlx::query("select pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(payload)
        .execute(connection)
        .await;
    if let Err(error) = sent {
        tracing::debug!(%error, "readers were not notified");
    }
}

/// Data errors (SQLSTATE classes 22 and 23) are about the values; a deferred constraint shows
/// them at the commit. So is 21000, a row that one statement would change twice: it shows only
/// where two events of a stream meet in a batch, and a smaller batch gets past it.
pub(crate) fn classify(source: sqlx::Error) -> CommitError {
    match sqlstate(&source).is_some_and(|code| is_data_error(&code) || code.starts_with("21")) {
        true => CommitError::Unfit(source),
        false => CommitError::Postgres(source),
    }
}

/// Whether an event alone can be to blame.
pub(crate) fn is_data_error(sqlstate: &str) -> bool {
    sqlstate.starts_with("22") || sqlstate.starts_with("23")
}

pub(crate) fn sqlstate(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}
