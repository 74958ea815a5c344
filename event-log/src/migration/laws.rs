//! Laws that hold for any rules and any values.

use proptest::{prelude::*, sample::subsequence};
use serde_json::{Value as Json, json};

use super::*;

/// A field, or a few, and what happens to it from one version to the next.
#[derive(Clone, Copy, Debug)]
enum Change {
    Stays,
    Renamed,
    CentsToDecimal,
    IntToBytes,
    Mapped,
    Split,
    NullToDefault,
    Dropped,
    InArray,
    InMapOfUnions,
    IntoRecord,
    Added,
}

const CHANGES: [Change; 12] = [
    Change::Stays,
    Change::Renamed,
    Change::CentsToDecimal,
    Change::IntToBytes,
    Change::Mapped,
    Change::Split,
    Change::NullToDefault,
    Change::Dropped,
    Change::InArray,
    Change::InMapOfUnions,
    Change::IntoRecord,
    Change::Added,
];

/// What a change is, for the field of this number.
struct Facet {
    older: String,
    newer: String,
    operations: Json,
    /// What is accepted to be lost on the way up, and down.
    drops: [Vec<String>; 2],
    value: BoxedStrategy<Json>,
}

impl Change {
    fn facet(self, n: usize) -> Facet {
        let a = format!("a{n}");
        let b = format!("b{n}");
        let field = |name: &str, of: &str| format!(r#"{{"name":"{name}","type":{of}}}"#);
        let plain = |older: String, newer: String, operations: Json, value| Facet {
            older,
            newer,
            operations,
            drops: [vec![], vec![]],
            value,
        };
        let text = || any::<String>().prop_map(Json::from).boxed();
        match self {
            Self::Stays => {
                let all = format!(
                    r#"{{"type":"record","name":"All{n}","fields":[{},{},{},{},{}]}}"#,
                    field("x", r#""double""#),
                    field("y", r#""bytes""#),
                    field(
                        "z",
                        r#"{"type":"array","items":["null","float","boolean","string"]}"#
                    ),
                    field(
                        "f",
                        &format!(r#"{{"type":"fixed","name":"F{n}","size":3}}"#)
                    ),
                    field(
                        "d",
                        r#"{"type":"bytes","logicalType":"decimal","precision":30,"scale":4}"#
                    ),
                );
                let value = (any::<f64>(), any::<bool>(), any::<f32>(), any::<i64>());
                let value = value.prop_map(|(double, boolean, float, unscaled)| {
                    let float = if float.is_finite() { float } else { 0.5 };
                    let double = if double.is_finite() {
                        json!(double)
                    } else {
                        json!("NaN")
                    };
                    let decimal = format!("{}.{:04}", unscaled, unscaled.unsigned_abs() % 10_000);
                    json!({"x": double, "y": "\u{0}ÿ", "z": [null, float, boolean, "x"],
                           "f": "abc", "d": decimal})
                });
                plain(field(&a, &all), field(&a, &all), json!([]), value.boxed())
            }
            Self::Renamed => plain(
                field(&a, r#""long""#),
                field(&b, r#""long""#),
                json!([{"op": "rename", "from": a, "to": b}]),
                any::<i64>().prop_map(Json::from).boxed(),
            ),
            Self::CentsToDecimal => Facet {
                drops: [vec![], vec![a.clone()]],
                ..plain(
                    field(&a, r#""long""#),
                    field(&a, r#"{"type":"string","logicalType":"decimal"}"#),
                    json!([{"op": "convert", "field": a, "shift": (n as i32 % 7) - 3}]),
                    any::<i64>().prop_map(Json::from).boxed(),
                )
            },
            Self::IntToBytes => plain(
                field(&a, r#"["null","int"]"#),
                field(
                    &b,
                    r#"["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}]"#,
                ),
                json!([{"op": "convert", "field": a}, {"op": "rename", "from": a, "to": b}]),
                any::<Option<i32>>().prop_map(Json::from).boxed(),
            ),
            Self::Mapped => {
                let of = |symbols: &str| {
                    format!(r#"{{"type":"enum","name":"E{n}","symbols":[{symbols}]}}"#)
                };
                plain(
                    field(&a, &of(r#""one","two","three""#)),
                    field(&a, &of(r#""drei","two","eins""#)),
                    json!([{"op": "map", "field": a, "symbols": {"one": "eins", "three": "drei"}}]),
                    prop_oneof![Just("one"), Just("two"), Just("three")]
                        .prop_map(Json::from)
                        .boxed(),
                )
            }
            Self::Split => {
                let parts = format!(
                    "{},{},{}",
                    field(&a, r#""string""#),
                    field(&b, r#"["null","string"]"#),
                    field(&format!("c{n}"), r#"["null","string"]"#)
                );
                let split = json!([{
                    "op": "split", "field": a, "whole": a, "otherwise": format!("c{n}"),
                    "pattern": format!("(?<b{n}>[a-z]*)[-:]+(?<a{n}>.*)"),
                    "template": format!("{{b{n}}}-{{a{n}}}"),
                }]);
                let typed = "[a-c\\-: \\n]{0,9}".prop_map(Json::from).boxed();
                plain(
                    field(&a, r#""string""#),
                    parts,
                    split,
                    prop_oneof![typed, text()].boxed(),
                )
            }
            Self::NullToDefault => Facet {
                drops: [vec![a.clone()], vec![]],
                ..plain(
                    field(&a, r#"["null","string"]"#),
                    field(&a, r#""string""#),
                    json!([{"op": "default", "field": a, "value": "-"}]),
                    prop_oneof![Just(Json::Null), text()].boxed(),
                )
            },
            Self::Dropped => Facet {
                drops: [vec![a.clone()], vec![b.clone()]],
                ..plain(
                    format!(r#"{{"name":"{a}","type":"string","default":"gone"}}"#),
                    field(&b, r#"["null","string"]"#).replace('}', r#","default":null}"#),
                    json!([{"op": "drop", "field": a}]),
                    text(),
                )
            },
            Self::InArray => {
                let of = |name: &str| {
                    let inner = format!(
                        r#"{{"type":"record","name":"I{n}","fields":[{}]}}"#,
                        field(name, r#"["null","long","string"]"#)
                    );
                    field(&a, &format!(r#"{{"type":"array","items":{inner}}}"#))
                };
                let item = any::<Option<i64>>().prop_map(|x| json!({"x": x}));
                let items = prop::collection::vec(item, 0..4);
                plain(
                    of("x"),
                    of("y"),
                    json!([{"op": "rename", "from": format!("{a}[].x"), "to": format!("{a}[].y")}]),
                    items.prop_map(Json::from).boxed(),
                )
            }
            Self::InMapOfUnions => {
                let of = |name: &str| {
                    let inner = format!(
                        r#"{{"type":"record","name":"M{n}","fields":[{}]}}"#,
                        field(name, r#""boolean""#)
                    );
                    field(
                        &a,
                        &format!(r#"{{"type":"map","values":["null","int",{inner}]}}"#),
                    )
                };
                let one = prop_oneof![
                    Just(Json::Null),
                    any::<i32>().prop_map(Json::from),
                    any::<bool>().prop_map(|x| json!({"x": x})),
                ];
                let all = prop::collection::btree_map(any::<String>(), one, 0..4);
                plain(
                    of("x"),
                    of("y"),
                    json!([{"op": "rename", "from": format!("{a}{{}}.x"), "to": format!("{a}{{}}.y")}]),
                    all.prop_map(|all| json!(all)).boxed(),
                )
            }
            Self::IntoRecord => {
                let inner = format!(
                    r#"{{"type":"record","name":"R{n}","fields":[{}]}}"#,
                    field("x", r#""string""#)
                );
                Facet {
                    drops: [vec![], vec![b.clone()]],
                    ..plain(
                        field(&a, r#""string""#),
                        field(&b, &inner),
                        json!([{"op": "rename", "from": a, "to": format!("{b}.x")}]),
                        text(),
                    )
                }
            }
            Self::Added => Facet {
                drops: [vec![], vec![b.clone(), format!("c{n}")]],
                ..plain(
                    field(&a, r#""string""#),
                    format!(
                        "{},{},{}",
                        field(&a, r#""string""#),
                        field(&b, r#""string""#),
                        field(&format!("c{n}"), r#""long""#)
                    ),
                    json!([
                        {"op": "copy", "from": a, "to": b},
                        {"op": "constant", "field": format!("c{n}"), "value": i64::MIN},
                    ]),
                    text(),
                )
            },
        }
    }
}

/// Two schemas, the rules between them, and a value of the older.
fn edge() -> impl Strategy<Value = (History, Json)> {
    subsequence(&CHANGES[..], 0..=CHANGES.len())
        .prop_shuffle()
        .prop_flat_map(|changes| {
            let facets = changes.into_iter().enumerate();
            let facets: Vec<Facet> = facets.map(|(n, change)| change.facet(n)).collect();
            let record = |fields: Vec<&str>| {
                format!(
                    r#"{{"type":"record","name":"Event","fields":[{}]}}"#,
                    fields.join(",")
                )
            };
            let older = record(facets.iter().map(|facet| &*facet.older).collect());
            let newer = record(facets.iter().map(|facet| &*facet.newer).collect());
            let operations = facets.iter().flat_map(|facet| facet.operations.as_array());
            let operations: Vec<_> = operations.flatten().cloned().collect();
            let drops = |way: usize| -> Vec<_> {
                facets
                    .iter()
                    .flat_map(|facet| facet.drops[way].clone())
                    .collect()
            };
            let migration = json!({
                "upgrade": { "type": "ANNALS", "operations": operations, "drops": drops(0) },
                "downgrade": { "type": "ANNALS", "drops": drops(1) },
            });
            let mut history = History::default();
            history.push(&older, None).unwrap();
            let migration = Migration::parse(&migration.to_string()).unwrap();
            history.push(&newer, Some(migration)).unwrap();
            let values: Vec<_> = facets.into_iter().map(|facet| facet.value).collect();
            (Just(history), values).prop_map(|(history, values)| {
                let values = values.into_iter().enumerate();
                let event: serde_json::Map<_, _> =
                    values.map(|(n, value)| (format!("a{n}"), value)).collect();
                (history, Json::Object(event))
            })
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_up_comes_back_unless_it_was_accepted_as_lost((history, event) in edge()) {
        let report = history.check(2).unwrap();
        prop_assert!(report.is_ok(), "{}", report);
        let schema = history.schema(1).unwrap();
        let written = Value::from_rule(&event, schema, schema.root()).unwrap();
        let mut datum = Vec::new();
        schema.encode(&written, &mut datum).unwrap();

        let (mut newer, mut back) = (Vec::new(), Vec::new());
        history.plan(1, 2).unwrap().migrate(&datum, &mut newer).unwrap();
        history.plan(2, 1).unwrap().migrate(&newer, &mut back).unwrap();
        let (Value::Record(mut was), Value::Record(mut is)) = (written, schema.decode(&back).unwrap()) else {
            panic!("events are records");
        };
        for lost in report.lost(Direction::Upgrade) {
            was.take(lost);
            is.take(lost);
        }
        prop_assert_eq!(was, is);
    }

    #[test]
    fn a_chain_of_plans_is_the_plan_of_the_chain((history, event) in edge()) {
        let schema = history.schema(1).unwrap();
        let written = Value::from_rule(&event, schema, schema.root()).unwrap();
        let newer = history.plan(1, 2).unwrap().apply(written).unwrap();
        // Once more over the same edge, as a third and a fourth version.
        let mut long = history.clone();
        let swap = |long: &mut History, version: u32| {
            let migration = history.migration(2).unwrap();
            let rule = |direction| serde_json::to_value(migration.rule(direction)).unwrap();
            let back = json!({
                "upgrade": rule(Direction::Downgrade), "downgrade": rule(Direction::Upgrade),
            });
            let migration = match version {
                1 => Migration::parse(&back.to_string()).unwrap(),
                _ => migration.clone(),
            };
            long.push(history.schema(version).unwrap().text(), Some(migration)).unwrap();
        };
        swap(&mut long, 1);
        swap(&mut long, 2);
        let down = history.plan(2, 1).unwrap().apply(newer.clone()).unwrap();
        let again = history.plan(1, 2).unwrap().apply(down).unwrap();
        prop_assert_eq!(long.plan(2, 4).unwrap().apply(newer).unwrap(), again);
    }

    #[test]
    fn any_bytes_are_read_or_refused((history, _) in edge(), bytes: Vec<u8>) {
        let schema = history.schema(1).unwrap();
        if let Ok(value) = schema.decode(&bytes) {
            let mut datum = Vec::new();
            schema.encode(&value, &mut datum).unwrap();
            prop_assert_eq!(schema.decode(&datum), Ok(value));
        }
    }

    #[test]
    fn any_rule_is_checked_without_harm((history, _) in edge(), rules in rules()) {
        let migration = json!({ "upgrade": { "type": "ANNALS", "operations": rules } });
        let migration = Migration::parse(&migration.to_string()).unwrap();
        let (older, newer) = (history.schema(1).unwrap(), history.schema(2).unwrap());
        let report = migration.check(older, newer);
        let mut mended = History::default();
        mended.push(older.text(), None).unwrap();
        mended.push(newer.text(), Some(migration)).unwrap();
        let errors = |direction| report.errors().any(|found| found.direction == direction);
        prop_assert_eq!(mended.plan(1, 2).is_err(), errors(Direction::Upgrade));
    }
}

fn rules() -> impl Strategy<Value = Vec<Json>> {
    let path = "[ab][0-3](\\.[xy]|\\[\\]\\.[xy]|\\{\\}\\.x|\\[\\]|)";
    let one = (path, path, 0..8_usize).prop_map(|(a, b, which)| match which {
        0 => json!({"op": "rename", "from": a, "to": b}),
        1 => json!({"op": "copy", "from": a, "to": b}),
        2 => json!({"op": "default", "field": a, "value": "x"}),
        3 => json!({"op": "constant", "field": a, "value": {"x": [null]}}),
        4 => json!({"op": "drop", "field": a}),
        5 => json!({"op": "map", "field": a, "symbols": {"one": "two"}, "otherwise": "x"}),
        6 => json!({"op": "convert", "field": a, "shift": 2}),
        _ => json!({"op": "split", "field": "a0", "pattern": "(?<b0>.)(?<a1>.*)",
                    "template": "{b0}", "whole": "a1"}),
    });
    prop::collection::vec(one, 0..5)
}
