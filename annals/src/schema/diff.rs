//! `annals schema diff`: what is different between two versions, in the words of the schema.

use std::{collections::BTreeSet, fmt};

use serde::Serialize;
use serde_json::Value;

use super::{
    SchemaError,
    bridge::{Bridge, Way, bridges},
    files::Files,
    outline::{Outline, field, fields, kind, text, texts, type_of},
};

/// The newest two versions unless others are named.
pub(super) fn difference(
    files: &Files,
    event: &str,
    from: Option<u32>,
    to: Option<u32>,
) -> Result<Difference, SchemaError> {
    let event = files.event(event)?;
    let newest = event.newest().version;
    if newest == 1 {
        return Err(SchemaError::OneVersion {
            event: event.event.clone(),
        });
    }
    let to = to.unwrap_or(newest);
    let from = from.unwrap_or_else(|| to.saturating_sub(1).max(1));
    let (old, new) = (event.version(from)?, event.version(to)?);
    let (old, new) = (event.outline(old)?, event.outline(new)?);
    let mut between = bridges(event)?;
    between.retain(|it| from.min(to) < it.to && it.to <= from.max(to));
    Ok(Difference {
        event: event.subject.clone(),
        from,
        to,
        changes: changes(&old, &new),
        to_reads_from: way(&between, from < to),
        to_cannot_read_from: new.objections(&old),
        from_reads_to: way(&between, to < from),
        from_cannot_read_to: old.objections(&new),
    })
}

/// How versions are read that lie so many bridges away.
fn way(between: &[Bridge], upwards: bool) -> Way {
    let ways = between.iter().map(|it| match upwards {
        true => &it.upgrade,
        false => &it.downgrade,
    });
    let mut ways: Vec<_> = ways.cloned().collect();
    if !upwards {
        ways.reverse();
    }
    ways.into_iter().fold(Way::Schema, Way::then)
}

/// Two versions of an event beside one another.
#[derive(Debug, Serialize)]
pub(super) struct Difference {
    event: String,
    from: u32,
    to: u32,
    changes: Vec<Change>,
    to_reads_from: Way,
    /// Why the later one cannot read the earlier one by its schema alone; empty if it can.
    to_cannot_read_from: Vec<String>,
    from_reads_to: Way,
    from_cannot_read_to: Vec<String>,
}

impl Difference {
    pub(super) fn text(&self) -> String {
        let Self {
            event, from, to, ..
        } = self;
        let mut lines = vec![format!("{event} v{from} → v{to}")];
        lines.extend(self.changes.iter().map(|it| format!("  {it}")));
        if self.changes.is_empty() {
            lines.push("  the same".into());
        }
        for (reader, writer, way, objections) in [
            (to, from, &self.to_reads_from, &self.to_cannot_read_from),
            (from, to, &self.from_reads_to, &self.from_cannot_read_to),
        ] {
            let reads = format!("v{reader} reads v{writer}");
            match way {
                Way::Schema => lines.push(format!("{reads} {}", way.sentence())),
                Way::Nothing { because } => {
                    lines.push(format!("{reads} not at all:"));
                    lines.extend(because.iter().map(|it| format!("  {it}")));
                }
                Way::Rule { .. } => {
                    lines.push(format!("{reads} {}", way.sentence()));
                    if !objections.is_empty() {
                        lines.push("  by its schema alone it could not:".into());
                    }
                    lines.extend(objections.iter().map(|it| format!("  {it}")));
                }
            }
        }
        lines.join("\n")
    }
}

/// One difference. Displayed as a line of `diff`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Change {
    /// The field, with the fields that it lies in: `address.street`, `lines[].price`, `labels{}`;
    /// empty for the event itself.
    pub(super) path: String,
    #[serde(flatten)]
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub(super) enum What {
    Added {
        #[serde(rename = "type")]
        type_: String,
        default: Option<Value>,
    },
    Removed {
        #[serde(rename = "type")]
        type_: String,
    },
    /// The new field names the old one as its alias.
    Renamed {
        from: String,
    },
    Type {
        from: String,
        to: String,
    },
    Default {
        from: Option<Value>,
        to: Option<Value>,
    },
    Symbols {
        type_name: String,
        added: Vec<String>,
        removed: Vec<String>,
    },
    Doc {
        from: Option<String>,
        to: Option<String>,
    },
    /// Such as `personal`, or an order of symbols.
    Attribute {
        name: String,
        from: Option<Value>,
        to: Option<Value>,
    },
}

/// Everything that is different, in the order of the new schema, then what is gone.
pub(super) fn changes(old: &Outline, new: &Outline) -> Vec<Change> {
    let mut comparison = Comparison {
        old,
        new,
        seen: BTreeSet::new(),
        changes: Vec::new(),
    };
    comparison.compare("", &old.root, &new.root);
    comparison.changes
}

struct Comparison<'a> {
    old: &'a Outline,
    new: &'a Outline,
    /// Records that were compared: each is told of once, and recursive ones end.
    seen: BTreeSet<String>,
    changes: Vec<Change>,
}

/// What is compared otherwise, or says the same in another place.
const KNOWN: [&str; 11] = [
    "aliases",
    "default",
    "doc",
    "fields",
    "items",
    "logicalType",
    "name",
    "namespace",
    "symbols",
    "type",
    "values",
];

impl<'a> Comparison<'a> {
    fn compare(&mut self, path: &str, old: &'a Value, new: &'a Value) {
        let (old, new) = (self.old.resolve(old), self.new.resolve(new));
        let (was, is) = (self.old.describe(old), self.new.describe(new));
        if was != is {
            self.push(path, What::Type { from: was, to: is });
            // Under another name it may be the same kind of type, and differ in more.
            if kind(old) != kind(new) {
                return;
            }
        }
        match kind(new) {
            "record" | "error" => self.compare_records(path, old, new),
            "enum" => self.compare_enums(path, old, new),
            "array" => self.compare(&format!("{path}[]"), &old["items"], &new["items"]),
            "map" => self.compare(&format!("{path}{{}}"), &old["values"], &new["values"]),
            "union" => self.compare_unions(path, old, new),
            _ => {}
        }
    }

    fn compare_records(&mut self, path: &str, old: &'a Value, new: &'a Value) {
        let name = text(new, "name").unwrap_or_default();
        if !self.seen.insert(name.to_owned()) {
            return;
        }
        self.compare_attributes(path, old, new);
        let mut renamed = BTreeSet::new();
        for new_field in fields(new) {
            let name = text(new_field, "name").unwrap_or_default();
            let within = join(path, name);
            let aliases = texts(new_field, "aliases");
            let by_alias = || aliases.iter().find_map(|alias| field(old, alias));
            let Some(old_field) = field(old, name).or_else(by_alias) else {
                let added = What::Added {
                    type_: self.new.describe(type_of(new_field)),
                    default: new_field.get("default").cloned(),
                };
                self.push(&within, added);
                continue;
            };
            let from = text(old_field, "name").unwrap_or_default();
            if from != name {
                renamed.insert(from);
                self.push(&within, What::Renamed { from: from.into() });
            }
            self.compare(&within, type_of(old_field), type_of(new_field));
            let defaults = (old_field.get("default"), new_field.get("default"));
            if defaults.0 != defaults.1 {
                let (from, to) = (defaults.0.cloned(), defaults.1.cloned());
                self.push(&within, What::Default { from, to });
            }
            self.compare_attributes(&within, old_field, new_field);
        }
        for old_field in fields(old) {
            let name = text(old_field, "name").unwrap_or_default();
            if field(new, name).is_none() && !renamed.contains(name) {
                let type_ = self.old.describe(type_of(old_field));
                self.push(&join(path, name), What::Removed { type_ });
            }
        }
    }

    fn compare_enums(&mut self, path: &str, old: &Value, new: &Value) {
        let (was, is) = (texts(old, "symbols"), texts(new, "symbols"));
        let added: Vec<_> = is.iter().filter(|it| !was.contains(it)).cloned().collect();
        let removed: Vec<_> = was.iter().filter(|it| !is.contains(it)).cloned().collect();
        if !added.is_empty() || !removed.is_empty() {
            let type_name = text(new, "name").unwrap_or_default().to_owned();
            let symbols = What::Symbols {
                type_name,
                added,
                removed,
            };
            self.push(path, symbols);
        } else if was != is {
            // It changes what the numbers in the log stand for, which is why readers resolve.
            let order = What::Attribute {
                name: "order of symbols".into(),
                from: Some(was.into()),
                to: Some(is.into()),
            };
            self.push(path, order);
        }
        let defaults = (old.get("default"), new.get("default"));
        if defaults.0 != defaults.1 {
            let (from, to) = (defaults.0.cloned(), defaults.1.cloned());
            self.push(path, What::Default { from, to });
        }
        self.compare_attributes(path, old, new);
    }

    /// Branches of one kind are compared: there can be but one of each that has no name.
    fn compare_unions(&mut self, path: &str, old: &'a Value, new: &'a Value) {
        let branches = |of: &'a Value| of.as_array().into_iter().flatten();
        for is in branches(new) {
            let same = |was: &&Value| self.old.describe(was) == self.new.describe(is);
            if let Some(was) = branches(old).find(same) {
                self.compare(path, was, is);
            }
        }
    }

    fn compare_attributes(&mut self, path: &str, old: &Value, new: &Value) {
        let docs = [old, new].map(|it| text(it, "doc").map(str::to_owned));
        if docs[0] != docs[1] {
            let [from, to] = docs;
            self.push(path, What::Doc { from, to });
        }
        let names = [old, new].into_iter().filter_map(Value::as_object);
        let names: BTreeSet<_> = names.flat_map(|it| it.keys()).collect();
        for name in names.into_iter().filter(|it| !KNOWN.contains(&&***it)) {
            let (from, to) = (old.get(name), new.get(name));
            if from != to {
                let attribute = What::Attribute {
                    name: name.clone(),
                    from: from.cloned(),
                    to: to.cloned(),
                };
                self.push(path, attribute);
            }
        }
    }

    fn push(&mut self, path: &str, what: What) {
        self.changes.push(Change {
            path: path.into(),
            what,
        });
    }
}

fn join(path: &str, name: &str) -> String {
    match path {
        "" => name.into(),
        path => format!("{path}.{name}"),
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = match &*self.path {
            "" => "the event",
            path => path,
        };
        match &self.what {
            What::Added { type_, default } => {
                write!(f, "+ {path}: {type_}")?;
                match default {
                    Some(default) => write!(f, ", by default {default}"),
                    None => write!(f, ", without a default"),
                }
            }
            What::Removed { type_ } => write!(f, "- {path}: {type_}"),
            What::Renamed { from } => write!(f, "~ {path}: was {from}"),
            What::Type { from, to } => write!(f, "~ {path}: {from} → {to}"),
            What::Default { from, to } => {
                write!(f, "~ {path}: default {} → {}", or_none(from), or_none(to))
            }
            What::Symbols {
                type_name,
                added,
                removed,
            } => {
                write!(f, "~ {path}: enum {type_name}")?;
                let mut separator = " ";
                for (sign, symbols) in [("+", added), ("-", removed)] {
                    for symbol in symbols {
                        write!(f, "{separator}{sign}{symbol}")?;
                        separator = ", ";
                    }
                }
                Ok(())
            }
            What::Doc { from: None, .. } => write!(f, "~ {path}: has a doc now"),
            What::Doc { to: None, .. } => write!(f, "~ {path}: has no doc any more"),
            What::Doc { .. } => write!(f, "~ {path}: another doc"),
            What::Attribute { name, from, to } => {
                write!(f, "~ {path}: {name} {} → {}", or_none(from), or_none(to))
            }
        }
    }
}

fn or_none(value: &Option<Value>) -> String {
    value
        .as_ref()
        .map_or_else(|| "none".into(), Value::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outline(fields: &str) -> Outline {
        let text = format!(
            r#"{{"type":"record","name":"Done","namespace":"annals.tasks","doc":"D.","fields":[{fields}]}}"#
        );
        Outline::read(&text).unwrap()
    }

    /// The lines of the difference.
    fn check(old: &str, new: &str, expected: &[&str]) {
        let changes = changes(&outline(old), &outline(new));
        let lines: Vec<_> = changes.iter().map(Change::to_string).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn fields_come_and_go() {
        check(
            r#"{"name":"a","type":"string"},{"name":"b","type":"int"}"#,
            r#"{"name":"a","type":"string"},{"name":"c","type":["null","long"],"default":null},
               {"name":"d","type":"bytes"}"#,
            &[
                "+ c: long or null, by default null",
                "+ d: bytes, without a default",
                "- b: int",
            ],
        );
    }

    #[test]
    fn an_alias_is_a_new_name() {
        check(
            r#"{"name":"a","type":"int"}"#,
            r#"{"name":"b","type":"long","aliases":["a"]}"#,
            &["~ b: was a", "~ b: int → long"],
        );
    }

    #[test]
    fn white_space_and_another_order_of_fields_are_no_difference() {
        check(
            r#"{"name":"a","type":"int"},{"name":"b","type":{"type":"string"}}"#,
            r#"{"name":"b","type":"string"},  {"name":"a","type":"int"}"#,
            &[],
        );
    }

    #[test]
    fn enums_are_compared_by_their_symbols() {
        let status = |symbols: &str| {
            format!(
                r#"{{"name":"status","type":["null",{{"type":"enum","name":"Status","symbols":[{symbols}]}}],"default":null}}"#
            )
        };
        check(
            &status(r#""open","closed""#),
            &status(r#""open","done""#),
            &["~ status: enum Status +done, -closed"],
        );
        check(
            &status(r#""open","closed""#),
            &status(r#""closed","open""#),
            &[r#"~ status: order of symbols ["open","closed"] → ["closed","open"]"#],
        );
    }

    #[test]
    fn what_lies_deeper_is_named_with_its_path() {
        let line = |fields: &str| {
            format!(
                r#"{{"name":"lines","type":{{"type":"array","items":{{"type":"record","name":"Line","fields":[{fields}]}}}}}},
                   {{"name":"by","type":{{"type":"map","values":"Line"}}}}"#
            )
        };
        check(
            &line(r#"{"name":"price","type":"double"}"#),
            &line(
                r#"{"name":"price","type":{"type":"string","logicalType":"decimal"},"personal":true}"#,
            ),
            &[
                "~ lines[].price: double → decimal (string)",
                "~ lines[].price: personal none → true",
            ],
        );
    }

    #[test]
    fn a_recursive_schema_ends() {
        let node = |type_: &str| {
            format!(
                r#"{{"name":"node","type":{{"type":"record","name":"Node","fields":[
                     {{"name":"next","type":["null","Node"]}},{{"name":"x","type":"{type_}"}}]}}}}"#
            )
        };
        check(&node("int"), &node("long"), &["~ node.x: int → long"]);
    }

    #[test]
    fn it_says_whether_there_is_a_rule_and_which() {
        use crate::schema::files::testing;
        let schema = |field: &str| {
            format!(
                r#"{{"type":"record","name":"Done","namespace":"annals.tasks","fields":[{{"name":"{field}","type":"string"}}]}}"#
            )
        };
        let rename = |from: &str, to: &str| {
            format!(
                r#"{{"upgrade":{{"type":"ANNALS","operations":[{{"op":"rename","from":"{from}","to":"{to}"}}]}}}}"#
            )
        };
        let (a_b, b_c) = (rename("a", "b"), rename("b", "c"));
        let files = |last: Option<&str>| {
            let versions = [
                (&*schema("a"), None),
                (&*schema("b"), Some(&*a_b)),
                (&*schema("c"), last),
            ];
            testing::files(testing::event("tasks", "Done", &versions))
        };
        let text = |last: Option<&str>| {
            difference(&files(last), "Done", Some(1), None)
                .unwrap()
                .text()
        };
        let with = text(Some(&b_c));
        for line in [
            "v3 reads v1 by the ANNALS rule: rename a → b, rename b → c\n",
            "v1 reads v3 by the ANNALS rule: rename c → b, rename b → a\n",
            "  by its schema alone it could not:\n",
        ] {
            assert!(with.contains(line), "{with}");
        }
        let without = text(None);
        assert!(without.contains("v3 reads v1 not at all:\n"), "{without}");
        assert!(without.contains("v1 reads v3 not at all:\n"), "{without}");
    }
}
