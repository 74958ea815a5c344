//! Topics that are not what the log needs are refused with the way out named.

use event_log::{
    cluster::Cluster,
    topics::{Generation, Purpose, TopicError, TopicOptions, ensure_topic},
};
use kafka_protocol::{
    messages::{
        CreateTopicsRequest, TopicName,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
    },
    protocol::StrBytes,
};

use crate::shard::new_generation;

async fn cluster() -> Cluster {
    Cluster::new(dev_stack::shared().await.kafka())
}

async fn ensure(cluster: &Cluster, topic: &str, partitions: i32) -> Result<(), TopicError> {
    let options = TopicOptions::default();
    ensure_topic(cluster, topic, Purpose::Events, partitions, options).await
}

/// A topic that somebody else made.
async fn make(cluster: &Cluster, generation: &Generation, settings: &[(&str, &str)]) -> String {
    let topic = generation.events_topic("tasks");
    let text = |text: &str| StrBytes::from_string(text.into());
    let configs = settings.iter().map(|(setting, value)| {
        CreatableTopicConfig::default()
            .with_name(text(setting))
            .with_value(Some(text(value)))
    });
    let request = CreateTopicsRequest::default()
        .with_timeout_ms(10_000)
        .with_topics(vec![
            CreatableTopic::default()
                .with_name(TopicName(text(&topic)))
                .with_num_partitions(generation.partitions)
                .with_replication_factor(1)
                .with_configs(configs.collect()),
        ]);
    let mut broker = cluster.connect_coordinator("any").await.unwrap();
    let answer = broker.call(5, &request).await.unwrap();
    assert_eq!(answer.topics[0].error_code, 0);
    topic
}

#[tokio::test]
async fn a_topic_is_made_once_and_found_again() {
    let cluster = cluster().await;
    let topic = new_generation().events_topic("tasks");
    for _ in 0..3 {
        ensure(&cluster, &topic, 2).await.unwrap();
    }
}

#[tokio::test]
async fn another_number_of_partitions_is_refused() {
    let cluster = cluster().await;
    let topic = new_generation().events_topic("tasks");
    ensure(&cluster, &topic, 2).await.unwrap();
    let error = ensure(&cluster, &topic, 3).await.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("has 2 partitions"), "{text}");
    assert!(text.contains("ANNALS_PARTITIONS=2"), "{text}");
    assert!(
        text.contains("rewrite the log into a new generation"),
        "{text}"
    );
}

#[tokio::test]
async fn settings_that_would_break_the_log_are_refused() {
    let right = [
        ("message.timestamp.type", "LogAppendTime"),
        ("cleanup.policy", "delete"),
        ("retention.ms", "-1"),
        ("retention.bytes", "-1"),
    ];
    for (setting, wrong) in [
        ("message.timestamp.type", "CreateTime"),
        ("cleanup.policy", "compact"),
        ("retention.ms", "604800000"),
        ("retention.bytes", "1073741824"),
        ("compression.type", "gzip"),
        ("unclean.leader.election.enable", "true"),
    ] {
        let cluster = cluster().await;
        let mut settings = right.to_vec();
        settings.retain(|(other, _)| *other != setting);
        settings.push((setting, wrong));
        let topic = make(&cluster, &new_generation(), &settings).await;
        let text = ensure(&cluster, &topic, 2).await.unwrap_err().to_string();
        assert!(text.contains(&format!("has {setting}={wrong}")), "{text}");
        assert!(text.contains("kafka-configs --alter"), "{text}");
    }
}

#[tokio::test]
async fn without_a_broker_it_is_said_which_was_asked() {
    let nobody = Cluster::new("127.0.0.1:1");
    let error = ensure(&nobody, "annals.tasks.events.1", 2)
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "failed to connect to broker 127.0.0.1:1");
}
