//! What editions there are, and leaving one for good.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::{AssertSqlSafe, FromRow, PgPool};

use super::{RebuildError, alone, postgres_error};
use crate::{
    edition::one_at_a_time,
    read_side::{Edition, active_edition},
};

/// An edition as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub struct EditionStatus {
    pub model: String,
    pub edition: i32,
    /// Of the model's code.
    pub version: i32,
    pub is_read: bool,
    /// Whether a rollback takes it back.
    pub is_previous: bool,
    pub created_at: DateTime<Utc>,
    /// When it was first read.
    pub swapped_in_at: Option<DateTime<Utc>>,
    /// Whether its events were not all read by the same schemas and rules: built again, it may have
    /// other rows.
    pub needs_rebuild: bool,
    /// Records of the log that it has everything of.
    pub records: i64,
    /// Records that it lacks of those that the edition has which is read.
    pub behind: i64,
}

/// All editions, or those of a model, the oldest first.
pub async fn editions(
    postgres: &PgPool,
    model: Option<&str>,
) -> Result<Vec<EditionStatus>, RebuildError> {
    sqlx::query_as(
        "select model, e.edition, version, created_at, swapped_in_at,
             cardinality(readings) > 1 as needs_rebuild,
             coalesce(a.edition = e.edition, false) as is_read,
             coalesce(a.previous = e.edition, false) as is_previous,
             (select coalesce(sum(next_offset), 0)::bigint from annals.checkpoints as c
              where c.model = e.model and c.edition = e.edition) as records,
             (select coalesce(sum(greatest(
                         theirs.next_offset - coalesce(ours.next_offset, 0), 0)), 0)::bigint
              from annals.checkpoints as theirs
              left join annals.checkpoints as ours
                  on ours.model = e.model and ours.edition = e.edition
                      and (ours.topic, ours.partition) = (theirs.topic, theirs.partition)
              where theirs.model = e.model and theirs.edition = a.edition) as behind
         from annals.editions as e left join annals.active_editions as a using (model)
         where $1 is null or model = $1
         order by model, e.edition",
    )
    .bind(model)
    .fetch_all(postgres)
    .await
    .map_err(postgres_error("look the editions up"))
}

/// Forgets an edition with its tables; whoever feeds it stops. Not the one that is read.
pub async fn drop_edition(postgres: &PgPool, model: &str, number: i32) -> Result<(), RebuildError> {
    // Nobody is comparing it.
    let _alone = alone(postgres, model).await?;
    let dropped = postgres_error("drop the edition");
    let mut transaction = postgres.begin().await.map_err(&dropped)?;
    one_at_a_time(&mut transaction, model)
        .await
        .map_err(&dropped)?;
    let active = active_edition(&mut *transaction, model)
        .await
        .map_err(&dropped)?;
    if active.is_some_and(|active| active.number == number) {
        return Err(RebuildError::IsRead {
            model: model.into(),
            edition: number,
        });
    }
    // The checkpoints go first, as workers take them first.
    let edition: Option<Edition> = sqlx::query_as(
        "delete from annals.editions where model = $1 and edition = $2
         returning model, edition, version",
    )
    .bind(model)
    .bind(number)
    .fetch_optional(&mut *transaction)
    .await
    .map_err(&dropped)?;
    let edition = edition.ok_or_else(|| RebuildError::NoSuchEdition {
        model: model.into(),
        edition: number,
    })?;
    // The name is one that we have made.
    let drop = format!("drop schema if exists {} cascade", edition.schema());
    sqlx::raw_sql(AssertSqlSafe(drop))
        .execute(&mut *transaction)
        .await
        .map_err(&dropped)?;
    transaction.commit().await.map_err(&dropped)
}
