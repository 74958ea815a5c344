//! The kit for a model's tests finds what depends on an order that the log does not give.

use event_log::Recorded;
use projector::{ReadModel, testing::given};
use serde_json::json;
use sqlx::{PgConnection, PgPool};

use crate::models::{Note, Tally, written};

/// Whichever note came last of all: no order is given between the partitions.
struct LastOfAll;

impl ReadModel for LastOfAll {
    const NAME: &'static str = "last-of-all";
    const VERSION: u32 = 1;
    const CONTEXTS: &'static [&'static str] = &["notes"];
    const TABLES: &'static str = "create table last (one boolean primary key, text text)";

    type Event = Note;

    async fn project(events: &[Recorded<Note>], db: &mut PgConnection) -> Result<(), sqlx::Error> {
        for event in events {
            let Note::Written { text, .. } = &event.event else {
                continue;
            };
            sqlx::query(
                "insert into last values (true, $1)
                 on conflict (one) do update set text = excluded.text",
            )
            .bind(text)
            .execute(&mut *db)
            .await?;
        }
        Ok(())
    }
}

/// Only the first event of a batch.
struct FirstOfBatch;

impl ReadModel for FirstOfBatch {
    const NAME: &'static str = "first-of-batch";
    const VERSION: u32 = 1;
    const CONTEXTS: &'static [&'static str] = &["notes"];
    const TABLES: &'static str = "create table firsts (text text)";

    type Event = Note;

    async fn project(events: &[Recorded<Note>], db: &mut PgConnection) -> Result<(), sqlx::Error> {
        let Note::Written { text, .. } = &events[0].event else {
            return Ok(());
        };
        sqlx::query("insert into firsts values ($1)")
            .bind(text)
            .execute(db)
            .await?;
        Ok(())
    }
}

async fn postgres() -> PgPool {
    let stack = dev_stack::shared().await;
    let database = stack.fresh_database().await.unwrap();
    PgPool::connect(&database).await.unwrap()
}

#[tokio::test]
async fn a_model_of_streams_alone_passes() {
    let mut notes = given::<Tally>();
    for round in 1..=4 {
        for stream in ["main/note/a", "main/note/b", "main/note/c", "main/note/d"] {
            notes = notes.event(stream, written(&format!("{round} of {stream}"), round));
        }
    }
    let rows = ["a", "b", "c", "d"]
        .map(|id| json!({ "stream": format!("main/note/{id}"), "events": 4, "weight": 10 }));
    let select = "select stream, events, weight from tally order by stream";
    notes.then(&postgres().await, select, json!(rows)).await;
}

#[tokio::test]
#[should_panic(expected = "with the batches")]
async fn a_model_that_depends_on_the_order_between_streams_fails() {
    let mut notes = given::<LastOfAll>();
    for stream in ["main/note/a", "main/note/b", "main/note/c", "main/note/d"] {
        notes = notes.event(stream, written(stream, 1));
    }
    let rows = json!([{ "text": "main/note/d" }]);
    notes
        .then(&postgres().await, "select text from last", rows)
        .await;
}

#[tokio::test]
#[should_panic(expected = "with the batches")]
async fn a_model_that_depends_on_where_a_batch_ends_fails() {
    let notes = given::<FirstOfBatch>()
        .event("main/note/a", written("one", 1))
        .event("main/note/a", written("two", 1));
    let rows = json!([{ "text": "one" }, { "text": "two" }]);
    notes
        .then(&postgres().await, "select text from firsts", rows)
        .await;
}
