use std::collections::BTreeMap;

use kernel::Decimal;
use serde::{Deserialize, Serialize};

use super::*;

/// Schema files of the context `tasks`, given as (event, fields).
fn schemas(events: &[(&str, &str)]) -> ContextSchemas {
    let files: Vec<_> = events
        .iter()
        .map(|(event, fields)| {
            let text = format!(
                r#"{{"type":"record","namespace":"annals.tasks","name":"{event}","fields":[{fields}]}}"#
            );
            (format!("{event}.v1.avsc"), text)
        })
        .collect();
    let files = files.iter().map(|(file, text)| (&**file, &**text));
    ContextSchemas::load("tasks", files).unwrap()
}

/// What is found between an enum and one schema, without the first and the last line.
fn drift<E: Event>(event: &str, fields: &str) -> Vec<String> {
    drift_of::<E>(&schemas(&[(event, fields)]))
}

fn drift_of<E: Event>(schemas: &ContextSchemas) -> Vec<String> {
    let mut drift = Drift::from(schemas);
    drift.compare::<E>();
    let report = drift.report().unwrap_or_default();
    let lines = report.lines().filter_map(|line| line.strip_prefix("  "));
    lines.map(str::to_owned).collect()
}

macro_rules! events {
    ($name:ident { $($body:tt)* }) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[allow(clippy::large_enum_variant)]
        enum $name { $($body)* }
    };
}

const TITLE: &str = r#"{"name":"title","type":"string"}"#;

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Open,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Price {
    amount: Decimal,
    currency: String,
}

/// A text with a rule, as ids and names have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Mail(String);

impl TryFrom<String> for Mail {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.contains('@') {
            true => Ok(Self(text)),
            false => Err("is no mail address".into()),
        }
    }
}

impl From<Mail> for String {
    fn from(mail: Mail) -> Self {
        mail.0
    }
}

events!(Everything {
    Happened {
        flag: bool,
        small: i32,
        big: i64,
        ratio: f64,
        text: String,
        mail: Mail,
        id: uuid::Uuid,
        price: Price,
        earlier: Option<Price>,
        status: Status,
        history: Vec<Status>,
        labels: BTreeMap<String, i64>,
        due: Option<i64>,
        raw: Json,
    },
    Emptied {},
});

/// Opaque JSON, whose text is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct Json(String);

const EVERYTHING: &str = r#"
    {"name":"flag","type":"boolean"},
    {"name":"small","type":"int"},
    {"name":"big","type":"long"},
    {"name":"ratio","type":"double"},
    {"name":"text","type":"string"},
    {"name":"mail","type":"string"},
    {"name":"id","type":{"type":"string","logicalType":"uuid"}},
    {"name":"price","type":{"type":"record","name":"Price","fields":[
        {"name":"amount","type":{"type":"string","logicalType":"decimal"}},
        {"name":"currency","type":"string"}]}},
    {"name":"earlier","type":["null","Price"],"default":null},
    {"name":"status","type":{"type":"enum","name":"Status","symbols":["open","closed"]}},
    {"name":"history","type":{"type":"array","items":"annals.tasks.Status"}},
    {"name":"labels","type":{"type":"map","values":"long"}},
    {"name":"due","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"default":null},
    {"name":"raw","type":{"type":"string","logicalType":"json"}}"#;

#[test]
fn types_that_say_what_the_files_say_pass() {
    let files = schemas(&[("Happened", EVERYTHING), ("Emptied", "")]);
    assert_eq!(drift_of::<Everything>(&files), Vec::<String>::new());
    crate::assert_events_match_schemas!(Everything, files);
}

#[test]
fn every_branch_and_every_symbol_is_sampled() {
    let files = schemas(&[("Happened", EVERYTHING)]);
    let text = &files.current("Happened").unwrap().text;
    let (samples, findings) = samples::<Everything>("Happened", text);
    assert_eq!(findings, Vec::<String>::new());
    let has = |test: &dyn Fn(&Everything) -> bool| samples.iter().any(|s| test(&s.event));
    for wanted in [Status::Open, Status::Closed] {
        assert!(has(
            &|event| matches!(event, Everything::Happened { status, .. } if *status == wanted)
        ));
        assert!(has(
            &|event| matches!(event, Everything::Happened { history, .. } if history.contains(&wanted))
        ));
    }
    for present in [true, false] {
        assert!(has(
            &|event| matches!(event, Everything::Happened { due, .. } if due.is_some() == present)
        ));
        assert!(has(
            &|event| matches!(event, Everything::Happened { labels, .. } if labels.is_empty() == present)
        ));
    }
}

#[test]
#[should_panic(expected = "Created.v1.avsc, field `done_by`: is in Rust, but not in the schema")]
fn the_macro_takes_several_enums_and_fails_with_the_report() {
    events!(Mine { Created { title: String } });
    events!(Boards { Created { title: String, done_by: Option<String> } });
    crate::assert_events_match_schemas!([Mine, Boards], schemas(&[("Created", TITLE)]));
}

#[test]
fn a_field_that_rust_lacks_is_named() {
    events!(Tasks { Created { title: String } });
    let fields = format!(r#"{TITLE},{{"name":"points","type":"int"}}"#);
    assert_eq!(
        drift::<Tasks>("Created", &fields),
        ["Created.v1.avsc, field `points`: is in the schema (int), but not in Rust: add it"]
    );
}

#[test]
fn a_field_that_the_schema_lacks_is_named() {
    events!(Tasks { Created { title: String, points: i32 } });
    assert_eq!(
        drift::<Tasks>("Created", TITLE),
        [
            "Created.v1.avsc, field `points`: is in Rust, but not in the schema: remove it, or bring it with the next version of the schema"
        ]
    );
}

#[test]
fn fields_in_another_order_are_named() {
    events!(Tasks { Created { points: i32, title: String } });
    let fields = format!(r#"{TITLE},{{"name":"points","type":"int"}}"#);
    assert_eq!(
        drift::<Tasks>("Created", &fields),
        [
            "Created.v1.avsc: the fields stand in another order in Rust, which makes writing slow: put them in the schema's (title, points)"
        ]
    );
}

#[test]
fn each_wrong_type_is_named_with_the_right_one() {
    events!(Tasks {
        Created {
            a: i64,
            b: u32,
            c: String,
            d: i64,
            e: Vec<u8>,
            f: Status,
            g: Vec<String>,
            h: f32,
            i: String,
        }
    });
    let found = drift::<Tasks>(
        "Created",
        r#"{"name":"a","type":"int"},{"name":"b","type":"int"},{"name":"c","type":"long"},
           {"name":"d","type":"string"},{"name":"e","type":"bytes"},{"name":"f","type":"string"},
           {"name":"g","type":{"type":"map","values":"string"}},{"name":"h","type":"double"},
           {"name":"i","type":{"type":"enum","name":"E","symbols":["x"]}}"#,
    );
    // A type that has no value to go on with ends the comparison of its event.
    let expected = [
        "`a`: is int in the schema, but i64 in Rust: make it i32, or",
        "`b`: is int in the schema, but u32 in Rust: make it i32, or",
        "`c`: is long in the schema, but String in Rust: make it i64, or",
        "`d`: is string in the schema, but i64 in Rust: make it String, or",
        "`e`: is bytes in the schema, but Vec in Rust: make it bytes (serde_bytes), or",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(
            found.contains(expected),
            "{found} does not have: {expected}"
        );
    }
}

#[test]
fn types_that_are_no_values_of_one_kind_are_named() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Either {
        Text(String),
        Number(i64),
    }
    events!(Enums { Created { title: Status } });
    events!(Pairs { Created { title: (String, String) } });
    events!(Free { Created { title: Either } });
    events!(Structs { Created { title: Price } });
    for (found, rust) in [
        (drift::<Enums>("Created", TITLE), "an enum"),
        (
            drift::<Pairs>("Created", TITLE),
            "a tuple or an array of fixed length",
        ),
        (
            drift::<Free>("Created", TITLE),
            "a type that takes anything (untagged, or free-form)",
        ),
        (drift::<Structs>("Created", TITLE), "a struct"),
    ] {
        assert_eq!(
            found,
            [format!(
                "Created.v1.avsc, field `title`: is string in the schema, but {rust} in Rust: make it String, or bring {rust} with the next version of the schema"
            )]
        );
    }
}

#[test]
fn a_flattened_field_is_named() {
    events!(Tasks { Created { #[serde(flatten)] price: Price } });
    let found = drift::<Tasks>("Created", TITLE);
    assert!(found[0].contains("none of them flattened"), "{found:?}");
}

#[test]
fn a_newtype_that_is_not_transparent_is_named() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Title(String);
    events!(Tasks { Created { title: Title } });
    assert_eq!(
        drift::<Tasks>("Created", TITLE),
        [
            "Created.v1.avsc, field `title`: cannot be read as the newtype Title: give it #[serde(transparent)]"
        ]
    );
}

#[test]
fn symbols_are_compared_both_ways() {
    let status = |symbols: &str| {
        format!(
            r#"{{"name":"status","type":{{"type":"enum","name":"Status","symbols":[{symbols}]}}}}"#
        )
    };
    events!(Tasks { Created { status: Status } });
    assert_eq!(
        drift::<Tasks>("Created", &status(r#""open","closed","lost""#)),
        [
            "Created.v1.avsc, field `status`: has the symbol lost in the schema, but Rust has no such variant: add it"
        ]
    );
    assert_eq!(
        drift::<Tasks>("Created", &status(r#""open""#)),
        [
            "Created.v1.avsc, field `status`: has the variant closed in Rust, but the schema has no such symbol: remove it, or bring it with the next version of the schema"
        ]
    );
}

#[test]
fn null_and_option_belong_together() {
    events!(Plain { Created { title: String } });
    events!(Optional { Created { title: Option<String> } });
    assert_eq!(
        drift::<Plain>("Created", r#"{"name":"title","type":["null","string"]}"#),
        ["Created.v1.avsc, field `title`: may be null in the schema: make it an Option"]
    );
    assert_eq!(
        drift::<Optional>("Created", TITLE),
        [
            "Created.v1.avsc, field `title`: is an Option in Rust, but never null in the schema: make it a plain value, or bring null with the next version of the schema"
        ]
    );
}

#[test]
fn drift_deep_inside_is_named_by_its_path() {
    events!(Tasks { Created { prices: Option<Vec<Price>> } });
    let fields = r#"{"name":"prices","type":["null",{"type":"array","items":
        {"type":"record","name":"Price","fields":[
            {"name":"amount","type":"double"},{"name":"currency","type":"string"}]}}]}"#;
    let found = drift::<Tasks>("Created", fields);
    assert!(found[0].starts_with("Created.v1.avsc, field `prices.items.amount`: is double in the schema, but String in Rust"), "{found:?}");
}

#[test]
fn a_variant_without_a_file_and_a_file_without_a_variant_are_named() {
    events!(Tasks { Created { title: String }, Completed {} });
    let files = schemas(&[("Created", TITLE), ("Reopened", "")]);
    assert_eq!(
        drift_of::<Tasks>(&files),
        [
            "Completed: no schema file: add schemas/tasks/Completed.v1.avsc, or remove the variant",
            "Reopened.v1.avsc: no variant Reopened in the enums compared: add it (old logs must still replay)",
        ]
    );
}

#[test]
fn a_variant_that_is_not_made_of_named_fields_is_named() {
    events!(Tasks { Created(String) });
    let found = drift::<Tasks>("Created", TITLE);
    assert!(
        found[0].contains("each variant of an event enum must have named fields"),
        "{found:?}"
    );
}

#[test]
fn what_the_type_refuses_is_named() {
    events!(Tasks { Created { title: Never } });
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    #[serde(try_from = "String")]
    struct Never {}
    impl TryFrom<String> for Never {
        type Error = &'static str;
        fn try_from(_: String) -> Result<Self, &'static str> {
            Err("is never right")
        }
    }
    assert_eq!(
        drift::<Tasks>("Created", TITLE),
        [
            "Created.v1.avsc, field `title`: the Rust type refuses what the schema allows: is never right"
        ]
    );
}

#[test]
fn a_text_that_must_be_kept_to_the_letter_is_checked_in_the_bytes() {
    /// Equal to its original, and written otherwise.
    #[derive(Clone, Debug, Serialize, Deserialize)]
    #[serde(from = "String", into = "String")]
    struct Rounded(String);
    impl From<String> for Rounded {
        fn from(text: String) -> Self {
            Self(text.trim_end_matches('0').into())
        }
    }
    impl From<Rounded> for String {
        fn from(rounded: Rounded) -> Self {
            rounded.0
        }
    }
    impl PartialEq for Rounded {
        fn eq(&self, _: &Self) -> bool {
            true
        }
    }
    events!(Tasks { Priced { amount: Rounded } });
    let fields = r#"{"name":"amount","type":{"type":"string","logicalType":"decimal"}}"#;
    let found = drift::<Tasks>("Priced", fields);
    assert!(
        found[0].starts_with(r#"Priced.v1.avsc: the text "13.14000" is written otherwise"#),
        "{found:?}"
    );
}

#[test]
fn what_is_written_otherwise_than_it_is_read_is_found() {
    events!(Tasks { Created { #[serde(rename(serialize = "name"))] title: String } });
    let found = drift::<Tasks>("Created", TITLE);
    assert!(found[0].contains("cannot be written"), "{found:?}");
}

#[test]
fn a_union_of_several_is_an_enum_of_its_branches() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Card {
        number: String,
    }
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    enum Means {
        #[serde(rename = "annals.tasks.Card")]
        Card(Card),
        String(String),
    }
    let means = |null: &str| {
        format!(
            r#"{{"name":"means","type":[{null}{{"type":"record","name":"Card","fields":[{{"name":"number","type":"string"}}]}},"string"]}}"#
        )
    };
    events!(Tasks { Paid { means: Means } });
    assert_eq!(drift::<Tasks>("Paid", &means("")), Vec::<String>::new());
    let found = drift::<Tasks>("Paid", &means(r#""null","#));
    assert_eq!(
        found,
        ["Paid.v1.avsc, field `means`: may be null in the schema: make it an Option"]
    );
    let found = drift::<Tasks>("Paid", r#"{"name":"means","type":["string","long"]}"#);
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn types_of_one_name_in_two_namespaces_are_two() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Quote {
        text: String,
    }
    events!(Tasks { Priced { price: Price, quoted: Quote, paid: Price } });
    let fields = r#"{"name":"price","type":{"type":"record","name":"Price","fields":[
            {"name":"amount","type":{"type":"string","logicalType":"decimal"}},
            {"name":"currency","type":"string"}]}},
        {"name":"quoted","type":{"type":"record","namespace":"annals.quotes","name":"Price",
            "fields":[{"name":"text","type":"string"}]}},
        {"name":"paid","type":"Price"}"#;
    assert_eq!(drift::<Tasks>("Priced", fields), Vec::<String>::new());
}

#[test]
fn a_schema_that_contains_itself_comes_to_an_end() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Tree {
        left: Option<Box<Tree>>,
        right: Option<Box<Tree>>,
        more: Vec<Tree>,
    }
    events!(Tasks { Planted { tree: Tree } });
    let fields = r#"{"name":"tree","type":{"type":"record","name":"Tree","fields":[
        {"name":"left","type":["null","Tree"]},{"name":"right","type":["null","Tree"]},
        {"name":"more","type":{"type":"array","items":"Tree"}}]}}"#;
    assert_eq!(drift::<Tasks>("Planted", fields), Vec::<String>::new());
}
