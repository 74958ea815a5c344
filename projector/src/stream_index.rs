//! The index of all streams: where each event of each stream lies in the log.
//!
//! A read model of the platform: its rows come from the envelopes, no payload is decoded, and it
//! takes the events of every context. It is built, checkpointed and built anew like any other.

use chrono::{DateTime, Utc};
use event_log::{
    Envelope, Position, Recorded,
    avro::{DecodeError, LearnError},
};
use sqlx::PgConnection;
use uuid::Uuid;

use crate::projection::Code;

/// The name of the model; its one table is called `stream_index`.
pub const STREAM_INDEX: &str = "stream-index";

pub(crate) const VERSION: i32 = 1;

pub(crate) const TABLES: &str = r#"
    create table stream_index (
        tenant         text not null,
        -- `tenant/kind/id`
        stream         text not null,
        version        bigint not null,
        -- Full name, such as `annals.tasks.TaskCreated`.
        event_type     text not null,
        time           timestamptz not null,
        -- As in the envelope: `user:ada`, `service:billing`, `system`.
        actor          text not null,
        topic          text not null,
        partition      integer not null,
        "offset"       bigint not null,
        command_id     text not null,
        correlation_id uuid not null,
        causation_id   uuid,
        primary key (topic, partition, "offset")
    );
    create index stream_index_by_stream on stream_index (tenant, stream, version);
    create index stream_index_by_correlation on stream_index (tenant, correlation_id);
    create index stream_index_by_command on stream_index (tenant, command_id);"#;

/// The model's code.
pub(crate) struct StreamIndex;

impl Code for StreamIndex {
    type Event = ();

    fn reading(&self) -> Option<String> {
        None
    }

    fn decode(&self, _: &str, _: &[u8]) -> Result<Option<()>, DecodeError> {
        Ok(Some(()))
    }

    async fn learn(&self, _: &str, _: &[u8]) -> Result<(), LearnError> {
        Ok(())
    }

    async fn write(events: &[Recorded<()>], db: &mut PgConnection) -> Result<(), sqlx::Error> {
        let mut rows = Rows::default();
        for event in events {
            rows.push(&event.envelope, &event.position);
        }
        rows.write(&events[0].position, db).await
    }
}

/// A batch of one partition, column by column.
#[derive(Default)]
struct Rows {
    tenants: Vec<String>,
    streams: Vec<String>,
    versions: Vec<i64>,
    event_types: Vec<String>,
    times: Vec<DateTime<Utc>>,
    actors: Vec<String>,
    offsets: Vec<i64>,
    command_ids: Vec<String>,
    correlation_ids: Vec<Uuid>,
    causation_ids: Vec<Option<Uuid>>,
}

impl Rows {
    fn push(&mut self, envelope: &Envelope, position: &Position) {
        self.tenants.push(envelope.stream.tenant().to_owned());
        self.streams.push(envelope.stream.as_str().to_owned());
        self.versions.push(envelope.version.0 as i64);
        self.event_types.push(envelope.event_type.to_string());
        self.times.push(envelope.time);
        self.actors.push(envelope.actor.to_string());
        self.offsets.push(position.offset);
        self.command_ids
            .push(envelope.command_id.as_str().to_owned());
        self.correlation_ids.push(envelope.correlation_id);
        self.causation_ids
            .push(envelope.causation_id.map(|event| event.0));
    }

    async fn write(self, of: &Position, db: &mut PgConnection) -> Result<(), sqlx::Error> {
        sqlx::query(
            r#"insert into stream_index (tenant, stream, version, event_type, time, actor, topic,
                   partition, "offset", command_id, correlation_id, causation_id)
               select tenant, stream, version, event_type, time, actor, $1, $2, "offset",
                      command_id, correlation_id, causation_id
                 from unnest($3::text[], $4::text[], $5::bigint[], $6::text[], $7::timestamptz[],
                             $8::text[], $9::bigint[], $10::text[], $11::uuid[], $12::uuid[])
                      as event (tenant, stream, version, event_type, time, actor, "offset",
                                command_id, correlation_id, causation_id)"#,
        )
        .bind(&of.topic)
        .bind(of.partition)
        .bind(self.tenants)
        .bind(self.streams)
        .bind(self.versions)
        .bind(self.event_types)
        .bind(self.times)
        .bind(self.actors)
        .bind(self.offsets)
        .bind(self.command_ids)
        .bind(self.correlation_ids)
        .bind(self.causation_ids)
        .execute(db)
        .await?;
        Ok(())
    }
}
