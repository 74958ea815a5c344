//! Rules at work between two schemas, and what the check says of them.

use serde_json::{Value as Json, json};

use super::*;

/// A record of these fields.
fn schema(fields: &str) -> String {
    format!(r#"{{"type":"record","namespace":"annals.shop","name":"Ordered","fields":[{fields}]}}"#)
}

fn history(older: &str, newer: &str, migration: Json) -> History {
    let mut history = History::default();
    history.push(&schema(older), None).unwrap();
    let migration = match migration {
        Json::Null => None,
        migration => Some(Migration::parse(&migration.to_string()).unwrap()),
    };
    history.push(&schema(newer), migration).unwrap();
    history
}

fn annals(operations: Json) -> Json {
    json!({ "upgrade": { "type": "ANNALS", "operations": operations } })
}

/// An upgrade and a downgrade that may lose these.
fn losing(operations: Json, up: Json, down: Json) -> Json {
    json!({
        "upgrade": { "type": "ANNALS", "operations": operations, "drops": up },
        "downgrade": { "type": "ANNALS", "drops": down },
    })
}

#[track_caller]
fn event(history: &History, version: u32, event: Json) -> Vec<u8> {
    let schema = history.schema(version).unwrap();
    let value = Value::from_rule(&event, schema, schema.root()).unwrap();
    let mut datum = Vec::new();
    schema.encode(&value, &mut datum).unwrap();
    assert_eq!(schema.decode(&datum), Ok(value));
    datum
}

#[track_caller]
fn migrated(history: &History, from: u32, to: u32, given: Json) -> Result<Json, MigrateError> {
    let datum = event(history, from, given);
    let plan = history
        .plan(from, to)
        .unwrap_or_else(|error| panic!("{error}"));
    let mut migrated = Vec::new();
    plan.migrate(&datum, &mut migrated)?;
    Ok(history
        .schema(to)
        .unwrap()
        .decode(&migrated)
        .unwrap()
        .to_json())
}

/// The older becomes the newer, and the newer the older again.
#[track_caller]
fn both_ways(history: &History, older: Json, newer: Json) {
    assert_eq!(migrated(history, 1, 2, older.clone()), Ok(newer.clone()));
    assert_eq!(migrated(history, 2, 1, newer), Ok(older));
}

/// Severity, code, direction and path of everything that a check finds.
fn found(history: &History) -> Vec<String> {
    let report = history.check(2).unwrap();
    let line = |finding: &Finding| {
        let Finding {
            severity,
            code,
            direction,
            path,
            ..
        } = finding;
        format!("{severity} {code} {} {path}", direction.name())
    };
    report.findings.iter().map(line).collect()
}

#[track_caller]
fn finds(older: &str, newer: &str, migration: Json, expected: &[&str]) {
    assert_eq!(found(&history(older, newer, migration)), expected);
}

const NAME: &str = r#"{"name":"name","type":"string"}"#;
const TITLE: &str = r#"{"name":"title","type":"string"}"#;
const NOTE: &str = r#"{"name":"note","type":["null","string"],"default":null}"#;

#[test]
fn a_renamed_field_is_renamed_back() {
    let history = history(
        NAME,
        TITLE,
        annals(json!([{"op":"rename","from":"name","to":"title"}])),
    );
    assert_eq!(found(&history), [""; 0]);
    both_ways(&history, json!({"name": "x"}), json!({"title": "x"}));
}

#[test]
fn fields_move_into_records_that_are_made() {
    let address = r#"{"name":"address","type":{"type":"record","name":"Address","fields":[
        {"name":"street","type":"string"},{"name":"zip","type":"string","default":"-"}]}}"#;
    let operations = json!([{"op":"rename","from":"name","to":"address.street"}]);
    let history = history(
        NAME,
        address,
        losing(operations, json!([]), json!(["address"])),
    );
    assert_eq!(found(&history), ["note drops downgrade address"]);
    both_ways(
        &history,
        json!({"name": "x"}),
        json!({"address": {"street": "x", "zip": "-"}}),
    );
}

#[test]
fn rules_reach_into_arrays_and_maps() {
    let lines = |field: &str| {
        format!(
            r#"{{"name":"lines","type":{{"type":"array","items":{{"type":"map","values":
               {{"type":"record","name":"Line","fields":[{{"name":"{field}","type":"long"}}]}}}}}}}}"#
        )
    };
    let operations = json!([{"op":"rename","from":"lines[]{}.cents","to":"lines[]{}.amount"}]);
    let history = history(&lines("cents"), &lines("amount"), annals(operations));
    assert_eq!(found(&history), [""; 0]);
    both_ways(
        &history,
        json!({"lines": [{"a": {"cents": 1}, "b": {"cents": i64::MAX}}, {}]}),
        json!({"lines": [{"a": {"amount": 1}, "b": {"amount": i64::MAX}}, {}]}),
    );
}

#[test]
fn what_is_new_has_a_default_and_goes_again_when_that_is_accepted() {
    let newer = format!(r#"{NAME},{{"name":"count","type":"long"}}"#);
    let operations = json!([{"op":"default","field":"count","value":9_007_199_254_740_993_i64}]);
    finds(
        NAME,
        &newer,
        annals(operations.clone()),
        &["error loses downgrade count"],
    );
    let history = history(
        NAME,
        &newer,
        losing(operations, json!([]), json!(["count"])),
    );
    assert_eq!(found(&history), ["note drops downgrade count"]);
    both_ways(
        &history,
        json!({"name": "x"}),
        json!({"name": "x", "count": 9_007_199_254_740_993_i64}),
    );
}

#[test]
fn null_becomes_a_default_where_that_is_accepted() {
    let newer = r#"{"name":"note","type":"string"}"#;
    let operations = json!([{"op":"default","field":"note","value":"-"}]);
    finds(
        NOTE,
        newer,
        annals(json!([])),
        &["error type-mismatch upgrade note"],
    );
    finds(
        NOTE,
        newer,
        annals(operations.clone()),
        &["error loses upgrade note"],
    );
    let history = history(NOTE, newer, losing(operations, json!(["note"]), json!([])));
    assert_eq!(
        migrated(&history, 1, 2, json!({"note": null})),
        Ok(json!({"note": "-"}))
    );
    both_ways(&history, json!({"note": "x"}), json!({"note": "x"}));
}

#[test]
fn a_copy_and_a_constant_are_there_beside_what_was() {
    let newer = format!(
        r#"{NAME},{TITLE},{{"name":"kind","type":{{"type":"enum","name":"Kind","symbols":["a","b"]}}}}"#
    );
    let operations = json!([
        {"op":"copy","from":"name","to":"title"},
        {"op":"constant","field":"kind","value":"b"},
    ]);
    let history = history(
        NAME,
        &newer,
        losing(operations, json!([]), json!(["title", "kind"])),
    );
    both_ways(
        &history,
        json!({"name": "x"}),
        json!({"name": "x", "title": "x", "kind": "b"}),
    );
}

#[test]
fn symbols_are_mapped_both_ways() {
    let status = |symbols: &str| {
        format!(
            r#"{{"name":"status","type":{{"type":"enum","name":"Status","symbols":[{symbols}]}}}}"#
        )
    };
    let (older, newer) = (status(r#""open","closed""#), status(r#""cage","bowl""#));
    let mapping = json!([{"op":"map","field":"status","symbols":{"open":"cage","closed":"bowl"}}]);
    let history = history(&older, &newer, annals(mapping));
    assert_eq!(found(&history), [""; 0]);
    both_ways(
        &history,
        json!({"status": "closed"}),
        json!({"status": "bowl"}),
    );

    let forgotten = json!([{"op":"map","field":"status","symbols":{"open":"cage"}}]);
    finds(
        &older,
        &newer,
        annals(forgotten),
        &[
            "error symbol-not-mapped upgrade status",
            "error symbol-not-mapped downgrade status",
        ],
    );
    let merged = json!([{"op":"map","field":"status","symbols":{"open":"cage","closed":"cage"}}]);
    finds(
        &older,
        &newer,
        annals(merged),
        &[
            "error loses upgrade status",
            "error not-invertible downgrade ",
        ],
    );
}

#[test]
fn cents_become_a_decimal_and_come_back_exactly() {
    let cents = r#"{"name":"price","type":"long"}"#;
    let bytes = r#"{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":21,"scale":2}}"#;
    let text = r#"{"name":"price","type":{"type":"string","logicalType":"decimal"}}"#;
    let operations = json!([{"op":"convert","field":"price","shift":-2}]);
    let to_bytes = history(cents, bytes, annals(operations.clone()));
    assert_eq!(found(&to_bytes), ["warning may-refuse downgrade price"]);
    both_ways(
        &to_bytes,
        json!({"price": i64::MAX}),
        json!({"price": "92233720368547758.07"}),
    );
    both_ways(&to_bytes, json!({"price": -5}), json!({"price": "-0.05"}));
    let to_text = history(cents, text, losing(operations, json!([]), json!(["price"])));
    both_ways(
        &to_text,
        json!({"price": 1_314_000}),
        json!({"price": "13140.00"}),
    );
    assert!(matches!(
        migrated(&to_text, 2, 1, json!({"price": "0.001"})),
        Err(MigrateError::Field { field, .. }) if field == "price"
    ));
}

#[test]
fn a_conversion_goes_to_where_the_field_will_be() {
    let older = r#"{"name":"size","type":"int"}"#;
    let newer = r#"{"name":"amount","type":["null",{"type":"string","logicalType":"decimal"}]}"#;
    let operations = json!([
        {"op":"convert","field":"size"},
        {"op":"rename","from":"size","to":"amount"},
    ]);
    let migration = json!({
        "upgrade": { "type": "ANNALS", "operations": operations },
        "downgrade": { "type": "ANNALS", "drops": ["size"], "operations": [
            {"op":"rename","from":"amount","to":"size"},
            {"op":"convert","field":"size"},
            {"op":"default","field":"size","value":0},
        ]},
    });
    let history = history(older, newer, migration);
    both_ways(&history, json!({"size": 7}), json!({"amount": "7"}));
}

#[test]
fn a_fixed_decimal_has_its_sign_in_all_its_bytes() {
    let fixed = r#"{"name":"price","type":{"type":"fixed","name":"Money","size":8,"logicalType":"decimal","precision":18,"scale":2}}"#;
    let bytes = r#"{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":18,"scale":2}}"#;
    let history = history(
        fixed,
        bytes,
        annals(json!([{"op":"convert","field":"price"}])),
    );
    both_ways(
        &history,
        json!({"price": "-0.01"}),
        json!({"price": "-0.01"}),
    );
    let datum = event(&history, 1, json!({"price": "-0.01"}));
    assert_eq!(datum, [0xff; 8]);
}

#[test]
fn a_text_is_split_and_joined_again() {
    let newer = format!(
        r#"{TITLE},{{"name":"jira","type":["null","string"]}},{{"name":"typed","type":["null","string"]}}"#
    );
    let split = json!([{
        "op": "split", "field": "title", "pattern": r"(?<jira>[A-Z]+-\d+): (?<title>.*)",
        "template": "{jira}: {title}", "whole": "title", "otherwise": "typed",
    }]);
    let history = history(TITLE, &newer, annals(split));
    assert_eq!(found(&history), ["note normal-form downgrade title"]);
    let parts = |title: &str, jira: Json, typed: Json| json!({"title": title, "jira": jira, "typed": typed});
    both_ways(
        &history,
        json!({"title": "A-1: x"}),
        parts("x", json!("A-1"), Json::Null),
    );
    both_ways(
        &history,
        json!({"title": "x"}),
        parts("x", Json::Null, Json::Null),
    );
}

#[test]
fn a_split_without_a_place_for_the_rest_loses_the_typed_form() {
    let newer = format!(r#"{TITLE},{{"name":"jira","type":["null","string"]}}"#);
    let split = json!([{
        "op": "split", "field": "title", "pattern": r"(?<jira>[A-Z]+-\d+): (?<title>.*)",
        "template": "{jira}: {title}", "whole": "title",
    }]);
    let lost = [
        "error loses upgrade title",
        "note normal-form downgrade title",
    ];
    finds(TITLE, &newer, annals(split), &lost);
}

#[test]
fn unions_keep_their_branch() {
    let union = |name: &str| {
        format!(
            r#"{{"name":"{name}","type":["null","int","long","double","string",
               {{"type":"record","name":"A","fields":[{{"name":"x","type":"int"}}]}},
               {{"type":"record","name":"B","fields":[{{"name":"x","type":"int"}}]}}]}}"#
        )
    };
    let renamed = annals(json!([{"op":"rename","from":"old","to":"new"}]));
    let history = history(&union("old"), &union("new"), renamed);
    assert_eq!(found(&history), [""; 0]);
    let plan = history.plan(1, 2).unwrap();
    for branch in 1..7_u8 {
        let mut datum = vec![branch * 2];
        datum.extend(match branch {
            3 => vec![0; 8],
            _ => vec![0],
        });
        let mut migrated = Vec::new();
        plan.migrate(&datum, &mut migrated).unwrap();
        assert_eq!(migrated, datum);
    }
}

#[test]
fn without_a_rule_avro_resolves() {
    let newer = format!(r#"{{"name":"label","type":"string","aliases":["name"]}},{NOTE}"#);
    let history = history(NAME, &newer, Json::Null);
    let after = json!({"label": "x", "note": null});
    assert_eq!(
        migrated(&history, 1, 2, json!({"name": "x"})),
        Ok(after.clone())
    );
    let missing = history.plan(2, 1).unwrap_err().to_string();
    assert!(missing.contains("not-produced"), "{missing}");
}

#[test]
fn a_chain_goes_over_every_version() {
    let mut history = history(
        NAME,
        TITLE,
        annals(json!([{"op":"rename","from":"name","to":"title"}])),
    );
    let third = r#"{"name":"heading","type":"string"}"#;
    let rename = annals(json!([{"op":"rename","from":"title","to":"heading"}]));
    let rename = Migration::parse(&rename.to_string()).unwrap();
    history.push(&schema(third), Some(rename)).unwrap();
    assert_eq!(
        migrated(&history, 1, 3, json!({"name": "x"})),
        Ok(json!({"heading": "x"}))
    );
    assert_eq!(
        migrated(&history, 3, 1, json!({"heading": "x"})),
        Ok(json!({"name": "x"}))
    );
    assert_eq!(
        history
            .plan(1, 1)
            .unwrap()
            .migrate(b"\x02x", &mut Vec::new()),
        Ok(())
    );
}

#[test]
fn what_does_not_fit_is_found_before_anything_runs() {
    let number = r#"{"name":"n","type":"long"}"#;
    finds(
        NAME,
        TITLE,
        annals(json!([])),
        &[
            "error not-produced upgrade title",
            "error loses upgrade name",
            "error not-produced downgrade name",
            "error loses downgrade title",
        ],
    );
    finds(
        NAME,
        NAME,
        annals(json!([{"op":"rename","from":"nam","to":"name"}])),
        &[
            "error no-such-field upgrade nam",
            "error not-produced downgrade name",
            "error loses downgrade nam",
        ],
    );
    finds(
        NAME,
        number,
        annals(json!([{"op":"rename","from":"name","to":"n"}])),
        &[
            "error type-mismatch upgrade n",
            "error type-mismatch downgrade name",
        ],
    );
    let both = format!("{NAME},{TITLE}");
    finds(
        &both,
        &both,
        annals(json!([{"op":"rename","from":"name","to":"title"}])),
        &[
            "error field-exists upgrade title",
            "error field-exists downgrade name",
        ],
    );
    finds(
        NAME,
        NAME,
        losing(json!([]), json!(["name"]), json!([])),
        &["warning drops-nothing upgrade name"],
    );
    finds(
        NAME,
        NAME,
        annals(json!([{"op":"default","field":"name","value":1}])),
        &["error bad-value upgrade name"],
    );
    finds(
        NAME,
        NAME,
        annals(json!([{"op":"drop","field":"name.x"}])),
        &["error bad-path upgrade name.x"],
    );
    finds(
        NAME,
        NAME,
        annals(json!([{"op":"convert","field":"other"}])),
        &[
            "error no-such-field upgrade other",
            "error no-such-field downgrade other",
        ],
    );
    let plan = history(NAME, number, annals(json!([]))).plan(1, 2);
    assert!(matches!(plan, Err(HistoryError::Plan(_))));
}

#[test]
fn longs_do_not_become_floats_in_silence() {
    let (long, double) = (
        r#"{"name":"n","type":"long"}"#,
        r#"{"name":"n","type":"double"}"#,
    );
    finds(
        long,
        double,
        annals(json!([])),
        &["error loses upgrade n", "error type-mismatch downgrade n"],
    );
    let millis = r#"{"name":"n","type":{"type":"long","logicalType":"timestamp-millis"}}"#;
    let micros = r#"{"name":"n","type":{"type":"long","logicalType":"timestamp-micros"}}"#;
    finds(
        millis,
        micros,
        annals(json!([])),
        &[
            "error type-mismatch upgrade n",
            "error type-mismatch downgrade n",
        ],
    );
    let history = history(
        millis,
        micros,
        annals(json!([{"op":"convert","field":"n","shift":3}])),
    );
    both_ways(
        &history,
        json!({"n": 1_700_000_000_123_i64}),
        json!({"n": 1_700_000_000_123_000_i64}),
    );
}

#[test]
fn types_that_contain_themselves_are_walked_once() {
    let tree = |more: &str| {
        format!(
            r#"{{"name":"tree","type":{{"type":"record","name":"Node","fields":[
               {{"name":"children","type":{{"type":"array","items":"Node"}}}}{more}]}}}}"#
        )
    };
    let newer = tree(r#",{"name":"label","type":["null","string"],"default":null}"#);
    let history = history(
        &tree(""),
        &newer,
        losing(json!([]), json!([]), json!(["tree"])),
    );
    assert_eq!(found(&history), ["note drops downgrade tree.label"]);
    let older = json!({"tree": {"children": [{"children": []}]}});
    let leaf = json!({"children": [], "label": null});
    let newer = json!({"tree": {"children": [leaf], "label": null}});
    both_ways(&history, older, newer);
}

#[test]
fn schemas_with_very_many_ways_are_compared_in_time() {
    // Each level may be reached in eight ways from the one above, under names that do not match.
    let deep = |prefix: &str| {
        let level = |n: usize, inner: &str| {
            let field = |f: usize| {
                let of = if f == 0 {
                    inner.to_owned()
                } else {
                    format!(r#""{prefix}{}""#, n + 1)
                };
                format!(r#"{{"name":"f{f}","type":["null","string",{of}]}}"#)
            };
            let fields: Vec<_> = (0..8).map(field).collect();
            format!(
                r#"{{"type":"record","name":"{prefix}{n}","fields":[{}]}}"#,
                fields.join(",")
            )
        };
        let last = format!(r#"{{"type":"record","name":"{prefix}12","fields":[]}}"#);
        let inner = (0..12).rev().fold(last, |inner, n| level(n, &inner));
        format!(r#"{{"name":"top","type":{inner}}}"#)
    };
    assert_eq!(
        found(&history(&deep("A"), &deep("A"), annals(json!([])))),
        [""; 0]
    );
    assert_eq!(
        found(&history(&deep("A"), &deep("B"), annals(json!([])))),
        [""; 0]
    );
    let misfit = deep("B").replace(
        r#""name":"B12","fields":[]"#,
        r#""name":"B12","fields":[{"name":"x","type":"int"}]"#,
    );
    let history = history(&deep("A"), &misfit, annals(json!([])));
    assert!(!history.check(2).unwrap().is_ok());
}

#[test]
fn a_migration_is_read_back_from_a_registrys_rules() {
    let split = losing(
        json!([{"op":"rename","from":"name","to":"title"}, {"op":"drop","field":"x"}]),
        json!(["x"]),
        json!([]),
    );
    let migration = Migration::parse(&split.to_string()).unwrap();
    let rules = migration.to_rules(2);
    let names: Vec<_> = rules.iter().map(|rule| &*rule.name).collect();
    assert_eq!(names, ["upgrade-to-v2", "downgrade-from-v2"]);
    let read = Migration::from_rules(&rules, 2).unwrap().unwrap();
    assert_eq!(read.fingerprint(), migration.fingerprint());
    assert_eq!(Migration::from_rules(&rules, 3), Ok(None));
    assert_eq!(Migration::parse(&migration.to_text()), Ok(migration));
}

#[test]
fn a_datum_that_is_broken_is_malformed_and_nothing_worse() {
    let history = history(
        r#"{"name":"all","type":{"type":"array","items":"null"}}"#,
        r#"{"name":"all","type":{"type":"array","items":"null"}}"#,
        Json::Null,
    );
    let schema = history.schema(1).unwrap();
    let claims_much = [
        0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0,
    ];
    for datum in [&claims_much[..], &[], &[2], &[0, 0], &[1], &[0xff; 20]] {
        assert!(schema.decode(datum).is_err(), "{datum:?}");
    }
}

#[test]
fn other_peoples_expressions_lead_from_one_version_to_the_next() {
    let older = r#"{"name":"name","type":"string"},{"name":"n","type":"long"}"#;
    let newer = r#"{"name":"title","type":["null","string"]},{"name":"n","type":"int"},
        {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["a","b"]},"default":"a"}"#;
    let migration = json!({
        "upgrade": { "type": "JSONATA", "expression": "{ 'title': name, 'n': n * 2 }" },
        "downgrade": { "type": "JSONATA", "expression": "{ 'name': title, 'n': n / 2 }" },
    });
    let history = history(older, newer, migration);
    assert_eq!(
        found(&history),
        [
            "note not-checked upgrade ",
            "warning rounds upgrade n",
            "note not-checked downgrade ",
        ]
    );
    both_ways(
        &history,
        json!({"name": "x", "n": 5}),
        json!({"title": "x", "n": 10, "kind": "a"}),
    );
    for too_large in [i64::MAX, 1 << 40] {
        let refused = migrated(&history, 1, 2, json!({"name": "x", "n": too_large}));
        assert!(
            matches!(refused, Err(MigrateError::Expression(_))),
            "{refused:?}"
        );
    }
    let broken = json!({ "upgrade": { "type": "JSONATA", "expression": "{" } });
    finds(
        NAME,
        NAME,
        broken,
        &[
            "note not-checked upgrade ",
            "error bad-expression upgrade ",
            "error not-invertible downgrade ",
        ],
    );
}

#[test]
fn what_authors_are_shown_can_be_used() {
    let document = include_str!("../../../docs/migrations.md");
    let examples = document.split("```json").skip(1);
    let examples: Vec<_> = examples
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    let (operations, files): (Vec<&str>, Vec<_>) = examples
        .into_iter()
        .partition(|text| !text.contains("\"upgrade\""));
    for text in &operations {
        let operation = serde_json::from_str::<Operation>(text);
        if let Operation::Split(parts) | Operation::Join(parts) = operation.unwrap() {
            assert!(split::Splitter::compile(&parts).is_ok(), "{text}");
        }
    }
    assert_eq!((operations.len(), files.len()), (9, 1));
    let code = |code: &&Code| !document.contains(&format!("`{code}`"));
    assert_eq!(Code::ALL.iter().find(code), None, "every code is told");

    let older = r#"{"name":"amount","type":"long"}"#;
    let newer = r#"{"name":"price","type":{"type":"string","logicalType":"decimal"}},
        {"name":"currency","type":"string"}"#;
    let example = serde_json::from_str(files[0]).unwrap();
    let history = history(older, newer, example);
    assert!(
        history.check(2).unwrap().is_ok(),
        "{}",
        history.check(2).unwrap()
    );
    both_ways(
        &history,
        json!({"amount": 1_314}),
        json!({"price": "13.14", "currency": "EUR"}),
    );
}

/// What is said of an event with this note, whose field is personal or is not.
#[track_caller]
fn said(personal: bool, operations: &Json, expected: &str) {
    let note = format!(r#"{{"name":"note","type":"string","personal":{personal}}}"#);
    let history = history(
        &note,
        r#"{"name":"other","type":"long","default":0}"#,
        operations.clone(),
    );
    let error = migrated(&history, 1, 2, json!({"note": "secret"})).unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn what_an_event_with_personal_fields_says_is_in_no_error() {
    let moved = json!({
        "upgrade": { "type": "ANNALS", "drops": ["other"], "operations": [
            {"op":"rename","from":"note","to":"other"}, {"op":"convert","field":"other"}] },
        "downgrade": { "type": "ANNALS", "operations": [
            {"op":"convert","field":"other"}, {"op":"rename","from":"other","to":"note"}] },
    });
    let field = "field `other` cannot be migrated:";
    said(
        false,
        &moved,
        &format!("{field} \"secret\" is not a decimal number"),
    );
    said(true, &moved, &format!("{field} it is not a decimal number"));
    for expression in ["$error(note)", r#"{"other": note}"#] {
        let rule = json!({ "type": "JSONATA", "expression": expression });
        let rules = json!({ "upgrade": rule, "downgrade": rule });
        said(true, &rules, &format!("the expression failed: {UNTOLD}"));
    }
    let nothing = json!({ "type": "JSONATA", "expression": "nothing" });
    let rules = json!({ "upgrade": nothing, "downgrade": nothing });
    said(true, &rules, "the expression failed: it has no result");
}

#[test]
fn an_event_is_shown_without_what_is_personal_however_deep() {
    let history = history(
        r#"{"name":"who","type":["null",{"type":"record","name":"Person","fields":[
              {"name":"rank","type":"int"},
              {"name":"email","type":["null","string"],"personal":true},
              {"name":"friends","type":{"type":"array","items":"Person"}},
              {"name":"by_role","type":{"type":"map","values":"Person"}}]}]}"#,
        NAME,
        Json::Null,
    );
    let person = |friends: Json, by_role: Json| json!({ "rank": 1, "email": "a@b", "friends": friends, "by_role": by_role });
    let inner = person(json!([]), json!({}));
    let all = json!({ "who": person(json!([inner]), json!({ "boss": inner })) });
    let schema = history.schema(1).unwrap();
    let value = Value::from_rule(&all, schema, schema.root()).unwrap();
    assert_eq!(value.to_json(), all);
    let hidden = all.to_string().replace("a@b", "(personal)");
    assert_eq!(schema.shown(&value).to_string(), hidden);
    assert_eq!(hidden.matches("(personal)").count(), 3);
}
