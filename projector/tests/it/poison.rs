//! What cannot be projected stops its partition of its model, is named, and is never skipped.

use projector::model;

use crate::{
    exactly_once::fold,
    models::{Buggy, Erasures, Note, Tally, written},
    world::World,
};

#[tokio::test]
async fn an_event_that_postgres_refuses_holds_up_what_comes_after_it() {
    let (world, mut log) = World::new().await;
    let events = [
        written("one", 1),
        written("two", 2),
        written("three", -3),
        written("four", 4),
        written("five", 5),
    ];
    let offset = log.append("a", &events).await;
    let running = world.start(vec![model::<Tally>()]);
    running
        .troubled(
            "tally",
            &format!("offset {} cannot be projected", offset + 2),
        )
        .await;
    // Rows and checkpoint are both those of the events before it.
    assert_eq!(world.tally("a").await, Some(fold(&events[..2])));
    let partition = log.partition_of("a");
    let checkpoint = world.checkpoint("tally", &log, partition).await;
    assert_eq!(checkpoint, Some(offset + 2));

    world
        .execute("alter table rm_tally_e1.weights drop constraint no_debt")
        .await;
    world.caught_up("tally", &log).await;
    assert_eq!(world.tally("a").await, Some(fold(&events)));
    running.ready().await;
    running.stop().await;
}

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
async fn an_event_that_cannot_be_decoded_stops_only_the_model_that_takes_it() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>(), model::<Erasures>()]);
    log.append("a", &[written("one", 1)]).await;
    // The schema's id is right, but the text's length is more than there is.
    let id = world
        .registry
        .look_up(
            "annals.notes.Written",
            &crate::models::schemas().current("Written").unwrap().text,
        )
        .await
        .unwrap();
    let value = [&[0][..], &id.to_be_bytes(), &[80, 1]].concat();
    let offset = log.append_raw("a", "annals.notes.Written", &value).await;
    log.append("a", &[Note::Erased {}]).await;

    running
        .troubled("tally", &format!("offset {offset} cannot be read"))
        .await;
    world.caught_up("erasures", &log).await;
    assert_eq!(world.erasures().await, 1);
    assert!(running.is_ready("erasures"));
    assert_eq!(world.tally("a").await.unwrap().0, 1);
    let checkpoint = world.checkpoint("tally", &log, log.partition_of("a")).await;
    assert_eq!(checkpoint, Some(offset));
    running.stop().await;
}

#[tokio::test]
async fn the_other_partition_of_a_stopped_model_goes_on() {
    let (world, mut log) = World::new().await;
    let other = ('b'..='z')
        .map(String::from)
        .find(|stream| log.partition_of(stream) != log.partition_of("a"))
        .unwrap();
    log.append_foreign(log.partition_of("a")).await;
    let running = world.start(vec![model::<Tally>()]);
    running.troubled("tally", "was not written by Annals").await;
    log.append("a", &[written("never", 1)]).await;
    log.append(&other, &[written("one", 1)]).await;
    crate::world::until("the other one is projected", async || {
        world.tally(&other).await.is_some()
    })
    .await;
    assert_eq!(world.tally("a").await, None);
    assert!(!running.is_ready("tally"));
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
