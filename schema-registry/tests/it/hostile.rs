//! Schemas that are wrong, or made to hurt: each is refused with the API's own code, soon, and the
//! registry goes on.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::running::{Running, registry};

/// Far above what any of these takes in a debug build on a busy machine, far below for ever.
const SOON: Duration = Duration::from_secs(60);

async fn post(registry: &Running, schema: &str) -> (StatusCode, Value) {
    let started = Instant::now();
    let answer = registry
        .post("/subjects/hostile/versions", json!({"schema": schema}))
        .await;
    assert!(
        started.elapsed() < SOON,
        "took {:?}: {:.100}",
        started.elapsed(),
        schema
    );
    (answer.status, answer.body)
}

fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

#[tokio::test]
async fn schemas_that_break_a_rule_are_invalid() {
    let registry = registry().await;
    for schema in [
        "",
        " ",
        "x",
        "{}",
        "1",
        "null",
        "\"strin\"",
        r#"{"type":"record"}"#,
        r#"{"type":{"type":"string"}}"#,
        r#"{"type":"record","name":"R"}"#,
        r#"{"type":"record","name":"1R","fields":[]}"#,
        r#"{"type":"record","name":"R-S","fields":[]}"#,
        r#"{"type":"record","name":"","fields":[]}"#,
        r#"{"type":"record","name":"a..R","fields":[]}"#,
        r#"{"type":"record","name":"R","namespace":"a-b","fields":[]}"#,
        r#"{"type":"record","name":"string","fields":[]}"#,
        r#"{"type":"record","name":"R","aliases":["1"],"fields":[]}"#,
        r#"{"type":"record","name":"R","aliases":"S","fields":[]}"#,
        r#"{"type":"record","name":"R","fields":{}}"#,
        r#"{"type":"array"}"#,
        r#"{"type":"map","values":"nothing"}"#,
        r#"{"type":"fixed","name":"F"}"#,
        r#"{"type":"fixed","name":"F","size":-1}"#,
        r#"{"type":"fixed","name":"F","size":"2"}"#,
        r#"{"type":"fixed","name":"F","size":99999999999}"#,
        r#"{"type":"enum","name":"E"}"#,
        r#"{"type":"enum","name":"E","symbols":["A","A"]}"#,
        r#"{"type":"enum","name":"E","symbols":["A b"]}"#,
        r#"{"type":"enum","name":"E","symbols":[1]}"#,
        r#"{"type":"enum","name":"E","symbols":["A"],"default":"B"}"#,
        r#"["null","null"]"#,
        r#"["null",["int"]]"#,
        r#"[{"type":"array","items":"int"},{"type":"array","items":"string"}]"#,
    ] {
        let (status, body) = post(&registry, schema).await;
        assert_eq!(
            (status.as_u16(), &body["error_code"]),
            (422, &json!(42201)),
            "{schema}: {body}"
        );
    }
    for fields in [
        r#"1"#,
        r#"{"type":"int"}"#,
        r#"{"name":"f"}"#,
        r#"{"name":"a.f","type":"int"}"#,
        r#"{"name":"f","type":"Later"},{"name":"g","type":{"type":"fixed","name":"Later","size":1}}"#,
        r#"{"name":"f","type":"int"},{"name":"f","type":"int"}"#,
        r#"{"name":"f","type":{"type":"fixed","name":"R","size":1}}"#,
        r#"{"name":"f","type":"int","order":"up"}"#,
        r#"{"name":"f","type":"R"}"#,
        r#"{"name":"f","type":{"type":"record","name":"S","fields":[{"name":"g","type":["R"]}]}}"#,
        r#"{"name":"f","type":"int","default":"1"}"#,
        r#"{"name":"f","type":"int","default":2147483648}"#,
        r#"{"name":"f","type":"int","default":1.5}"#,
        r#"{"name":"f","type":"string","default":null}"#,
        r#"{"name":"f","type":"bytes","default":"ā"}"#,
        r#"{"name":"f","type":["null","int"],"default":"x"}"#,
        r#"{"name":"f","type":{"type":"array","items":"int"},"default":[1,"x"]}"#,
        r#"{"name":"f","type":{"type":"enum","name":"E","symbols":["A"]},"default":"B"}"#,
        r#"{"name":"f","type":{"type":"fixed","name":"F","size":2},"default":"x"}"#,
        r#"{"name":"f","type":{"type":"record","name":"S","fields":[{"name":"g","type":"int"}]},"default":{}}"#,
    ] {
        let (_, body) = post(&registry, &record(fields)).await;
        assert_eq!(body["error_code"], 42201, "{fields}: {body}");
    }
    registry.get("/subjects").await.is(json!([]));
}

#[tokio::test]
async fn deep_nesting_is_refused() {
    let registry = registry().await;
    for depth in [200, 10_000, 100_000] {
        let arrays = format!(
            "{}\"int\"{}",
            r#"{"type":"array","items":"#.repeat(depth.min(30_000)),
            "}".repeat(depth.min(30_000))
        );
        assert_eq!(post(&registry, &arrays).await.1["error_code"], 42201);
        let brackets = "[".repeat(depth);
        assert_eq!(post(&registry, &brackets).await.1["error_code"], 42201);
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused() {
    let registry = registry().await;
    for bytes in [1024 * 1024, 20 * 1024 * 1024] {
        let schema = format!(r#"{{"type":"string","padding":"{}"}}"#, "x".repeat(bytes));
        let answer = registry
            .post("/subjects/hostile/versions", json!({"schema": schema}))
            .await;
        answer.is_error(413);
    }
}

/// Valid, if odd: they must work.
#[tokio::test]
async fn very_wide_schemas_are_accepted() {
    let registry = registry().await;
    let symbols = (0..80_000)
        .map(|n| format!("\"S{n}\""))
        .collect::<Vec<_>>()
        .join(",");
    let wide_enum = format!(r#"{{"type":"enum","name":"E","symbols":[{symbols}]}}"#);
    let fields = (0..15_000)
        .map(|n| format!(r#"{{"name":"f{n}","type":"int","default":0}}"#))
        .collect::<Vec<_>>()
        .join(",");
    for (subject, schema) in [("enum", wide_enum), ("record", record(&fields))] {
        let path = format!("/subjects/{subject}/versions");
        for version in [1, 2] {
            let changed = schema.replacen("{", &format!("{{\"version\":{version},"), 1);
            let started = Instant::now();
            let answer = registry.post(&path, json!({"schema": changed})).await;
            assert_eq!(answer.body["version"], version, "{:.200}", answer.text);
            assert!(started.elapsed() < SOON, "took {:?}", started.elapsed());
        }
    }
}

/// Types that are shallow as text and deep as a graph: each record holds the one before. The union
/// makes the comparison begin at the last.
#[tokio::test]
async fn a_long_chain_of_names_does_not_overflow_the_stack() {
    let registry = registry().await;
    let chain = |length: usize, version: i32| {
        let mut fields =
            r#"{"name":"f0","type":{"type":"record","name":"T0","fields":[]}}"#.to_owned();
        for n in 1..length {
            let before = n - 1;
            let _ = write!(
                fields,
                r#",{{"name":"f{n}","type":{{"type":"record","name":"T{n}","fields":[{{"name":"x","type":"T{before}"}}]}}}}"#
            );
        }
        let last = length - 1;
        let fields = format!(r#"{fields},{{"name":"last","type":["null","T{last}"]}}"#);
        record(&fields).replacen('{', &format!("{{\"version\":{version},"), 1)
    };
    for (length, second) in [(190, json!(null)), (5_000, json!(42201))] {
        let path = format!("/subjects/chain{length}/versions");
        let first = registry
            .post(&path, json!({"schema": chain(length, 1)}))
            .await;
        assert_eq!(first.status, StatusCode::OK, "{}", first.text);
        let answer = registry
            .post(&path, json!({"schema": chain(length, 2)}))
            .await;
        assert_eq!(answer.body["error_code"], second, "{}", answer.text);
    }
}

/// Unions of thousands of records that all have to be tried against one another, and defaults that
/// have to be tried against thousands of branches.
#[tokio::test]
async fn schemas_that_are_costly_to_compare_are_given_up() {
    let registry = registry().await;
    let branches = |name: &str| {
        let fields = r#"{"name":"f","type":"int"}"#;
        (0..4_000)
            .map(|n| format!(r#"{{"type":"record","name":"{name}{n}","fields":[{fields}]}}"#))
            .collect::<Vec<_>>()
            .join(",")
    };
    registry
        .put("/config", json!({"compatibility": "FULL"}))
        .await;
    let first = format!("[{}]", branches("A"));
    assert_eq!(post(&registry, &first).await.0, StatusCode::OK);
    let (_, body) = post(&registry, &format!("[{}]", branches("B"))).await;
    assert_eq!(body["error_code"], 42201, "{body}");
    assert!(
        body["message"]
            .as_str()
            .unwrap()
            .contains("too large to be compared"),
        "{body}"
    );

    let objects = vec!["{\"g\":1}"; 30_000].join(",");
    let fitting = r#"{"type":"record","name":"Last","fields":[{"name":"g","type":"int"}]}"#;
    let union = format!("[{},{fitting}]", branches("C"));
    let costly = record(&format!(
        r#"{{"name":"f","type":{{"type":"array","items":{union}}},"default":[{objects}]}}"#
    ));
    let (_, body) = post(&registry, &costly).await;
    assert_eq!(body["error_code"], 42201, "{body}");
    assert!(
        body["message"].as_str().unwrap().contains("too costly"),
        "{body}"
    );
}

/// Each pair of these is compared soon; it is their number that counts.
#[tokio::test]
async fn versions_that_are_too_large_together_are_given_up() {
    let registry = registry().await;
    let fields = (0..15_000)
        .map(|n| format!(r#"{{"name":"f{n}","type":"int","default":0}}"#))
        .collect::<Vec<_>>()
        .join(",");
    let wide = |version: usize| {
        let schema = record(&fields).replacen('{', &format!("{{\"version\":{version},"), 1);
        json!({ "schema": schema })
    };
    let level = async |level: &str| {
        registry
            .put("/config", json!({"compatibility": level}))
            .await
    };
    level("NONE").await;
    let path = "/subjects/wide/versions";
    for version in 1..=4 {
        let answer = registry.post(path, wide(version)).await;
        assert_eq!(answer.body["version"], version, "{:.300}", answer.text);
    }
    level("FULL_TRANSITIVE").await;
    for path in [path, "/compatibility/subjects/wide/versions"] {
        let answer = registry.post(path, wide(5)).await;
        answer.is_error(42201);
        let message = answer.body["message"].to_string();
        for part in ["4 versions", "transitive", "delete", "compatibility group"] {
            assert!(message.contains(part), "{message}");
        }
    }
    let verbose = "/compatibility/subjects/wide/versions?verbose=true";
    let answer = registry.post(verbose, wide(5)).await;
    assert_eq!(answer.body["is_compatible"], false, "{}", answer.text);
    assert!(answer.text.contains("4 versions"), "{}", answer.text);
    // What has it compared with fewer.
    let named = "/compatibility/subjects/wide/versions/latest";
    let yes = json!({"is_compatible": true});
    registry.post(named, wide(5)).await.is(yes);
    level("FULL").await;
    let answer = registry.post(path, wide(5)).await;
    assert_eq!(answer.body["version"], 5, "{:.300}", answer.text);
}

#[tokio::test]
async fn json_schemas_that_are_costly_to_check_or_to_compare_are_given_up() {
    let registry = registry().await;
    let post = async |schema: String| {
        let body = json!({"schemaType": "JSON", "schema": schema});
        let answer = registry.post("/subjects/json/versions", body);
        tokio::time::timeout(SOON, answer).await.unwrap()
    };
    let properties = (0..25_000)
        .map(|n| format!(r#""p{n}":{{"type":"integer"}}"#))
        .collect::<Vec<_>>()
        .join(",");
    let answer = post(format!(r#"{{"properties":{{{properties}}}}}"#)).await;
    answer.is_error(42201);
    assert!(
        answer.text.contains("too large to be checked"),
        "{}",
        answer.text
    );
    // A path of half a megabyte to each of a thousand schemas.
    let name = "n".repeat(500_000);
    let inner = vec!["{}"; 1_000].join(",");
    let long = format!(r#"{{"properties":{{"{name}":{{"anyOf":[{inner}]}}}}}}"#);
    post(long).await.is_error(42201);
    // Each of the old values is looked for among the new ones.
    let values = |numbers: &mut dyn Iterator<Item = u32>| {
        let numbers: Vec<String> = numbers.map(|n| (n + 10_000).to_string()).collect();
        format!(r#"{{"enum":[{}]}}"#, numbers.join(","))
    };
    let answer = post(values(&mut (0..100_000))).await;
    assert_eq!(answer.status, StatusCode::OK, "{:.300}", answer.text);
    let answer = post(values(&mut (0..100_000).rev())).await;
    assert_eq!(answer.status, StatusCode::OK, "{:.300}", answer.text);
    post(values(&mut (0..99_999))).await.is_error(409);
}

/// A small object takes a hundred times its text.
#[tokio::test]
async fn small_objects_in_great_number_are_refused() {
    let registry = registry().await;
    let objects = vec![r#"{"a":1}"#; 60_000].join(",");
    let attribute = format!(r#"{{"type":"string","x":[{objects}]}}"#);
    let default = record(&format!(
        r#"{{"name":"f","type":{{"type":"array","items":{{"type":"map","values":"int"}}}},"default":[{objects}]}}"#
    ));
    for schema in [attribute, default] {
        let (_, body) = post(&registry, &schema).await;
        assert_eq!(body["error_code"], 42201, "{body}");
        let message = body["message"].as_str().unwrap();
        assert!(message.contains("more than 40000 objects"), "{body}");
    }
    let objects: Value = serde_json::from_str(&format!("[{objects}]")).unwrap();
    let body = json!({"schema": "\"int\"", "metadata": {"properties": objects}});
    registry
        .post("/subjects/hostile/versions", body)
        .await
        .is_error(422);
    // As many braces as one likes in a text.
    let text = r#"{"type":"string","doc":"\"{"#.to_owned() + &"{".repeat(60_000) + "\"}";
    assert_eq!(post(&registry, &text).await.0, StatusCode::OK);
}

/// Bodies of any shape: an answer in the API's own form, and the registry goes on.
mod property {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use crate::running::registry;

    /// JSON that looks more or less like a request to register a schema.
    fn any_body() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,20}".prop_map(Value::from),
            prop::sample::select(vec![
                "string", "record", "enum", "AVRO", "UPGRADE", "-1", "\u{0}"
            ])
            .prop_map(Value::from),
        ];
        let key = prop_oneof![
            4 => prop::sample::select(vec![
                "schema", "schemaType", "references", "metadata", "ruleSet", "id", "version", "name",
                "type", "fields", "items", "values", "symbols", "size", "default", "subject",
                "properties", "tags", "migrationRules", "mode", "aliases", "namespace",
            ])
            .prop_map(str::to_owned),
            1 => ".{0,8}",
        ];
        let inner = leaf.prop_recursive(4, 40, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(key.clone(), inner, 0..6)
                    .prop_map(|object| Value::Object(object.into_iter().collect())),
            ]
        });
        // A schema comes as text.
        (inner.clone(), inner).prop_map(|(mut body, schema)| {
            if let Value::Object(object) = &mut body {
                object.insert("schema".to_owned(), schema.to_string().into());
            }
            body
        })
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn any_body_is_answered_in_the_apis_own_form() {
        let registry = registry().await;
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(150)
        });
        let runtime = tokio::runtime::Handle::current();
        let ran = tokio::task::block_in_place(|| {
            runner.run(&any_body(), |body| {
                let answer = async {
                    let mut answers = Vec::new();
                    for path in [
                        "/subjects/any/versions",
                        "/subjects/any",
                        "/compatibility/subjects/any/versions/latest?verbose=true",
                        "/subjects/any/versions/1/rules",
                    ] {
                        answers.push(registry.post(path, body.clone()).await);
                    }
                    answers.push(registry.put("/config/any", body.clone()).await);
                    answers.push(registry.put("/mode/any", body.clone()).await);
                    answers
                };
                for answer in runtime.block_on(answer) {
                    let code = answer.body["error_code"].as_u64();
                    let status = u64::from(answer.status.as_u16());
                    prop_assert!(
                        status == 200 || (400..500).contains(&status) && code.is_some(),
                        "{body}: {}",
                        answer.text
                    );
                }
                Ok(())
            })
        });
        if let Err(failed) = ran {
            panic!("{failed}");
        }
        registry.get("/subjects").await;
        registry
            .put("/mode/any", json!({"mode": "READWRITE"}))
            .await;
    }
}
