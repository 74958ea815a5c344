//! Which changes readers survive: the rules of the Avro specification 1.12, "Schema Resolution",
//! as Java's `SchemaCompatibility` applies them. Each table has its rule as its name; a row is the
//! reader's schema, the writer's, and what is expected: nothing if the reader can read, else the
//! first difference and where it is.

use schema_registry::avro::IncompatibilityKind::{self, *};
use schema_registry::avro::{AvroSchema, can_read};
use serde_json::{Value, json};

type Expected = Option<(IncompatibilityKind, &'static str)>;
const FITS: Expected = None;

#[track_caller]
fn check<const N: usize>(table: [(Value, Value, Expected); N]) {
    for (reader, writer, expected) in table {
        let [read, written] =
            [&reader, &writer].map(|schema| AvroSchema::parse(&schema.to_string()).unwrap());
        let found = can_read(&read, &written).unwrap();
        let first = found.first().map(|one| (one.kind, one.path.as_str()));
        assert_eq!(
            first, expected,
            "\nreader {reader}\nwriter {writer}\n{found:?}"
        );
    }
}

fn record(fields: Value) -> Value {
    json!({"type": "record", "name": "R", "fields": fields})
}

/// A record with one field `f` of this type.
fn field(type_: Value) -> Value {
    record(json!([{"name": "f", "type": type_}]))
}

fn enumeration(symbols: Value) -> Value {
    json!({"type": "enum", "name": "E", "symbols": symbols})
}

/// "the writer's schema may be promoted to the reader's as follows"
#[test]
fn primitives_are_promoted() {
    let promoted = [
        ("int", vec!["long", "float", "double"]),
        ("long", vec!["float", "double"]),
        ("float", vec!["double"]),
        ("string", vec!["bytes"]),
        ("bytes", vec!["string"]),
    ];
    let all = [
        "null", "boolean", "int", "long", "float", "double", "bytes", "string",
    ];
    for writer in all {
        for reader in all {
            let fits = writer == reader
                || promoted
                    .iter()
                    .any(|(from, to)| *from == writer && to.contains(&reader));
            let expected = if fits {
                FITS
            } else {
                Some((TypeMismatch, "/"))
            };
            check([(json!(reader), json!(writer), expected)]);
            let expected = if fits {
                FITS
            } else {
                Some((TypeMismatch, "/fields/0/type"))
            };
            check([(field(json!(reader)), field(json!(writer)), expected)]);
        }
    }
}

/// "if the reader's record schema has a field that contains a default value, and writer's schema
/// does not have a field with the same name, then the reader should use the default value"
#[test]
fn a_new_field_needs_a_default() {
    let two = |default: Value| {
        let mut added = json!({"name": "g", "type": ["null", "int"]});
        added
            .as_object_mut()
            .unwrap()
            .extend(default.as_object().unwrap().clone());
        record(json!([{"name": "f", "type": "int"}, added]))
    };
    check([
        (
            two(json!({})),
            field(json!("int")),
            Some((ReaderFieldMissingDefaultValue, "/fields/1")),
        ),
        (two(json!({"default": null})), field(json!("int")), FITS),
    ]);
}

/// "if the writer's record contains a field with a name not present in the reader's record, the
/// writer's value for that field is ignored"; "the ordering of fields may be different"
#[test]
fn fields_may_go_and_change_places() {
    check([
        (record(json!([])), field(json!("int")), FITS),
        (
            record(json!([{"name": "a", "type": "int"}, {"name": "b", "type": "string"}])),
            record(json!([{"name": "b", "type": "string"}, {"name": "a", "type": "int"}])),
            FITS,
        ),
    ]);
}

/// "an implementation may optionally use aliases to map a writer's schema to the reader's"
#[test]
fn the_readers_aliases_of_fields_count_and_the_writers_do_not() {
    let renamed = record(json!([{"name": "g", "type": "int", "aliases": ["f"]}]));
    check([
        (renamed.clone(), field(json!("int")), FITS),
        (
            renamed.clone(),
            field(json!("string")),
            Some((TypeMismatch, "/fields/0/type")),
        ),
        (
            field(json!("int")),
            renamed,
            Some((ReaderFieldMissingDefaultValue, "/fields/0")),
        ),
        // Java refuses to choose.
        (
            record(json!([{"name": "g", "type": "int", "aliases": ["f"]}])),
            record(json!([{"name": "f", "type": "int"}, {"name": "g", "type": "int"}])),
            Some((NameMismatch, "/fields/0")),
        ),
    ]);
}

/// "both schemas are records with the same (unqualified) name"; likewise enums and fixed types
#[test]
fn names_match_without_their_namespace_or_by_alias() {
    let named = |name: &str| json!({"type": "record", "name": name, "fields": []});
    let with_alias =
        |alias: &str| json!({"type": "record", "name": "a.S", "aliases": [alias], "fields": []});
    let fixed = |name: &str| json!({"type": "fixed", "name": name, "size": 2});
    let symbols = |name: &str| json!({"type": "enum", "name": name, "symbols": ["A"]});
    check([
        (named("a.R"), named("b.R"), FITS),
        (named("R"), named("S"), Some((NameMismatch, "/name"))),
        (with_alias("a.R"), named("a.R"), FITS),
        (with_alias("R"), named("a.R"), FITS),
        (with_alias("R"), named("b.R"), Some((NameMismatch, "/name"))),
        (fixed("a.F"), fixed("b.F"), FITS),
        (fixed("F"), fixed("G"), Some((NameMismatch, "/name"))),
        (symbols("a.E"), symbols("b.E"), FITS),
        (symbols("E"), symbols("D"), Some((NameMismatch, "/name"))),
    ]);
}

/// "if the writer's symbol is not present in the reader's enum and the reader has a default value,
/// then that value is used, otherwise an error is signalled"
#[test]
fn a_symbol_of_the_writer_alone_needs_a_default() {
    let with_default =
        json!({"type": "enum", "name": "E", "symbols": ["A", "OTHER"], "default": "OTHER"});
    check([
        (
            enumeration(json!(["A", "B"])),
            enumeration(json!(["B"])),
            FITS,
        ),
        (
            enumeration(json!(["A"])),
            enumeration(json!(["B", "A"])),
            Some((MissingEnumSymbols, "/symbols")),
        ),
        (with_default, enumeration(json!(["A", "B"])), FITS),
        // The default of a field is for missing fields, not for unknown symbols.
        (
            record(json!([{"name": "f", "type": enumeration(json!(["A"])), "default": "A"}])),
            field(enumeration(json!(["A", "B"]))),
            Some((MissingEnumSymbols, "/fields/0/type/symbols")),
        ),
    ]);
}

/// "both schemas are fixed whose sizes and (unqualified) names match"
#[test]
fn fixed_types_match_in_size() {
    let fixed = |size: i32| json!({"type": "fixed", "name": "F", "size": size});
    check([
        (fixed(8), fixed(8), FITS),
        (fixed(8), fixed(4), Some((FixedSizeMismatch, "/size"))),
        (fixed(8), json!("bytes"), Some((TypeMismatch, "/"))),
        (json!("bytes"), fixed(8), Some((TypeMismatch, "/"))),
    ]);
}

/// "both schemas are arrays with matching item types"; "maps with matching value types"
#[test]
fn arrays_and_maps_match_in_what_they_hold() {
    let array = |items: &str| json!({"type": "array", "items": items});
    let map = |values: &str| json!({"type": "map", "values": values});
    check([
        (array("long"), array("int"), FITS),
        (array("int"), array("long"), Some((TypeMismatch, "/items"))),
        (map("double"), map("float"), FITS),
        (map("float"), map("double"), Some((TypeMismatch, "/values"))),
        (array("int"), map("int"), Some((TypeMismatch, "/"))),
        (
            field(array("int")),
            field(array("string")),
            Some((TypeMismatch, "/fields/0/type/items")),
        ),
    ]);
}

/// "if both are unions: the first schema in the reader's union that matches the selected writer's
/// union schema is recursively resolved against it"; likewise if only one of them is a union
#[test]
fn each_branch_of_the_writer_needs_one_of_the_reader() {
    check([
        (json!(["null", "int"]), json!(["int", "null"]), FITS),
        (
            json!(["null", "int", "string"]),
            json!(["null", "int"]),
            FITS,
        ),
        (json!(["null", "double"]), json!(["int", "null"]), FITS),
        (
            json!(["null", "int"]),
            json!(["null", "int", "string"]),
            Some((MissingUnionBranch, "/2")),
        ),
        (json!(["null", "int"]), json!("int"), FITS),
        (json!(["null", "long"]), json!("int"), FITS),
        (
            json!(["null", "int"]),
            json!("string"),
            Some((MissingUnionBranch, "/")),
        ),
        (json!("int"), json!(["int"]), FITS),
        (json!("long"), json!(["int", "long"]), FITS),
        (
            json!("int"),
            json!(["null", "int"]),
            Some((TypeMismatch, "/")),
        ),
        (json!([]), json!([]), FITS),
        (json!("int"), json!([]), FITS),
        (json!([]), json!("int"), Some((MissingUnionBranch, "/"))),
        (
            field(json!(["null", "int"])),
            field(json!(["null", "string"])),
            Some((MissingUnionBranch, "/fields/0/type/1")),
        ),
    ]);
}

#[test]
fn a_branch_fits_with_all_that_is_in_it() {
    let point = |fields: Value| json!({"type": "record", "name": "P", "fields": fields});
    let x = json!([{"name": "x", "type": "int"}]);
    let xy = json!([{"name": "x", "type": "int"}, {"name": "y", "type": "int"}]);
    check([
        (
            json!(["null", point(x.clone())]),
            json!(["null", point(xy.clone())]),
            FITS,
        ),
        (
            json!(["null", point(xy)]),
            json!(["null", point(x)]),
            Some((MissingUnionBranch, "/1")),
        ),
    ]);
}

#[test]
fn recursive_records_come_to_an_end() {
    let list = |value: &str| {
        json!({"type": "record", "name": "List", "fields": [
            {"name": "value", "type": value},
            {"name": "next", "type": ["null", "List"], "default": null}
        ]})
    };
    check([
        (list("long"), list("int"), FITS),
        (
            list("int"),
            list("long"),
            Some((TypeMismatch, "/fields/0/type")),
        ),
    ]);
}

/// What was taken to fit while a recursive type was being compared must not be believed after the
/// type turned out not to fit. `A` and `B` refer to each other; `A` does not fit, in a branch that
/// is tried in vain; so `B`, which holds an `A`, does not fit either where it is needed.
#[test]
fn a_verdict_that_rested_on_an_assumption_is_not_kept() {
    let schema = |x: &str, a_first: bool| {
        let b = json!({"type": "record", "name": "B", "fields": [{"name": "a", "type": "A"}]});
        let a = json!({"type": "record", "name": "A", "fields": [
            {"name": "b", "type": ["null", b]},
            {"name": "x", "type": x}
        ]});
        let alternatives = if a_first {
            json!([a, "string"])
        } else {
            json!([a])
        };
        record(json!([
            {"name": "f", "type": alternatives},
            {"name": "g", "type": ["null", "B"]}
        ]))
    };
    let [reader, writer] = [schema("int", true), schema("string", false)]
        .map(|schema| AvroSchema::parse(&schema.to_string()).unwrap());
    let found = can_read(&reader, &writer).unwrap();
    let paths: Vec<_> = found.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(paths, ["/fields/0/type/0", "/fields/1/type/1"]);
}

/// Java's check looks at the types alone.
#[test]
fn logical_types_play_no_part() {
    let decimal = |scale: i32| json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": scale});
    check([
        (decimal(2), decimal(4), FITS),
        (
            json!("string"),
            json!({"type": "string", "logicalType": "decimal"}),
            FITS,
        ),
    ]);
}

/// Where `apache-avro` says that schemas are compatible, so do we. The other way round it differs
/// from Java at times, which is why it is not asked.
#[test]
fn apache_avro_does_not_read_what_we_refuse() {
    let schemas = [
        json!("int"),
        json!("long"),
        json!("string"),
        json!("bytes"),
        json!(["null", "int"]),
        json!(["null", "long", "string"]),
        json!({"type": "array", "items": "int"}),
        json!({"type": "map", "values": "long"}),
        enumeration(json!(["A", "B"])),
        enumeration(json!(["A", "B", "C"])),
        json!({"type": "fixed", "name": "F", "size": 2}),
        field(json!("int")),
        field(json!("long")),
        field(json!(["null", "int"])),
    ];
    for reader in &schemas {
        for writer in &schemas {
            let [ours_reader, ours_writer] =
                [reader, writer].map(|schema| AvroSchema::parse(&schema.to_string()).unwrap());
            let [reader_, writer_] =
                [reader, writer].map(|schema| apache_avro::Schema::parse(schema).unwrap());
            let theirs = apache_avro::schema_compatibility::SchemaCompatibility::can_read(
                &writer_, &reader_,
            );
            let full = matches!(
                theirs,
                Ok(apache_avro::schema_compatibility::Compatibility::Full)
            );
            let ours = can_read(&ours_reader, &ours_writer).unwrap();
            assert!(
                !full || ours.is_empty(),
                "reader {reader} writer {writer}: {ours:?}"
            );
        }
    }
}
