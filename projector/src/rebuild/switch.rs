//! The switch: one row says which edition of a model is read.
//!
//! No reader goes back in time by it: who is swapped in has at that moment all that the one has
//! which goes.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tokio::time::{Instant, sleep};

use crate::{
    edition::one_at_a_time,
    read_side::{CHANNEL, Edition, EditionSwapped, active_edition},
};

/// How long an edition that is to be swapped in may take for the last records.
const LAST_RECORDS_WITHIN: Duration = Duration::from_secs(10);
/// While it is waited for, the edition that is read is held up.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What became of an attempt to swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Swap {
    Done,
    /// The one to swap in lacks so many records, and did not get them in time.
    Behind(i64),
    /// Somebody else has swapped or dropped.
    Overtaken,
}

/// Whether readers may go back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lag {
    Forbidden { patience: Duration },
    Allowed,
}

impl Lag {
    pub(crate) fn of(behind: bool) -> Self {
        match behind {
            true => Self::Allowed,
            false => Self::Forbidden {
                patience: LAST_RECORDS_WITHIN,
            },
        }
    }
}

/// The first edition of a model is read from the start.
pub(crate) async fn read_first(
    transaction: &mut PgConnection,
    edition: &Edition,
) -> Result<(), sqlx::Error> {
    sqlx::query("insert into annals.active_editions (model, edition) values ($1, $2)")
        .bind(&edition.model)
        .bind(edition.number)
        .execute(&mut *transaction)
        .await?;
    mark_as_read(transaction, edition).await
}

/// Swaps if `to` has all that `from` has; otherwise nothing is done, and nobody is held up.
pub(crate) async fn swap_if_not_behind(
    postgres: &PgPool,
    from: &Edition,
    to: &Edition,
) -> Result<bool, sqlx::Error> {
    if behind(&mut *postgres.acquire().await?, from, to).await? > 0 {
        return Ok(false);
    }
    let patience = Duration::ZERO;
    let swapped = swap(postgres, from, to, Lag::Forbidden { patience }).await?;
    Ok(swapped == Swap::Done)
}

/// Lets `to` be read in the place of `from`, and `from` be what a rollback takes back.
pub(crate) async fn swap(
    postgres: &PgPool,
    from: &Edition,
    to: &Edition,
    lag: Lag,
) -> Result<Swap, sqlx::Error> {
    let mut transaction = postgres.begin().await?;
    one_at_a_time(&mut transaction, &from.model).await?;
    let active = active_edition(&mut *transaction, &from.model).await?;
    if active.as_ref() != Some(from) {
        return Ok(Swap::Overtaken);
    }
    if let Lag::Forbidden { patience } = lag {
        // Whoever holds an edition's checkpoints keeps its workers from committing.
        sqlx::query(
            "select from annals.checkpoints where model = $1 and edition = $2
             order by topic, partition for update",
        )
        .bind(&from.model)
        .bind(from.number)
        .execute(&mut *transaction)
        .await?;
        let began = Instant::now();
        loop {
            match behind(&mut transaction, from, to).await? {
                0 => break,
                records if began.elapsed() >= patience => return Ok(Swap::Behind(records)),
                _ => sleep(LOOK_EVERY).await,
            }
        }
    }
    let swapped = sqlx::query(
        "update annals.active_editions set edition = $3, previous = $2
         where model = $1 and edition = $2
             and exists (select from annals.editions where model = $1 and edition = $3)",
    )
    .bind(&from.model)
    .bind(from.number)
    .bind(to.number)
    .execute(&mut *transaction)
    .await?;
    if swapped.rows_affected() == 0 {
        return Ok(Swap::Overtaken);
    }
    mark_as_read(&mut transaction, to).await?;
    transaction.commit().await?;
    tell(postgres, to).await;
    Ok(Swap::Done)
}

/// How many records `to` lacks of those that `from` has.
pub(crate) async fn behind(
    connection: &mut PgConnection,
    from: &Edition,
    to: &Edition,
) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(sum(greatest(theirs.next_offset - coalesce(ours.next_offset, 0), 0)), 0)
                ::bigint
         from annals.checkpoints as theirs
         left join annals.checkpoints as ours
             on ours.model = $1 and ours.edition = $3
                 and ours.topic = theirs.topic and ours.partition = theirs.partition
         where theirs.model = $1 and theirs.edition = $2",
    )
    .bind(&from.model)
    .bind(from.number)
    .bind(to.number)
    .fetch_one(connection)
    .await
}

async fn mark_as_read(
    transaction: &mut PgConnection,
    edition: &Edition,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "update annals.editions set swapped_in_at = coalesce(swapped_in_at, now())
         where model = $1 and edition = $2",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .execute(transaction)
    .await?;
    Ok(())
}

/// Who misses it looks at the table.
async fn tell(postgres: &PgPool, to: &Edition) {
    let swapped = EditionSwapped {
        model: to.model.clone(),
        swapped_to: to.number,
    };
    let payload = serde_json::to_string(&swapped)
        .unwrap_or_else(|error| unreachable!("a notification is plain JSON: {error}"));
    let sent = sqlx::query("select pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(payload)
        .execute(postgres)
        .await;
    if let Err(error) = sent {
        tracing::debug!(%error, "readers were not notified");
    }
}
