//! JSON Schemas: what is one, what is the same, and what may follow. The verdicts on changes are
//! those of Confluent's documentation ("JSON Schema compatibility rules", with open, closed and
//! partially open content models).

use serde_json::{Value, json};

use crate::running::{Running, registry};

fn posted(schema: &Value) -> Value {
    json!({"schemaType": "JSON", "schema": schema.to_string()})
}

fn object(properties: Value, more: Value) -> Value {
    let mut schema = json!({"type": "object", "properties": properties});
    let more = more.as_object().unwrap().clone();
    schema.as_object_mut().unwrap().extend(more);
    schema
}

#[tokio::test]
async fn a_json_schema_is_kept_and_found() {
    let registry = registry().await;
    let schema = object(
        json!({"name": {"type": "string"}}),
        json!({"title": "User"}),
    );
    let path = "/subjects/users/versions";
    registry
        .post(path, posted(&schema))
        .await
        .is_registered(1, 1);
    // The order of keys makes no difference.
    let same = r#"{"title":"User","type":"object","properties":{"name":{"type":"string"}}}"#;
    let same = json!({"schemaType": "JSON", "schema": same});
    registry.post(path, same).await.is_registered(1, 1);
    let found = registry.get("/schemas/ids/1").await.body;
    assert_eq!(found["schemaType"], "JSON");
    let text: Value = serde_json::from_str(found["schema"].as_str().unwrap()).unwrap();
    assert_eq!(text, schema);
    // The same text as Avro is something else.
    let avro = registry
        .post(
            "/subjects/s/versions",
            json!({"schema": "{\"type\":\"string\"}"}),
        )
        .await;
    let json = registry
        .post("/subjects/t/versions", posted(&json!({"type": "string"})))
        .await;
    assert_ne!(avro.body["id"], json.body["id"]);
    let other = registry
        .post("/subjects/s/versions", posted(&json!({"type": "string"})))
        .await;
    other.is_error(409);
    assert!(
        other.text.contains("different schema type"),
        "{}",
        other.text
    );
}

#[tokio::test]
async fn what_no_draft_allows_is_invalid() {
    let registry = registry().await;
    let deep = format!("{}{}", r#"{"not":"#.repeat(10_000), "}".repeat(10_000));
    for schema in [
        "x".to_owned(),
        "1".to_owned(),
        r#"{"type":"text"}"#.to_owned(),
        r#"{"type":1}"#.to_owned(),
        r#"{"properties":[]}"#.to_owned(),
        r#"{"required":"name"}"#.to_owned(),
        r#"{"minLength":-1}"#.to_owned(),
        r##"{"$ref":"#/definitions/none"}"##.to_owned(),
        r#"{"$ref":"other.json"}"#.to_owned(),
        // Nothing is loaded, from wherever.
        r#"{"$ref":"file:///etc/hostname"}"#.to_owned(),
        r#"{"$ref":"http://127.0.0.1:1/schema.json"}"#.to_owned(),
        r#"{"$schema":"http://127.0.0.1:1/draft.json"}"#.to_owned(),
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"text"}"#.to_owned(),
        deep,
    ] {
        let body = json!({"schemaType": "JSON", "schema": schema});
        let answer = registry.post("/subjects/s/versions", body).await;
        assert_eq!(
            answer.body["error_code"], 42201,
            "{schema:.80}: {}",
            answer.text
        );
    }
    // Expressions that take megabytes when they are compiled are not compiled.
    let costly = object(
        json!({}),
        json!({"patternProperties": {"((a{100}){100}){100}": {"pattern": "(b{900}){900}"}}}),
    );
    let body = posted(&costly);
    assert_eq!(
        registry.post("/subjects/s/versions", body).await.status,
        200
    );
}

#[tokio::test]
async fn json_schemas_refer_to_one_another() {
    let registry = registry().await;
    let address = object(
        json!({"city": {"type": "string"}}),
        json!({"additionalProperties": false}),
    );
    registry
        .post("/subjects/address/versions", posted(&address))
        .await
        .is_registered(1, 1);
    let mut user = posted(&object(
        json!({"home": {"$ref": "address.json"}}),
        json!({}),
    ));
    registry
        .post("/subjects/user/versions", user.clone())
        .await
        .is_error(42201);
    user["references"] = json!([{"name": "address.json", "subject": "address", "version": 1}]);
    registry
        .post("/subjects/user/versions", user)
        .await
        .is_registered(2, 1);
    registry
        .get("/subjects/address/versions/1/referencedby")
        .await
        .is(json!([2]));
    // A type of Avro is nothing for a JSON Schema.
    registry.registered("avro", &json!("string")).await;
    let mut mixed = posted(&object(json!({"home": {"$ref": "a"}}), json!({})));
    mixed["references"] = json!([{"name": "a", "subject": "avro", "version": 1}]);
    registry
        .post("/subjects/user/versions", mixed)
        .await
        .is_error(42201);
}

async fn verdict(registry: &Running, level: &str, old: &Value, new: &Value) -> Value {
    let subject = "verdict";
    registry.delete(&format!("/subjects/{subject}")).await;
    registry
        .delete(&format!("/subjects/{subject}?permanent=true"))
        .await;
    let config = format!("/config/{subject}");
    registry.put(&config, json!({"compatibility": level})).await;
    let answer = registry
        .post(&format!("/subjects/{subject}/versions"), posted(old))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let path = format!("/compatibility/subjects/{subject}/versions?verbose=true");
    registry.post(&path, posted(new)).await.body
}

/// The old schema, the new one, and the first difference that keeps the new one from accepting all
/// that the old one accepts; the other way round is `FORWARD`.
#[tokio::test]
async fn a_new_schema_must_accept_what_the_old_one_did() {
    let registry = registry().await;
    let string = json!({"type": "string"});
    let closed = json!({"additionalProperties": false});
    let one = |more: &Value| object(json!({"a": string}), more.clone());
    let two = |more: &Value| object(json!({"a": string, "b": string}), more.clone());
    let open = json!({});
    let partly = json!({"additionalProperties": {"type": "string"}});
    let recursive = |type_: &str| {
        json!({"$ref": "#/definitions/n", "definitions": {"n": {"type": "object", "properties": {
            "value": {"type": type_}, "next": {"$ref": "#/definitions/n"}
        }}}})
    };
    for (old, new, expected) in [
        // Open: anything may have been written there; closed: nothing was.
        (
            one(&open),
            two(&open),
            Some("PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL"),
        ),
        (two(&open), one(&open), None),
        (one(&closed), two(&closed), None),
        (
            two(&closed),
            one(&closed),
            Some("PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL"),
        ),
        (one(&partly), two(&partly), None),
        (
            one(&open),
            object(json!({"a": string, "b": {}}), json!({})),
            None,
        ),
        (
            one(&open),
            one(&closed),
            Some("ADDITIONAL_PROPERTIES_REMOVED"),
        ),
        (one(&closed), one(&open), None),
        // Required or not.
        (
            one(&open),
            one(&json!({"required": ["a"]})),
            Some("REQUIRED_ATTRIBUTE_ADDED"),
        ),
        (one(&json!({"required": ["a"]})), one(&open), None),
        (
            one(&closed),
            object(
                json!({"a": string, "b": string}),
                json!({"additionalProperties": false, "required": ["b"]}),
            ),
            Some("REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL"),
        ),
        // Types, values, bounds.
        (json!({"type": "integer"}), json!({"type": "number"}), None),
        (
            json!({"type": "number"}),
            json!({"type": "integer"}),
            Some("TYPE_CHANGED"),
        ),
        (
            json!({"type": "string"}),
            json!({"type": ["string", "null"]}),
            None,
        ),
        (
            json!({"type": ["string", "null"]}),
            json!({"type": "string"}),
            Some("TYPE_NARROWED"),
        ),
        (json!({}), json!({"type": "string"}), Some("TYPE_NARROWED")),
        (json!({"enum": ["a"]}), json!({"enum": ["a", "b"]}), None),
        (
            json!({"enum": ["a", "b"]}),
            json!({"enum": ["a"]}),
            Some("ENUM_ARRAY_NARROWED"),
        ),
        (json!({"maxLength": 3}), json!({"maxLength": 4}), None),
        (
            json!({"maxLength": 3}),
            json!({"maxLength": 2}),
            Some("MAX_LENGTH_NARROWED"),
        ),
        (
            json!({"type": "integer"}),
            json!({"type": "integer", "minimum": 0}),
            Some("MINIMUM_NARROWED"),
        ),
        (json!({"multipleOf": 10}), json!({"multipleOf": 5}), None),
        (
            json!({"multipleOf": 5}),
            json!({"multipleOf": 10}),
            Some("MULTIPLE_OF_CHANGED"),
        ),
        (
            json!({"pattern": "a"}),
            json!({"pattern": "b"}),
            Some("PATTERN_CHANGED"),
        ),
        // Arrays, choices, recursion.
        (
            json!({"items": {"type": "integer"}}),
            json!({"items": {"type": "number"}}),
            None,
        ),
        (
            json!({"items": string}),
            json!({"items": {"type": "null"}}),
            Some("TYPE_CHANGED"),
        ),
        (
            json!({"oneOf": [string]}),
            json!({"oneOf": [string, {"type": "null"}]}),
            None,
        ),
        (
            json!({"oneOf": [string, {"type": "null"}]}),
            json!({"oneOf": [string]}),
            Some("SUM_TYPE_NARROWED"),
        ),
        (
            json!({"allOf": [string]}),
            json!({"allOf": [string, {"maxLength": 2}]}),
            Some("PRODUCT_TYPE_EXTENDED"),
        ),
        (recursive("integer"), recursive("number"), None),
        (
            recursive("number"),
            recursive("integer"),
            Some("TYPE_CHANGED"),
        ),
    ] {
        for (level, old, new) in [("BACKWARD", &old, &new), ("FORWARD", &new, &old)] {
            let found = verdict(&registry, level, old, new).await;
            match expected {
                None => assert_eq!(
                    found["is_compatible"], true,
                    "{level}: {old} → {new}: {found}"
                ),
                Some(kind) => assert!(
                    found["messages"][0]
                        .as_str()
                        .is_some_and(|message| message.contains(kind)),
                    "{level}: {old} → {new}: {found}"
                ),
            }
        }
    }
}
