//! A context of notes, and read models of it that show each event that comes twice or never.

use event_log::{Recorded, schemas::ContextSchemas};
use projector::ReadModel;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Note {
    Written { text: String, weight: i64 },
    Erased {},
}

impl Note {
    pub fn text(&self) -> &str {
        match self {
            Self::Written { text, .. } => text,
            Self::Erased {} => "erased",
        }
    }

    pub fn weight(&self) -> i64 {
        match self {
            Self::Written { weight, .. } => *weight,
            Self::Erased {} => 0,
        }
    }
}

pub fn written(text: &str, weight: i64) -> Note {
    Note::Written {
        text: text.into(),
        weight,
    }
}

pub fn schemas() -> ContextSchemas {
    ContextSchemas::load(
        "notes",
        [
            (
                "Written.v1.avsc",
                r#"{"type":"record","namespace":"annals.notes","name":"Written","fields":[
                    {"name":"text","type":"string"},{"name":"weight","type":"long"}]}"#,
            ),
            (
                "Erased.v1.avsc",
                r#"{"type":"record","namespace":"annals.notes","name":"Erased","fields":[]}"#,
            ),
        ],
    )
    .unwrap()
}

/// Per stream how many events, the sum of their weights, and a digest that depends on their order.
/// Refuses weights below zero.
pub struct Tally;

impl ReadModel for Tally {
    const NAME: &'static str = "tally";
    const VERSION: u32 = 1;
    const CONTEXTS: &'static [&'static str] = &["notes"];
    const TABLES: &'static str = "
        create table tally (
            stream text primary key,
            events bigint not null,
            weight bigint not null,
            digest text not null
        );
        create table weights (stream text, weight bigint, constraint no_debt check (weight >= 0));";

    type Event = Note;

    async fn project(events: &[Recorded<Note>], db: &mut PgConnection) -> Result<(), sqlx::Error> {
        for event in events {
            let (text, weight) = (event.event.text(), event.event.weight());
            sqlx::query("insert into weights values ($1, $2)")
                .bind(event.envelope.stream.as_str())
                .bind(weight)
                .execute(&mut *db)
                .await?;
            sqlx::query(
                "insert into tally as t values ($1, 1, $2, encode(sha256($3::bytea), 'hex'))
                 on conflict (stream) do update set
                     events = t.events + 1,
                     weight = t.weight + excluded.weight,
                     digest = encode(sha256(t.digest::bytea || $3), 'hex')",
            )
            .bind(event.envelope.stream.as_str())
            .bind(weight)
            .bind(text.as_bytes())
            .execute(&mut *db)
            .await?;
        }
        Ok(())
    }
}

/// Takes one of the events only, and none of its fields.
pub struct Erasures;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ErasedOnly {
    Erased {},
}

impl ReadModel for Erasures {
    const NAME: &'static str = "erasures";
    const VERSION: u32 = 1;
    const CONTEXTS: &'static [&'static str] = &["notes"];
    const TABLES: &'static str = "create table erasures (stream text, position bigint)";

    type Event = ErasedOnly;

    async fn project(
        events: &[Recorded<ErasedOnly>],
        db: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        for event in events {
            sqlx::query("insert into erasures values ($1, $2)")
                .bind(event.envelope.stream.as_str())
                .bind(event.position.offset)
                .execute(&mut *db)
                .await?;
        }
        Ok(())
    }
}

/// Has a bug.
pub struct Buggy;

impl ReadModel for Buggy {
    const NAME: &'static str = "buggy";
    const VERSION: u32 = 1;
    const CONTEXTS: &'static [&'static str] = &["notes"];
    const TABLES: &'static str = "create table buggy ()";

    type Event = Note;

    async fn project(events: &[Recorded<Note>], _: &mut PgConnection) -> Result<(), sqlx::Error> {
        panic!("{} events are too many", events.len());
    }
}
