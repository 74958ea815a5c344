//! Which keys a model changed, and by which events: what followers read.
//!
//! Every edition has a table of them in its own schema, written in the batch's transaction.

use event_log::Position;
use sqlx::PgConnection;

use kernel::StreamId;

/// The table `changes` of an edition; no model may have one of that name.
pub(crate) const TABLE: &str = r#"
    create table if not exists changes (
        tenant    text not null,
        -- What the model says; the id of the event's stream unless it says something else.
        key       text not null,
        topic     text not null,
        partition integer not null,
        "offset"  bigint not null,
        -- `tenant/kind/id`
        stream    text not null,
        version   bigint not null,
        primary key (topic, partition, "offset", key)
    );
    create index if not exists changes_of_key on changes (tenant, key, topic, partition, "offset");"#;

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
