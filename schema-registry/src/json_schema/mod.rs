//! JSON Schemas: text in, a schema that is one by its own draft, canonical text out, and the
//! question whether one accepts all that another accepts.
//!
//! Whether a schema is one is for the `boon` crate to say, drafts 4 to 2020-12. It is kept from
//! loading anything, and from compiling regular expressions: nothing is ever validated here, and
//! some expressions take megabytes.

mod differences;

use std::collections::BTreeMap;

use boon::{Compiler, Draft, Schemas, UrlLoader};
use serde_json::{Map, Value};

use crate::avro::push_sorted;

pub(crate) use differences::differences;

/// Where the schema itself is, for those that it refers to.
const BASE: &str = "registry:///schemas/";

#[derive(Debug)]
pub(crate) struct JsonSchema {
    root: Value,
    /// The schemas that it refers to, by the names that it has for them.
    others: BTreeMap<String, Value>,
    bytes: usize,
}

impl JsonSchema {
    /// Reads a schema and those that it refers to, each with its name, and says what is wrong.
    pub fn parse<'a>(
        others: impl IntoIterator<Item = (&'a str, &'a str)>,
        text: &str,
    ) -> Result<Self, String> {
        let schema = Self::parse_known(others, text)?;
        let mut size = Size::default();
        for one in schema.others.values().chain([&schema.root]) {
            size.add(one, 0)?;
        }
        check(&schema.root, &schema.others)?;
        Ok(schema)
    }

    /// The same for one that was found valid before.
    pub fn parse_known<'a>(
        others: impl IntoIterator<Item = (&'a str, &'a str)>,
        text: &str,
    ) -> Result<Self, String> {
        let read = |text: &str| serde_json::from_str(text).map_err(|error| error.to_string());
        let root: Value = read(text)?;
        if !(root.is_object() || root.is_boolean()) {
            return Err("a schema is an object or a boolean".to_owned());
        }
        let mut bytes = text.len();
        let mut named = BTreeMap::new();
        for (name, text) in others {
            bytes += text.len();
            named.insert(name.to_owned(), read(text)?);
        }
        Ok(Self {
            root,
            others: named,
            bytes,
        })
    }

    /// With sorted keys; the order of no keyword's members means anything.
    pub fn canonical(&self) -> String {
        let mut text = String::new();
        push_sorted(&mut text, &self.root);
        text
    }

    pub fn text_bytes(&self) -> usize {
        self.bytes
    }
}

/// What may be a schema within the schema, and the lengths of the pointers to them all: `boon` holds
/// each against each.
#[derive(Default)]
struct Size {
    parts: usize,
    letters: usize,
}

impl Size {
    const MOST_PARTS: usize = 2_000;
    const MOST_LETTERS: usize = 256 * 1024;

    fn add(&mut self, value: &Value, letters: usize) -> Result<(), String> {
        match value {
            Value::Array(items) => {
                for item in items {
                    self.add(item, letters + 4)?;
                }
            }
            Value::Object(members) => {
                self.count(letters)?;
                for (name, member) in members {
                    self.add(member, letters + 1 + name.len())?;
                }
            }
            Value::Bool(_) => self.count(letters)?,
            Value::Null | Value::Number(_) | Value::String(_) => {}
        }
        Ok(())
    }

    fn count(&mut self, letters: usize) -> Result<(), String> {
        self.parts += 1;
        self.letters += letters;
        if self.parts > Self::MOST_PARTS || self.letters > Self::MOST_LETTERS {
            return Err(format!(
                "it is too large to be checked: with what it refers to it may have at most {} objects \
                 and booleans within it, whose paths have at most {} bytes together",
                Self::MOST_PARTS,
                Self::MOST_LETTERS
            ));
        }
        Ok(())
    }
}

/// Loads nothing: whatever is referred to has been given.
struct Nothing;

impl UrlLoader for Nothing {
    fn load(&self, url: &str) -> Result<Value, Box<dyn std::error::Error>> {
        let name = url.strip_prefix(BASE).unwrap_or(url);
        Err(format!("`{name}` is referred to and not among the references").into())
    }
}

fn check(root: &Value, others: &BTreeMap<String, Value>) -> Result<(), String> {
    let told = |error: boon::CompileError| {
        let mut text = error.to_string();
        if let boon::CompileError::ValidationError { src, .. } = &error {
            text = src.to_string();
        }
        text.replace(BASE, "").chars().take(500).collect::<String>()
    };
    let place = format!("{BASE}schema.json");
    let mut compiler = Compiler::new();
    compiler.set_default_draft(Draft::V7);
    compiler.use_loader(Box::new(Nothing));
    for (name, other) in others {
        let at = if name.contains("://") {
            name.clone()
        } else {
            format!("{BASE}{name}")
        };
        compiler
            .add_resource(&at, without_patterns(other))
            .map_err(told)?;
    }
    compiler
        .add_resource(&place, without_patterns(root))
        .map_err(told)?;
    compiler
        .compile(&place, &mut Schemas::new())
        .map(|_| ())
        .map_err(told)
}

fn without_patterns(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(without_patterns).collect(),
        Value::Object(object) => {
            let mut copy = Map::new();
            for (key, value) in object {
                let value = match (key.as_str(), value) {
                    ("pattern", Value::String(_)) => Value::from(""),
                    ("patternProperties", Value::Object(by_pattern)) => by_pattern
                        .values()
                        .enumerate()
                        .map(|(number, schema)| (format!("p{number}"), without_patterns(schema)))
                        .collect::<Map<_, _>>()
                        .into(),
                    _ => without_patterns(value),
                };
                copy.insert(key.clone(), value);
            }
            copy.into()
        }
        other => other.clone(),
    }
}
