//! An edition's place in each partition: where it goes on, and how it moves.

use event_log::consume::Topic;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::read_side::Edition;

/// How far a partition is projected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Place {
    /// Offset of the first record that is not projected yet.
    pub(crate) next_offset: i64,
    /// The highest term seen below it.
    pub(crate) term: i64,
}

/// A place, and where workers must stop for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub(crate) struct Standing {
    #[sqlx(flatten)]
    pub(crate) place: Place,
    /// No checkpoint moves beyond it: see [`rebuild`](crate::rebuild).
    pub(crate) barrier: Option<i64>,
}

/// A partition of a topic, and how far it is projected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) place: Place,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckpointError {
    #[error("failed to read the checkpoints of {model}")]
    Read {
        model: String,
        #[source]
        source: sqlx::Error,
    },
    #[error(
        "topic {topic} was deleted and made again: what {model} has of it is of another log; \
         restore the topic, or let edition {edition} go and build another from this log, with \
         `annals replay rebuild {model} --no-comparison --behind`"
    )]
    Recreated {
        topic: String,
        model: String,
        edition: i32,
    },
}

/// Where the edition goes on in every partition of these topics: at 0 where it has not been yet.
///
/// All topics come together: to who follows, one that is not there yet is one that begins later.
pub(crate) async fn open(
    postgres: &PgPool,
    edition: &Edition,
    topics: &[Topic],
) -> Result<Vec<Start>, CheckpointError> {
    let places = open_all(postgres, edition, topics).await;
    let places = places.map_err(|source| CheckpointError::Read {
        model: edition.model.clone(),
        source,
    })?;
    let mut starts = Vec::new();
    for (topic, places) in topics.iter().zip(places) {
        for (partition, topic_id, place) in places {
            if topic_id != topic.id {
                return Err(CheckpointError::Recreated {
                    topic: topic.name.clone(),
                    model: edition.model.clone(),
                    edition: edition.number,
                });
            }
            starts.push(Start {
                topic: topic.name.clone(),
                partition,
                place,
            });
        }
    }
    Ok(starts)
}

/// A topic's partitions, with the topic's id that was found with each.
type Places = Vec<(i32, Uuid, Place)>;

async fn open_all(
    postgres: &PgPool,
    edition: &Edition,
    topics: &[Topic],
) -> Result<Vec<Places>, sqlx::Error> {
    let mut transaction = postgres.begin().await?;
    let mut places = Vec::new();
    for topic in topics {
        places.push(of_topic(&mut transaction, edition, topic).await?);
    }
    transaction.commit().await?;
    Ok(places)
}

async fn of_topic(
    transaction: &mut PgConnection,
    edition: &Edition,
    topic: &Topic,
) -> Result<Places, sqlx::Error> {
    sqlx::query(
        "insert into annals.checkpoints
             (model, edition, topic, partition, topic_id, next_offset, term)
         select $1, $2, $3, partition, $4, 0, 0 from generate_series(0, $5 - 1) as partition
         on conflict do nothing",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .bind(&topic.name)
    .bind(topic.id)
    .bind(topic.partitions)
    .execute(&mut *transaction)
    .await?;
    let rows: Vec<(i32, Uuid, i64, i64)> = sqlx::query_as(
        "select partition, topic_id, next_offset, term from annals.checkpoints
         where model = $1 and edition = $2 and topic = $3 order by partition",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .bind(&topic.name)
    .fetch_all(transaction)
    .await?;
    let place = |(partition, topic_id, next_offset, term)| {
        (partition, topic_id, Place { next_offset, term })
    };
    Ok(rows.into_iter().map(place).collect())
}

/// The place as it is now; `None` when the edition was dropped.
pub(crate) async fn read(
    postgres: &PgPool,
    edition: &Edition,
    topic: &str,
    partition: i32,
) -> Result<Option<Standing>, sqlx::Error> {
    sqlx::query_as(
        "select next_offset, term,
             case when barrier_until > clock_timestamp() then barrier end as barrier
         from annals.checkpoints
         where model = $1 and edition = $2 and topic = $3 and partition = $4",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .bind(topic)
    .bind(partition)
    .fetch_optional(postgres)
    .await
}

/// Moves the checkpoint if it stands where we believe, and enters the edition's schema in the
/// same round trip. `false`: somebody else has moved it, or there is a barrier before `to`, so
/// this transaction must be given up.
///
/// The commit need not wait for the disk: a crash of Postgres takes checkpoint and rows back
/// together, and the log has them.
pub(crate) async fn advance(
    transaction: &mut PgConnection,
    edition: &Edition,
    start: &Start,
    to: Place,
) -> Result<bool, sqlx::Error> {
    let moved = sqlx::query(
        "update annals.checkpoints set next_offset = $6, term = $7
         where model = $1 and edition = $2 and topic = $3 and partition = $4 and next_offset = $5
             and (barrier is null or barrier >= $6 or barrier_until <= clock_timestamp())
         returning set_config('search_path', $8, true),
                   set_config('synchronous_commit', 'off', true)",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .bind(&start.topic)
    .bind(start.partition)
    .bind(start.place.next_offset)
    .bind(to.next_offset)
    .bind(to.term)
    .bind(edition.schema())
    .fetch_optional(transaction)
    .await?;
    Ok(moved.is_some())
}
