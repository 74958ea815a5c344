//! A barrier: positions at which the workers of two editions stop, so that both have the same
//! events in their rows.
//!
//! It lies in the checkpoints, and moving a checkpoint heeds it: however many workers there are
//! and whatever they believe, nobody gets past. It ends by itself, since who has set it may be
//! killed.

use std::time::Duration;

use sqlx::{PgConnection, PgPool, postgres::types::PgInterval};
use tokio::time::{Instant, sleep};

use crate::read_side::Edition;

/// How long it stands when nobody lifts it.
const STANDS: Duration = Duration::from_secs(30);
/// How long the workers may take to come to it; shorter, so that there is time for a snapshot.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Stands until it is [lifted](Barrier::lift), or for half a minute.
pub(super) struct Barrier<'a> {
    postgres: &'a PgPool,
    editions: [&'a Edition; 2],
}

/// One edition's place in a partition at which there is a barrier.
#[derive(sqlx::FromRow)]
struct Held {
    edition: i32,
    topic: String,
    partition: i32,
    next_offset: i64,
    barrier: Option<i64>,
}

/// Whether both editions stand at the barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    Both,
    /// This edition did not come to it in time.
    Missing {
        edition: i32,
        records: i64,
    },
}

impl<'a> Barrier<'a> {
    /// In each partition at the place of the edition that is further.
    pub(super) async fn set(
        postgres: &'a PgPool,
        editions: [&'a Edition; 2],
    ) -> Result<Self, sqlx::Error> {
        let [one, other] = editions;
        let mut transaction = postgres.begin().await?;
        // Nobody commits from here to the end of the transaction.
        sqlx::query(
            "select from annals.checkpoints where model = $1 and edition in ($2, $3)
             order by edition, topic, partition for update",
        )
        .bind(&one.model)
        .bind(one.number)
        .bind(other.number)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "update annals.checkpoints as held
             set barrier = furthest.next_offset, barrier_until = clock_timestamp() + $4
             from (select topic, partition, max(next_offset) as next_offset
                   from annals.checkpoints where model = $1 and edition in ($2, $3)
                   group by topic, partition) as furthest
             where model = $1 and edition in ($2, $3)
                 and (held.topic, held.partition) = (furthest.topic, furthest.partition)",
        )
        .bind(&one.model)
        .bind(one.number)
        .bind(other.number)
        .bind(PgInterval {
            months: 0,
            days: 0,
            microseconds: STANDS.as_micros() as i64,
        })
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Self { postgres, editions })
    }

    pub(super) async fn wait(&self) -> Result<Arrival, sqlx::Error> {
        let began = Instant::now();
        loop {
            let mut connection = self.postgres.acquire().await?;
            let arrival = self.look(&mut connection).await?;
            if arrival == Arrival::Both || began.elapsed() > PATIENCE {
                return Ok(arrival);
            }
            drop(connection);
            sleep(LOOK_EVERY).await;
        }
    }

    /// As this connection's transaction sees it.
    pub(super) async fn look(&self, connection: &mut PgConnection) -> Result<Arrival, sqlx::Error> {
        let [one, other] = self.editions;
        let places: Vec<Held> = sqlx::query_as(
            "select edition, topic, partition, next_offset, barrier from annals.checkpoints
             where model = $1 and edition in ($2, $3)",
        )
        .bind(&one.model)
        .bind(one.number)
        .bind(other.number)
        .fetch_all(connection)
        .await?;
        for edition in [one.number, other.number] {
            let records = lacking(edition, &places);
            if records > 0 {
                return Ok(Arrival::Missing { edition, records });
            }
        }
        Ok(Arrival::Both)
    }

    pub(super) async fn lift(self) -> Result<(), sqlx::Error> {
        let [one, other] = self.editions;
        sqlx::query(
            "update annals.checkpoints set barrier = null, barrier_until = null
             where model = $1 and edition in ($2, $3)",
        )
        .bind(&one.model)
        .bind(one.number)
        .bind(other.number)
        .execute(self.postgres)
        .await?;
        Ok(())
    }
}

/// How far the edition is from the barriers, at least 1 where it does not stand at one.
fn lacking(edition: i32, places: &[Held]) -> i64 {
    let away = |there: &Held| {
        let same = |it: &&Held| (&it.topic, it.partition) == (&there.topic, there.partition);
        let ours = places.iter().filter(same).find(|it| it.edition == edition);
        match ours {
            Some(Held {
                barrier: Some(barrier),
                next_offset,
                ..
            }) => (barrier - next_offset).abs(),
            // Somebody has lifted it, or the edition has not begun to read the partition.
            Some(_) | None => there.next_offset.max(1),
        }
    };
    places.iter().map(away).max().unwrap_or(1)
}
