//! Data contracts: metadata, rule sets, what the settings add to them, and rules that are mended.

use serde_json::{Value, json};

use crate::running::{Running, registry};

fn schema(field: &str) -> Value {
    json!({"type": "record", "name": "R", "fields": [
        {"name": field, "type": "int", "default": 0}
    ]})
}

fn posted(field: &str, contract: Value) -> Value {
    let mut body = json!({"schema": schema(field).to_string()});
    let contract = contract.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(contract);
    body
}

fn upgrade(name: &str, expr: &str) -> Value {
    json!({"name": name, "kind": "TRANSFORM", "mode": "UPGRADE", "type": "ANNALS", "expr": expr})
}

fn properties(properties: Value) -> Value {
    json!({"metadata": {"properties": properties}})
}

async fn register(registry: &Running, field: &str, contract: Value) -> Value {
    let answer = registry
        .post("/subjects/s/versions", posted(field, contract))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

#[tokio::test]
async fn rules_that_nobody_could_execute_are_refused() {
    let registry = registry().await;
    let rule = |change: Value| {
        let mut rule = upgrade("r", "{}");
        rule.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        rule
    };
    for (kind, rules) in [
        ("migrationRules", json!([rule(json!({"mode": "WRITE"}))])),
        ("domainRules", json!([rule(json!({"mode": "UPGRADE"}))])),
        ("encodingRules", json!([rule(json!({"mode": "UPDOWN"}))])),
        ("migrationRules", json!([rule(json!({"mode": "SIDEWAYS"}))])),
        ("migrationRules", json!([rule(json!({"kind": "WISH"}))])),
        ("migrationRules", json!([rule(json!({"name": ""}))])),
        ("migrationRules", json!([rule(json!({"name": "1st"}))])),
        ("migrationRules", json!([rule(json!({"name": "a b"}))])),
        (
            "migrationRules",
            json!([rule(json!({"name": "n".repeat(257)}))]),
        ),
        ("migrationRules", json!([rule(json!({"type": ""}))])),
        ("migrationRules", json!([rule(json!({"expr": 1}))])),
        (
            "migrationRules",
            json!([rule(json!({"onFailure": "DLQ,NONE"}))]),
        ),
        ("migrationRules", json!([rule(json!({})), rule(json!({}))])),
        ("migrationRules", json!({})),
        ("rules", json!([])),
    ] {
        let body = posted("a", json!({"ruleSet": {kind: rules}}));
        let answer = registry.post("/subjects/s/versions", body).await;
        answer.is_error(42210);
    }
    for metadata in [
        json!({"properties": {"a": 1}}),
        json!({"owner": "x"}),
        json!([]),
    ] {
        let body = posted("a", json!({"metadata": metadata}));
        let answer = registry.post("/subjects/s/versions", body).await;
        answer.is_error(42201);
    }
    registry.get("/subjects").await.is(json!([]));
}

/// merge(merge(default, what the schema says or its predecessor said), override)
#[tokio::test]
async fn settings_give_and_insist_on_metadata_and_rules() {
    let registry = registry().await;
    let settings = json!({
        "defaultMetadata": {"properties": {"owner": "nobody", "team": "tasks"}},
        "overrideMetadata": {"properties": {"region": "eu"}, "sensitive": ["owner"]},
        "defaultRuleSet": {"migrationRules": [upgrade("one", "default"), upgrade("two", "default")]},
        "overrideRuleSet": {"migrationRules": [upgrade("two", "override")]},
    });
    registry
        .put("/config/s", settings.clone())
        .await
        .is(settings.clone());
    registry.get("/config/s").await.is(settings);
    let own = json!({
        "metadata": {"properties": {"owner": "ada", "region": "us"}},
        "ruleSet": {"migrationRules": [upgrade("one", "own"), upgrade("two", "own")]},
    });
    let first = register(&registry, "a", own).await;
    assert_eq!(
        first["metadata"],
        json!({"properties": {"owner": "ada", "region": "eu", "team": "tasks"}, "sensitive": ["owner"]})
    );
    assert_eq!(
        first["ruleSet"]["migrationRules"],
        json!([upgrade("one", "own"), upgrade("two", "override")])
    );
    // A schema that says nothing takes what its predecessor said.
    let second = register(&registry, "b", json!({})).await;
    assert_eq!(second["metadata"], first["metadata"]);
    assert_eq!(second["ruleSet"], first["ruleSet"]);
    // And can be looked up by what was said.
    let looked_up = registry.post("/subjects/s", posted("b", json!({}))).await;
    assert_eq!(looked_up.body["version"], 2, "{}", looked_up.text);
    // Null is how a setting is given up.
    registry
        .put(
            "/config/s",
            json!({"overrideMetadata": null, "defaultMetadata": null}),
        )
        .await;
    let settings = registry.get("/config/s").await.body;
    assert_eq!(settings.get("overrideMetadata"), None);
    assert!(settings.get("overrideRuleSet").is_some());
    for (setting, code) in [
        (
            json!({"defaultRuleSet": {"domainRules": [upgrade("r", "")]}}),
            42210,
        ),
        (json!({"defaultMetadata": {"properties": 1}}), 42201),
        (json!({"alias": " "}), 42208),
        (json!({"compatibilityGroup": 1}), 422),
    ] {
        registry.put("/config/s", setting).await.is_error(code);
    }
}

#[tokio::test]
async fn a_version_that_is_not_the_next_is_refused() {
    let registry = registry().await;
    register(&registry, "a", json!({"version": 1})).await;
    let body = posted("b", json!({"version": 1}));
    registry
        .post("/subjects/s/versions", body.clone())
        .await
        .is_error(42201);
    let body = posted("b", json!({"version": 3}));
    registry
        .post("/subjects/s/versions", body)
        .await
        .is_error(42201);
    let second = register(&registry, "b", json!({"version": 2})).await;
    // Who compares and sets is told by the schema which version it is.
    assert_eq!(
        second["metadata"]["properties"]["confluent:version"], "2",
        "{second}"
    );
    // From then on each version says it of itself, and is found without.
    let third = register(&registry, "c", json!({})).await;
    assert_eq!(
        third["metadata"]["properties"]["confluent:version"], "3",
        "{third}"
    );
    assert_eq!(register(&registry, "c", json!({})).await["version"], 3);
    let looked_up = registry.post("/subjects/s", posted("b", json!({}))).await;
    assert_eq!(looked_up.body["version"], 2, "{}", looked_up.text);
    // -1 makes a version of what is there already.
    assert_eq!(
        register(&registry, "c", json!({"version": -1})).await["version"],
        4
    );
}

#[tokio::test]
async fn a_version_is_found_by_its_metadata() {
    let registry = registry().await;
    register(
        &registry,
        "a",
        properties(json!({"major": "1", "owner": "ada"})),
    )
    .await;
    register(
        &registry,
        "b",
        properties(json!({"major": "1", "owner": "bo"})),
    )
    .await;
    register(&registry, "c", properties(json!({"major": "2"}))).await;
    let version = async |query: &str| {
        let answer = registry.get(&format!("/subjects/s/metadata?{query}")).await;
        answer.body["version"].clone()
    };
    assert_eq!(version("key=major&value=1").await, 2);
    assert_eq!(version("key=major&value=1&key=owner&value=ada").await, 1);
    assert_eq!(version("key=major&value=2").await, 3);
    registry.delete("/subjects/s/versions/3").await;
    registry
        .get("/subjects/s/metadata?key=major&value=2")
        .await
        .is_error(40403);
    assert_eq!(version("key=major&value=2&deleted=true").await, 3);
    registry
        .get("/subjects/none/metadata?key=a&value=b")
        .await
        .is_error(40401);
    let typed = registry.get("/schemas?ruleType=ANNALS").await;
    typed.is(json!([]));
}

#[tokio::test]
async fn only_versions_of_the_same_group_are_held_against_each_other() {
    let registry = registry().await;
    let typed = |type_: &str, major: &str| {
        json!({
            "schema": json!({"type": "record", "name": "R", "fields": [{"name": "f", "type": type_}]}).to_string(),
            "metadata": {"properties": {"major": major}},
        })
    };
    let path = "/subjects/s/versions";
    registry
        .put(
            "/config",
            json!({"compatibilityGroup": "major", "compatibility": "FULL_TRANSITIVE"}),
        )
        .await;
    registry
        .post(path, typed("int", "1"))
        .await
        .is_registered(1, 1);
    registry
        .post(path, typed("string", "1"))
        .await
        .is_error(409);
    registry
        .post(path, typed("string", "2"))
        .await
        .is_registered(2, 2);
    registry.post(path, typed("int", "2")).await.is_error(409);
    let check = registry
        .post("/compatibility/subjects/s/versions", typed("boolean", "3"))
        .await;
    check.is(json!({"is_compatible": true}));
}

#[tokio::test]
async fn mended_rules_are_a_revision_and_no_version() {
    let registry = registry().await;
    let first = register(
        &registry,
        "a",
        json!({"ruleSet": {"migrationRules": [upgrade("fix", "wrong")]}}),
    )
    .await;
    let path = "/subjects/s/versions/1/rules";
    let revisions = registry.get(path).await.body;
    assert_eq!(revisions[0]["revision"], 1);
    assert_eq!(
        revisions[0]["migrationRules"],
        json!([upgrade("fix", "wrong")])
    );

    let mended = json!({
        "migrationRules": [upgrade("fix", "right")], "comment": "A typo.", "revision": 2
    });
    let second = registry.post(path, mended.clone()).await;
    assert_eq!(second.body["revision"], 2, "{}", second.text);
    assert_ne!(second.body["fingerprint"], revisions[0]["fingerprint"]);
    // Whoever did not see the second revision cannot make the third.
    registry.post(path, mended).await.is_error(42210);
    // The same rules again are no revision.
    let again = json!({"migrationRules": [upgrade("fix", "right")]});
    assert_eq!(registry.post(path, again).await.body["revision"], 2);

    let revisions = registry.get(path).await.body;
    let kept: Vec<_> = revisions.as_array().unwrap().iter().collect();
    assert_eq!(kept.len(), 2, "{revisions}");
    assert_eq!(kept[1]["comment"], "A typo.");
    // No new version, and the id means what it meant: the version comes with the mended rules.
    registry.get("/subjects/s/versions").await.is(json!([1]));
    let version = registry.get("/subjects/s/versions/latest").await.body;
    assert_eq!(version["id"], first["id"]);
    assert_eq!(
        version["ruleSet"]["migrationRules"],
        json!([upgrade("fix", "right")])
    );
    let by_id = registry.get("/schemas/ids/1").await.body;
    assert_eq!(
        by_id["ruleSet"]["migrationRules"],
        json!([upgrade("fix", "wrong")])
    );

    let bad = json!({"migrationRules": [{"name": "x"}]});
    registry.post(path, bad).await.is_error(42210);
    let rules = json!({"migrationRules": []});
    registry
        .post("/subjects/s/versions/2/rules", rules.clone())
        .await
        .is_error(40402);
    registry
        .post("/subjects/t/versions/1/rules", rules)
        .await
        .is_error(40401);
}
