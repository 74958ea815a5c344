//! A changed model is built anew beside the old one.

use event_log::Recorded;
use projector::{ReadModel, Tuning, model, read_side::checkpoint};
use sqlx::PgConnection;

use crate::{
    models::{Note, Tally, written},
    world::{World, until},
};

/// The tally of the next release: it does not take what weighs too much, as a first mistake.
struct Total;

impl ReadModel for Total {
    const NAME: &'static str = "tally";
    const VERSION: u32 = 2;
    const CONTEXTS: &'static [&'static str] = &["notes"];
    const TABLES: &'static str = "create table total (
        weight bigint not null, constraint not_heavy check (weight < 100))";

    type Event = Note;

    async fn project(events: &[Recorded<Note>], db: &mut PgConnection) -> Result<(), sqlx::Error> {
        for event in events {
            sqlx::query("insert into total values ($1)")
                .bind(event.event.weight())
                .execute(&mut *db)
                .await?;
        }
        Ok(())
    }
}

/// Other tables, but the version of `Tally`.
struct Forgetful;

impl ReadModel for Forgetful {
    const NAME: &'static str = "tally";
    const VERSION: u32 = 1;
    const CONTEXTS: &'static [&'static str] = &["notes"];
    const TABLES: &'static str = "create table tally (stream text)";

    type Event = Note;

    async fn project(_: &[Recorded<Note>], _: &mut PgConnection) -> Result<(), sqlx::Error> {
        Ok(())
    }
}

#[tokio::test]
async fn a_new_version_is_read_unasked_once_it_has_caught_up() {
    let (mut world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    let offset = log
        .append("a", &[written("one", 1), written("heavy", 100)])
        .await;
    world.caught_up("tally", &log).await;
    running.stop().await;

    world.swap_unasked = true;
    // It is to stop where it would quarantine.
    let tuning = Tuning {
        quarantined_per_minute: 0,
        ..Tuning::default()
    };
    let running = world.start_with(tuning, vec![model::<Total>()]);
    running.troubled("tally", "not_heavy").await;
    let edition = world.edition("tally").await.unwrap();
    assert_eq!((edition.number, edition.version), (1, 1));
    let mut next = edition.clone();
    next.number = 2;
    let partition = log.partition_of("a");
    let place = checkpoint(&world.postgres, &next, &log.topic(), partition).await;
    assert_eq!(place.unwrap(), Some(offset + 1));

    world
        .execute("alter table rm_tally_e2.total drop constraint not_heavy")
        .await;
    until("edition 2 is read", async || {
        world.edition("tally").await.unwrap().number == 2
    })
    .await;
    let total: i64 = sqlx::query_scalar("select sum(weight)::bigint from rm_tally_e2.total")
        .fetch_one(&world.postgres)
        .await
        .unwrap();
    assert_eq!(total, 101);
    running.stop().await;

    // A worker of the old release does not swap back.
    let running = world.start(vec![model::<Tally>()]);
    running.ready().await;
    log.append("a", &[written("two", 2)]).await;
    until("edition 1 is fed", async || {
        world.tally("a").await.unwrap().0 == 3
    })
    .await;
    assert_eq!(world.edition("tally").await.unwrap().number, 2);
    running.stop().await;
}

#[tokio::test]
async fn changed_tables_without_a_new_version_are_refused() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1)]).await;
    world.caught_up("tally", &log).await;
    running.stop().await;

    let running = world.start(vec![model::<Forgetful>()]);
    running.troubled("tally", "VERSION is still 1").await;
    running.stop().await;
}
