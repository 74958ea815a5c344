//! Which keys a model changed, and by which events: what followers read.
//!
//! Every edition has a table of them in its own schema, written in the batch's transaction.

use event_log::Position;
use kernel::StreamId;
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::{checkpoint::Start, read_side::Edition};

/// The table `changes` of an edition; no model may have one of that name.
///
/// Nothing is unique: that each event is in it once is the checkpoint's doing, and indexes of
/// numbers cost a third of what those of texts do.
pub(crate) const TABLE: &str = r#"
    create table if not exists changes (
        tenant    text not null,
        -- What the model says; the id of the event's stream unless it says something else.
        key       text not null,
        topic     text not null,
        partition integer not null,
        -- The event's, or a later one's: that of the first event from which on a stream was told
        -- again that was let out of quarantine.
        "offset"  bigint not null,
        -- `tenant/kind/id`
        stream    text not null,
        version   bigint not null
    );
    create index if not exists changes_by_position on changes (partition, "offset");
    create index if not exists changes_of_key on changes (hashtext(key), partition, "offset");"#;

/// The changes of a batch, column by column.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    tenants: Vec<String>,
    keys: Vec<String>,
    offsets: Vec<i64>,
    streams: Vec<String>,
    versions: Vec<i64>,
}

impl Changes {
    pub(crate) fn push(&mut self, stream: &StreamId, version: u64, key: String, at: &Position) {
        self.tenants.push(stream.tenant().to_owned());
        self.keys.push(key);
        self.offsets.push(at.offset);
        self.streams.push(stream.as_str().to_owned());
        self.versions.push(version as i64);
    }

    /// All of them are of one partition.
    pub(crate) async fn write(
        self,
        topic: &str,
        partition: i32,
        db: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        if self.keys.is_empty() {
            return Ok(());
        }
        sqlx::query(
            r#"insert into changes (tenant, key, topic, partition, "offset", stream, version)
               select tenant, key, $1, $2, "offset", stream, version
                 from unnest($3::text[], $4::text[], $5::bigint[], $6::text[], $7::bigint[])
                      as changed (tenant, key, "offset", stream, version)"#,
        )
        .bind(topic)
        .bind(partition)
        .bind(self.tenants)
        .bind(self.keys)
        .bind(self.offsets)
        .bind(self.streams)
        .bind(self.versions)
        .execute(db)
        .await?;
        Ok(())
    }
}

/// Moves what a stream has changed since this offset to where the checkpoint stands, as those who
/// follow are past it: they hear of it with the next event of the partition.
///
/// In an edition of an earlier release, whose table takes a key but once an offset, nothing moves.
pub(crate) async fn tell_again(
    transaction: &mut PgConnection,
    stream: &str,
    since: &Position,
    checkpoint: i64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        r#"update changes set "offset" = $5
            where topic = $1 and partition = $2 and "offset" >= $3 and "offset" < $5
              and stream = $4
              and not exists (select from pg_constraint
                               where conrelid = 'changes'::regclass and contype = 'p')"#,
    )
    .bind(&since.topic)
    .bind(since.partition)
    .bind(since.offset)
    .bind(stream)
    .bind(checkpoint)
    .execute(transaction)
    .await?;
    Ok(())
}

/// Removes the changes of a partition below this offset, and says so at the checkpoint.
pub(crate) async fn prune(
    postgres: &PgPool,
    edition: &Edition,
    of: &Start,
    below: i64,
) -> Result<(), sqlx::Error> {
    let mut transaction = postgres.begin().await?;
    sqlx::query(
        "update annals.checkpoints set changes_from = $5
         where model = $1 and edition = $2 and topic = $3 and partition = $4 and changes_from < $5",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .bind(&of.topic)
    .bind(of.partition)
    .bind(below)
    .execute(&mut *transaction)
    .await?;
    // The name is made of a model's, which is checked to be harmless, and a number.
    let delete = format!(
        r#"delete from {}.changes where topic = $1 and partition = $2 and "offset" < $3"#,
        edition.schema()
    );
    sqlx::query(AssertSqlSafe(delete))
        .bind(&of.topic)
        .bind(of.partition)
        .bind(below)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
