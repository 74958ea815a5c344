//! What holds for a subject, a context or all: modes, contexts, aliases; and references from one
//! subject to another.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::running::{Running, registry};

fn record(name: &str, fields: Value) -> Value {
    json!({"type": "record", "name": name, "namespace": "shop", "fields": fields})
}

fn posted(schema: &Value) -> Value {
    json!({"schema": schema.to_string()})
}

async fn mode(registry: &Running, scope: &str, mode: &str) {
    let answer = registry
        .put(&format!("/mode{scope}"), json!({"mode": mode}))
        .await;
    answer.is(json!({"mode": mode.to_uppercase()}));
}

#[tokio::test]
async fn modes_say_what_may_be_written() {
    let registry = registry().await;
    let schema = json!("string");
    registry.get("/mode").await.is(json!({"mode": "READWRITE"}));
    registry.get("/mode/s").await.is_error(40409);
    registry
        .get("/mode/s?defaultToGlobal=true")
        .await
        .is(json!({"mode": "READWRITE"}));
    registry.delete("/mode/s").await.is_error(40401);
    for wrong in [json!({"mode": "SOMETIMES"}), json!({})] {
        registry.put("/mode", wrong).await.is_error(42204);
    }

    registry.registered("s", &schema).await;
    mode(&registry, "", "readonly").await;
    registry.register("s", &json!("int")).await.is_error(42205);
    registry.delete("/subjects/s").await.is_error(42205);
    registry
        .delete("/subjects/s/versions/1")
        .await
        .is_error(42205);
    let rules = json!({"migrationRules": []});
    registry
        .post("/subjects/s/versions/1/rules", rules)
        .await
        .is_error(42205);
    // Reading goes on, and a subject may be told otherwise.
    let looked_up = registry.post("/subjects/s", posted(&schema)).await;
    assert_eq!(looked_up.body["version"], 1);
    mode(&registry, "/t", "READWRITE").await;
    registry.registered("t", &schema).await;
    mode(&registry, "", "READONLY_OVERRIDE").await;
    registry.register("t", &json!("int")).await.is_error(42205);
    registry
        .delete("/mode/t")
        .await
        .is(json!({"mode": "READWRITE"}));
    registry
        .delete("/mode")
        .await
        .is(json!({"mode": "READONLY_OVERRIDE"}));
    registry.get("/mode").await.is(json!({"mode": "READWRITE"}));
    registry.register("t", &json!("int")).await.is_error(409);
}

#[tokio::test]
async fn an_import_keeps_ids_and_versions() {
    let registry = registry().await;
    let import = |schema: &Value, id: i32, version: i32| json!({"schema": schema.to_string(), "id": id, "version": version});
    let path = "/subjects/s/versions";
    registry
        .post(path, import(&json!("int"), 7, 1))
        .await
        .is_error(42205);
    mode(&registry, "/s", "IMPORT").await;
    // Nothing is compared, and any order will do.
    registry
        .post(path, import(&json!("int"), 107, 3))
        .await
        .is_registered(107, 3);
    registry
        .post(path, import(&json!("string"), 101, 1))
        .await
        .is_registered(101, 1);
    registry
        .post(path, import(&json!("string"), 101, 1))
        .await
        .is_registered(101, 1);
    // The same content under another id, another content under the same id or version.
    registry
        .post(path, import(&json!("int"), 108, 4))
        .await
        .is_error(42207);
    registry
        .post(path, import(&json!("long"), 107, 4))
        .await
        .is_error(42205);
    registry
        .post(path, import(&json!("long"), 109, 3))
        .await
        .is_error(42205);
    registry
        .post(path, posted(&json!("long")))
        .await
        .is_error(42205);
    registry
        .post(path, import(&json!("long"), 0, 1))
        .await
        .is_error(42201);
    registry.get(path).await.is(json!([1, 3]));
    // Ids go on behind those that were imported.
    assert!(registry.registered("other", &json!("double")).await > 107);
    // Where there are schemas, their ids would mix with the imported ones.
    registry
        .put("/mode/other", json!({"mode": "IMPORT"}))
        .await
        .is_error(42205);
    let forced = registry
        .put("/mode/other?force=true", json!({"mode": "IMPORT"}))
        .await;
    forced.is(json!({"mode": "IMPORT"}));
}

#[tokio::test]
async fn contexts_keep_subjects_of_one_name_apart() {
    let registry = registry().await;
    let id = registry.registered(":.eu:users", &json!("string")).await;
    registry.registered("users", &json!("int")).await;
    registry.get("/contexts").await.is(json!([".", ".eu"]));
    registry
        .get("/subjects")
        .await
        .is(json!([":.eu:users", "users"]));
    for (prefix, found) in [
        ("", json!(["users"])),
        (":*:", json!([":.eu:users", "users"])),
        (":*:us", json!([":.eu:users", "users"])),
        (":*:x", json!([])),
        (":.eu:", json!([":.eu:users"])),
        (":.:u", json!(["users"])),
    ] {
        registry
            .get(&format!("/subjects?subjectPrefix={prefix}"))
            .await
            .is(found);
    }
    // The same by the way of paths.
    registry
        .get("/contexts/.eu/subjects")
        .await
        .is(json!([":.eu:users"]));
    registry
        .get("/contexts/eu/subjects/users/versions")
        .await
        .is(json!([1]));
    assert_eq!(
        registry
            .get("/contexts/:.eu:/subjects/users/versions/1")
            .await
            .body["id"],
        id
    );
    registry
        .get(&format!("/contexts/eu/schemas/ids/{id}"))
        .await
        .is(json!({"schema": "\"string\""}));
    registry
        .get(&format!("/contexts/us/schemas/ids/{id}"))
        .await
        .is_error(40403);
    registry
        .get(&format!("/schemas/ids/{id}/subjects?subject=:.us:"))
        .await
        .is_error(40403);
    // `:.:` is a long way to name the default context.
    registry
        .get("/subjects/:.:users/versions")
        .await
        .is(json!([1]));
    // A context has settings and a mode of its own, and does not have those of the default one.
    registry
        .put("/contexts/eu/config", json!({"compatibility": "NONE"}))
        .await
        .is(json!({"compatibility": "NONE"}));
    registry
        .put("/config", json!({"compatibility": "FULL"}))
        .await;
    let level = async |path: &str| {
        let answer = registry.get(path).await;
        answer.body["compatibilityLevel"].clone()
    };
    assert_eq!(
        level("/config/:.eu:users?defaultToGlobal=true").await,
        "NONE"
    );
    assert_eq!(
        level("/config/:.us:users?defaultToGlobal=true").await,
        "BACKWARD"
    );
    assert_eq!(level("/config/users?defaultToGlobal=true").await, "FULL");
    registry.registered(":.eu:users", &json!("int")).await;
    mode(&registry, "/:.eu:", "READONLY").await;
    registry
        .register(":.eu:users", &json!("long"))
        .await
        .is_error(42205);
    registry
        .get("/subjects/:.eu/versions")
        .await
        .is_error(42208);
    registry
        .get("/subjects/:.__GLOBAL:x/versions")
        .await
        .is_error(42208);
}

#[tokio::test]
async fn an_alias_stands_for_another_subject() {
    let registry = registry().await;
    registry.registered("users-value", &json!("string")).await;
    registry
        .put("/config/users", json!({"alias": "users-value"}))
        .await
        .is(json!({"alias": "users-value"}));
    registry
        .get("/subjects/users/versions")
        .await
        .is(json!([1]));
    let found = registry
        .post("/subjects/users", posted(&json!("string")))
        .await;
    assert_eq!(found.body["subject"], "users-value");
    let answer = registry.register("users", &json!("bytes")).await;
    assert_eq!(answer.body["version"], 2, "{}", answer.text);
    registry.get("/subjects").await.is(json!(["users-value"]));
    // Settings are the alias's own, or it could not be given up.
    registry
        .delete("/config/users")
        .await
        .is(json!({"alias": "users-value"}));
    registry
        .get("/subjects/users/versions")
        .await
        .is_error(40401);
}

fn product() -> Value {
    record("Product", json!([{"name": "id", "type": "int"}]))
}

fn line() -> Value {
    record(
        "Line",
        json!([{"name": "product", "type": "Product"}, {"name": "count", "type": "int"}]),
    )
}

fn order() -> Value {
    record(
        "Order",
        json!([{"name": "lines", "type": {"type": "array", "items": "shop.Line"}}]),
    )
}

fn referring(schema: &Value, to: &[(&str, &str, i32)]) -> Value {
    let references: Vec<Value> = to
        .iter()
        .map(|(name, subject, version)| json!({"name": name, "subject": subject, "version": version}))
        .collect();
    json!({"schema": schema.to_string(), "references": references})
}

#[tokio::test]
async fn schemas_use_types_of_other_subjects() {
    let registry = registry().await;
    registry.registered("product", &product()).await;
    let line_body = referring(&line(), &[("shop.Product", "product", -1)]);
    registry
        .post("/subjects/line/versions", line_body.clone())
        .await
        .is_registered(2, 1);
    let order_body = referring(&order(), &[("shop.Line", "line", 1)]);
    let order_path = "/subjects/order/versions";
    registry
        .post(order_path, order_body.clone())
        .await
        .is_registered(3, 1);
    registry
        .post(order_path, order_body)
        .await
        .is_registered(3, 1);

    let stored = registry.get("/schemas/ids/2").await.body;
    // The newest version got its number, and the text stays as short as it came.
    assert_eq!(
        stored["references"],
        json!([{"name": "shop.Product", "subject": "product", "version": 1}])
    );
    let text: Value = serde_json::from_str(stored["schema"].as_str().unwrap()).unwrap();
    assert_eq!(text["fields"][0]["type"], "Product");
    // Resolved it can be read by itself, and finds the version by which it is known.
    let resolved = registry.get("/schemas/ids/3?format=resolved").await.body;
    let whole = resolved["schema"].as_str().unwrap();
    apache_avro::Schema::parse_str(whole).unwrap();
    assert_eq!(
        registry
            .get("/subjects/order/versions/1/schema?format=resolved")
            .await
            .text,
        whole
    );
    let found = registry
        .post("/subjects/order", json!({"schema": whole}))
        .await;
    assert_eq!(found.body["id"], 3, "{}", found.text);

    registry
        .get("/subjects/product/versions/1/referencedby")
        .await
        .is(json!([2]));
    registry
        .get("/subjects/line/versions/latest/referencedby")
        .await
        .is(json!([3]));
    registry
        .delete("/subjects/product/versions/1")
        .await
        .is_error(42206);
    registry.delete("/subjects/product").await.is_error(42206);
    registry.delete("/subjects/order").await.is(json!([1]));
    registry
        .get("/subjects/line/versions/1/referencedby")
        .await
        .is(json!([]));
    registry
        .get("/subjects/line/versions/1/referencedby?deleted=true")
        .await
        .is(json!([3]));
    registry.delete("/subjects/line").await.is(json!([1]));
    // For good only when nobody could need it any more.
    registry
        .delete("/subjects/line?permanent=true")
        .await
        .is_error(42206);
    registry
        .delete("/subjects/order?permanent=true")
        .await
        .is(json!([1]));
    registry
        .delete("/subjects/line?permanent=true")
        .await
        .is(json!([1]));
}

#[tokio::test]
async fn what_is_referred_to_is_compared_as_well() {
    let registry = registry().await;
    registry
        .put("/config/product", json!({"compatibility": "NONE"}))
        .await;
    registry.registered("product", &product()).await;
    let other = record("Product", json!([{"name": "id", "type": "string"}]));
    registry.registered("product", &other).await;
    let path = "/subjects/line/versions";
    let with = |version: i32| referring(&line(), &[("shop.Product", "product", version)]);
    registry.post(path, with(1)).await.is_registered(3, 1);
    let refused = registry.post(path, with(2)).await;
    refused.is_error(409);
    assert!(
        refused.text.contains("/fields/0/type/fields/0/type"),
        "{}",
        refused.text
    );
}

#[tokio::test]
async fn references_that_lead_nowhere_are_invalid() {
    let registry = registry().await;
    registry.registered("product", &product()).await;
    for body in [
        referring(&line(), &[]),
        referring(&line(), &[("shop.Product", "product", 2)]),
        referring(&line(), &[("shop.Product", "product", 0)]),
        referring(&line(), &[("shop.Product", "nothing", 1)]),
        referring(&line(), &[("", "product", 1)]),
        json!({"schema": line().to_string(), "references": "product"}),
        json!({"schema": line().to_string(), "references": [{"name": "shop.Product"}]}),
        // A type must not be defined a second time.
        referring(&product(), &[("shop.Product", "product", 1)]),
    ] {
        let answer = registry.post("/subjects/line/versions", body).await;
        answer.is_error(42201);
    }
    let unnamed = referring(&line(), &[("shop.Product", " ", 1)]);
    let answer = registry.post("/subjects/line/versions", unnamed).await;
    answer.is_error(42208);
    // A chain that is too long, as an import could make it, ends.
    for n in 0..33 {
        let name = format!("T{n}");
        let before = format!("T{}", n - 1);
        let (schema, to) = match n {
            0 => (record(&name, json!([])), vec![]),
            _ => (
                record(&name, json!([{"name": "f", "type": before}])),
                vec![(before.as_str(), n - 1)],
            ),
        };
        let subjects: Vec<_> = to
            .iter()
            .map(|(name, n)| (*name, format!("t{n}")))
            .collect();
        let to: Vec<_> = subjects
            .iter()
            .map(|(name, subject)| (*name, subject.as_str(), 1))
            .collect();
        let answer = registry
            .post(&format!("/subjects/t{n}/versions"), referring(&schema, &to))
            .await;
        let expected = if n < 32 {
            StatusCode::OK
        } else {
            StatusCode::UNPROCESSABLE_ENTITY
        };
        assert_eq!(answer.status, expected, "{n}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_guid_is_the_same_in_every_registry() {
    let [one, other] = [registry().await, registry().await];
    other.registered("first", &json!("int")).await;
    let mut guids = Vec::new();
    for registry in [&one, &other] {
        let answer = registry.register("s", &json!("string")).await;
        let guid = answer.body["guid"].as_str().unwrap().to_owned();
        let id = answer.body["id"].clone();
        registry
            .get(&format!("/schemas/guids/{guid}"))
            .await
            .is(json!({"schema": "\"string\""}));
        registry
            .get(&format!("/schemas/guids/{guid}/ids"))
            .await
            .is(json!([{"context": ".", "id": id}]));
        guids.push(guid);
    }
    assert_eq!(guids[0], guids[1]);
    for unknown in ["00000000-0000-0000-0000-000000000000", "x"] {
        one.get(&format!("/schemas/guids/{unknown}"))
            .await
            .is_error(40403);
        one.get(&format!("/schemas/guids/{unknown}/ids"))
            .await
            .is_error(40403);
    }
}

#[tokio::test]
async fn the_registry_tells_which_one_it_is() {
    let registry = registry().await;
    let metadata = registry.get("/v1/metadata/id").await.body;
    assert!(metadata["scope"]["clusters"]["schema-registry-cluster"].is_string());
    let version = registry.get("/v1/metadata/version").await.body;
    assert!(version["version"].is_string(), "{version}");
    let max = registry.registered("s", &json!("int")).await;
    let answer = registry.get("/schemas/ids/1?fetchMaxId=true").await;
    assert_eq!(answer.body["maxId"], max);
}

/// Every route that is described is there, and every description is complete.
#[tokio::test]
async fn the_description_is_of_what_is_served() {
    let registry = registry().await;
    let description = registry.get("/openapi.json").await.body;
    let paths = description["paths"].as_object().unwrap();
    assert!(paths.len() >= 25, "{}", paths.len());
    for (path, item) in paths {
        for (method, operation) in item.as_object().unwrap() {
            let name = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{name}");
            assert!(operation["responses"]["200"].is_object(), "{name}");
            let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let path = path.replace(['{', '}'], "");
            let request = registry.request(method, &path).json(&json!({}));
            let status = crate::running::Answer::of(request).await;
            assert_ne!(status.body["error_code"], 404, "{name}");
            assert_ne!(status.body["error_code"], 405, "{name}");
        }
    }
}
