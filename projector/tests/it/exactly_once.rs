//! Rows and checkpoint move together, whoever crashes.

use projector::{
    model,
    read_side::{CHANNEL, CheckpointMoved},
};
use sha2::{Digest, Sha256};
use sqlx::postgres::PgListener;

use crate::{
    models::{Erasures, Note, Tally, written},
    world::{World, until},
};

#[tokio::test]
async fn events_become_rows_and_readers_are_notified() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    running.ready().await;
    let mut listener = PgListener::connect_with(&world.postgres).await.unwrap();
    listener.listen(CHANNEL).await.unwrap();

    let offset = log
        .append("a", &[written("one", 3), written("two", 4)])
        .await;
    // In one batch, or in two if they arrive apart.
    let mut next_offset = offset;
    while next_offset < offset + 2 {
        let told = listener.recv().await.unwrap();
        let moved: CheckpointMoved = serde_json::from_str(told.payload()).unwrap();
        assert_eq!((moved.model.as_str(), moved.edition), ("tally", 1));
        assert_eq!(moved.topic, log.topic());
        assert_eq!(moved.partition, log.partition_of("a"));
        assert!(moved.next_offset > next_offset, "{moved:?}");
        next_offset = moved.next_offset;
    }
    assert_eq!(next_offset, offset + 2);
    let (events, weight, _) = world.tally("a").await.unwrap();
    assert_eq!((events, weight), (2, 7));
    running.stop().await;
}

#[tokio::test]
async fn markers_between_the_events_are_passed_over() {
    let (world, mut log) = World::new().await;
    log.append("a", &[written("before", 1)]).await;
    log.own_again().await;
    log.append("a", &[written("after", 2)]).await;
    let running = world.start(vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    assert_eq!(world.tally("a").await.unwrap().1, 3);
    running.stop().await;
}

#[tokio::test]
async fn two_workers_of_one_model_apply_each_event_once() {
    let (world, mut log) = World::new().await;
    let one = world.start(vec![model::<Tally>()]);
    let other = world.start(vec![model::<Tally>()]);
    one.ready().await;
    other.ready().await;
    for i in 0..200 {
        log.append(["a", "b", "c"][i % 3], &[written("x", 1), Note::Erased {}])
            .await;
    }
    world.caught_up("tally", &log).await;
    let mut total = 0;
    for stream in ["a", "b", "c"] {
        total += world.tally(stream).await.unwrap().0;
    }
    assert_eq!(total, 400);
    // Both go on from here, the one that was overtaken too.
    one.stop().await;
    log.append("a", &[written("y", 1)]).await;
    world.caught_up("tally", &log).await;
    other.stop().await;
}

#[tokio::test]
async fn the_partitions_of_a_worker_that_crashed_go_to_the_others() {
    let (world, mut log) = World::new().await;
    let one = world.start(vec![model::<Tally>()]);
    let other = world.start(vec![model::<Tally>()]);
    one.ready().await;
    other.ready().await;
    drop(one);
    for stream in ["a", "b", "c", "d", "e", "f"] {
        log.append(stream, &[written("x", 1)]).await;
    }
    world.caught_up("tally", &log).await;
    other.ready().await;
    other.stop().await;
}

#[tokio::test]
async fn a_stale_worker_writes_nothing() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    running.ready().await;
    // The other worker is this test: it has the checkpoint's row, and moves it past the event.
    let mut other = world.postgres.begin().await.unwrap();
    sqlx::query("update annals.checkpoints set next_offset = next_offset + 2 where partition = $1")
        .bind(log.partition_of("a"))
        .execute(&mut *other)
        .await
        .unwrap();
    log.append("a", &[written("projected by the other", 1)])
        .await;
    until("the worker waits for the row", async || {
        sqlx::query_scalar(
            "select exists (select from pg_locks join pg_stat_activity using (pid)
                            where not granted and datname = current_database())",
        )
        .fetch_one(&world.postgres)
        .await
        .unwrap()
    })
    .await;
    other.commit().await.unwrap();

    log.append("a", &[written("next", 2)]).await;
    world.caught_up("tally", &log).await;
    let expected = fold(&[written("next", 2)]);
    assert_eq!(world.tally("a").await, Some(expected));
    running.stop().await;
}

#[tokio::test]
async fn a_restarted_worker_goes_on_where_it_was() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1)]).await;
    world.caught_up("tally", &log).await;
    running.stop().await;

    log.append("a", &[written("two", 10)]).await;
    let running = world.start(vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    let (events, weight, _) = world.tally("a").await.unwrap();
    assert_eq!((events, weight), (2, 11));
    running.stop().await;
}

#[tokio::test]
async fn workers_that_crash_and_lose_connections_lose_and_double_nothing() {
    let (world, mut log) = World::new().await;
    let streams = ["a", "b", "c", "d"];
    let mut events = Vec::new();
    let running = world.start_as("one", vec![model::<Tally>()]);
    running.ready().await;
    running.stop().await;
    for round in 0..5 {
        let more: Vec<_> = (0..10)
            .map(|i| written(&format!("{round}.{i}"), 1))
            .collect();
        for stream in streams {
            log.append(stream, &more).await;
        }
        events.extend(more);
        // A transaction that waits for its rows cannot be finished before it is cut.
        let mut held = world.postgres.begin().await.unwrap();
        sqlx::query("lock table rm_tally_e1.tally in exclusive mode")
            .execute(&mut *held)
            .await
            .unwrap();
        let running = world.start_as("one", vec![model::<Tally>()]);
        until("some connection is in a transaction", async || {
            cut_connections(&world).await > 0
        })
        .await;
        drop(running);
        held.rollback().await.unwrap();
    }
    let expected = fold(&events);
    let running = world.start_as("one", vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    for stream in streams {
        assert_eq!(
            world.tally(stream).await,
            Some(expected.clone()),
            "{stream}"
        );
    }
    running.stop().await;
}

/// Ends what is in the middle of writing the tally; answers how many there were.
async fn cut_connections(world: &World) -> usize {
    sqlx::query_scalar::<_, bool>(
        "select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid()
             and xact_start is not null and query like '%tally as t%'",
    )
    .fetch_all(&world.postgres)
    .await
    .map_or(0, |cut| cut.len())
}

#[tokio::test]
async fn models_keep_checkpoints_of_their_own() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1), Note::Erased {}]).await;
    world.caught_up("tally", &log).await;
    assert_eq!(world.edition("erasures").await, None);
    running.stop().await;

    // A model that comes later begins at the beginning; the other one stays where it is.
    let running = world.start(vec![model::<Tally>(), model::<Erasures>()]);
    log.append("a", &[Note::Erased {}]).await;
    world.caught_up("erasures", &log).await;
    world.caught_up("tally", &log).await;
    assert_eq!(world.erasures().await, 2);
    assert_eq!(world.tally("a").await.unwrap().0, 3);
    running.stop().await;
}

/// What the tally of a stream with these events must be.
pub fn fold(events: &[Note]) -> (i64, i64, String) {
    let mut digest = String::new();
    let mut sum = 0;
    for event in events {
        digest = format!("{:x}", Sha256::digest(format!("{digest}{}", event.text())));
        sum += event.weight();
    }
    (events.len() as i64, sum, digest)
}
