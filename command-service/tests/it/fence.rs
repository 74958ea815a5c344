//! The fence outlives the brokers' memory, because its owner renews it.

use command_service::CommandError;
use dev_stack::{DevStack, Options, new_temporary_folder};
use event_log::{
    append::{AppendError, Appender},
    batch::BatchBuilder,
    cluster::Cluster,
    fence::take_over,
    fetch::PartitionReader,
    topics::{Purpose, TopicOptions, ensure_topic},
};
use tokio::sync::watch;

use crate::world::{World, generation};

/// A stack whose broker forgets producers that have written nothing for 1.5 s.
async fn forgetful() -> DevStack {
    let mut options = Options::new(new_temporary_folder());
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    options.kafka_settings = vec![
        setting("producer.id.expiration.ms", "1500"),
        setting("producer.id.expiration.check.interval.ms", "100"),
    ];
    DevStack::start(options).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_owner_keeps_zombies_out_when_brokers_have_forgotten_them() {
    let stack = forgetful().await;
    let generation = generation();
    let kafka = Cluster::new(stack.kafka());
    let topic = generation.events_topic("counting");
    let topics = [topic.clone(), generation.owners_topic()];
    let options = TopicOptions::default();
    ensure_topic(&kafka, &topics[0], Purpose::Events, 1, options)
        .await
        .unwrap();
    ensure_topic(&kafka, &topics[1], Purpose::Owners, 1, options)
        .await
        .unwrap();
    let id = generation.transactional_id(0);
    let zombie = take_over(&kafka, &id, &topics, 0).await.unwrap();

    let world = World::start(&stack, generation).await;
    assert_eq!(world.add("a", "1", 1).await.unwrap().version.0, 1);
    until_markers(&world, &topic, 8).await;

    let (trouble, _watched) = watch::channel(None);
    let mut zombie = Appender::new(&world.kafka, &topic, 0, zombie.writer, 0, trouble);
    let mut batch = BatchBuilder::default();
    batch.push(b"main/counter/a", Some(b"late"), |_| {});
    let answer = zombie.append(batch).await;
    assert!(
        matches!(answer, Err(AppendError::Fenced { .. })),
        "{answer:?}"
    );

    assert_eq!(world.add("a", "2", 1).await.unwrap().version.0, 2);
    assert_eq!(world.add("a", "3", 1).await.unwrap().version.0, 3);
    assert!(world.add("a", "1", 1).await.unwrap().repeated);
    world.stop().await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_go_on_while_the_fence_is_renewed() {
    let stack = forgetful().await;
    let world = World::start(&stack, generation()).await;
    let topic = world.generation.events_topic("counting");
    let mut sent = 0;
    let mut reader = PartitionReader::new(&world.kafka, &topic, 0, 0);
    let mut markers = 0;
    while markers < 4 {
        let stream = format!("s{}", sent % 7);
        let accepted = world.add(&stream, &format!("k{sent}"), 0).await.unwrap();
        assert_eq!(accepted.version.0, sent / 7 + 1);
        sent += 1;
        let batches = reader.next_batches().await.unwrap();
        markers += batches.iter().filter(|batch| batch.control).count();
    }
    world.stop().await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deposed_owner_gives_no_answer_and_lets_the_process_end() {
    let stack = dev_stack::shared().await;
    let world = World::start(stack, generation()).await;
    world.add("a", "1", 1).await.unwrap();
    let topics = [
        world.generation.events_topic("counting"),
        world.generation.owners_topic(),
    ];
    let id = world.generation.transactional_id(0);
    take_over(&world.kafka, &id, &topics, 0).await.unwrap();

    // An acceptance, a rejection and a recorded answer alike: all need an append.
    for (key, by) in [("2", 1), ("3", 200), ("1", 1)] {
        let answer = world.add("a", key, by).await;
        assert!(
            matches!(answer, Err(CommandError::NotServed { .. })),
            "{answer:?}"
        );
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shard_whose_claim_is_older_than_its_log_is_not_served() {
    let stack = dev_stack::shared().await;
    let generation = generation();
    let world = World::start(stack, generation.clone()).await;
    world.add("a", "1", 1).await.unwrap();
    let (kafka, topic) = (world.kafka.clone(), generation.events_topic("counting"));
    world.stop().await;

    let topics = [topic.clone(), generation.owners_topic()];
    let id = generation.transactional_id(0);
    let taken = take_over(&kafka, &id, &topics, 0).await.unwrap();
    let mut reader = PartitionReader::new(&kafka, &topic, 0, 0);
    reader.read_to_marker(taken.marker, |_| {}).await.unwrap();
    let (trouble, _watched) = watch::channel(None);
    let end = reader.next_offset();
    let mut appender = Appender::new(&kafka, &topic, 0, taken.writer, end, trouble);
    let mut batch = BatchBuilder::default();
    crate::world::write_event(&mut batch, 1_000_000);
    appender.append(batch).await.unwrap();

    let refused = World::try_start(stack, generation)
        .await
        .until_not_ready()
        .await;
    assert!(refused.contains("younger than the log"), "{refused}");
}

/// Reads until so many take-overs and renewals have left their marker.
async fn until_markers(world: &World, topic: &str, count: usize) {
    let mut reader = PartitionReader::new(&world.kafka, topic, 0, 0);
    let mut markers = 0;
    while markers < count {
        let batches = reader.next_batches().await.unwrap();
        markers += batches.iter().filter(|batch| batch.control).count();
    }
}
