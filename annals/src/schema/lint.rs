//! `annals schema lint`: what a schema must have to be understood and to be evolved in years.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    files::EventFiles,
    finding::{Finding, Level, Rule},
    outline::{Outline, fields, kind, text, texts, type_of},
    released::Lock,
};

/// What is wrong with the event's files, each by itself. What is released cannot be mended: it is
/// told of, and is no error.
pub(super) fn lint(event: &EventFiles, released: &Lock) -> Vec<Finding> {
    let mut findings = Vec::new();
    for version in &event.versions {
        let file = event.path(version.version);
        match Outline::read(&version.text) {
            Ok(outline) => {
                let mut lint = Lint {
                    outline: &outline,
                    file: &file,
                    is_released: released.has(&file),
                    findings: Vec::new(),
                    seen: BTreeSet::new(),
                };
                lint.record("", &outline.root);
                findings.append(&mut lint.findings);
            }
            Err(error) => findings.push(Finding {
                level: Level::Error,
                rule: Rule::Avro,
                file,
                path: String::new(),
                message: service_kit::problem::Chain(&error).to_string(),
                advice: "mend the file: nobody could read an event with it".into(),
            }),
        }
    }
    findings
}

struct Lint<'a> {
    outline: &'a Outline,
    file: &'a str,
    is_released: bool,
    findings: Vec<Finding>,
    /// Named types that were looked at.
    seen: BTreeSet<String>,
}

impl<'a> Lint<'a> {
    fn record(&mut self, path: &str, record: &'a Value) {
        let name = text(record, "name").unwrap_or_default();
        if !self.seen.insert(name.to_owned()) {
            return;
        }
        self.type_name(path, "record", name);
        self.doc(path, &format!("record {name}"), record);
        for field in fields(record) {
            let name = text(field, "name").unwrap_or_default();
            let path = match path {
                "" => name.to_owned(),
                path => format!("{path}.{name}"),
            };
            if !is_snake_case(name) {
                self.push(
                    Rule::Name,
                    &path,
                    format!("the field {name} is not in snake_case"),
                    "use lower-case letters, digits and _, as in completed_by",
                );
            }
            self.doc(&path, &format!("field {name}"), field);
            self.default(&path, field);
            self.personal(&path, field);
            self.type_(&path, name, type_of(field));
        }
    }

    fn type_(&mut self, path: &str, name: &str, type_: &'a Value) {
        let type_ = self.outline.resolve(type_);
        self.logical_type(path, name, type_);
        match kind(type_) {
            "record" | "error" => self.record(path, type_),
            "enum" => self.enum_(path, type_),
            "array" => self.type_(&format!("{path}[]"), name, &type_["items"]),
            "map" => self.type_(&format!("{path}{{}}"), name, &type_["values"]),
            "union" => {
                for branch in type_.as_array().into_iter().flatten() {
                    self.type_(path, name, branch);
                }
            }
            kind @ ("float" | "double") => self.inexact(path, name, kind),
            _ => {}
        }
    }

    fn enum_(&mut self, path: &str, type_: &Value) {
        let name = text(type_, "name").unwrap_or_default();
        if !self.seen.insert(name.to_owned()) {
            return;
        }
        self.type_name(path, "enum", name);
        self.doc(path, &format!("enum {name}"), type_);
        let symbols = texts(type_, "symbols");
        let one_style = symbols.iter().all(|it| is_snake_case(it))
            || symbols
                .iter()
                .all(|it| is_snake_case(&it.to_lowercase()) && *it == it.to_uppercase());
        if !one_style {
            self.push(
                Rule::Name,
                path,
                format!("the symbols of {name} are of several styles"),
                "write all of them in lower case, or all in upper case, with _ between words",
            );
        }
    }

    fn type_name(&mut self, path: &str, what: &str, name: &str) {
        let is_camel = name.starts_with(|first: char| first.is_ascii_uppercase())
            && name.chars().all(|it| it.is_ascii_alphanumeric());
        if !is_camel {
            self.push(
                Rule::Name,
                path,
                format!("the {what} {name} is not in UpperCamelCase"),
                "name it like TaskCreated",
            );
        }
    }

    fn doc(&mut self, path: &str, what: &str, of: &Value) {
        if text(of, "doc").is_none_or(|doc| doc.trim().is_empty()) {
            self.push(
                Rule::Doc,
                path,
                format!("the {what} has no doc"),
                "say in \"doc\" what it means, for those who read it in ten years",
            );
        }
    }

    /// A field that may be null is one that may be left out: by whoever writes it without knowing
    /// of it, and by a version to come.
    fn default(&mut self, path: &str, field: &Value) {
        let type_ = self.outline.resolve(type_of(field));
        let is_nullable = type_
            .as_array()
            .is_some_and(|branches| branches.iter().any(|it| kind(it) == "null"));
        if is_nullable && field.get("default").is_none() {
            self.push(
                Rule::Default,
                path,
                "the field may be null and has no default".into(),
                "write [\"null\", …] with \"default\": null",
            );
        }
    }

    /// What is to be erased by forgetting its key is encrypted, and so it is text.
    fn personal(&mut self, path: &str, field: &Value) {
        let type_ = self.outline.describe(type_of(field));
        match field.get("personal") {
            None => {}
            Some(Value::Bool(true)) if matches!(&*type_, "string" | "string or null") => {}
            Some(Value::Bool(true)) => self.push(
                Rule::Personal,
                path,
                format!("a personal field must be a string, not {type_}"),
                "keep it as text, so that it can be encrypted for each person",
            ),
            Some(other) => self.push(
                Rule::Personal,
                path,
                format!("\"personal\" is {other}"),
                "it is true, or is left out",
            ),
        }
    }

    fn logical_type(&mut self, path: &str, name: &str, type_: &Value) {
        let base = kind(type_);
        match text(type_, "logicalType") {
            Some(logical) => match LOGICAL.iter().find(|(known, _)| *known == logical) {
                Some((_, bases)) if bases.contains(&base) => {}
                Some((_, bases)) => self.push(
                    Rule::LogicalType,
                    path,
                    format!("{logical} stands on {base}, where it means nothing"),
                    &format!("{logical} goes on {}", bases.join(" or ")),
                ),
                None => self.push(
                    Rule::LogicalType,
                    path,
                    format!("the logical type {logical} is not known"),
                    "readers ignore it: use one of the Avro specification, or decimal or json on a string",
                ),
            },
            None if matches!(base, "int" | "long") && is_span(name) => self.push(
                Rule::LogicalType,
                path,
                format!("{name} is a span of time, and a plain {base}"),
                &format!("say its unit in its name: {name}_ms"),
            ),
            None if matches!(base, "int" | "long") && is_time(name) => self.push(
                Rule::LogicalType,
                path,
                format!("{name} is a time, and a plain {base}"),
                "say its unit: {\"type\": \"long\", \"logicalType\": \"timestamp-micros\"}",
            ),
            None => {}
        }
    }

    fn inexact(&mut self, path: &str, name: &str, kind: &str) {
        let words: Vec<_> = name.split('_').collect();
        if words.iter().any(|word| is_money(word)) {
            self.push(
                Rule::Money,
                path,
                format!("{name} is money, and a {kind}, which rounds"),
                "use {\"type\": \"string\", \"logicalType\": \"decimal\"}",
            );
        } else {
            self.push_at(
                Level::Warning,
                Rule::Inexact,
                path,
                format!("{name} is a {kind}, which rounds"),
                "keep it if it is measured; use a decimal if it is counted or paid",
            );
        }
    }

    fn push(&mut self, rule: Rule, path: &str, message: String, advice: &str) {
        let level = match self.is_released {
            true => Level::Warning,
            false => Level::Error,
        };
        self.push_at(level, rule, path, message, advice);
    }

    fn push_at(&mut self, level: Level, rule: Rule, path: &str, message: String, advice: &str) {
        self.findings.push(Finding {
            level,
            rule,
            file: self.file.into(),
            path: path.into(),
            message,
            advice: advice.into(),
        });
    }
}

/// Logical types and what they stand on: those of the Avro specification, and ours on strings. A
/// decimal is a string, because its scale is a part of it.
const LOGICAL: [(&str, &[&str]); 14] = [
    ("decimal", &["string"]),
    ("json", &["string"]),
    ("uuid", &["string", "fixed"]),
    ("date", &["int"]),
    ("time-millis", &["int"]),
    ("time-micros", &["long"]),
    ("timestamp-millis", &["long"]),
    ("timestamp-micros", &["long"]),
    ("timestamp-nanos", &["long"]),
    ("local-timestamp-millis", &["long"]),
    ("local-timestamp-micros", &["long"]),
    ("local-timestamp-nanos", &["long"]),
    ("duration", &["fixed"]),
    ("big-decimal", &["bytes"]),
];

/// Words in the names of fields that hold money.
const MONEY: &[&str] = &[
    "amount",
    "balance",
    "bonus",
    "budget",
    "charge",
    "commission",
    "cost",
    "credit",
    "debit",
    "debt",
    "deposit",
    "discount",
    "dividend",
    "earning",
    "expense",
    "fare",
    "fee",
    "fine",
    "income",
    "loan",
    "money",
    "paid",
    "pay",
    "payment",
    "payout",
    "pension",
    "premium",
    "price",
    "profit",
    "refund",
    "rent",
    "revenue",
    "salary",
    "subtotal",
    "surcharge",
    "tariff",
    "tax",
    "toll",
    "total",
    "turnover",
    "vat",
    "wage",
];

/// Names of moments, and their last words.
const MOMENTS: &[&str] = &["deadline", "date", "expires", "expiry", "time", "timestamp"];
/// What alone is a moment, and with other words may be something else: `amount_due`.
const MOMENTS_ALONE: &[&str] = &["at", "due"];
/// What with other words is a moment, and alone is something else.
const MOMENTS_AT_THE_END: &[&str] = &["at", "on"];
const SPANS: &[&str] = &["duration", "interval", "timeout", "ttl"];

/// One of the words, or several: `prices`, `taxes`, `salaries`.
fn is_money(word: &str) -> bool {
    let is = |one: &str| MONEY.contains(&one);
    let one_of = |ending| word.strip_suffix(ending);
    is(word)
        || one_of("s").is_some_and(is)
        || one_of("es").is_some_and(is)
        || one_of("ies").is_some_and(|stem| is(&format!("{stem}y")))
}

fn is_time(name: &str) -> bool {
    match name.rsplit_once('_') {
        None => [MOMENTS, MOMENTS_ALONE].iter().any(|it| it.contains(&name)),
        Some((_, last)) => [MOMENTS, MOMENTS_AT_THE_END]
            .iter()
            .any(|it| it.contains(&last)),
    }
}

fn is_span(name: &str) -> bool {
    name.rsplit('_')
        .next()
        .is_some_and(|it| SPANS.contains(&it))
}

fn is_snake_case(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == '_')
        && !name.ends_with('_')
        && !name.contains("__")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::files::testing;

    fn event(versions: &[&str]) -> EventFiles {
        let schema = |fields: &&str| {
            format!(
                r#"{{"type":"record","name":"Charged","namespace":"annals.billing","doc":"D.","fields":[{fields}]}}"#
            )
        };
        let texts: Vec<_> = versions.iter().map(schema).collect();
        let versions: Vec<_> = texts.iter().map(|text| (text.as_str(), None)).collect();
        testing::event("billing", "Charged", &versions)
    }

    /// Level, rule and path of what is found.
    fn check(fields: &str, expected: &[(Level, Rule, &str)]) {
        let findings = lint(&event(&[fields]), &Lock::default());
        let found: Vec<_> = findings
            .iter()
            .map(|it| (it.level, it.rule, &*it.path))
            .collect();
        assert_eq!(found, expected, "{findings:?}");
    }

    #[test]
    fn a_good_schema_has_no_findings() {
        check(
            r#"{"name":"amount","doc":"D.","type":{"type":"string","logicalType":"decimal"}},
               {"name":"charged_at","doc":"D.","type":{"type":"long","logicalType":"timestamp-micros"}},
               {"name":"email","doc":"D.","type":["null","string"],"default":null,"personal":true},
               {"name":"kind","doc":"D.","type":{"type":"enum","name":"Kind","doc":"D.","symbols":["late_fee","fee"]}}"#,
            &[],
        );
    }

    #[test]
    fn names_are_of_one_style() {
        check(
            r#"{"name":"chargedBy","doc":"D.","type":"string"},
               {"name":"kind","doc":"D.","type":{"type":"enum","name":"kind_of_fee","doc":"D.","symbols":["fee","Fine"]}}"#,
            &[
                (Level::Error, Rule::Name, "chargedBy"),
                (Level::Error, Rule::Name, "kind"),
                (Level::Error, Rule::Name, "kind"),
            ],
        );
    }

    #[test]
    fn every_field_has_a_doc_also_deep_inside() {
        check(
            r#"{"name":"a","type":"string"},
               {"name":"lines","doc":"D.","type":{"type":"array","items":
                 {"type":"record","name":"Line","doc":" ","fields":[{"name":"b","type":"int"}]}}}"#,
            &[
                (Level::Error, Rule::Doc, "a"),
                (Level::Error, Rule::Doc, "lines[]"),
                (Level::Error, Rule::Doc, "lines[].b"),
            ],
        );
    }

    #[test]
    fn money_is_no_float() {
        check(
            r#"{"name":"unit_price","doc":"D.","type":["null","double"],"default":null},
               {"name":"load","doc":"D.","type":"float"}"#,
            &[
                (Level::Error, Rule::Money, "unit_price"),
                (Level::Warning, Rule::Inexact, "load"),
            ],
        );
    }

    #[test]
    fn money_is_known_by_many_names() {
        for name in [
            "prices",
            "fees",
            "taxes",
            "salaries",
            "vat",
            "rent",
            "hourly_wage",
            "total",
        ] {
            for inner in [
                r#""double""#,
                r#"{"type":"array","items":"double"}"#,
                r#"{"type":"map","values":["null","float"]}"#,
            ] {
                let field = format!(r#"{{"name":"{name}","doc":"D.","type":{inner}}}"#);
                let findings = lint(&event(&[&field]), &Lock::default());
                let rules: Vec<_> = findings.iter().map(|it| it.rule).collect();
                assert_eq!(rules, [Rule::Money], "{field}");
            }
        }
    }

    #[test]
    fn times_say_their_unit() {
        let found = |name: &str| {
            let field = format!(r#"{{"name":"{name}","doc":"D.","type":"long"}}"#);
            let findings = lint(&event(&[&field]), &Lock::default());
            findings
                .first()
                .map(|it| (it.rule, it.message.contains("span")))
        };
        for name in [
            "at",
            "due",
            "expires",
            "deadline",
            "updated_on",
            "due_date",
            "time",
        ] {
            assert_eq!(found(name), Some((Rule::LogicalType, false)), "{name}");
        }
        for name in ["duration", "timeout", "lease_duration"] {
            assert_eq!(found(name), Some((Rule::LogicalType, true)), "{name}");
        }
        for name in ["timeout_ms", "amount_due", "on", "attempts", "position"] {
            assert_eq!(found(name), None, "{name}");
        }
    }

    #[test]
    fn logical_types_stand_where_they_mean_something() {
        check(
            r#"{"name":"amount","doc":"D.","type":{"type":"bytes","logicalType":"decimal","precision":9}},
               {"name":"day","doc":"D.","type":{"type":"int","logicalType":"dat"}},
               {"name":"paid_at","doc":"D.","type":"long"}"#,
            &[
                (Level::Error, Rule::LogicalType, "amount"),
                (Level::Error, Rule::LogicalType, "day"),
                (Level::Error, Rule::LogicalType, "paid_at"),
            ],
        );
    }

    #[test]
    fn what_may_be_null_has_a_default_and_what_is_personal_is_text() {
        check(
            r#"{"name":"note","doc":"D.","type":["null","string"]},
               {"name":"age","doc":"D.","type":"int","personal":true}"#,
            &[
                (Level::Error, Rule::Default, "note"),
                (Level::Error, Rule::Personal, "age"),
            ],
        );
    }

    #[test]
    fn what_is_released_is_told_of_but_is_no_error() {
        let good = r#"{"name":"a","doc":"D.","type":"string"}"#;
        let event = event(&[r#"{"name":"a","type":"string"}"#, good]);
        let released = Lock::parse("0  billing/Charged.v1.avsc");
        let findings = lint(&event, &released);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].level, Level::Warning);
        assert_eq!(findings[0].file, "billing/Charged.v1.avsc");
    }

    #[test]
    fn what_is_not_avro_is_said_once() {
        check(
            r#"{"name":"a","type":"strnig"}"#,
            &[(Level::Error, Rule::Avro, "")],
        );
    }
}
