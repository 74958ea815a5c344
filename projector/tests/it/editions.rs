//! A changed model is built anew beside the old one.

use event_log::{
    Recorded,
    schemas::ContextSchemas,
    topics::{Purpose, TopicOptions, ensure_topic},
};
use projector::{
    Config, ReadModel, Tuning, model,
    read_side::{checkpoint, migrate},
    stream_index,
};
use service_kit::Readiness;
use sqlx::PgConnection;
use tokio_util::sync::CancellationToken;

use crate::{
    models::{Note, Tally, schemas, written},
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

#[tokio::test]
async fn whoever_looks_at_a_new_edition_sees_its_place_in_every_topic_or_in_none() {
    const REMARK: &str =
        r#"{"type":"record","namespace":"annals.remarks","name":"Made","fields":[]}"#;
    let (world, _log) = World::new().await;
    let remarks = ContextSchemas::load("remarks", [("Made.v1.avsc", REMARK)]).unwrap();
    let topic = world.generation.events_topic("remarks");
    let (partitions, options) = (world.generation.partitions, TopicOptions::default());
    ensure_topic(&world.cluster, &topic, Purpose::Events, partitions, options)
        .await
        .unwrap();
    migrate(&world.postgres).await.unwrap();
    world
        .execute(
            "create function wait_for_the_test() returns trigger language plpgsql as $$
             begin
                 if new.topic like 'annals.remarks.%' then
                     perform pg_advisory_xact_lock_shared(7);
                 end if;
                 return new;
             end $$;
             create trigger wait_for_the_test before insert on annals.checkpoints
                 for each row execute function wait_for_the_test()",
        )
        .await;
    let mut held_up = world.postgres.begin().await.unwrap();
    sqlx::query("select pg_advisory_xact_lock(7)")
        .execute(&mut *held_up)
        .await
        .unwrap();
    let config = Config {
        cluster: world.cluster.clone(),
        postgres: world.postgres.clone(),
        registry: world.registry.clone(),
        generation: world.generation.clone(),
        swap_unasked: false,
        tuning: Tuning::default(),
        instance: None,
    };
    let (readiness, stop) = (Readiness::new(), CancellationToken::new());
    let contexts = vec![schemas(), remarks];
    let run = projector::run(
        config,
        vec![stream_index()],
        contexts,
        &readiness,
        stop.clone(),
    );
    let run = tokio::spawn(run);
    let count = async |sql: &'static str| -> i64 {
        let count = sqlx::query_scalar(sql).fetch_one(&world.postgres).await;
        count.unwrap()
    };
    let places = "select count(*) from annals.checkpoints";
    until("the second topic is waited for", async || {
        count(
            "select count(*) from pg_locks join pg_database on database = pg_database.oid
             where locktype = 'advisory' and not granted and datname = current_database()",
        )
        .await
            > 0
    })
    .await;
    assert_eq!(count(places).await, 0);
    held_up.rollback().await.unwrap();
    until("the places are there", async || {
        count(places).await == i64::from(2 * partitions)
    })
    .await;
    stop.cancel();
    run.await.unwrap().unwrap();
}
