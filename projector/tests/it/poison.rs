//! What cannot be projected, and is not the fault of a stream's event: it stops its partition or
//! its model, is named, and is never skipped.

use event_log::Position;
use projector::model;

use crate::{
    exactly_once::fold,
    models::{Buggy, Tally, written},
    quarantine::a_reason,
    world::World,
};

#[tokio::test]
async fn a_failure_of_the_table_leaves_rows_and_checkpoint_where_they_were() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1)]).await;
    world.caught_up("tally", &log).await;

    // The first statement for each event works, the second does not.
    world
        .execute("alter table rm_tally_e1.tally rename to elsewhere")
        .await;
    log.append("a", &[written("two", 2), written("three", 3)])
        .await;
    running
        .troubled("tally", "relation \"tally\" does not exist")
        .await;
    let weights: i64 = sqlx::query_scalar("select count(*) from rm_tally_e1.weights")
        .fetch_one(&world.postgres)
        .await
        .unwrap();
    assert_eq!(weights, 1);

    world
        .execute("alter table rm_tally_e1.elsewhere rename to tally")
        .await;
    world.caught_up("tally", &log).await;
    assert_eq!(world.tally("a").await.unwrap().0, 3);
    running.ready().await;
    running.stop().await;
}

#[tokio::test]
async fn what_is_not_of_annals_is_passed_over() {
    let (world, mut log) = World::new().await;
    log.append_foreign(log.partition_of("a")).await;
    log.append("a", &[written("one", 1)]).await;
    let running = world.start(vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    assert_eq!(world.tally("a").await, Some(fold(&[written("one", 1)])));
    assert_eq!(world.quarantined().await, []);
    running.ready().await;
    running.stop().await;
}

#[tokio::test]
async fn what_is_left_of_an_event_of_no_stream_stops_its_partition_until_it_is_skipped() {
    let (world, mut log) = World::new().await;
    let other = ('b'..='z')
        .map(String::from)
        .find(|stream| log.partition_of(stream) != log.partition_of("a"))
        .unwrap();
    log.append("a", &[written("before", 1)]).await;
    let offset = log.append_nameless(log.partition_of("a")).await;
    log.append("a", &[written("after", 1)]).await;
    let running = world.start(vec![model::<Tally>()]);
    running
        .troubled("tally", &format!("offset {offset} is what is left of"))
        .await;
    log.append(&other, &[written("one", 1)]).await;
    crate::world::until("the other partition is projected", async || {
        world.tally(&other).await.is_some()
    })
    .await;
    assert_eq!(world.tally("a").await, Some(fold(&[written("before", 1)])));
    assert!(!running.is_ready("tally"));

    let record = Position {
        topic: log.topic(),
        partition: log.partition_of("a"),
        offset,
    };
    let desk = world.desk(vec![model::<Tally>()]);
    desk.skip_record("tally", &record, &a_reason())
        .await
        .unwrap();
    world.caught_up("tally", &log).await;
    let expected = fold(&[written("before", 1), written("after", 1)]);
    assert_eq!(world.tally("a").await, Some(expected));
    running.ready().await;
    running.stop().await;
}

#[tokio::test]
async fn a_model_with_a_bug_stops_alone() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Buggy>(), model::<Tally>()]);
    log.append("a", &[written("one", 1)]).await;
    running
        .troubled("buggy", "has a bug: 1 events are too many")
        .await;
    world.caught_up("tally", &log).await;
    assert!(running.is_ready("tally"));
    running.stop().await;
}

#[tokio::test]
async fn what_a_deposed_owner_wrote_is_ignored() {
    let (world, mut log) = World::new().await;
    log.append_under(5, "a", &[written("five", 5)]).await;
    let running = world.start(vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    log.append_under(4, "a", &[written("four", 4)]).await;
    world.caught_up("tally", &log).await;
    running.stop().await;

    // The highest term outlives the worker.
    log.append_under(4, "a", &[written("four", 4)]).await;
    log.append_under(6, "a", &[written("six", 6)]).await;
    let running = world.start(vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    let expected = fold(&[written("five", 5), written("six", 6)]);
    assert_eq!(world.tally("a").await, Some(expected));
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_was_cut_or_made_anew_is_noticed() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1)]).await;
    world.caught_up("tally", &log).await;
    running.stop().await;

    // As if the checkpoint had seen more of the log than there is.
    world
        .execute("update annals.checkpoints set next_offset = next_offset + 1000")
        .await;
    let running = world.start(vec![model::<Tally>()]);
    running
        .troubled("tally", "it was truncated or made anew")
        .await;
    world
        .execute("update annals.checkpoints set next_offset = next_offset - 1000")
        .await;
    log.append("a", &[written("two", 2)]).await;
    world.caught_up("tally", &log).await;
    assert_eq!(world.tally("a").await.unwrap().0, 2);
    running.stop().await;

    // As if the topic had been deleted and made again.
    world
        .execute("update annals.checkpoints set topic_id = gen_random_uuid()")
        .await;
    let running = world.start(vec![model::<Tally>()]);
    running
        .troubled("tally", "was deleted and made again")
        .await;
    running.stop().await;
}
