//! The topic of schemas: whatever was answered is in it, and an empty database is filled from it.

use std::time::Duration;

use event_log::cluster::Cluster;
use event_log::topics::TopicOptions;
use schema_registry::{Config, Role, Service, TopicConfig};
use serde_json::{Value, json};
use service_kit::SecretUrl;

use crate::running::{PATIENCE, Running, new_database, start};

fn new_topic() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("annals.schemas.{:016x}", RandomState::new().hash_one(0))
}

async fn starting(database: &str, kafka: &str, topic: &str) -> Running {
    let config = Config {
        address: "127.0.0.1:0".to_owned(),
        postgres: SecretUrl::new(database),
        anonymous: Some(Role::Write),
        ..Config::default()
    };
    let topic = TopicConfig {
        cluster: Cluster::new(kafka),
        name: topic.to_owned(),
        options: TopicOptions::default(),
    };
    let service = Service::bind(config).await.unwrap();
    start(service.write_to(topic).unwrap())
}

async fn registry(database: &str, topic: &str) -> Running {
    let kafka = dev_stack::shared().await.kafka();
    let registry = starting(database, kafka, topic).await;
    registry.until_ready(true).await;
    registry
}

fn schema(field: &str) -> Value {
    json!({"type": "record", "name": "R", "fields": [
        {"name": field, "type": "int", "default": 0}
    ]})
}

fn rules(expr: &str) -> Value {
    json!([{"name": "r", "kind": "TRANSFORM", "mode": "UPGRADE", "type": "ANNALS", "expr": expr}])
}

/// Everything that can be asked of the registry, as it is told.
async fn all_of(registry: &Running) -> Value {
    let mut answers = serde_json::Map::new();
    for path in [
        "/subjects?deleted=true",
        "/schemas?deleted=true&subjectPrefix=:*:",
        "/config",
        "/config/a",
        "/mode",
        "/mode/a",
        "/contexts",
        "/v1/metadata/id",
        "/subjects/a/versions/1/rules",
        "/subjects/a/versions/1/referencedby",
        "/schemas/ids/1/versions?deleted=true",
        "/schemas/ids/2?fetchMaxId=true",
    ] {
        answers.insert(path.to_owned(), registry.get(path).await.body);
    }
    answers.into()
}

#[tokio::test]
async fn an_empty_database_is_filled_from_the_topic_ids_kept() {
    let topic = new_topic();
    let before = registry(&new_database().await, &topic).await;
    // Ids with gaps, contracts, references, contexts, settings, modes, deletions, mended rules.
    before.registered("a", &schema("one")).await;
    before.registered("b", &schema("two")).await;
    let contract = json!({
        "schema": schema("three").to_string(),
        "metadata": {"properties": {"owner": "ada"}},
        "ruleSet": {"migrationRules": rules("x")},
    });
    before.post("/subjects/a/versions", contract).await;
    let referring = json!({
        "schema": json!({"type": "array", "items": "R"}).to_string(),
        "references": [{"name": "R", "subject": "a", "version": 1}],
    });
    let answer = before.post("/subjects/c/versions", referring.clone()).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    before.registered(":.eu:a", &schema("one")).await;
    before.registered("gone", &json!("string")).await;
    before.delete("/subjects/gone").await;
    before.delete("/subjects/gone?permanent=true").await;
    before.delete("/subjects/b").await;
    before
        .put("/config", json!({"compatibility": "FULL"}))
        .await;
    before
        .put("/config/a", json!({"compatibility": "NONE", "alias": null}))
        .await;
    before
        .put("/config/c", json!({"compatibility": "NONE"}))
        .await;
    before.delete("/config/c").await;
    before.put("/mode/a", json!({"mode": "READONLY"})).await;
    before.put("/mode/a", json!({"mode": "READWRITE"})).await;
    let mended = json!({"migrationRules": rules("mended"), "comment": "why"});
    let answer = before.post("/subjects/a/versions/1/rules", mended).await;
    assert_eq!(answer.body["revision"], 2, "{}", answer.text);
    let expected = all_of(&before).await;
    drop(before);

    let database = new_database().await;
    let after = registry(&database, &topic).await;
    assert_eq!(all_of(&after).await, expected);
    // What is known is known by its old id, also what is deleted; what is new gets a new one.
    assert_eq!(after.registered("again", &schema("two")).await, 2);
    let gone = after.registered("again", &json!("string"));
    let answer = after
        .put("/config/again", json!({"compatibility": "NONE"}))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(gone.await, 5);
    let answer = after.post("/subjects/c/versions", referring).await;
    answer.is_registered(4, 1);
    assert_eq!(after.registered("again", &schema("new")).await, 6);
    // And is in the topic again.
    drop(after);
    let later = registry(&new_database().await, &topic).await;
    later
        .get("/subjects/again/versions")
        .await
        .is(json!([1, 2, 3]));
    let looked_up = later
        .post(
            "/subjects/a",
            json!({"schema": schema("three").to_string()}),
        )
        .await;
    assert_eq!(looked_up.body["id"], 3, "{}", looked_up.text);
}

#[tokio::test]
async fn a_database_out_of_a_backup_is_brought_up_to_date() {
    let (database, topic) = (new_database().await, new_topic());
    let alone = crate::running::registry_on(&database).await;
    alone.registered("a", &schema("one")).await;
    drop(alone);
    // A topic that comes later gets what is there.
    let first = registry(&database, &topic).await;
    first.registered("a", &schema("two")).await;
    let copy = registry(&new_database().await, &topic).await;
    copy.get("/subjects/a/versions").await.is(json!([1, 2]));
    // `copy` is now what a backup of `first` is: behind.
    first.registered("a", &schema("three")).await;
    drop(first);
    let copy_address = copy.get("/v1/metadata/id").await.body;
    let latest = registry(&database, &topic).await;
    latest
        .get("/subjects/a/versions")
        .await
        .is(json!([1, 2, 3]));
    assert_eq!(latest.get("/v1/metadata/id").await.body, copy_address);
}

#[tokio::test]
async fn a_topic_of_another_registry_is_refused() {
    let (one, other) = (new_topic(), new_topic());
    let database = new_database().await;
    registry(&database, &one)
        .await
        .registered("a", &schema("one"))
        .await;
    let foreign = registry(&new_database().await, &other).await;
    foreign.registered("b", &schema("two")).await;
    let kafka = dev_stack::shared().await.kafka();
    let confused = starting(&database, kafka, &other).await;
    // Whatever it says before.
    let refused = async {
        loop {
            let report = confused.get("/health/ready").await;
            let reason = report.body["components"]["topic"]["reason"].to_string();
            if reason.contains("belongs to another database") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.unwrap();
    confused.get("/subjects").await.is_error(50001);
    confused.register("a", &schema("two")).await.is_error(50001);
}

#[tokio::test]
async fn two_instances_write_one_topic() {
    let (database, topic) = (new_database().await, new_topic());
    let instances = [
        registry(&database, &topic).await,
        registry(&database, &topic).await,
    ];
    let registrations = (0..30).map(|n| {
        let instance = &instances[n % 2];
        async move {
            let schema = schema(&format!("f{n}"));
            let answer = instance.register_at_last("a", &schema).await;
            answer.body["id"].as_i64().unwrap()
        }
    });
    let mut ids = futures::future::join_all(registrations).await;
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 30);
    let expected = instances[0].get("/schemas").await.body;
    let restored = registry(&new_database().await, &topic).await;
    assert_eq!(restored.get("/schemas").await.body, expected);
}

/// Without Kafka nothing is registered, everything that is there is served, and it goes on by
/// itself.
#[tokio::test]
async fn without_kafka_nothing_is_registered_and_all_is_read() {
    let stack = dev_stack::DevStack::temporary().await.unwrap();
    let database = new_database().await;
    let topic = new_topic();
    stack.kafka_process().kill().await;
    let registry = starting(&database, stack.kafka(), &topic).await;
    // Whether the database lacks something that the topic has is not known yet.
    registry.until_ready(false).await;
    registry.get("/subjects").await.is_error(50001);
    stack.kafka_process().start().await.unwrap();
    registry.until_ready(true).await;
    let id = registry.registered("a", &schema("one")).await;

    stack.kafka_process().kill().await;
    let refused = registry.register("a", &schema("two")).await;
    assert!(
        [50001, 50002]
            .map(Value::from)
            .contains(&refused.body["error_code"]),
        "{}",
        refused.text
    );
    registry.get("/subjects/a/versions").await.is(json!([1]));
    assert_eq!(registry.registered("a", &schema("one")).await, id);
    stack.kafka_process().start().await.unwrap();
    let accepted = async {
        loop {
            let answer = registry.register("a", &schema("two")).await;
            if answer.status == 200 {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let answer = tokio::time::timeout(PATIENCE, accepted).await.unwrap();
    assert_eq!(answer.body["version"], 2, "{}", answer.text);
    drop(registry);
    let restored = starting(&new_database().await, stack.kafka(), &topic).await;
    restored.until_ready(true).await;
    let versions = restored.get("/subjects/a/versions").await;
    versions.is(json!([1, 2]));
    stack.stop().await;
}
