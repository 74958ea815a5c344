//! Prints a schema in the form of Java's `Schema.toString()`: each type where it first occurs, by
//! name after that; standard attributes in a fixed order, others behind them.

use std::collections::{BTreeMap, HashSet};

use serde_json::Value;

use super::{AvroSchema, Field, Named, Shape, TypeId};

/// The first `known` types are only called by their names.
pub(super) fn print(schema: &AvroSchema, known: usize) -> String {
    let mut printer = Printer {
        schema,
        seen: (0..known).map(TypeId).collect(),
        text: String::new(),
    };
    printer.print_type(schema.root, "");
    printer.text
}

struct Printer<'a> {
    schema: &'a AvroSchema,
    seen: HashSet<TypeId>,
    text: String,
}

impl<'a> Printer<'a> {
    fn print_type(&mut self, id: TypeId, namespace: &str) {
        let schema = self.schema;
        let type_ = schema.get(id);
        if let Some(named) = type_.shape.named()
            && !self.seen.insert(id)
        {
            self.string(&named.name.qualified(namespace));
            return;
        }
        match &type_.shape {
            Shape::Union(branches) => {
                self.list(branches, |printer, branch| {
                    printer.print_type(*branch, namespace)
                });
                return;
            }
            Shape::Primitive(primitive) if type_.attributes.is_empty() => {
                self.string(primitive.name());
                return;
            }
            Shape::Primitive(primitive) => self.open(primitive.name()),
            Shape::Array(items) => {
                self.open("array");
                self.key("items");
                self.print_type(*items, namespace);
            }
            Shape::Map(values) => {
                self.open("map");
                self.key("values");
                self.print_type(*values, namespace);
            }
            Shape::Record {
                named,
                is_error,
                fields,
            } => {
                self.open(if *is_error { "error" } else { "record" });
                self.names(named, namespace);
                self.key("fields");
                self.list(&fields.list, |printer, field| {
                    printer.print_field(field, &named.name.namespace)
                });
            }
            Shape::Enum {
                named,
                symbols,
                default,
            } => {
                self.open("enum");
                self.names(named, namespace);
                self.key("symbols");
                self.list(symbols, |printer, symbol| printer.string(symbol));
                self.optional("default", default.as_deref());
            }
            Shape::Fixed { named, size } => {
                self.open("fixed");
                self.names(named, namespace);
                self.key("size");
                self.text.push_str(&size.to_string());
            }
        }
        self.attributes(&type_.attributes);
        if let Some(named) = type_
            .shape
            .named()
            .filter(|named| !named.aliases.is_empty())
        {
            self.key("aliases");
            self.list(&named.aliases, |printer, alias| {
                printer.string(&alias.qualified(&named.name.namespace))
            });
        }
        self.text.push('}');
    }

    fn print_field(&mut self, field: &'a Field, namespace: &str) {
        self.text.push_str("{\"name\":");
        self.string(&field.name);
        self.key("type");
        self.print_type(field.type_, namespace);
        self.optional("doc", field.doc.as_deref());
        if let Some(default) = &field.default {
            self.key("default");
            self.value(default);
        }
        self.optional("order", field.order);
        if !field.aliases.is_empty() {
            self.key("aliases");
            self.list(&field.aliases, |printer, alias| printer.string(alias));
        }
        self.attributes(&field.attributes);
        self.text.push('}');
    }

    fn open(&mut self, kind: &str) {
        self.text.push_str("{\"type\":");
        self.string(kind);
    }

    fn names(&mut self, named: &Named, namespace: &str) {
        self.key("name");
        self.string(&named.name.name);
        if named.name.namespace != namespace {
            self.key("namespace");
            self.string(&named.name.namespace);
        }
        self.optional("doc", named.doc.as_deref());
    }

    fn attributes(&mut self, attributes: &BTreeMap<String, Value>) {
        for (name, value) in attributes {
            self.key(name);
            self.value(value);
        }
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.key(key);
            self.string(value);
        }
    }

    fn list<T>(&mut self, items: &'a [T], mut print: impl FnMut(&mut Self, &'a T)) {
        self.text.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            print(self, item);
        }
        self.text.push(']');
    }

    fn key(&mut self, key: &str) {
        self.text.push(',');
        self.string(key);
        self.text.push(':');
    }

    fn string(&mut self, text: &str) {
        push_string(&mut self.text, text);
    }

    fn value(&mut self, value: &Value) {
        push_sorted(&mut self.text, value);
    }
}

/// JSON with sorted keys. `serde_json` sorts them or keeps them in order depending on a feature
/// that any crate of a build may switch on; what a schema's identity rests on must not.
pub(crate) fn push_sorted(text: &mut String, value: &Value) {
    match value {
        Value::Object(object) => {
            let sorted: BTreeMap<_, _> = object.iter().collect();
            text.push('{');
            for (index, (key, value)) in sorted.into_iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                push_string(text, key);
                text.push(':');
                push_sorted(text, value);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                push_sorted(text, item);
            }
            text.push(']');
        }
        Value::String(string) => push_string(text, string),
        Value::Null | Value::Bool(_) | Value::Number(_) => text.push_str(&value.to_string()),
    }
}

fn push_string(text: &mut String, string: &str) {
    text.push_str(&Value::from(string).to_string());
}
