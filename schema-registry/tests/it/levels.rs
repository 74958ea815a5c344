//! What each level lets through, as Confluent's documentation has it ("Schema Evolution and
//! Compatibility", the table "Compatibility Types": which changes are allowed, and which versions
//! are checked), with the examples of the public test suite of Confluent's registry
//! (`AvroCompatibilityTest`), whose verdicts are those of Java's `SchemaCompatibility`.

use serde_json::{Value, json};

use crate::running::registry;

fn record(fields: Value) -> Value {
    json!({"type": "record", "name": "myrecord", "fields": fields})
}

fn string(name: &str) -> Value {
    json!({"type": "string", "name": name})
}

fn with_default(name: &str, default: &str) -> Value {
    json!({"type": "string", "name": name, "default": default})
}

fn union(types: Value) -> Value {
    record(json!([{"type": types, "name": "f1"}]))
}

struct Case {
    /// The rule, or the example's name.
    rule: &'static str,
    history: Vec<Value>,
    new: Value,
    /// The levels that let it through, beside `NONE`, which lets everything through.
    by: &'static [&'static str],
}

const ALL: &[&str] = &[
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
];
const BACKWARD: &[&str] = &["BACKWARD", "BACKWARD_TRANSITIVE"];
const FORWARD: &[&str] = &["FORWARD", "FORWARD_TRANSITIVE"];

fn cases() -> Vec<Case> {
    let one = record(json!([string("f1")]));
    let optional = record(json!([string("f1"), with_default("f2", "foo")]));
    let required = record(json!([string("f1"), string("f2")]));
    let another = record(json!([
        string("f1"),
        with_default("f2", "foo"),
        with_default("f3", "bar")
    ]));
    let renamed = record(json!([{"type": "string", "name": "f1_new", "aliases": ["f1"]}]));
    let case = |rule, history: &[&Value], new: &Value, by| Case {
        rule,
        history: history.iter().map(|schema| (*schema).clone()).collect(),
        new: new.clone(),
        by,
    };
    vec![
        case("the same again", &[&one], &one, ALL),
        case("BACKWARD: delete fields", &[&required], &one, BACKWARD),
        case("BACKWARD: add optional fields", &[&one], &optional, ALL),
        case("FORWARD: add fields", &[&one], &required, FORWARD),
        case("FORWARD: delete optional fields", &[&optional], &one, ALL),
        case("FULL: make a field optional", &[&required], &optional, ALL),
        case("FULL: make a field required", &[&optional], &required, ALL),
        case(
            "all: change the order freely",
            &[&required],
            &record(json!([string("f2"), string("f1")])),
            ALL,
        ),
        // "adding a field with default is a backward compatible change", twice removed too
        case(
            "transitively: add a second optional field",
            &[&one, &optional],
            &another,
            ALL,
        ),
        // A default that goes leaves readers of the newest alone, and not those of the first.
        case(
            "transitively: remove a default",
            &[&one, &optional],
            &required,
            &["BACKWARD", "FORWARD", "FORWARD_TRANSITIVE", "FULL"],
        ),
        case(
            "transitively: what the first wrote counts",
            &[&required, &optional],
            &one,
            &["BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FULL"],
        ),
        case(
            "change the name of a field by an alias",
            &[&one],
            &renamed,
            BACKWARD,
        ),
        case(
            "evolve a field type to a union",
            &[&one],
            &union(json!(["null", "string"])),
            BACKWARD,
        ),
        case(
            "remove a type from a union",
            &[&union(json!(["null", "string"]))],
            &one,
            FORWARD,
        ),
        case(
            "add a type to a union",
            &[&union(json!(["null", "string"]))],
            &union(json!(["null", "string", "int"])),
            BACKWARD,
        ),
        case(
            "promote",
            &[&union(json!("int"))],
            &union(json!("long")),
            BACKWARD,
        ),
        case(
            "promote both ways: string and bytes",
            &[&union(json!("string"))],
            &union(json!("bytes")),
            ALL,
        ),
        case(
            "add a symbol to an enum without a default",
            &[&union(
                json!({"type": "enum", "name": "E", "symbols": ["A"]}),
            )],
            &union(json!({"type": "enum", "name": "E", "symbols": ["A", "B"]})),
            BACKWARD,
        ),
        case(
            "add a symbol to an enum with a default",
            &[&union(
                json!({"type": "enum", "name": "E", "symbols": ["A"], "default": "A"}),
            )],
            &union(json!({"type": "enum", "name": "E", "symbols": ["A", "B"], "default": "A"})),
            ALL,
        ),
        case(
            "change the size of a fixed",
            &[&union(json!({"type": "fixed", "name": "F", "size": 2}))],
            &union(json!({"type": "fixed", "name": "F", "size": 4})),
            &[],
        ),
        case(
            "change the scale of a decimal: the types alone count",
            &[&union(
                json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
            )],
            &union(json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 4})),
            ALL,
        ),
        case(
            "change a type altogether",
            &[&union(json!("int"))],
            &union(json!("boolean")),
            &[],
        ),
    ]
}

#[tokio::test]
async fn each_level_lets_through_what_it_says() {
    let registry = registry().await;
    let mut wrong = Vec::new();
    for (number, case) in cases().iter().enumerate() {
        let subject = format!("case-{number}");
        let config = format!("/config/{subject}");
        registry
            .put(&config, json!({"compatibility": "NONE"}))
            .await;
        for schema in &case.history {
            registry.registered(&subject, schema).await;
        }
        for level in ["NONE"].iter().chain(ALL) {
            registry.put(&config, json!({"compatibility": level})).await;
            let body = json!({"schema": case.new.to_string()});
            let path = format!("/compatibility/subjects/{subject}/versions?verbose=true");
            let answer = registry.post(&path, body).await;
            let expected = *level == "NONE" || case.by.contains(level);
            if answer.body["is_compatible"] != expected {
                wrong.push(format!("{} at {level}: {}", case.rule, answer.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The words of Java, by which tools and people find what to mend.
#[tokio::test]
async fn verbose_answers_say_where_and_why() {
    let registry = registry().await;
    let old = record(json!([
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A", "B"]}},
        {"name": "sum", "type": {"type": "fixed", "name": "Sum", "size": 4}},
        {"name": "maybe", "type": ["null", "string"]},
        {"name": "count", "type": "long"},
    ]));
    let new = record(json!([
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["A"]}},
        {"name": "sum", "type": {"type": "fixed", "name": "Sum", "size": 8}},
        {"name": "maybe", "type": ["null", "int"]},
        {"name": "count", "type": "int"},
        {"name": "more", "type": "string"},
    ]));
    registry.registered("s", &old).await;
    let body = json!({"schema": new.to_string()});
    let path = "/compatibility/subjects/s/versions/latest?verbose=true";
    let answer = registry.post(path, body.clone()).await;
    let messages: Vec<&str> = answer.body["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|message| message.as_str().unwrap())
        .collect();
    for (error_type, place) in [
        ("MISSING_ENUM_SYMBOLS", "/fields/0/type/symbols"),
        ("FIXED_SIZE_MISMATCH", "/fields/1/type/size"),
        ("MISSING_UNION_BRANCH", "/fields/2/type/1"),
        ("TYPE_MISMATCH", "/fields/3/type"),
        ("READER_FIELD_MISSING_DEFAULT_VALUE", "/fields/4"),
    ] {
        assert!(
            messages.iter().any(|message| {
                message.starts_with(&format!("{{errorType:'{error_type}'"))
                    && message.contains(&format!("'{place}'"))
            }),
            "{error_type} at {place}: {messages:#?}"
        );
    }
    // Who does not ask for reasons gets none; who does gets those of a schema that is none as well.
    let answer = registry
        .post("/compatibility/subjects/s/versions/latest", body)
        .await;
    answer.is(json!({"is_compatible": false}));
    let invalid = registry.post(path, json!({"schema": "{"})).await;
    assert_eq!(invalid.body["is_compatible"], false, "{}", invalid.text);
    assert_eq!(invalid.body["messages"].as_array().unwrap().len(), 1);
    let invalid = registry
        .post("/compatibility/subjects/s/versions", json!({"schema": "{"}))
        .await;
    invalid.is_error(42201);
}
