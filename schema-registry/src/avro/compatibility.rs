//! Whether a reader's schema can read everything written with a writer's schema.
//!
//! The rules are those of the Avro specification, "Schema Resolution", as the Java implementation
//! applies them in `SchemaCompatibility`, since that is what Confluent's registry answers by:
//! - names of records, enums and fixed types match without their namespace, or by an alias of the
//!   reader; aliases of fields are the reader's too;
//! - a field that only the reader has needs a default;
//! - int → long, float, double; long → float, double; float → double; string ↔ bytes;
//! - a symbol that only the writer has needs a default in the reader's enum;
//! - every branch of a writer's union must be readable; a reader's union needs one branch that
//!   reads the writer's type;
//! - logical types play no part.

use std::collections::{HashMap, HashSet};
use std::mem::discriminant;

use super::rules::{SeveralFields, Step, lacking, pointer, promotes, written_field};
use super::steps::{Steps, TooComplex};
use super::{AvroSchema, Fields, Named, Shape, TypeId};

/// A place where the reader cannot read what the writer writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incompatibility {
    pub kind: IncompatibilityKind,
    /// Where in the reader's schema, as a JSON pointer in the manner of Java: `/fields/1/type`.
    pub path: String,
    /// The field, symbols, type or size in question.
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncompatibilityKind {
    NameMismatch,
    FixedSizeMismatch,
    MissingEnumSymbols,
    ReaderFieldMissingDefaultValue,
    TypeMismatch,
    MissingUnionBranch,
}

/// Deeper than any schema that is used, and shallow enough for a thread's stack.
const DEEPEST: usize = 200;
/// More differences than these say nothing new.
const MOST_DIFFERENCES: usize = 100;

/// All differences that keep `reader` from reading what `writer` wrote; none if it can.
pub fn can_read(
    reader: &AvroSchema,
    writer: &AvroSchema,
) -> Result<Vec<Incompatibility>, TooComplex> {
    differences(reader, writer, &mut Steps::new())
}

/// The same where it is one of several comparisons, which share their steps.
pub(crate) fn differences(
    reader: &AvroSchema,
    writer: &AvroSchema,
    steps: &mut Steps,
) -> Result<Vec<Incompatibility>, TooComplex> {
    let mut comparison = Comparison {
        reader,
        writer,
        known: HashMap::new(),
        order: Vec::new(),
        found: Vec::new(),
        path: Vec::new(),
        depth: 0,
        steps,
        lowest_assumed: usize::MAX,
    };
    comparison.compare(reader.root, writer.root, Mode::Report)?;
    Ok(comparison.found)
}

/// Whether differences are reported, or it is only asked if there are any: a branch of a union
/// that does not fit is no difference as long as another one fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Mode {
    Report,
    Probe,
}

type Pair = (TypeId, TypeId, Mode);

#[derive(Clone, Copy)]
enum Verdict {
    /// Being compared further up; the number is its place in `order`.
    Open(usize),
    Fits(bool),
}

struct Comparison<'a> {
    reader: &'a AvroSchema,
    writer: &'a AvroSchema,
    known: HashMap<Pair, Verdict>,
    /// The pairs of `known` in the order in which they were met.
    order: Vec<Pair>,
    found: Vec<Incompatibility>,
    path: Vec<Step>,
    depth: usize,
    steps: &'a mut Steps,
    /// The outermost open pair that was assumed to fit since this was last reset.
    lowest_assumed: usize,
}

impl<'a> Comparison<'a> {
    /// A pair that is met again while it is being compared is taken to fit, which is how recursive
    /// schemas come to an end. If it turns out not to fit, whatever was found to fit in between is
    /// forgotten, since it may rest on that.
    fn compare(&mut self, reader: TypeId, writer: TypeId, mode: Mode) -> Result<bool, TooComplex> {
        if let Some(fits) = self.at_a_glance(reader, writer)?
            && (fits || mode == Mode::Probe)
        {
            return Ok(fits);
        }
        let pair = (reader, writer, mode);
        match self.known.get(&pair) {
            Some(Verdict::Fits(fits)) => return Ok(*fits),
            Some(Verdict::Open(place)) => {
                self.lowest_assumed = self.lowest_assumed.min(*place);
                return Ok(true);
            }
            None => {}
        }
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(TooComplex);
        }
        let place = self.order.len();
        self.order.push(pair);
        self.known.insert(pair, Verdict::Open(place));
        let fits = self.compare_shapes(reader, writer, mode)?;
        if !fits && self.lowest_assumed <= place {
            for rash in self.order.drain(place + 1..) {
                if let Some(Verdict::Fits(true)) = self.known.get(&rash) {
                    self.known.remove(&rash);
                }
            }
        }
        if self.lowest_assumed >= place {
            self.lowest_assumed = usize::MAX;
        }
        self.known.insert(pair, Verdict::Fits(fits));
        self.depth -= 1;
        Ok(fits)
    }

    /// What takes no comparison of what is inside: most pairs, and nearly all where the branches of
    /// unions are tried.
    fn at_a_glance(&mut self, reader: TypeId, writer: TypeId) -> Result<Option<bool>, TooComplex> {
        self.steps.spend(1)?;
        let shapes = (
            &self.reader.get(reader).shape,
            &self.writer.get(writer).shape,
        );
        Ok(match shapes {
            (Shape::Primitive(read), Shape::Primitive(written)) => Some(promotes(*written, *read)),
            (Shape::Union(_), _) | (_, Shape::Union(_)) => None,
            (read, written) => match (read.named(), written.named()) {
                _ if discriminant(read) != discriminant(written) => Some(false),
                (Some(read), Some(written)) => {
                    self.steps.spend(read.aliases.len())?;
                    (!read.is_called(written)).then_some(false)
                }
                _ => None,
            },
        })
    }

    fn compare_shapes(
        &mut self,
        reader: TypeId,
        writer: TypeId,
        mode: Mode,
    ) -> Result<bool, TooComplex> {
        let (read, written) = (
            &self.reader.get(reader).shape,
            &self.writer.get(writer).shape,
        );
        match (read, written) {
            (Shape::Union(_), Shape::Union(branches)) => {
                let mut fits = true;
                for (index, branch) in branches.iter().enumerate() {
                    if !self.compare(reader, *branch, Mode::Probe)? {
                        fits = false;
                        self.path.push(Step::Index(index));
                        self.report(mode, IncompatibilityKind::MissingUnionBranch, || {
                            lacking(&self.writer.get(*branch).shape)
                        });
                        self.path.pop();
                    }
                }
                Ok(fits)
            }
            (_, Shape::Union(branches)) => {
                let mut fits = true;
                for branch in branches {
                    fits &= self.compare(reader, *branch, mode)?;
                }
                Ok(fits)
            }
            (Shape::Union(branches), _) => {
                for branch in branches {
                    if self.compare(*branch, writer, Mode::Probe)? {
                        return Ok(true);
                    }
                }
                self.report(mode, IncompatibilityKind::MissingUnionBranch, || {
                    lacking(written)
                });
                Ok(false)
            }
            (Shape::Array(read), Shape::Array(written)) => {
                self.within("items", *read, *written, mode)
            }
            (Shape::Map(read), Shape::Map(written)) => self.within("values", *read, *written, mode),
            (
                Shape::Record {
                    named: read,
                    fields,
                    ..
                },
                Shape::Record {
                    named: written,
                    fields: from,
                    ..
                },
            ) => Ok(self.names(read, written, mode) & self.fields(fields, from, mode)?),
            (
                Shape::Enum {
                    named: read,
                    symbols,
                    default,
                },
                Shape::Enum {
                    named: written,
                    symbols: from,
                    ..
                },
            ) => Ok(self.names(read, written, mode)
                & self.symbols(symbols, default.as_deref(), from, mode)?),
            (
                Shape::Fixed { named: read, size },
                Shape::Fixed {
                    named: written,
                    size: from,
                },
            ) => {
                let same_size = size == from;
                let same_name = self.names(read, written, mode);
                if !same_size {
                    self.path.push(Step::Key("size"));
                    self.report(mode, IncompatibilityKind::FixedSizeMismatch, || {
                        format!("expected: {from}, found: {size}")
                    });
                    self.path.pop();
                }
                Ok(same_name && same_size)
            }
            (read, written) => {
                self.report(mode, IncompatibilityKind::TypeMismatch, || {
                    format!(
                        "reader type: {} not compatible with writer type: {}",
                        read.kind().to_uppercase(),
                        written.kind().to_uppercase()
                    )
                });
                Ok(false)
            }
        }
    }

    fn within(
        &mut self,
        key: &'static str,
        reader: TypeId,
        writer: TypeId,
        mode: Mode,
    ) -> Result<bool, TooComplex> {
        self.path.push(Step::Key(key));
        let fits = self.compare(reader, writer, mode);
        self.path.pop();
        fits
    }

    fn names(&mut self, reader: &Named, writer: &Named, mode: Mode) -> bool {
        let fits = reader.is_called(writer);
        if !fits {
            self.path.push(Step::Key("name"));
            self.report(mode, IncompatibilityKind::NameMismatch, || {
                format!("expected: {}", writer.name.full())
            });
            self.path.pop();
        }
        fits
    }

    fn fields(
        &mut self,
        reader: &'a Fields,
        writer: &'a Fields,
        mode: Mode,
    ) -> Result<bool, TooComplex> {
        let mut fits = true;
        self.path.push(Step::Key("fields"));
        for (index, field) in reader.list.iter().enumerate() {
            self.steps.spend(field.aliases.len())?;
            self.path.push(Step::Index(index));
            fits &= match written_field(field, index, writer) {
                Ok(Some(written)) => self.within("type", field.type_, written.type_, mode)?,
                Ok(None) if field.default.is_some() => true,
                Ok(None) => {
                    self.report(
                        mode,
                        IncompatibilityKind::ReaderFieldMissingDefaultValue,
                        || field.name.clone(),
                    );
                    false
                }
                Err(SeveralFields) => {
                    self.report(mode, IncompatibilityKind::NameMismatch, || {
                        format!(
                            "field {} matches several fields of the writer by its aliases",
                            field.name
                        )
                    });
                    false
                }
            };
            self.path.pop();
        }
        self.path.pop();
        Ok(fits)
    }

    fn symbols(
        &mut self,
        reader: &[String],
        default: Option<&str>,
        writer: &[String],
        mode: Mode,
    ) -> Result<bool, TooComplex> {
        self.steps.spend((reader.len() + writer.len()) / 8)?;
        if default.is_some() {
            return Ok(true);
        }
        let known: HashSet<&str> = reader.iter().map(String::as_str).collect();
        let mut missing: Vec<&str> = writer
            .iter()
            .map(String::as_str)
            .filter(|s| !known.contains(s))
            .collect();
        if missing.is_empty() {
            return Ok(true);
        }
        missing.sort_unstable();
        missing.truncate(MOST_DIFFERENCES);
        self.path.push(Step::Key("symbols"));
        self.report(mode, IncompatibilityKind::MissingEnumSymbols, || {
            format!("[{}]", missing.join(", "))
        });
        self.path.pop();
        Ok(false)
    }

    fn report(&mut self, mode: Mode, kind: IncompatibilityKind, detail: impl FnOnce() -> String) {
        if mode == Mode::Report && self.found.len() < MOST_DIFFERENCES {
            let detail = detail();
            self.found.push(Incompatibility {
                kind,
                path: pointer(&self.path),
                detail,
            });
        }
    }
}
