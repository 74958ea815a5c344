//! What is taken away from under a projector at work is noticed, even where nothing happens, and
//! built again where the log has it.

use projector::model;
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
};

use crate::{
    exactly_once::fold,
    log::Log,
    models::{Erasures, Note, Tally, written},
    world::World,
};

fn admin(world: &World) -> AdminClient<DefaultClientContext> {
    world.cluster.client_config().create().unwrap()
}

/// Takes what lies below this offset from the partition.
async fn cut_below(world: &World, log: &Log, partition: i32, offset: i64) {
    let mut cut = TopicPartitionList::new();
    let below = Offset::Offset(offset);
    cut.add_partition_offset(&log.topic(), partition, below)
        .unwrap();
    let cut = admin(world).delete_records(&cut, &AdminOptions::new());
    cut.await.unwrap().elements()[0].error().unwrap();
}

#[tokio::test]
async fn a_lost_database_is_built_again_whoever_has_noticed_first() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>(), model::<Erasures>()]);
    let events = [written("one", 1), Note::Erased {}];
    log.append("a", &events).await;
    world.caught_up("tally", &log).await;
    world.caught_up("erasures", &log).await;
    // Another process has found no tables and made them: this one never misses any.
    world
        .execute(
            "truncate annals.editions, annals.edition_numbers cascade;
             update annals.migrations set installed_on = clock_timestamp();
             drop schema rm_tally_e1 cascade;
             drop schema rm_erasures_e1 cascade",
        )
        .await;
    world.caught_up("tally", &log).await;
    world.caught_up("erasures", &log).await;
    assert_eq!(world.tally("a").await, Some(fold(&events)));
    assert_eq!(world.erasures().await, 1);
    running.ready().await;
    running.stop().await;
}

#[tokio::test]
async fn commits_that_a_crash_of_postgres_took_back_are_made_again_though_nothing_happens() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1)]).await;
    world.caught_up("tally", &log).await;
    world
        .execute(
            "update annals.checkpoints set next_offset = 0, term = 0;
             truncate rm_tally_e1.tally, rm_tally_e1.weights, rm_tally_e1.changes",
        )
        .await;
    world.caught_up("tally", &log).await;
    assert_eq!(world.tally("a").await, Some(fold(&[written("one", 1)])));
    running.ready().await;
    running.stop().await;
}

#[tokio::test]
async fn events_that_were_cut_off_before_they_were_projected_are_missed() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1)]).await;
    world.caught_up("tally", &log).await;
    running.stop().await;

    let more = [written("two", 2), written("three", 3), written("four", 4)];
    let two = log.append("a", &more).await;
    cut_below(&world, &log, log.partition_of("a"), two + 2).await;
    // The one model lacks two events, and the other, which begins, the first as well.
    let running = world.start(vec![model::<Tally>(), model::<Erasures>()]);
    for model in ["tally", "erasures"] {
        running
            .troubled(model, "it was truncated or made anew")
            .await;
    }
    assert_eq!(world.tally("a").await, Some(fold(&[written("one", 1)])));
    let place = world.checkpoint("tally", &log, log.partition_of("a")).await;
    assert_eq!(place, Some(two));
    running.stop().await;
}

#[tokio::test]
async fn a_topic_that_is_made_anew_is_noticed_at_work_and_at_the_start() {
    let (world, log) = World::new().await;
    // It has read nothing, and could go on as if nothing had happened.
    let running = world.start(vec![model::<Tally>()]);
    running.ready().await;
    let topic = log.topic();
    let admin = admin(&world);
    let deleted = admin.delete_topics(&[&topic], &AdminOptions::new()).await;
    assert_eq!(deleted.unwrap(), [Ok(topic.clone())]);
    world.make_topic().await;
    running
        .troubled("tally", "was deleted and made again")
        .await;
    running.stop().await;

    let mut log = world.log().await;
    log.append("a", &[written("of another log", 1)]).await;
    let running = world.start(vec![model::<Tally>()]);
    running
        .troubled("tally", "was deleted and made again")
        .await;
    assert_eq!(world.tally("a").await, None);
    running.stop().await;
}

#[tokio::test]
async fn a_worker_that_slept_while_others_took_its_partitions_writes_nothing_twice() {
    let (world, mut log) = World::new().await;
    let sleeper = world.start_apart(vec![model::<Tally>()]);
    let mut events = Vec::new();
    let mut append = async |log: &mut Log| {
        let note = written(&events.len().to_string(), 1);
        for stream in ["a", "b", "c", "d"] {
            log.append(stream, std::slice::from_ref(&note)).await;
        }
        events.push(note);
    };
    append(&mut log).await;
    world.caught_up("tally", &log).await;

    // Its Kafka client is awake and lays these up for it.
    let asleep = sleeper.hold_up();
    for _ in 0..20 {
        append(&mut log).await;
    }
    let other = world.start(vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    drop(asleep);
    append(&mut log).await;
    world.caught_up("tally", &log).await;
    // It has heard of it all when it goes on alone.
    other.stop().await;
    append(&mut log).await;
    world.caught_up("tally", &log).await;
    for stream in ["a", "b", "c", "d"] {
        assert_eq!(world.tally(stream).await, Some(fold(&events)), "{stream}");
    }
}
