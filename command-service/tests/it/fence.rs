//! The fence outlives the brokers' memory, because its owner renews it.

use std::{thread, time::Duration};

use command_service::CommandError;
use dev_stack::{DevStack, Options, new_temporary_folder};
use event_log::{
    append::{AppendError, Appender},
    batch::{Batch, BatchBuilder},
    cluster::Cluster,
    fence::{TakeOver, take_over},
    fetch::PartitionReader,
    topics::{Generation, Purpose, TopicOptions, ensure_topic},
};
use tokio::{sync::watch, time::timeout};

use crate::world::{World, generation};

/// Far above what any condition here takes; it ends a test that waits in vain.
const AT_MOST: Duration = Duration::from_secs(90);

/// For so long the broker of these tests remembers producers that write nothing. An owner that
/// comes to nothing for half of it takes over anew: longer than this machine ever stands still.
const REMEMBERED_MS: u64 = 12_000;

async fn forgetful() -> DevStack {
    let mut options = Options::new(new_temporary_folder());
    let setting = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    options.kafka_settings = vec![
        setting("producer.id.expiration.ms", &REMEMBERED_MS.to_string()),
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
    // Both take-overs', and of renewals, three for each time that the broker remembers.
    until_markers(&world, &topic, 2 + 4).await;

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

    // An acceptance, a rejection and a recorded answer alike: all need an append.
    for (key, by) in [("2", 1), ("3", 200), ("1", 1)] {
        take_over(&world.kafka, &id, &topics, 0).await.unwrap();
        let answer = world.add("a", key, by).await;
        assert!(
            matches!(answer, Err(CommandError::NotServed { .. })),
            "{answer:?}"
        );
        // It hears of it by that alone, and may take over again: nobody else is there.
        assert!(world.until_served("a", "1", 1).await.repeated);
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

    let refused = World::try_start(stack, generation).await;
    refused.until_not_served("younger than the log").await;
}

/// The coordinator gave the shard's owner another producer id than the one that claimed, as when
/// it has lost its memory: nobody's take-over fences the one before.
#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_that_nobody_has_fenced_keeps_the_shard_from_being_served() {
    let stack = dev_stack::shared().await;
    let shard = Foreign::new(stack).await;
    let mut before = shard.claim().await;

    let refused = World::try_start(stack, shard.generation.clone())
        .await
        .until_not_served("may still append")
        .await;
    let (id, epoch) = (before.identity.writer.id, before.identity.writer.epoch);
    let who = format!("producer {id} epoch {epoch}");
    assert!(refused.contains(&who), "{refused}");
    assert!(refused.contains("kafka-transactions.sh abort"), "{refused}");

    // In one of the partitions it is not enough.
    shard.take_over(&shard.topics[..1]).await;
    let refused = World::try_start(stack, shard.generation.clone())
        .await
        .until_not_served("may still append")
        .await;
    let open = format!("no marker in {} fences", shard.topics[1]);
    assert!(refused.contains(&open), "{refused}");

    shard.take_over(&shard.topics).await;
    let world = World::start(stack, shard.generation.clone()).await;
    world.add("a", "1", 1).await.unwrap();
    let late = before.append(b"main/counter/a", b"late").await;
    assert!(matches!(late, Err(AppendError::Fenced { .. })), "{late:?}");
    world.stop().await;
}

/// After a week of downtime the coordinator knows nobody.
#[tokio::test(flavor = "multi_thread")]
async fn a_predecessor_that_was_silent_for_too_long_locks_nobody_out() {
    let stack = forgetful().await;
    let shard = Foreign::new(&stack).await;
    shard.claim().await;
    let served = async {
        loop {
            let world = World::try_start(&stack, shard.generation.clone()).await;
            loop {
                match world.add("a", "1", 1).await {
                    Ok(_) => return world,
                    Err(error) if error.to_string().contains("may still append") => break,
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
            world.stop().await;
        }
    };
    let world = timeout(AT_MOST, served).await.unwrap();
    world.stop().await;
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_owner_claims_again() {
    let stack = forgetful().await;
    let world = World::start(&stack, generation()).await;
    let claims = claims(&world, 3).await;
    assert!(claims.is_sorted_by_key(|claim| claim.epoch));
    assert!(claims[0].epoch < claims[1].epoch && claims[1].epoch < claims[2].epoch);

    world.add("a", "1", 1).await.unwrap();
    let topic = world.generation.events_topic("counting");
    let mut reader = PartitionReader::new(&world.kafka, &topic, 0, 0);
    let term = loop {
        let batches = reader.next_batches().await.unwrap();
        let mut events = batches.iter().filter(|batch| !batch.control);
        if let Some(event) = events.next() {
            let record = event.records().next().unwrap().unwrap();
            let term = record.headers().find(|(name, _)| *name == "annals_term");
            let term: i64 = std::str::from_utf8(term.unwrap().1)
                .unwrap()
                .parse()
                .unwrap();
            break term;
        }
    };
    assert!(term >= claims[2].offset, "the term of an earlier claim");
    world.stop().await;
    stack.stop().await;
}

/// Everything of this process runs on one thread here, which stops.
#[tokio::test]
async fn after_a_pause_longer_than_a_session_the_owner_proves_that_it_still_is_one() {
    let stack = dev_stack::shared().await;
    let world = World::start(stack, generation()).await;
    world.add("a", "1", 1).await.unwrap();
    thread::sleep(Duration::from_millis(6_500));
    let mut reader = owners_reader(&world);
    let barrier = async {
        loop {
            let batches = reader.next_batches().await.unwrap();
            let mut records = batches.iter().flat_map(Batch::records).map(Result::unwrap);
            if records.any(|record| record.key.as_deref() == Some(b"barrier")) {
                return;
            }
        }
    };
    timeout(AT_MOST, barrier).await.unwrap();
    world.stop().await;
}

/// Transactional writers leave markers, and records that the fence knows nothing of.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_foreign_writer_the_shard_is_read_anew_and_served_on() {
    let stack = dev_stack::shared().await;
    let shard = Foreign::new(stack).await;
    let world = World::start(stack, shard.generation.clone()).await;
    world.add("a", "1", 1).await.unwrap();

    let mut foreign = shard.writer(&shard.topics[0]).await;
    foreign.append(b"main/counter/x", b"{}").await.unwrap();
    foreign.append(b"no stream of ours", b"{}").await.unwrap();
    // Its event is in the log, but an owner that was written past tells nobody.
    world.add("a", "2", 1).await.unwrap_err();
    let again = world.until_served("a", "2", 1).await;
    assert!(again.repeated && again.version.0 == 2);
    assert_eq!(world.add("a", "3", 1).await.unwrap().version.0, 3);
    let other = world.add("x", "1", 1).await;
    assert!(
        matches!(other, Err(CommandError::StreamStopped { .. })),
        "{other:?}"
    );
    assert_eq!(claims(&world, 2).await.len(), 2, "it has taken over again");

    // The next owner comes by it as well.
    world.stop().await;
    let world = World::start(stack, shard.generation.clone()).await;
    assert!(world.add("a", "3", 1).await.unwrap().repeated);
    let other = world.add("x", "1", 1).await;
    assert!(
        matches!(other, Err(CommandError::StreamStopped { .. })),
        "{other:?}"
    );

    // Its markers are known by now, but no record of it is let pass; it has been written past itself.
    foreign.append(b"main/counter/y", b"{}").await.unwrap_err();
    world.add("a", "4", 1).await.unwrap_err();
    assert!(world.until_served("a", "4", 1).await.repeated);
    world.stop().await;
}

/// Somebody whom the shard's coordinator does not know by the shard's name.
struct Foreign {
    kafka: Cluster,
    generation: Generation,
    /// All of the shard: events, answers, owners.
    topics: [String; 3],
}

struct Writer {
    identity: TakeOver,
    appender: Appender,
    _trouble: watch::Receiver<Option<String>>,
}

impl Foreign {
    async fn new(stack: &DevStack) -> Self {
        let (kafka, generation) = (Cluster::new(stack.kafka()), generation());
        let topics = [
            generation.events_topic("counting"),
            generation.answers_topic(),
            generation.owners_topic(),
        ];
        let purposes = [Purpose::Events, Purpose::Events, Purpose::Owners];
        for (topic, purpose) in topics.iter().zip(purposes) {
            ensure_topic(&kafka, topic, purpose, 1, TopicOptions::default())
                .await
                .unwrap();
        }
        Self {
            kafka,
            generation,
            topics,
        }
    }

    async fn take_over(&self, topics: &[String]) -> TakeOver {
        let id = format!("foreign.{}", self.generation.name);
        take_over(&self.kafka, &id, topics, 0).await.unwrap()
    }

    /// Leaves a marker in the topic, and may append behind it.
    async fn writer(&self, topic: &str) -> Writer {
        let topics = [topic.to_owned()];
        let identity = self.take_over(&topics).await;
        self.writer_as(identity, topic).await
    }

    async fn writer_as(&self, identity: TakeOver, topic: &str) -> Writer {
        let mut reader = PartitionReader::new(&self.kafka, topic, 0, 0);
        reader
            .read_to_marker(identity.marker, |_| {})
            .await
            .unwrap();
        let (told, trouble) = watch::channel(None);
        let end = reader.next_offset();
        let appender = Appender::new(&self.kafka, topic, 0, identity.writer, end, told);
        Writer {
            identity,
            appender,
            _trouble: trouble,
        }
    }

    /// Owns the shard by its claim.
    async fn claim(&self) -> Writer {
        let identity = self.take_over(&self.topics).await;
        let TakeOver { writer, .. } = identity;
        let claim = format!(
            r#"{{"endpoint":"127.0.0.1:1","producer_id":{},"epoch":{}}}"#,
            writer.id, writer.epoch
        );
        let mut owners = self.writer_as(identity, &self.topics[2]).await;
        owners.append(b"claim", claim.as_bytes()).await.unwrap();
        self.writer_as(identity, &self.topics[0]).await
    }
}

impl Writer {
    async fn append(&mut self, key: &[u8], value: &[u8]) -> Result<i64, AppendError> {
        let mut batch = BatchBuilder::default();
        batch.push(key, Some(value), |_| {});
        self.appender.append(batch).await
    }
}

struct Claim {
    offset: i64,
    epoch: i16,
}

/// The first so many claims.
async fn claims(world: &World, count: usize) -> Vec<Claim> {
    let mut reader = owners_reader(world);
    let mut claims = Vec::new();
    let read = async {
        while claims.len() < count {
            for batch in reader.next_batches().await.unwrap() {
                for record in batch.records().map(Result::unwrap) {
                    if !batch.control && record.key.as_deref() == Some(b"claim") {
                        let claim = record.value.unwrap();
                        let claim: serde_json::Value = serde_json::from_slice(&claim).unwrap();
                        assert_eq!(claim["producer_id"], batch.producer.id);
                        assert_eq!(claim["epoch"], batch.producer.epoch);
                        let (offset, epoch) = (record.offset, batch.producer.epoch);
                        claims.push(Claim { offset, epoch });
                    }
                }
            }
        }
    };
    timeout(AT_MOST, read).await.unwrap();
    claims
}

fn owners_reader(world: &World) -> PartitionReader {
    PartitionReader::new(&world.kafka, &world.generation.owners_topic(), 0, 0)
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
