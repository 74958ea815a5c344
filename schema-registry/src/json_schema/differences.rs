//! Whether a schema, the new one say, accepts whatever another, the old one, accepts; and if not,
//! where and why, in the words of Confluent's registry.
//!
//! Properties are judged by the content model: one is open if it takes any property that it does
//! not name, closed if it takes none. A property that is added to an open model is a difference,
//! since anything may have been written there before.

use std::collections::{BTreeSet, HashSet};
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::JsonSchema;
use crate::avro::{Steps, TooComplex};

const MOST_DIFFERENCES: usize = 100;
/// Of a pair of schemas: all keywords are looked for in both.
const COSTLY: usize = 8;
const LETTERS_A_STEP: usize = 256;
/// As deep as JSON may be, and references once more.
const DEEPEST: usize = 300;

/// All differences that keep `reader` from accepting what `writer` accepts; none if there are none.
pub(crate) fn differences(
    reader: &JsonSchema,
    writer: &JsonSchema,
    steps: &mut Steps,
) -> Result<Vec<String>, TooComplex> {
    let mut comparison = Comparison {
        reader,
        writer,
        seen: HashSet::new(),
        found: Vec::new(),
        steps,
        depth: 0,
    };
    comparison.compare(&reader.root, &writer.root, "#")?;
    Ok(comparison.found)
}

struct Comparison<'a, 's> {
    reader: &'a JsonSchema,
    writer: &'a JsonSchema,
    /// Pairs that are or have been compared, by where they are in memory: schemas may be recursive.
    seen: HashSet<(usize, usize)>,
    found: Vec<String>,
    steps: &'s mut Steps,
    depth: usize,
}

impl<'a> Comparison<'a, '_> {
    fn compare(&mut self, new: &'a Value, old: &'a Value, path: &str) -> Result<(), TooComplex> {
        self.steps.spend(COSTLY + path.len() / LETTERS_A_STEP)?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(TooComplex);
        }
        let result = self.compare_resolved(new, old, path);
        self.depth -= 1;
        result
    }

    fn compare_resolved(
        &mut self,
        new: &'a Value,
        old: &'a Value,
        path: &str,
    ) -> Result<(), TooComplex> {
        let new = resolve(self.reader, new, self.steps)?;
        let old = resolve(self.writer, old, self.steps)?;
        let (Some(new), Some(old)) = (new, old) else {
            self.report("SCHEMA_CHANGED", path, "refers to what cannot be compared");
            return Ok(());
        };
        let pair = (
            std::ptr::from_ref(new) as usize,
            std::ptr::from_ref(old) as usize,
        );
        if accepts_all(new) || *old == Value::Bool(false) || !self.seen.insert(pair) {
            return Ok(());
        }
        if self.equal(new, old)? {
            return Ok(());
        }
        let empty: &Map<_, _> = &EMPTY;
        let (new, old) = match (new, old) {
            (Value::Object(new), Value::Object(old)) => (new, old),
            (Value::Object(new), _) => (new, empty),
            _ => {
                self.report("SCHEMA_ADDED", path, "accepts nothing");
                return Ok(());
            }
        };
        self.types(new, old, path);
        self.values(new, old, path)?;
        self.bounds(new, old, path);
        self.properties(new, old, path)?;
        self.items(new, old, path)?;
        self.combined(new, old, path)
    }

    fn types(&mut self, new: &Map<String, Value>, old: &Map<String, Value>, path: &str) {
        let (Some(new), old) = (types(new), types(old)) else {
            return;
        };
        let fits =
            |type_: &&str| new.contains(type_) || **type_ == *"integer" && new.contains("number");
        match old {
            Some(old) if old.iter().all(fits) => {}
            Some(old) if old.iter().any(fits) => {
                self.report("TYPE_NARROWED", path, "has fewer types");
            }
            Some(_) => self.report("TYPE_CHANGED", path, "has another type"),
            None => self.report("TYPE_NARROWED", path, "has a type where there was none"),
        }
    }

    fn values(
        &mut self,
        new: &Map<String, Value>,
        old: &Map<String, Value>,
        path: &str,
    ) -> Result<(), TooComplex> {
        let Some(new) = values(new) else {
            return Ok(());
        };
        let old = values(old);
        self.steps.spend(new.len() + old.map_or(0, <[_]>::len))?;
        let new: HashSet<&Value> = new.iter().collect();
        if !old.is_some_and(|old| old.iter().all(|value| new.contains(value))) {
            self.report("ENUM_ARRAY_NARROWED", path, "has fewer values");
        }
        Ok(())
    }

    /// What is inside of another is looked at as often as there are schemas around it.
    fn equal(&mut self, new: &Value, old: &Value) -> Result<bool, TooComplex> {
        self.steps.spend(1)?;
        match (new, old) {
            (Value::Array(new), Value::Array(old)) if new.len() == old.len() => {
                for (new, old) in new.iter().zip(old) {
                    if !self.equal(new, old)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Object(new), Value::Object(old)) if new.len() == old.len() => {
                for (key, new) in new {
                    let Some(old) = old.get(key) else {
                        return Ok(false);
                    };
                    if !self.equal(new, old)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::String(new), Value::String(old)) => {
                self.steps.spend(new.len() / LETTERS_A_STEP)?;
                Ok(new == old)
            }
            (new, old) => Ok(new == old),
        }
    }

    fn bounds(&mut self, new: &Map<String, Value>, old: &Map<String, Value>, path: &str) {
        for (keyword, upper) in [
            ("maximum", true),
            ("exclusiveMaximum", true),
            ("maxLength", true),
            ("maxItems", true),
            ("maxProperties", true),
            ("minimum", false),
            ("exclusiveMinimum", false),
            ("minLength", false),
            ("minItems", false),
            ("minProperties", false),
        ] {
            let Some(limit) = new.get(keyword) else {
                continue;
            };
            let number = |value: Option<&Value>| value.and_then(Value::as_f64);
            let fits = match (number(Some(limit)), number(old.get(keyword))) {
                (Some(limit), Some(before)) if upper => before <= limit,
                (Some(limit), Some(before)) => before >= limit,
                // Booleans, as draft 4 has them, and what was not limited before.
                _ => old.get(keyword) == Some(limit) || *limit == Value::Bool(false),
            };
            if !fits {
                let kind = format!("{}_NARROWED", screaming(keyword));
                self.report(&kind, path, &format!("has a narrower `{keyword}`"));
            }
        }
        for keyword in [
            "pattern",
            "format",
            "multipleOf",
            "uniqueItems",
            "contentEncoding",
        ] {
            let Some(wanted) = new.get(keyword) else {
                continue;
            };
            let multiple = || {
                let (new, old) = (wanted.as_f64()?, old.get(keyword)?.as_f64()?);
                Some(keyword == "multipleOf" && (old / new).fract() == 0.0)
            };
            let harmless = *wanted == Value::Bool(false) || multiple() == Some(true);
            if old.get(keyword) != Some(wanted) && !harmless {
                let kind = format!("{}_CHANGED", screaming(keyword));
                self.report(&kind, path, &format!("has another `{keyword}`"));
            }
        }
    }

    fn properties(
        &mut self,
        new: &'a Map<String, Value>,
        old: &'a Map<String, Value>,
        path: &str,
    ) -> Result<(), TooComplex> {
        let (new_model, old_model) = (Content::of(new), Content::of(old));
        let (news, olds) = (properties(new), properties(old));
        let names: BTreeSet<&String> = news.keys().chain(olds.keys()).collect();
        let (required, was_required) = (required_names(new), required_names(old));
        self.steps
            .spend(names.len() + required.len() + was_required.len())?;
        for name in names {
            let place = format!("{path}/properties/{name}");
            match (news.get(name), olds.get(name)) {
                (Some(new), Some(old)) => {
                    let demanded = required.contains(name.as_str());
                    if demanded && !was_required.contains(name.as_str()) && !has_default(new) {
                        self.report("REQUIRED_ATTRIBUTE_ADDED", &place, "is required now");
                    }
                    self.compare(new, old, &place)?;
                }
                (Some(new), None) => match old_model {
                    Content::Open if accepts_all(new) => {}
                    Content::Open => self.report(
                        "PROPERTY_ADDED_TO_OPEN_CONTENT_MODEL",
                        &place,
                        "is new, and the old schema accepts anything there",
                    ),
                    Content::Closed => {
                        if required.contains(name.as_str()) && !has_default(new) {
                            self.report(
                                "REQUIRED_PROPERTY_ADDED_TO_UNOPEN_CONTENT_MODEL",
                                &place,
                                "is new and required",
                            );
                        }
                    }
                    Content::Partly(old) => self.compare(new, old, &place)?,
                    Content::ByPattern => self.report(
                        "PROPERTY_ADDED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL",
                        &place,
                        "is new, and the old schema has patterns",
                    ),
                },
                (None, Some(old)) => match new_model {
                    Content::Open => {}
                    Content::Closed if *old == Value::Bool(false) => {}
                    Content::Closed => self.report(
                        "PROPERTY_REMOVED_FROM_CLOSED_CONTENT_MODEL",
                        &place,
                        "is gone, and nothing else is accepted there",
                    ),
                    Content::Partly(new) => self.compare(new, old, &place)?,
                    Content::ByPattern => self.report(
                        "PROPERTY_REMOVED_NOT_COVERED_BY_PARTIALLY_OPEN_CONTENT_MODEL",
                        &place,
                        "is gone, and the new schema has patterns",
                    ),
                },
                (None, None) => {}
            }
        }
        for name in &required {
            if !news.contains_key(*name) && !was_required.contains(name) {
                let place = format!("{path}/required");
                self.report("REQUIRED_ATTRIBUTE_ADDED", &place, "asks for more");
            }
        }
        let place = format!("{path}/additionalProperties");
        match (new_model, old_model) {
            (Content::Open, _) | (_, Content::Closed) => {}
            (Content::Partly(new), Content::Partly(old)) => self.compare(new, old, &place)?,
            (Content::ByPattern, Content::ByPattern)
                if new.get("patternProperties") == old.get("patternProperties")
                    && new.get("additionalProperties") == old.get("additionalProperties") => {}
            _ => self.report("ADDITIONAL_PROPERTIES_REMOVED", &place, "accepts less"),
        }
        Ok(())
    }

    fn items(
        &mut self,
        new: &'a Map<String, Value>,
        old: &'a Map<String, Value>,
        path: &str,
    ) -> Result<(), TooComplex> {
        for keyword in ["items", "additionalItems", "contains", "propertyNames"] {
            let Some(new) = new.get(keyword) else {
                continue;
            };
            let place = format!("{path}/{keyword}");
            match (new, old.get(keyword).unwrap_or(&Value::Bool(true))) {
                (Value::Array(new), Value::Array(old)) => {
                    self.tuple(new, old, &place)?;
                }
                (Value::Array(_), _) | (_, Value::Array(_)) => {
                    self.report("ITEM_CHANGED", &place, "is a list of schemas in one only");
                }
                (new, old) => self.compare(new, old, &place)?,
            }
        }
        if let Some(Value::Array(new)) = new.get("prefixItems") {
            let old = old.get("prefixItems").and_then(Value::as_array);
            self.tuple(new, old.map_or(&[][..], Vec::as_slice), path)?;
        }
        Ok(())
    }

    fn tuple(&mut self, new: &'a [Value], old: &'a [Value], path: &str) -> Result<(), TooComplex> {
        for (index, new) in new.iter().enumerate() {
            let place = format!("{path}/{index}");
            match old.get(index) {
                Some(old) => self.compare(new, old, &place)?,
                None if accepts_all(new) => {}
                None => self.report("ITEM_ADDED_TO_OPEN_CONTENT_MODEL", &place, "is new"),
            }
        }
        Ok(())
    }

    /// `allOf`, `anyOf`, `oneOf`, `not` and the like. Sums may grow and products may shrink.
    fn combined(
        &mut self,
        new: &'a Map<String, Value>,
        old: &'a Map<String, Value>,
        path: &str,
    ) -> Result<(), TooComplex> {
        for keyword in ["anyOf", "oneOf"] {
            let Some(Value::Array(news)) = new.get(keyword) else {
                continue;
            };
            let olds = old.get("anyOf").or_else(|| old.get("oneOf"));
            let olds = olds.and_then(Value::as_array);
            let olds = olds.map_or(&[][..], Vec::as_slice);
            let place = format!("{path}/{keyword}");
            if olds.is_empty() {
                self.report("SUM_TYPE_NARROWED", &place, "is a choice now");
            }
            for old in olds {
                if !self.any_fits(news, old)? {
                    self.report("SUM_TYPE_NARROWED", &place, "has fewer choices");
                }
            }
        }
        if let Some(Value::Array(news)) = new.get("allOf") {
            let olds = old.get("allOf").and_then(Value::as_array);
            let olds = olds.map_or(&[][..], Vec::as_slice);
            for new in news {
                let mut fits = accepts_all(new);
                for old in olds {
                    fits = fits || self.fits(new, old)?;
                }
                if !fits {
                    let place = format!("{path}/allOf");
                    self.report("PRODUCT_TYPE_EXTENDED", &place, "asks for more");
                }
            }
        }
        for keyword in [
            "not",
            "if",
            "then",
            "else",
            "dependencies",
            "dependentRequired",
            "dependentSchemas",
            "unevaluatedProperties",
            "unevaluatedItems",
        ] {
            if new.contains_key(keyword) && new.get(keyword) != old.get(keyword) {
                let kind = format!("{}_CHANGED", screaming(keyword));
                self.report(&kind, path, &format!("has another `{keyword}`"));
            }
        }
        Ok(())
    }

    fn any_fits(&mut self, news: &'a [Value], old: &'a Value) -> Result<bool, TooComplex> {
        for new in news {
            if self.fits(new, old)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether there are no differences, and none is reported.
    fn fits(&mut self, new: &'a Value, old: &'a Value) -> Result<bool, TooComplex> {
        self.steps.spend(self.seen.len())?;
        let mut probe = Comparison {
            reader: self.reader,
            writer: self.writer,
            seen: self.seen.clone(),
            found: Vec::new(),
            steps: &mut *self.steps,
            depth: self.depth,
        };
        probe.compare(new, old, "")?;
        Ok(probe.found.is_empty())
    }

    fn report(&mut self, kind: &str, path: &str, what: &str) {
        if self.found.len() < MOST_DIFFERENCES {
            self.found.push(format!(
                "{{errorType:\"{kind}\", description:\"The schema at path '{path}' {what}\"}}"
            ));
        }
    }
}

static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// What an object may have beside the properties that are named.
#[derive(Clone, Copy)]
enum Content<'a> {
    Open,
    Closed,
    Partly(&'a Value),
    ByPattern,
}

impl<'a> Content<'a> {
    fn of(schema: &'a Map<String, Value>) -> Self {
        if schema.get("patternProperties").is_some() {
            return Self::ByPattern;
        }
        match schema.get("additionalProperties") {
            None => Self::Open,
            Some(other) if accepts_all(other) => Self::Open,
            Some(Value::Bool(false)) => Self::Closed,
            Some(other) => Self::Partly(other),
        }
    }
}

fn accepts_all(schema: &Value) -> bool {
    match schema {
        Value::Bool(accepts) => *accepts,
        Value::Object(object) => object.keys().all(|key| {
            [
                "title",
                "description",
                "default",
                "examples",
                "$comment",
                "$id",
                "$schema",
            ]
            .contains(&key.as_str())
        }),
        _ => false,
    }
}

fn types(schema: &Map<String, Value>) -> Option<BTreeSet<&str>> {
    match schema.get("type")? {
        Value::String(type_) => Some([type_.as_str()].into()),
        Value::Array(types) => Some(types.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}

fn values(schema: &Map<String, Value>) -> Option<&[Value]> {
    match (schema.get("const"), schema.get("enum")) {
        (Some(value), _) => Some(std::slice::from_ref(value)),
        (None, Some(Value::Array(values))) => Some(values),
        _ => None,
    }
}

fn properties(schema: &Map<String, Value>) -> &Map<String, Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    properties.unwrap_or(&*EMPTY)
}

fn required_names(schema: &Map<String, Value>) -> BTreeSet<&str> {
    let required = schema.get("required").and_then(Value::as_array);
    let names = required.into_iter().flatten();
    names.filter_map(Value::as_str).collect()
}

fn has_default(schema: &Value) -> bool {
    schema.get("default").is_some()
}

/// What a schema refers to, if it does: within the document, or in one that it has a name for.
fn resolve<'a>(
    document: &'a JsonSchema,
    schema: &'a Value,
    steps: &mut Steps,
) -> Result<Option<&'a Value>, TooComplex> {
    const MOST_HOPS: usize = 20;
    let (mut schema, mut root) = (schema, &document.root);
    for _ in 0..MOST_HOPS {
        let Some(target) = schema.get("$ref").and_then(Value::as_str) else {
            return Ok(Some(schema));
        };
        steps.spend(COSTLY + target.len() / LETTERS_A_STEP)?;
        let (name, pointer) = target.split_once('#').unwrap_or((target, ""));
        let found = match name {
            "" => Some(root),
            name => document.others.get(name),
        };
        let target = found.and_then(|found| Some((found, found.pointer(pointer)?)));
        let Some(target) = target else {
            return Ok(None);
        };
        (root, schema) = target;
    }
    Ok(None)
}

/// `maxLength` → `MAX_LENGTH`
fn screaming(keyword: &str) -> String {
    let mut text = String::new();
    for letter in keyword.chars() {
        if letter.is_uppercase() {
            text.push('_');
        }
        text.extend(letter.to_uppercase());
    }
    text
}
