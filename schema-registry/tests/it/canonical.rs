//! Which texts are the same schema, and what of a text is kept.

use proptest::prelude::*;
use schema_registry::avro::AvroSchema;
use serde_json::{Value, json};

fn canonical(schema: &Value) -> String {
    AvroSchema::parse(&schema.to_string()).unwrap().canonical()
}

#[test]
fn of_several_members_of_one_name_the_last_counts() {
    let text = r#"{"type":"int","x":1,"type":"string","x":{"b":1,"a":2,"b":3},"\u0074ype":"long"}"#;
    let schema = AvroSchema::parse(text).unwrap();
    assert_eq!(schema.canonical(), r#"{"type":"long","x":{"a":2,"b":3}}"#);
}

/// The expected form follows Java's `Schema.toString()` (Avro 1.11): the type first, then name,
/// namespace, doc; what was not in the standard behind it; names qualified only where needed.
#[test]
fn a_schema_is_printed_in_the_form_of_java() {
    for (schema, expected) in [
        (json!("string"), r#""string""#),
        (json!({"type": "string"}), r#""string""#),
        (
            json!({"logicalType": "decimal", "type": "string"}),
            r#"{"type":"string","logicalType":"decimal"}"#,
        ),
        (
            json!({"name": "annals.tasks.TaskCreated", "doc": "d", "type": "record", "fields": [
                {"type": "string", "personal": true, "name": "title", "doc": "As typed.", "default": ""}
            ]}),
            r#"{"type":"record","name":"TaskCreated","namespace":"annals.tasks","doc":"d","fields":[{"name":"title","type":"string","doc":"As typed.","default":"","personal":true}]}"#,
        ),
        (
            json!({"type": "record", "name": "List", "namespace": "a", "aliases": ["Old", "b.Older"], "fields": [
                {"name": "next", "type": ["null", "List"], "default": null, "order": "ignore", "aliases": ["tail"]},
                {"name": "kind", "type": {"type": "enum", "name": "b.Kind", "symbols": ["X", "Y"], "default": "X"}},
                {"name": "other", "type": "b.Kind", "order": "ascending"}
            ]}),
            r#"{"type":"record","name":"List","namespace":"a","fields":[{"name":"next","type":["null","List"],"default":null,"order":"ignore","aliases":["tail"]},{"name":"kind","type":{"type":"enum","name":"Kind","namespace":"b","symbols":["X","Y"],"default":"X"}},{"name":"other","type":"b.Kind"}],"aliases":["Old","b.Older"]}"#,
        ),
        (
            json!({"type": "array", "items": {"type": "map", "values": {"type": "fixed", "name": "F", "size": 4}}}),
            r#"{"type":"array","items":{"type":"map","values":{"type":"fixed","name":"F","size":4}}}"#,
        ),
        // A type without a namespace inside of one with a namespace.
        (
            json!({"type": "record", "name": "a.R", "fields": [
                {"name": "f", "type": {"type": "fixed", "name": "F", "namespace": "", "size": 1}},
                {"name": "g", "type": "F"}
            ]}),
            r#"{"type":"record","name":"R","namespace":"a","fields":[{"name":"f","type":{"type":"fixed","name":"F","namespace":"","size":1}},{"name":"g","type":"F"}]}"#,
        ),
    ] {
        assert_eq!(canonical(&schema), expected);
    }
}

#[test]
fn ways_of_writing_make_no_difference() {
    for (one, other) in [
        (
            r#"{"type":"record","name":"R","namespace":"a","fields":[]}"#,
            r#" { "fields" : [], "name" : "a.R", "type" : "record" } "#,
        ),
        (
            r#"{"type":"array","items":{"type":"int"}}"#,
            r#"{"items":"int","type":"array"}"#,
        ),
        (
            r#"{"type":"string","b":{"y":1,"x":2},"a":0}"#,
            r#"{"a":0,"type":"string","b":{"x":2,"y":1}}"#,
        ),
    ] {
        let [one, other] = [one, other].map(|text| AvroSchema::parse(text).unwrap().canonical());
        assert_eq!(one, other);
    }
}

#[test]
fn whatever_readers_may_use_makes_a_difference() {
    let schema =
        json!({"type": "record", "name": "R", "fields": [{"name": "f", "type": "string"}]});
    let plain = canonical(&schema);
    for (pointer, key, value) in [
        ("", "doc", json!("d")),
        ("", "aliases", json!(["S"])),
        ("", "namespace", json!("a")),
        ("", "owner", json!("billing")),
        ("/fields/0", "doc", json!("d")),
        ("/fields/0", "default", json!("")),
        ("/fields/0", "aliases", json!(["g"])),
        ("/fields/0", "personal", json!(true)),
        (
            "/fields/0",
            "type",
            json!({"type": "string", "logicalType": "json"}),
        ),
    ] {
        let mut changed = schema.clone();
        changed.pointer_mut(pointer).unwrap()[key] = value;
        assert_ne!(canonical(&changed), plain, "{key} at {pointer:?}");
    }
}

#[test]
fn references_resolve_in_their_namespace_first() {
    let schema = json!({"type": "record", "name": "a.R", "fields": [
        {"name": "f", "type": {"type": "fixed", "name": "F", "namespace": "", "size": 1}},
        {"name": "g", "type": {"type": "fixed", "name": "F", "size": 2}},
        {"name": "h", "type": "F"}
    ]});
    assert!(canonical(&schema).contains(r#"{"name":"h","type":"F"}"#));
    let two = json!({"type": "record", "name": "a.R", "fields": [
        {"name": "h", "type": "b.F"}
    ]});
    let error = AvroSchema::parse(&two.to_string()).unwrap_err();
    assert!(error.to_string().contains("`b.F`"), "{error}");
}

/// A valid schema, its names numbered by the caller. Deep rather than wide.
fn any_schema() -> impl Strategy<Value = Value> {
    let primitive = prop::sample::select(vec![
        "null", "boolean", "int", "long", "float", "double", "bytes", "string",
    ]);
    let leaf = prop_oneof![
        primitive.prop_map(Value::from),
        Just(json!({"type": "string", "logicalType": "decimal"})),
        Just(json!({"type": "enum", "name": "N", "symbols": ["A", "B"], "default": "B"})),
        (0..9_i32).prop_map(|size| json!({"type": "fixed", "name": "N", "size": size})),
    ];
    let nested = leaf.prop_recursive(5, 40, 5, |inner| {
        let field = (inner.clone(), any::<bool>(), ".*").prop_map(
            |(type_, personal, doc)| json!({"type": type_, "personal": personal, "doc": doc}),
        );
        prop_oneof![
            inner
                .clone()
                .prop_map(|items| json!({"type": "array", "items": items})),
            inner
                .clone()
                .prop_map(|values| json!({"type": "map", "values": values})),
            inner.prop_map(|branch| match branch.is_array() || branch == "null" {
                true => branch,
                false => json!(["null", branch]),
            }),
            prop::collection::vec(field, 0..4).prop_map(|fields| {
                json!({"type": "record", "name": "N", "namespace": "a.b", "fields": fields})
            }),
        ]
    });
    nested.prop_map(|mut schema| {
        number_names(&mut schema, &mut 0);
        schema
    })
}

/// Gives every type and field a name of its own.
fn number_names(value: &mut Value, next: &mut u32) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| number_names(item, next)),
        Value::Object(object) => {
            *next += 1;
            if object.contains_key("name") || object.contains_key("personal") {
                object.insert("name".to_owned(), json!(format!("n{next}")));
            }
            for key in ["items", "values", "type", "fields"] {
                if let Some(inner) = object.get_mut(key) {
                    number_names(inner, next);
                }
            }
        }
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_canonical_text_is_its_own_canonical_text(schema in any_schema()) {
        let text = canonical(&schema);
        prop_assert_eq!(&AvroSchema::parse(&text).unwrap().canonical(), &text);
    }

    /// Who gets a schema from us reads it with another implementation, and must read the same.
    #[test]
    fn apache_avro_takes_the_canonical_text_for_the_same_schema(schema in any_schema()) {
        let submitted = apache_avro::Schema::parse(&schema).unwrap();
        let returned = apache_avro::Schema::parse_str(&canonical(&schema)).unwrap();
        prop_assert_eq!(submitted.canonical_form(), returned.canonical_form());
    }

    #[test]
    fn every_schema_reads_what_it_wrote(schema in any_schema()) {
        let [reader, writer] = [(); 2].map(|()| AvroSchema::parse(&schema.to_string()).unwrap());
        prop_assert_eq!(schema_registry::avro::can_read(&reader, &writer), Ok(vec![]));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in r#"[\[\]{}",: a-z0-9]{0,60}"#) {
        let _ = AvroSchema::parse(&text);
    }
}
