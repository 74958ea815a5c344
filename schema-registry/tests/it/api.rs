//! The routes, as Confluent's reference describes them.

use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};

use crate::running::{Answer, registry};

fn user(fields: &[(&str, Option<Value>)]) -> Value {
    let fields: Vec<Value> = fields
        .iter()
        .map(|(name, default)| match default {
            None => json!({"name": name, "type": "string"}),
            Some(default) => json!({"name": name, "type": "string", "default": default}),
        })
        .collect();
    json!({"type": "record", "name": "User", "fields": fields})
}

fn v1() -> Value {
    user(&[("name", None)])
}

fn v2() -> Value {
    user(&[("name", None), ("mail", Some(json!("")))])
}

/// Cannot read what `v1` and `v2` wrote.
fn incompatible() -> Value {
    user(&[("name", None), ("phone", None)])
}

fn posted(schema: &Value) -> Value {
    json!({"schema": schema.to_string()})
}

#[tokio::test]
async fn a_schema_can_be_registered_and_found_again() {
    let registry = registry().await;
    registry.register("users", &v1()).await.is_registered(1, 1);
    registry.register("users", &v2()).await.is_registered(2, 2);

    let text = r#"{"type":"record","name":"User","fields":[{"name":"name","type":"string"}]}"#;
    let version = json!({"subject": "users", "version": 1, "id": 1, "schema": text});
    registry.get("/subjects").await.is(json!(["users"]));
    registry
        .get("/subjects/users/versions")
        .await
        .is(json!([1, 2]));
    registry
        .get("/subjects/users/versions/1")
        .await
        .is(version.clone());
    registry
        .post("/subjects/users", posted(&v1()))
        .await
        .is(version.clone());
    assert_eq!(
        registry.get("/subjects/users/versions/1/schema").await.text,
        text
    );
    assert_eq!(
        registry.get("/subjects/users/versions/latest").await.body["version"],
        2
    );
    assert_eq!(
        registry.get("/subjects/users/versions/-1").await.body["version"],
        2
    );
    registry
        .get("/subjects/users/versions/1/referencedby")
        .await
        .is(json!([]));

    registry
        .get("/schemas/ids/1")
        .await
        .is(json!({"schema": text}));
    assert_eq!(registry.get("/schemas/ids/1/schema").await.text, text);
    registry
        .get("/schemas/ids/1/subjects")
        .await
        .is(json!(["users"]));
    registry
        .get("/schemas/ids/1/versions")
        .await
        .is(json!([{"subject": "users", "version": 1}]));
    registry
        .get("/schemas/types")
        .await
        .is(json!(["JSON", "AVRO"]));
    assert_eq!(registry.get("/schemas").await.body[0]["schema"], text);
    assert_eq!(
        registry.get("/schemas?latestOnly=true").await.body[0]["version"],
        2
    );
}

#[tokio::test]
async fn the_same_schema_has_the_same_id_under_every_subject() {
    let registry = registry().await;
    let id = registry.registered("one", &v1()).await;
    registry.registered("two", &v2()).await;
    assert_eq!(registry.registered("two", &v2()).await, id + 1);
    // Written in another way.
    let same =
        r#"{"name":"User", "fields":[{"type":{"type":"string"},"name":"name"}], "type":"record"}"#;
    let answer = registry
        .post("/subjects/three/versions", json!({"schema": same}))
        .await;
    answer.is_registered(id, 1);
    registry.register("one", &v1()).await.is_registered(id, 1);
    registry
        .get(&format!("/schemas/ids/{id}/subjects"))
        .await
        .is(json!(["one", "three"]));
}

#[tokio::test]
async fn attributes_of_our_own_are_kept() {
    let registry = registry().await;
    let schema = json!({"type": "record", "name": "Task", "doc": "A task.", "fields": [
        {"name": "title", "type": "string", "doc": "As typed.", "personal": true},
        {"name": "price", "type": {"type": "string", "logicalType": "decimal"}}
    ]});
    let id = registry.registered("tasks", &schema).await;
    let returned = registry
        .get(&format!("/schemas/ids/{id}/schema"))
        .await
        .body;
    assert_eq!(returned, schema);
}

#[tokio::test]
async fn an_incompatible_schema_is_refused_with_where_and_why() {
    let registry = registry().await;
    registry.registered("users", &v1()).await;
    let refused = registry.register("users", &incompatible()).await;
    refused.is_error(409);
    let message = refused.body["message"].as_str().unwrap();
    for part in [
        "incompatible with an earlier schema for subject \"users\"",
        "{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'The field 'phone' at path '/fields/1' in the new schema has no default value and is missing in the old schema', additionalInfo:'phone'}",
        "{oldSchemaVersion: 1}",
        "compatibility: 'BACKWARD'",
    ] {
        assert!(message.contains(part), "{message}");
    }
    registry
        .get("/subjects/users/versions")
        .await
        .is(json!([1]));
}

#[tokio::test]
async fn compatibility_can_be_asked_without_registering() {
    let registry = registry().await;
    let all = "/compatibility/subjects/users/versions";
    let posts = |path: &str, schema: &Value| {
        let (path, body) = (path.to_owned(), posted(schema));
        let registry = &registry;
        async move { registry.post(&path, body).await }
    };
    posts(all, &v1()).await.is(json!({"is_compatible": true}));
    posts(&format!("{all}/latest"), &v1())
        .await
        .is(json!({"is_compatible": true}));
    posts(&format!("{all}/1"), &v1()).await.is_error(40402);
    registry.registered("users", &v1()).await;
    posts(all, &v2()).await.is(json!({"is_compatible": true}));
    posts(&format!("{all}/1"), &incompatible())
        .await
        .is(json!({"is_compatible": false}));
    let verbose = posts(&format!("{all}/latest?verbose=true"), &incompatible()).await;
    assert_eq!(verbose.body["is_compatible"], false);
    assert!(
        verbose.body["messages"][0]
            .as_str()
            .unwrap()
            .contains("phone")
    );
    posts(&format!("{all}/2"), &v2()).await.is_error(40402);
    posts(&format!("{all}/x"), &v2()).await.is_error(42202);
    registry
        .get("/subjects/users/versions")
        .await
        .is(json!([1]));
}

#[tokio::test]
async fn the_level_decides_what_is_compatible() {
    let registry = registry().await;
    for (level, refused) in [
        ("NONE", &[][..]),
        ("BACKWARD", &[("v1", "added")]),
        ("FORWARD", &[("added", "v1")]),
        ("FULL", &[("v1", "added"), ("added", "v1")]),
    ] {
        for (old, new) in [("v1", "added"), ("added", "v1"), ("v1", "v2"), ("v2", "v1")] {
            let schema = |name: &str| match name {
                "v1" => v1(),
                "v2" => v2(),
                _ => incompatible(),
            };
            let subject = format!("{level}-{old}-{new}");
            registry
                .put(
                    &format!("/config/{subject}"),
                    json!({"compatibility": level}),
                )
                .await
                .is(json!({"compatibility": level}));
            registry.registered(&subject, &schema(old)).await;
            let answer = registry.register(&subject, &schema(new)).await;
            match refused.contains(&(old, new)) {
                true => answer.is_error(409),
                false => assert_eq!(answer.status, StatusCode::OK, "{subject}: {}", answer.text),
            }
        }
    }
}

/// v3 can read v2, which gives the field a default, but not v1, which lacks it.
#[tokio::test]
async fn a_transitive_level_looks_at_all_versions() {
    let registry = registry().await;
    let v3 = user(&[("name", None), ("mail", None)]);
    for (level, accepted) in [("BACKWARD", true), ("BACKWARD_TRANSITIVE", false)] {
        registry
            .put(&format!("/config/{level}"), json!({"compatibility": level}))
            .await;
        registry.registered(level, &v1()).await;
        registry.registered(level, &v2()).await;
        let answer = registry.register(level, &v3).await;
        assert_eq!(answer.status == StatusCode::OK, accepted, "{}", answer.text);
        if !accepted {
            assert!(
                answer.text.contains("{oldSchemaVersion: 1}"),
                "{}",
                answer.text
            );
        }
    }
}

#[tokio::test]
async fn settings_are_inherited_until_they_are_set() {
    let registry = registry().await;
    let level = |level: &str| json!({"compatibilityLevel": level});
    registry.get("/config").await.is(level("BACKWARD"));
    registry.get("/config/users").await.is_error(40408);
    registry
        .get("/config/users?defaultToGlobal=true")
        .await
        .is(level("BACKWARD"));
    registry
        .put("/config", json!({"compatibility": "full"}))
        .await
        .is(json!({"compatibility": "FULL"}));
    registry
        .get("/config/users?defaultToGlobal=true")
        .await
        .is(level("FULL"));
    registry
        .put("/config/users", json!({"compatibility": "NONE"}))
        .await
        .is(json!({"compatibility": "NONE"}));
    registry.get("/config/users").await.is(level("NONE"));
    registry
        .put("/config/users", json!({"normalize": true}))
        .await
        .is(json!({"normalize": true}));
    registry
        .get("/config/users")
        .await
        .is(json!({"compatibilityLevel": "NONE", "normalize": true}));
    registry
        .delete("/config/users")
        .await
        .is(json!({"compatibilityLevel": "NONE", "normalize": true}));
    registry.get("/config/users").await.is_error(40408);
    registry.delete("/config/users").await.is_error(40401);
    registry.delete("/config").await.is(level("FULL"));
    registry.get("/config").await.is(level("BACKWARD"));

    registry
        .put("/config", json!({"compatibility": "SOME"}))
        .await
        .is_error(42203);
    registry.put("/config", json!({})).await.is_error(42203);
    registry
        .put("/config", json!({"colour": "red"}))
        .await
        .is_error(422);
}

#[tokio::test]
async fn what_is_not_there_is_told_by_its_code() {
    let registry = registry().await;
    registry.registered("users", &v1()).await;
    for (path, code) in [
        ("/subjects/none/versions", 40401),
        ("/subjects/none/versions/1", 40401),
        ("/subjects/users/versions/2", 40402),
        ("/subjects/users/versions/0", 42202),
        ("/subjects/users/versions/newest", 42202),
        ("/subjects/users/versions/2147483648", 42202),
        ("/subjects/%01/versions", 42208),
        ("/subjects/%20/versions", 42208),
        ("/subjects/__GLOBAL/versions", 42208),
        ("/subjects/%FF/versions", 400),
        ("/subjects?limit=many", 400),
        ("/schemas/ids/99", 40403),
        ("/schemas/ids/99/subjects", 40403),
        ("/schemas/ids/99/versions", 40403),
        ("/schemas/ids/one", 40403),
        ("/nowhere", 404),
    ] {
        registry.get(path).await.is_error(code);
    }
    registry
        .post("/subjects/none", posted(&v1()))
        .await
        .is_error(40401);
    registry
        .post("/subjects/users", posted(&v2()))
        .await
        .is_error(40403);
    registry.delete("/schemas/ids/1").await.is_error(405);
    let long = "s".repeat(1025);
    registry
        .get(&format!("/subjects/{long}/versions"))
        .await
        .is_error(42208);
}

#[tokio::test]
async fn a_body_that_cannot_be_used_is_told_by_its_code() {
    let registry = registry().await;
    let path = "/subjects/users/versions";
    for (body, code) in [
        (json!({}), 42201),
        (json!({"schema": ""}), 42201),
        (json!({"schema": null}), 42201),
        (json!({"schema": "{\"type\":"}), 42201),
        (json!({"schema": "\"strin\""}), 42201),
        (
            json!({"schema": "\"string\"", "schemaType": "PROTOBUF"}),
            42201,
        ),
        (
            json!({"schema": "\"string\"", "references": [{"name": "a", "subject": "b", "version": 1}]}),
            42201,
        ),
        (json!({"schema": "\"string\"", "metadata": 1}), 42201),
        (
            json!({"schema": "\"string\"", "metadata": {"a": "\u{0}"}}),
            42201,
        ),
        (json!({"schema": "\"string\"", "ruleSet": []}), 42210),
        (
            json!({"schema": "\"string\"", "ruleSet": {"migrationRules": [{"kind": "TRANSFORM"}]}}),
            42210,
        ),
        (json!({"schema": "\"string\"", "id": 7}), 42205),
        (json!({"schema": 7}), 422),
        (json!([]), 422),
    ] {
        registry.post(path, body).await.is_error(code);
    }
    let raw = |body: &'static str, type_: &str| {
        registry
            .request(Method::POST, path)
            .header(header::CONTENT_TYPE, type_)
            .body(body)
    };
    Answer::of(raw("{", "application/json")).await.is_error(400);
    Answer::of(raw("", "application/json")).await.is_error(400);
    Answer::of(raw("{}", "text/plain")).await.is_error(415);
    registry.get("/subjects").await.is(json!([]));
}

#[tokio::test]
async fn every_media_type_of_the_api_is_spoken() {
    let registry = registry().await;
    let types = [
        "application/vnd.schemaregistry.v1+json",
        "application/vnd.schemaregistry+json",
        "application/json",
    ];
    for type_ in types {
        let request = registry.request(Method::POST, "/subjects/users/versions");
        let request = request
            .header(header::CONTENT_TYPE, format!("{type_}; charset=utf-8"))
            .header(header::ACCEPT, type_)
            .body(posted(&v1()).to_string());
        let answer = Answer::of(request).await;
        answer.is_registered(1, 1);
        assert_eq!(answer.content_type, type_);
        let request = registry
            .request(Method::GET, "/nowhere")
            .header(header::ACCEPT, type_);
        assert_eq!(Answer::of(request).await.content_type, type_);
    }
    assert_eq!(registry.get("/subjects").await.content_type, types[0]);
    let request = registry
        .request(Method::GET, "/subjects")
        .header(header::ACCEPT, "text/html");
    Answer::of(request).await.is_error(406);
}

#[tokio::test]
async fn deletion_is_soft_first_and_permanent_second() {
    let registry = registry().await;
    registry.registered("users", &v1()).await;
    registry.registered("users", &v2()).await;
    let version = "/subjects/users/versions/1";
    registry
        .delete(&format!("{version}?permanent=true"))
        .await
        .is_error(40407);
    registry.delete(version).await.is(json!(1));
    registry.delete(version).await.is_error(40406);
    registry.get(version).await.is_error(40402);
    assert_eq!(
        registry.get(&format!("{version}?deleted=true")).await.body["deleted"],
        true
    );
    registry
        .get("/subjects/users/versions")
        .await
        .is(json!([2]));
    registry
        .get("/subjects/users/versions?deleted=true")
        .await
        .is(json!([1, 2]));
    registry
        .get("/subjects/users/versions?deletedOnly=true")
        .await
        .is(json!([1]));
    registry
        .post("/subjects/users", posted(&v1()))
        .await
        .is_error(40403);
    assert_eq!(
        registry
            .post("/subjects/users?deleted=true", posted(&v1()))
            .await
            .body["version"],
        1
    );
    // Messages that were written with it can still be read.
    assert_eq!(registry.get("/schemas/ids/1").await.status, StatusCode::OK);
    registry
        .delete(&format!("{version}?permanent=true"))
        .await
        .is(json!(1));
    registry.get("/schemas/ids/1").await.is_error(40403);
    registry.delete(version).await.is_error(40402);

    registry
        .put("/config/users", json!({"compatibility": "NONE"}))
        .await;
    registry
        .delete("/subjects/users?permanent=true")
        .await
        .is_error(40405);
    registry.delete("/subjects/users").await.is(json!([2]));
    registry.delete("/subjects/users").await.is_error(40404);
    registry.get("/config/users").await.is_error(40408);
    registry.get("/subjects").await.is(json!([]));
    registry
        .get("/subjects?deleted=true")
        .await
        .is(json!(["users"]));
    registry
        .get("/subjects?deletedOnly=true")
        .await
        .is(json!(["users"]));
    // It comes back with its id, as a new version.
    registry.register("users", &v2()).await.is_registered(2, 3);
    registry.delete("/subjects/users").await.is(json!([3]));
    registry
        .delete("/subjects/users?permanent=true")
        .await
        .is(json!([2, 3]));
    registry.delete("/subjects/users").await.is_error(40401);
    registry
        .delete("/subjects/users?permanent=true")
        .await
        .is_error(40401);
    registry.register("other", &v1()).await.is_registered(1, 1);
}

#[tokio::test]
async fn lists_can_be_narrowed_and_cut() {
    let registry = registry().await;
    for subject in ["a1", "a2", "a3", "b_", "b%"] {
        registry
            .registered(&subject.replace('%', "%25"), &v1())
            .await;
    }
    registry
        .get("/subjects?subjectPrefix=a")
        .await
        .is(json!(["a1", "a2", "a3"]));
    registry
        .get("/subjects?subjectPrefix=a&offset=1&limit=1")
        .await
        .is(json!(["a2"]));
    registry
        .get("/subjects?subjectPrefix=:*:a&limit=0")
        .await
        .is(json!([]));
    registry
        .get("/subjects?subjectPrefix=b%25")
        .await
        .is(json!(["b%"]));
    assert_eq!(
        registry.get("/schemas?subjectPrefix=a&offset=2").await.body[0]["subject"],
        "a3"
    );
}

#[tokio::test]
async fn metadata_and_rules_are_part_of_the_identity() {
    let registry = registry().await;
    let path = "/subjects/users/versions";
    let rules = json!({"migrationRules": [{
        "name": "split", "kind": "TRANSFORM", "mode": "UPGRADE", "type": "ANNALS", "expr": "{}"
    }]});
    let metadata = json!({"properties": {"owner": "tasks"}});
    registry.post(path, posted(&v1())).await.is_registered(1, 1);
    let mut with_rules = posted(&v1());
    with_rules["ruleSet"] = rules.clone();
    with_rules["metadata"] = metadata.clone();
    registry
        .post(path, with_rules.clone())
        .await
        .is_registered(2, 2);
    registry
        .post(path, with_rules.clone())
        .await
        .is_registered(2, 2);
    let found = registry.get("/schemas/ids/2").await.body;
    assert_eq!((&found["ruleSet"], &found["metadata"]), (&rules, &metadata));
    assert_eq!(
        registry.get("/schemas/ids/1").await.body.get("ruleSet"),
        None
    );

    // Who knows no rules finds the schema nevertheless; the one without rules comes first.
    assert_eq!(
        registry.post("/subjects/users", posted(&v1())).await.body["version"],
        1
    );
    registry.delete("/subjects/users/versions/1").await;
    assert_eq!(
        registry.post("/subjects/users", posted(&v1())).await.body["version"],
        2
    );

    // The next version takes them over.
    registry.post(path, posted(&v2())).await.is_registered(3, 3);
    let found = registry.get("/schemas/ids/3").await.body;
    assert_eq!((&found["ruleSet"], &found["metadata"]), (&rules, &metadata));
    registry.post(path, posted(&v2())).await.is_registered(3, 3);
}

#[tokio::test]
async fn health_and_metrics_are_served_beside_the_api() {
    let registry = registry().await;
    assert_eq!(registry.get("/health/live").await.status, StatusCode::OK);
    assert_eq!(
        registry.get("/health/ready").await.body["components"]["postgres"]["ready"],
        true
    );
    registry.get("/subjects").await;
    let metrics = registry.get("/metrics").await;
    assert!(
        metrics.content_type.starts_with("text/plain"),
        "{}",
        metrics.content_type
    );
    assert!(
        metrics.text.contains(r#"path="/subjects",status="200""#),
        "{}",
        metrics.text
    );
}
