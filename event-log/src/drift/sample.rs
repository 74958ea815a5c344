//! Values that the schema allows, handed to a type's `Deserialize`; on the way
//! it is compared what serde asks for with what the schema has.

mod access;
mod node;

use std::{cell::RefCell, collections::BTreeMap};

use kernel::Event;

use crate::{avro::tagged::Tagged, migration::Schema};
use node::{Node, Stop};

/// More values than this no event needs; it ends schemas that contain themselves in odd ways.
const MOST_SAMPLES: usize = 2_000;
/// Texts for strings of no known form, until the Rust type takes one.
const TEXTS: &[&str] = &[
    "text",
    "d9428888-122b-4fae-b5a8-51f2a2fb1f53",
    "2026-11-21T10:00:00Z",
    "2026-11-21",
    "13.14000",
    "main/task/7",
    "user:ada",
    "ada@example.org",
    "https://example.org/",
    "EUR",
    "worker",
    "{}",
];

/// An event made from its schema.
#[derive(Debug)]
pub(super) struct Sample<E> {
    pub event: E,
    /// Texts in it that must be written to the letter.
    pub kept: Vec<&'static str>,
}

/// Makes events of the named variant, so that every branch of every union and
/// every symbol of every enum occurs; and says where type and schema differ.
pub(super) fn samples<E: Event>(
    variant: &'static str,
    schema: &str,
) -> (Vec<Sample<E>>, Vec<String>) {
    let mut samples = Vec::new();
    let sampler = match Schema::parse(schema) {
        Ok(schema) => Sampler::new(schema),
        Err(error) => return (samples, vec![format!(": {error}")]),
    };
    while samples.len() < MOST_SAMPLES {
        let visits_before = sampler.begin_pass();
        let event = Tagged {
            name: variant,
            content: Node::root(&sampler),
        };
        match E::deserialize(event) {
            Ok(event) => samples.push(Sample {
                event,
                kept: sampler.kept.take(),
            }),
            Err(_) if sampler.next_text() => {
                sampler.visits.replace(visits_before);
                continue;
            }
            Err(error) => {
                sampler.refused(&error);
                break;
            }
        }
        if sampler.all_visited() {
            break;
        }
    }
    (samples, sampler.findings.into_inner())
}

/// Decides which of the possible values comes next, and keeps what was found.
#[derive(Debug)]
struct Sampler {
    schema: Schema,
    findings: RefCell<Vec<String>>,
    /// How many ways there are at a place.
    choices: RefCell<BTreeMap<String, usize>>,
    /// How often a place was come by.
    visits: RefCell<BTreeMap<String, usize>>,
    /// Which of `TEXTS` the type at a place takes.
    texts: RefCell<BTreeMap<String, usize>>,
    last_text: RefCell<Option<String>>,
    /// Where the type was served last.
    place: RefCell<String>,
    kept: RefCell<Vec<&'static str>>,
}

impl Sampler {
    fn new(schema: Schema) -> Self {
        Self {
            schema,
            findings: RefCell::default(),
            choices: RefCell::default(),
            visits: RefCell::default(),
            texts: RefCell::default(),
            last_text: RefCell::default(),
            place: RefCell::default(),
            kept: RefCell::default(),
        }
    }

    fn begin_pass(&self) -> BTreeMap<String, usize> {
        self.last_text.take();
        self.kept.take();
        self.visits.borrow().clone()
    }

    /// One of `ways`, another at each visit.
    fn choose(&self, path: &str, ways: usize) -> usize {
        self.choices.borrow_mut().insert(path.into(), ways);
        let mut visits = self.visits.borrow_mut();
        let visit = visits.entry(path.into()).or_default();
        *visit += 1;
        (*visit - 1) % ways
    }

    fn all_visited(&self) -> bool {
        let visits = self.visits.borrow();
        let choices = self.choices.borrow();
        choices
            .iter()
            .all(|(path, ways)| visits.get(path) >= Some(ways))
    }

    /// A text for a string; those of a known form must be kept to the letter.
    fn text(&self, path: &str, logical: Option<&str>) -> &'static str {
        let keep = |text| {
            self.kept.borrow_mut().push(text);
            text
        };
        match logical {
            Some("decimal") => keep("13.14000"),
            Some("json") => keep(r#"{ "b": 1.0, "a": [] }"#),
            Some("uuid") => keep("d9428888-122b-4fae-b5a8-51f2a2fb1f53"),
            _ => {
                self.last_text.replace(Some(path.into()));
                TEXTS[self.texts.borrow().get(path).copied().unwrap_or(0)]
            }
        }
    }

    /// After a refusal: whether there is another text for the place that was served last.
    fn next_text(&self) -> bool {
        let Some(path) = self.last_text.take() else {
            return false;
        };
        let mut texts = self.texts.borrow_mut();
        let text = texts.entry(path).or_default();
        *text += 1;
        *text < TEXTS.len()
    }

    fn find(&self, path: &str, what: String) {
        let finding = match path {
            "" => format!(": {what}"),
            path => format!(", field `{path}`: {what}"),
        };
        let mut findings = self.findings.borrow_mut();
        if !findings.contains(&finding) {
            findings.push(finding);
        }
    }

    /// The type took no value; where a difference was found, that says why.
    fn refused(&self, error: &Stop) {
        if self.findings.borrow().is_empty() {
            let place = self.place.take();
            self.find(
                &place,
                format!("the Rust type refuses what the schema allows: {error}"),
            );
        }
    }
}
