//! How far an edition has come in each partition.

use serde::{Deserialize, Serialize};
use sqlx::{FromRow, PgExecutor};

use super::Edition;

/// The channel on which every moved checkpoint is told, after its commit.
///
/// LISTEN does not work on a standby, and a notification may be lost with its connection: who
/// waits also looks at the table now and then.
pub const CHANNEL: &str = "annals_checkpoints";

/// The payload of a notification, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointMoved {
    pub model: String,
    pub edition: i32,
    pub topic: String,
    pub partition: i32,
    /// Everything below it is projected.
    pub next_offset: i64,
}

/// The place up to which an edition has everything of a partition.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Checkpoint {
    pub topic: String,
    pub partition: i32,
    /// Offset of the first record that is not projected yet.
    pub next_offset: i64,
}

/// All checkpoints of an edition, by topic and partition.
///
/// Ask in the transaction that reads the rows (REPEATABLE READ) to know what the rows contain.
pub async fn checkpoints(
    postgres: impl PgExecutor<'_>,
    edition: &Edition,
) -> Result<Vec<Checkpoint>, sqlx::Error> {
    sqlx::query_as(
        "select topic, partition, next_offset from annals.checkpoints
         where model = $1 and edition = $2 order by topic, partition",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .fetch_all(postgres)
    .await
}

/// The checkpoint's next offset in one partition; `None` when the edition does not read it.
pub async fn checkpoint(
    postgres: impl PgExecutor<'_>,
    edition: &Edition,
    topic: &str,
    partition: i32,
) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "select next_offset from annals.checkpoints
         where model = $1 and edition = $2 and topic = $3 and partition = $4",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .bind(topic)
    .bind(partition)
    .fetch_optional(postgres)
    .await
}
