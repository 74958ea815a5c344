//! One transaction: the checkpoint first, then the rows. Both or neither.

use event_log::consume::LogRecord;
use sqlx::{Connection, PgConnection, PgPool};

use crate::{
    checkpoint::{self, Place, Start},
    projection::{Project, ProjectError, Unreadable},
    read_side::{CHANNEL, CheckpointMoved, Edition},
};

/// What became of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Committed,
    /// The checkpoint was not where we believed: another worker has been here.
    Stale,
}

/// Nothing of the batch is in the tables, unless the commit itself was cut off: the checkpoint
/// tells then.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CommitError {
    /// This record of the batch will not be read however often one tries.
    #[error("record {index} of the batch cannot be read")]
    Unreadable {
        index: usize,
        #[source]
        source: Unreadable,
    },
    /// Postgres refuses the values of some record of the batch.
    #[error("Postgres refuses a value of the batch")]
    Unfit(#[source] sqlx::Error),
    /// Not for what is in the batch.
    #[error("the transaction failed")]
    Postgres(#[source] sqlx::Error),
}

/// Brings records of one partition into the rows and moves its checkpoint from `from` to `to`.
pub(crate) async fn commit(
    postgres: &PgPool,
    edition: &Edition,
    projection: &dyn Project,
    from: &Start,
    records: &[LogRecord],
    to: Place,
) -> Result<Outcome, CommitError> {
    let away = CommitError::Postgres;
    let mut connection = postgres.acquire().await.map_err(away)?;
    let mut transaction = connection.begin().await.map_err(away)?;
    let advanced = checkpoint::advance(&mut transaction, edition, from, to).await;
    if !advanced.map_err(away)? {
        transaction.rollback().await.map_err(away)?;
        return Ok(Outcome::Stale);
    }
    if let Err(error) = projection.project(records, &mut transaction).await {
        // Best effort: the connection is cleaned before its next use in any case.
        let _ = transaction.rollback().await;
        return Err(error.into());
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

impl From<ProjectError> for CommitError {
    fn from(error: ProjectError) -> Self {
        match error {
            ProjectError::Unreadable { index, source } => Self::Unreadable { index, source },
            ProjectError::Rows(source) => classify(source),
        }
    }
}

/// Data errors (SQLSTATE classes 22 and 23) are about the values; a deferred constraint shows
/// them at the commit. So is 21000, a row that one statement would change twice: it shows only
/// where two events of a stream meet in a batch, and a smaller batch gets past it.
fn classify(source: sqlx::Error) -> CommitError {
    let about_values = source
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| {
            ["21", "22", "23"]
                .iter()
                .any(|class| code.starts_with(class))
        });
    match about_values {
        true => CommitError::Unfit(source),
        false => CommitError::Postgres(source),
    }
}
