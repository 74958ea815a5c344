//! Whether a context's event enums and its schema files still say the same:
//! asserted by one test of each context.
//!
//! The files are the source of truth. serde's derives tell what the Rust types
//! ask for; a deserializer that walks the schema (`sample`) compares the two
//! field by field and hands out values, which must survive the codec.

mod sample;
mod shape;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, fmt::Write};

use kernel::Event;

use crate::{
    avro::{EventCodec, variants::variant_names},
    schemas::{ContextSchemas, SchemaFile},
};
use sample::{Sample, samples};

/// Asserts that event enums have exactly the events of a context's schema
/// files, with the same fields and types: `assert_events_match_schemas!(TaskEvent, schemas())`,
/// or `assert_events_match_schemas!([TaskEvent, BoardEvent], schemas())` for several.
///
/// # Panics
/// When they have drifted apart, naming each event and field with what to do.
#[macro_export]
macro_rules! assert_events_match_schemas {
    ([$($events:ty),+ $(,)?], $schemas:expr $(,)?) => {{
        let schemas = $schemas;
        let mut drift = $crate::drift::Drift::from(&schemas);
        $(drift.compare::<$events>();)+
        if let Some(report) = drift.report() {
            panic!("{report}");
        }
    }};
    ($events:ty, $schemas:expr $(,)?) => {
        $crate::assert_events_match_schemas!([$events], $schemas)
    };
}

/// What was found so far between a context's files and the enums compared with them.
#[derive(Debug)]
pub struct Drift<'a> {
    schemas: &'a ContextSchemas,
    compared: BTreeSet<&'static str>,
    findings: Vec<String>,
}

impl<'a> Drift<'a> {
    pub fn from(schemas: &'a ContextSchemas) -> Self {
        Self {
            schemas,
            compared: BTreeSet::new(),
            findings: Vec::new(),
        }
    }

    /// Compares every variant with the newest schema file of its name.
    pub fn compare<E: Event>(&mut self) {
        let found_before = self.findings.len();
        let mut all = Vec::new();
        for name in variant_names::<E>() {
            self.compared.insert(name);
            let Some(file) = self.schemas.current(name) else {
                let context = self.schemas.context();
                self.findings.push(format!(
                    "{name}: no schema file: add schemas/{context}/{name}.v1.avsc, or remove the variant"
                ));
                continue;
            };
            let (samples, findings) = samples::<E>(name, &file.text);
            let file = file_name(file);
            self.findings
                .extend(findings.iter().map(|finding| format!("{file}{finding}")));
            all.extend(samples.into_iter().map(|sample| (file.clone(), sample)));
        }
        // Without a file for each variant there is no codec, and a wrong type has been told.
        if self.findings.len() == found_before {
            self.pass_through_codec(all);
        }
    }

    /// Everything that was found, for the author; `None` when all is well.
    pub fn report(mut self) -> Option<String> {
        for file in self.schemas.files() {
            let event = file.event.as_str();
            let current = self.schemas.current(event) == Some(file);
            if current && !self.compared.contains(event) {
                self.findings.push(format!(
                    "{}: no variant {event} in the enums compared: add it (old logs must still replay)",
                    file_name(file)
                ));
            }
        }
        if self.findings.is_empty() {
            return None;
        }
        let mut report = format!(
            "the events of context {} have drifted from their schema files:",
            self.schemas.context()
        );
        for finding in &self.findings {
            let _ = write!(report, "\n  {finding}");
        }
        report.push_str(
            "\nA released schema file never changes: the next version goes into a file beside it.",
        );
        Some(report)
    }

    fn pass_through_codec<E: Event>(&mut self, samples: Vec<(String, Sample<E>)>) {
        let codec = match EventCodec::<E>::offline(&[self.schemas]) {
            Ok(codec) => codec,
            Err(error) => return self.findings.push(error.to_string()),
        };
        for (file, sample) in samples {
            if let Err(reason) = survives(&codec, &sample) {
                self.findings.push(format!("{file}: {reason}"));
                return;
            }
        }
    }
}

/// Encodes and decodes a sample; says what became of it when it is not the same.
fn survives<E: Event>(codec: &EventCodec<E>, sample: &Sample<E>) -> Result<(), String> {
    let mut value = Vec::new();
    let event = &sample.event;
    let event_type = codec
        .encode(event, &mut value)
        .map_err(|error| format!("{event:?} cannot be written: {error}"))?;
    let decoded = codec
        .decode(event_type, &value)
        .map_err(|error| format!("{event:?} is written, but cannot be read back: {error}"))?;
    if decoded.as_ref() != Some(event) {
        return Err(format!("{event:?} is read back as {decoded:?}"));
    }
    // Equal numbers of different scale are equal, and so is reformatted JSON: look at the bytes.
    for text in &sample.kept {
        let written = value.windows(text.len()).any(|at| at == text.as_bytes());
        if !written {
            return Err(format!(
                "the text {text:?} is written otherwise in {event:?}: the Rust type must keep it"
            ));
        }
    }
    Ok(())
}

fn file_name(file: &SchemaFile) -> String {
    format!("{}.v{}.avsc", file.event, file.version)
}
