//! Taking a text apart by a regular expression, and putting it together again.
//!
//! The typed form is kept only where it cannot be had back from the parts, so that nothing is
//! lost and little is kept twice.

use std::sync::Arc;

use regex::{Captures, Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use super::{
    path::{Path, Step},
    value::{Record, Value},
};

/// What `split` and `join` share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parts {
    /// The record that has the field, if it is not the event itself.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub inside: Option<Path>,
    /// The field with the whole text.
    pub field: String,
    /// Its named groups are the fields of the parts; it must match all of the text.
    pub pattern: String,
    /// The text made of the parts: `{jira_id}: {title}`; `{{` is a brace.
    pub template: String,
    /// The part that takes a text that the pattern does not match; the others are null then.
    pub whole: String,
    /// The field that keeps the text where the parts would give another one, and is null
    /// otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<String>,
}

impl Parts {
    /// Steps to the record that has the field.
    pub(crate) fn record(&self) -> &[Step] {
        self.inside.as_ref().map_or(&[], Path::steps)
    }

    /// The whole path of a field beside the text.
    pub(crate) fn path(&self, field: &str) -> Path {
        Path::of(&[self.record(), &[Step::Field(field.into())]].concat())
    }
}

/// Compiled.
#[derive(Clone, Debug)]
pub(crate) struct Splitter {
    field: Arc<str>,
    pattern: Regex,
    /// Index of the group, name of the field.
    parts: Vec<(usize, Arc<str>)>,
    template: Vec<Piece>,
    whole: Arc<str>,
    otherwise: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Part(Arc<str>),
}

/// What a compiled expression may take in memory; it matches in linear time.
const LARGEST_PATTERN: usize = 1 << 20;
const LONGEST_PATTERN: usize = 4_096;

/// Why parts cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BadParts {
    Pattern(String),
    Template(String),
}

impl Splitter {
    pub fn compile(parts: &Parts) -> Result<Self, BadParts> {
        let Parts {
            inside: _,
            field,
            pattern,
            template,
            whole,
            otherwise,
        } = parts;
        if pattern.len() > LONGEST_PATTERN {
            let reason = format!("it is longer than {LONGEST_PATTERN} bytes");
            return Err(BadParts::Pattern(reason));
        }
        // The group stands around alternatives, the anchors around the group.
        let pattern = RegexBuilder::new(&format!("^(?s-m:{pattern})$"))
            .size_limit(LARGEST_PATTERN)
            .dfa_size_limit(LARGEST_PATTERN)
            .build()
            .map_err(|error| BadParts::Pattern(error.to_string()))?;
        let named: Vec<(usize, Arc<str>)> = pattern
            .capture_names()
            .enumerate()
            .filter_map(|(index, name)| Some((index, name?.into())))
            .collect();
        if named.is_empty() {
            return Err(BadParts::Pattern("it has no named group".into()));
        }
        if !named.iter().any(|(_, name)| **name == **whole) {
            return Err(BadParts::Pattern(format!("it has no group {whole}")));
        }
        let template = pieces(template).map_err(BadParts::Template)?;
        for piece in &template {
            if let Piece::Part(part) = piece
                && !named.iter().any(|(_, name)| name == part)
            {
                return Err(BadParts::Template(format!(
                    "the pattern has no group {part}"
                )));
            }
        }
        Ok(Self {
            field: field.as_str().into(),
            pattern,
            parts: named,
            template,
            whole: whole.as_str().into(),
            otherwise: otherwise.as_deref().map(Into::into),
        })
    }

    fn parts(&self) -> impl Iterator<Item = &Arc<str>> {
        self.parts.iter().map(|(_, name)| name)
    }

    /// The fields of the parts, and of the text that they do not give.
    pub fn fields(&self) -> impl Iterator<Item = &Arc<str>> {
        self.parts().chain(&self.otherwise)
    }

    /// The text is replaced by its parts. Null stays null, in all of them.
    pub fn split(&self, record: &mut Record) {
        let Some(Value::String(text)) = record.take(&self.field) else {
            for name in self.fields() {
                record.set(name, Value::Null);
            }
            return;
        };
        let captures = self.pattern.captures(&text);
        // A match that leaves nothing for the whole is none.
        let captures = captures.filter(|captures| self.group(captures, &self.whole).is_some());
        // What `join` would give is the template if there is another part, or else the whole.
        let kept = captures.as_ref().is_none_or(|captures| {
            let group = |part: &Arc<str>| self.group(captures, part);
            match self.any_other(|part| group(part).is_some()) {
                true => self.gives(&text, group),
                false => group(&self.whole) == Some(&*text),
            }
        });
        match &captures {
            Some(captures) => {
                for (index, name) in &self.parts {
                    let part = captures.get(*index);
                    let part = part.map_or(Value::Null, |found| Value::text(found.as_str()));
                    record.set(name, part);
                }
            }
            None => {
                for name in self.parts().filter(|name| **name != self.whole) {
                    record.set(name, Value::Null);
                }
                record.set(&self.whole, Value::text(&text));
            }
        }
        if let Some(otherwise) = &self.otherwise {
            record.set(
                otherwise,
                if kept {
                    Value::Null
                } else {
                    Value::String(text)
                },
            );
        }
    }

    /// The parts are replaced by the text that they were, or that the template makes of them.
    pub fn join(&self, record: &mut Record) {
        let typed = self.otherwise.as_ref().and_then(|name| record.take(name));
        let parts: Vec<(Arc<str>, Value)> = self
            .parts()
            .filter_map(|name| Some((name.clone(), record.take(name)?)))
            .collect();
        let part = |name: &Arc<str>| {
            let (_, value) = parts.iter().find(|(known, _)| known == name)?;
            match value {
                Value::String(text) => Some(&**text),
                _ => None,
            }
        };
        let joined = match typed {
            Some(Value::String(text)) => Value::String(text),
            _ if self.any_other(|name| part(name).is_some()) => Value::String(self.fill(part)),
            _ => part(&self.whole).map_or(Value::Null, Value::text),
        };
        record.set(&self.field, joined);
    }

    /// By the group's index, since the captures would hash its name.
    fn group<'t>(&self, captures: &Captures<'t>, part: &Arc<str>) -> Option<&'t str> {
        let (index, _) = self.parts.iter().find(|(_, name)| name == part)?;
        captures.get(*index).map(|found| found.as_str())
    }

    /// Whether there is a part besides the one that takes the whole.
    fn any_other(&self, is_there: impl Fn(&Arc<str>) -> bool) -> bool {
        self.parts()
            .any(|name| *name != self.whole && is_there(name))
    }

    /// Whether the template makes this text of the parts.
    fn gives<'a>(&self, text: &str, part: impl Fn(&Arc<str>) -> Option<&'a str>) -> bool {
        let mut rest = Some(text);
        for piece in &self.template {
            let next = match piece {
                Piece::Text(fixed) => fixed,
                Piece::Part(name) => part(name).unwrap_or_default(),
            };
            rest = rest.and_then(|rest| rest.strip_prefix(next));
        }
        rest == Some("")
    }

    fn fill<'a>(&self, part: impl Fn(&Arc<str>) -> Option<&'a str>) -> String {
        let mut text = String::new();
        for piece in &self.template {
            match piece {
                Piece::Text(fixed) => text.push_str(fixed),
                Piece::Part(name) => text.push_str(part(name).unwrap_or_default()),
            }
        }
        text
    }
}

/// `{part}` and text; `{{` and `}}` are braces.
fn pieces(template: &str) -> Result<Vec<Piece>, String> {
    let mut pieces = Vec::new();
    let mut text = String::new();
    let mut rest = template;
    while let Some(next) = rest.chars().next() {
        let escaped = rest.strip_prefix("{{").map(|after| ('{', after));
        let escaped = escaped.or_else(|| Some(('}', rest.strip_prefix("}}")?)));
        if let Some((brace, after)) = escaped {
            text.push(brace);
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let (name, after) = after
                .split_once('}')
                .ok_or_else(|| "a brace is not closed".to_owned())?;
            if !text.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(Piece::Part(name.into()));
            rest = after;
        } else if next == '}' {
            return Err("a brace is closed that was not opened".into());
        } else {
            text.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text));
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title() -> Parts {
        Parts {
            inside: None,
            field: "title".into(),
            pattern: r"\[?(?<id>[A-Z]+-[0-9]+)\]?:? (?<title>.+)".into(),
            template: "{id}: {title}".into(),
            whole: "title".into(),
            otherwise: Some("typed".into()),
        }
    }

    fn record(fields: &[(&str, &str)]) -> Record {
        Record {
            name: "Created".into(),
            fields: fields
                .iter()
                .map(|(name, text)| ((*name).into(), Value::text(text)))
                .collect(),
        }
    }

    fn parts_of(text: &str) -> Vec<String> {
        let splitter = Splitter::compile(&title()).unwrap();
        let mut split = record(&[("title", text)]);
        splitter.split(&mut split);
        let shown = |name| split.get(name).unwrap().to_string();
        let shown = ["id", "title", "typed"].map(shown).to_vec();
        splitter.join(&mut split);
        assert_eq!(split, record(&[("title", text)]));
        shown
    }

    #[test]
    fn a_text_is_split_and_had_back() {
        assert_eq!(parts_of("A-1: Sort"), [r#""A-1""#, r#""Sort""#, "null"]);
        let typed = r#""[A-1] Sort""#;
        assert_eq!(parts_of("[A-1] Sort"), [r#""A-1""#, r#""Sort""#, typed]);
        assert_eq!(parts_of("Sort"), ["null", r#""Sort""#, "null"]);
        assert_eq!(parts_of("A-1: two\nlines")[0], r#""A-1""#);
    }

    #[test]
    fn a_pattern_says_what_is_wrong_with_it() {
        let refused = |change: fn(&mut Parts)| {
            let mut parts = title();
            change(&mut parts);
            Splitter::compile(&parts).unwrap_err()
        };
        let is_pattern = |bad| matches!(bad, BadParts::Pattern(_));
        assert!(is_pattern(refused(|parts| parts.pattern = "(".into())));
        assert!(is_pattern(refused(|parts| parts.pattern = "a".into())));
        assert!(is_pattern(refused(|parts| parts.whole = "other".into())));
        assert!(is_pattern(refused(|parts| {
            parts.pattern = format!("(?<title>{})", "(a{1000}){1000}");
        })));
        for template in ["{id", "id}", "{other}"] {
            let mut parts = title();
            parts.template = template.into();
            let bad = Splitter::compile(&parts).unwrap_err();
            assert!(matches!(bad, BadParts::Template(_)), "{template}");
        }
    }
}
