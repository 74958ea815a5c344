//! Topics that were changed, truncated or made anew behind our back are refused at the next start.

use bytes::Bytes;
use event_log::{
    batch::BatchBuilder,
    broker::fence_lifetime,
    cluster::Cluster,
    fetch::PartitionReader,
    self_test::{SelfTestError, self_test},
    topics::{Generation, Purpose, TopicError, TopicOptions, ensure_topic},
};
use kafka_protocol::{
    messages::{
        CreatePartitionsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
        IncrementalAlterConfigsRequest, TopicName,
        create_partitions_request::CreatePartitionsTopic,
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics_request::DeleteTopicState,
        incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
    },
    protocol::StrBytes,
};
use tokio::time::{Duration, sleep};

use crate::{
    raw::{NO_PRODUCER, batch, produce},
    shard::{PARTITION, in_time, new_generation},
};

/// A generation with one context's topic, as starts see it.
struct World {
    cluster: Cluster,
    generation: Generation,
    events: String,
}

impl World {
    async fn new() -> Self {
        let generation = new_generation();
        let world = Self {
            cluster: Cluster::new(dev_stack::shared().await.kafka()),
            events: generation.events_topic("tasks"),
            generation,
        };
        world.start().await.unwrap();
        world
    }

    async fn ensure(&self, topic: &str, purpose: Purpose) -> Result<(), TopicError> {
        let (partitions, options) = (self.generation.partitions, TopicOptions::default());
        ensure_topic(&self.cluster, topic, purpose, partitions, options).await
    }

    /// What each start of a node does before it owns anything.
    async fn start(&self) -> Result<(), SelfTestError> {
        self.ensure(&self.generation.owners_topic(), Purpose::Owners)
            .await?;
        self.ensure(&self.events, Purpose::Events).await?;
        let topics = [self.generation.owners_topic(), self.events.clone()];
        self_test(
            &self.cluster,
            &self.generation,
            &topics,
            TopicOptions::default(),
        )
        .await
    }

    /// What a start says once the brokers have heard of a change.
    async fn refused(&self) -> String {
        in_time(async {
            loop {
                match self.start().await {
                    Ok(()) => sleep(Duration::from_millis(20)).await,
                    Err(error) if error.is_temporary() => sleep(Duration::from_millis(20)).await,
                    Err(error) => return error.to_string(),
                }
            }
        })
        .await
    }

    async fn starts_again(&self) {
        in_time(async {
            while self.start().await.is_err() {
                sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    async fn alter(&self, topic: &str, setting: &str, value: &str) {
        const SET: i8 = 0;
        const TOPIC: i8 = 2;
        let config = AlterableConfig::default()
            .with_name(text(setting))
            .with_config_operation(SET)
            .with_value(Some(text(value)));
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![
            AlterConfigsResource::default()
                .with_resource_type(TOPIC)
                .with_resource_name(text(topic))
                .with_configs(vec![config]),
        ]);
        let mut broker = self.cluster.connect_coordinator("any").await.unwrap();
        let answer = broker.call(1, &request).await.unwrap();
        assert_eq!(answer.responses[0].error_code, 0, "{setting}={value}");
    }

    async fn delete_events(&self) {
        let name = Some(TopicName(text(&self.events)));
        let request = DeleteTopicsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(vec![DeleteTopicState::default().with_name(name)]);
        let mut broker = self.cluster.connect_coordinator("any").await.unwrap();
        let answer = broker.call(6, &request).await.unwrap();
        assert_eq!(answer.responses[0].error_code, 0);
    }

    async fn add_partitions(&self, topic: &str) {
        let request = CreatePartitionsRequest::default()
            .with_timeout_ms(10_000)
            .with_topics(vec![
                CreatePartitionsTopic::default()
                    .with_name(TopicName(text(topic)))
                    .with_count(self.generation.partitions + 1)
                    .with_assignments(None),
            ]);
        let mut broker = self.cluster.connect_coordinator("any").await.unwrap();
        let answer = broker.call(3, &request).await.unwrap();
        assert_eq!(answer.results[0].error_code, 0);
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.into())
}

#[tokio::test]
async fn a_setting_that_became_dangerous_is_named_with_the_way_back() {
    let world = World::new().await;
    let owners = world.generation.owners_topic();
    for (topic, setting, wrong, right) in [
        (
            &world.events,
            "message.timestamp.type",
            "CreateTime",
            "LogAppendTime",
        ),
        (&world.events, "cleanup.policy", "compact", "delete"),
        (&world.events, "retention.ms", "604800000", "-1"),
        (&world.events, "retention.bytes", "1073741824", "-1"),
        (&world.events, "compression.type", "gzip", "producer"),
        (
            &world.events,
            "unclean.leader.election.enable",
            "true",
            "false",
        ),
        (&world.events, "max.message.bytes", "100000", "1048576"),
        (&world.events, "min.insync.replicas", "2", "1"),
        (&owners, "cleanup.policy", "compact,delete", "compact"),
        (
            &owners,
            "message.timestamp.type",
            "CreateTime",
            "LogAppendTime",
        ),
    ] {
        world.alter(topic, setting, wrong).await;
        let said = world.refused().await;
        assert!(said.contains(&format!("has {setting}={wrong}")), "{said}");
        let remedy = format!("--topic {topic} --add-config {setting}={right}");
        assert!(said.contains(&remedy), "{said}");
        world.alter(topic, setting, right).await;
        world.starts_again().await;
    }
}

#[tokio::test]
async fn fewer_replicas_than_configured_are_refused() {
    let world = World::new().await;
    let options = TopicOptions {
        replication: 3,
        ..TopicOptions::default()
    };
    let partitions = world.generation.partitions;
    let ensured = ensure_topic(
        &world.cluster,
        &world.events,
        Purpose::Events,
        partitions,
        options,
    );
    let said = ensured.await.unwrap_err().to_string();
    assert!(said.contains("has 1 replicas"), "{said}");
    assert!(said.contains("ANNALS_REPLICATION=1"), "{said}");
}

#[tokio::test]
async fn a_topic_whose_first_records_were_deleted_is_refused() {
    let world = World::new().await;
    for value in 0..3 {
        produce_one(&world, &world.events, value).await;
    }
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(PARTITION)
        .with_offset(2);
    let request = DeleteRecordsRequest::default()
        .with_timeout_ms(10_000)
        .with_topics(vec![
            DeleteRecordsTopic::default()
                .with_name(TopicName(text(&world.events)))
                .with_partitions(vec![partition]),
        ]);
    let leader = world.cluster.connect_leader(&world.events, PARTITION);
    let answer = leader.await.unwrap().call(2, &request).await.unwrap();
    assert_eq!(answer.topics[0].partitions[0].error_code, 0);
    let said = world.refused().await;
    let expected = format!("{} partition {PARTITION} begins at offset 2", world.events);
    assert!(said.contains(&expected), "{said}");
    assert!(said.contains("ANNALS_GENERATION"), "{said}");
}

#[tokio::test]
async fn a_topic_that_was_deleted_is_not_begun_anew() {
    let world = World::new().await;
    produce_one(&world, &world.events, 1).await;
    world.delete_events().await;
    let said = world.refused().await;
    assert!(said.contains("somebody deleted it"), "{said}");
    // And not at the second try either.
    assert!(world.refused().await.contains("somebody deleted it"));
}

#[tokio::test]
async fn a_topic_that_lost_its_end_is_refused() {
    let world = World::new().await;
    let scratch = world.generation.self_test_topic();
    let notes = notes(&world.cluster, &scratch).await;
    let (_, noted) = notes
        .iter()
        .rev()
        .find(|(key, _)| *key == world.events)
        .unwrap();
    // As an earlier start would have noted it down that saw more.
    let more = noted.replace("\"ends\":[0,0]", "\"ends\":[0,5]");
    assert_ne!(*noted, more);
    let mut batch = BatchBuilder::default();
    batch.push(world.events.as_bytes(), Some(more.as_bytes()), |_| {});
    let (code, _) = produce(&world.cluster, &scratch, 0, batch.seal(NO_PRODUCER, -1, 0)).await;
    assert_eq!(code, 0);
    let said = world.refused().await;
    assert!(said.contains("ends at offset 0"), "{said}");
    assert!(said.contains("reach 5"), "{said}");
}

#[tokio::test]
async fn more_partitions_are_refused_although_all_topics_and_the_settings_have_them() {
    let mut world = World::new().await;
    for topic in [
        world.events.clone(),
        world.generation.owners_topic(),
        world.generation.self_test_topic(),
    ] {
        world.add_partitions(&topic).await;
    }
    world.generation.partitions += 1;
    let said = in_time(async {
        loop {
            let said = world.refused().await;
            // Until every broker has heard of the new partitions.
            if !said.contains("ANNALS_PARTITIONS") {
                return said;
            }
        }
    })
    .await;
    assert!(said.contains("was written with 2 partitions"), "{said}");
    assert!(said.contains("this process has 3 partitions"), "{said}");
}

/// As a release would have noted it down that sends streams to other partitions.
#[tokio::test]
async fn another_router_is_refused() {
    let world = World::new().await;
    let scratch = world.generation.self_test_topic();
    let notes = notes(&world.cluster, &scratch).await;
    let noted = notes.iter().rev().find(|(key, _)| key == "generation");
    let (_, noted) = noted.unwrap();
    let other = noted.replace("\"router\":[", "\"router\":[7,");
    assert_ne!(*noted, other);
    let mut batch = BatchBuilder::default();
    batch.push(b"generation", Some(other.as_bytes()), |_| {});
    let (code, _) = produce(&world.cluster, &scratch, 0, batch.seal(NO_PRODUCER, -1, 0)).await;
    assert_eq!(code, 0);
    let said = world.refused().await;
    assert!(said.contains("router [7, "), "{said}");
    assert!(
        said.contains("rewrite the log into a new generation"),
        "{said}"
    );
}

#[tokio::test]
async fn brokers_that_forget_too_soon_are_refused() {
    let cluster = Cluster::new(dev_stack::shared().await.kafka());
    let hour = Duration::from_secs(3_600);
    let day = 24 * hour;
    assert_eq!(fence_lifetime(&cluster, hour).await.unwrap(), day);
    let error = fence_lifetime(&cluster, 2 * day).await.unwrap_err();
    assert!(!error.is_temporary());
    let said = error.to_string();
    assert!(
        said.contains("producer.id.expiration.ms=86400000"),
        "{said}"
    );
    assert!(said.contains("for 172800s at least"), "{said}");
}

async fn produce_one(world: &World, topic: &str, value: u64) {
    let bytes = batch(&[value]).seal(NO_PRODUCER, -1, 0);
    let (code, _) = produce(&world.cluster, topic, PARTITION, bytes).await;
    assert_eq!(code, 0);
}

/// Key and value of each record in the first partition.
async fn notes(cluster: &Cluster, topic: &str) -> Vec<(String, String)> {
    let mut reader = PartitionReader::new(cluster, topic, 0, 0);
    let mut notes = Vec::new();
    loop {
        let batches = reader.next_batches().await.unwrap();
        if batches.is_empty() {
            return notes;
        }
        for batch in batches.iter().filter(|batch| !batch.control) {
            for record in batch.records() {
                let record = record.unwrap();
                let text = |bytes: Option<Bytes>| {
                    String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
                };
                notes.push((text(record.key), text(record.value)));
            }
        }
    }
}
