//! What the projector needs may come later and go in between.

use dev_stack::DevStack;
use projector::model;

use crate::{
    models::{Tally, written},
    world::World,
};

#[tokio::test]
async fn a_projector_that_comes_first_waits_for_schemas_and_topics() {
    let world = World::bare(dev_stack::shared().await).await;
    let running = world.start(vec![model::<Tally>()]);
    running.troubled("tally", "schema registry").await;
    world.register_schemas().await;
    running
        .troubled("tally", "is not there: UnknownTopicOrPartition")
        .await;
    world.make_topic().await;
    running.ready().await;
    let mut log = world.log().await;
    log.append("a", &[written("one", 1)]).await;
    world.caught_up("tally", &log).await;
    running.stop().await;
}

#[tokio::test]
async fn projecting_goes_on_when_kafka_and_postgres_are_back() {
    let stack = DevStack::temporary().await.unwrap();
    let world = World::bare(&stack).await;
    world.register_schemas().await;
    world.make_topic().await;
    let mut log = world.log().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("one", 1)]).await;
    world.caught_up("tally", &log).await;

    stack.kafka_process().kill().await;
    running.troubled("tally", "no broker").await;
    stack.kafka_process().start().await.unwrap();
    log.append("a", &[written("two", 2)]).await;
    world.caught_up("tally", &log).await;
    running.ready().await;

    stack.postgres_process().kill().await;
    log.append("a", &[written("three", 3)]).await;
    // Whichever it does first, writing or looking at its checkpoints.
    running.troubled("tally", "failed to").await;
    stack.postgres_process().start().await.unwrap();
    running.ready().await;
    world.caught_up("tally", &log).await;
    assert_eq!(world.tally("a").await.unwrap().0, 3);
    running.stop().await;
    stack.stop().await;
}
