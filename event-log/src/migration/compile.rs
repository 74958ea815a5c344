//! A rule of type `ANNALS` against its two schemas: checked, and made into actions.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::Value as Json;

use super::{
    action::{Action, Becomes},
    decimal::Rounding,
    fits::Fitting,
    number::NumberForm,
    operation::Operation,
    path::{Path, Step},
    report::{Code, Direction, Report, Severity},
    schema::{Kind, NodeId, Schema},
    split::{BadParts, Parts, Splitter},
    types::{Blocked, Type, node_at, only_branch},
    value::Value,
};

/// The operations as actions on events of `from`; what is wrong, or lost, is in the report.
pub(super) fn compile(
    operations: &[Operation],
    drops: &[Path],
    from: &Schema,
    to: &Schema,
    direction: Direction,
) -> (Vec<Action>, Report) {
    let mut compiler = Compiler {
        now: Type::Of(from, from.root()),
        to,
        direction,
        lost: BTreeSet::new(),
        report: Report::default(),
    };
    let mut actions = Vec::new();
    for (index, operation) in operations.iter().enumerate() {
        let later = &operations[index + 1..];
        if let Ok(action) = compiler.operation(operation, later) {
            actions.push(action);
        }
    }
    compiler.finish(drops);
    (actions, compiler.report)
}

struct Compiler<'a> {
    /// What an event is after the operations so far.
    now: Type<'a>,
    to: &'a Schema,
    direction: Direction,
    lost: BTreeSet<String>,
    report: Report,
}

/// The report has it; the operation is left out.
struct Refused;

impl<'a> Compiler<'a> {
    fn operation(&mut self, operation: &Operation, later: &[Operation]) -> Result<Action, Refused> {
        match operation {
            Operation::Rename { from, to } => self.transfer(from, to, true),
            Operation::Copy { from, to } => self.transfer(from, to, false),
            Operation::Default { field, value } => self.default(field, value, later),
            Operation::Constant { field, value } => self.constant(field, value, later),
            Operation::Drop { field } => {
                self.remove(field)?;
                self.lost.insert(field.to_string());
                Ok(Action::Drop(field.clone()))
            }
            Operation::Map {
                field,
                symbols,
                otherwise,
            } => self.map(field, symbols, otherwise.as_deref(), later),
            Operation::Convert {
                field,
                shift,
                rounding,
            } => self.convert(field, *shift, *rounding, later),
            Operation::Split(parts) => self.split(parts),
            Operation::Join(parts) => self.join(parts),
        }
    }

    fn error(&mut self, code: Code, path: &Path, message: impl Into<String>) -> Refused {
        let direction = self.direction;
        self.report
            .find(Severity::Error, code, direction, path, message);
        Refused
    }

    fn warn(&mut self, code: Code, path: &Path, message: &str) {
        let direction = self.direction;
        self.report
            .find(Severity::Warning, code, direction, path, message);
    }

    fn at(&mut self, path: &Path) -> Result<&mut Type<'a>, Refused> {
        match self.lookup(path.steps()) {
            Ok(_) => {}
            Err(blocked) => return Err(self.blocked(path, blocked)),
        }
        self.lookup(path.steps()).map_err(|_| Refused)
    }

    fn lookup(&mut self, steps: &[Step]) -> Result<&mut Type<'a>, Blocked> {
        self.now.at(steps, &mut false)
    }

    fn blocked(&mut self, path: &Path, blocked: Blocked) -> Refused {
        match blocked {
            Blocked::Missing(name) => {
                let message = format!("there is no field {name} at this point of the rule");
                self.error(Code::NoSuchField, path, message)
            }
            Blocked::Shape(what) => self.error(Code::BadPath, path, what),
        }
    }

    fn exists(&mut self, path: &Path) -> bool {
        self.lookup(path.steps()).is_ok()
    }

    /// The record that a field is in, and the field's name.
    fn record_of<'p>(&mut self, path: &'p Path) -> Result<(&'p [Step], &'p Arc<str>), Refused> {
        match path.split_field() {
            Some(split) => Ok(split),
            None => Err(self.error(Code::BadPath, path, "it must end with a field's name")),
        }
    }

    fn remove(&mut self, path: &Path) -> Result<Type<'a>, Refused> {
        self.at(path)?;
        let (parents, name) = self.record_of(path)?;
        let place = self.lookup(parents).map_err(|_| Refused)?;
        take_field(place, name).ok_or(Refused)
    }

    fn put(&mut self, path: &Path, given: Type<'a>) -> Result<(), Refused> {
        let (parents, name) = self.record_of(path)?;
        let mut depth = 0;
        // Records on the way that are not there yet are made.
        while depth < parents.len() {
            depth += 1;
            match self.lookup(&parents[..depth]) {
                Ok(_) => {}
                Err(Blocked::Missing(missing)) => {
                    let above = self.lookup(&parents[..depth - 1]).map_err(|_| Refused)?;
                    let made = Type::Record(Vec::new());
                    if put_field(above, &missing, made).is_none() {
                        return Err(self.error(Code::BadPath, path, "there is no record"));
                    }
                }
                Err(blocked) => return Err(self.blocked(path, blocked)),
            }
        }
        let place = self.lookup(parents).map_err(|_| Refused)?;
        match put_field(place, name, given) {
            Some(()) => Ok(()),
            None => Err(self.error(Code::BadPath, path, "there is no record")),
        }
    }

    fn transfer(&mut self, from: &Path, to: &Path, moves: bool) -> Result<Action, Refused> {
        let given = self.at(from)?.clone();
        self.record_of(from)?;
        self.record_of(to)?;
        if to.starts_with(from) || self.exists(to) {
            let message = "it is there already: drop or rename it first";
            return Err(self.error(Code::FieldExists, to, message));
        }
        let shared = from.shared_items(to);
        let (from_rest, to_rest) = (&from.steps()[shared..], &to.steps()[shared..]);
        let only_names = |steps: &[Step]| steps.iter().all(|step| matches!(step, Step::Field(_)));
        if !only_names(from_rest) || !only_names(to_rest) {
            let message = "a value cannot move into or out of an array or a map";
            return Err(self.error(Code::BadPath, from, message));
        }
        let beside = from.split_field().map(|(parents, _)| parents)
            == to.split_field().map(|(parents, _)| parents);
        if !beside {
            for path in [from, to] {
                if self.may_be_null(path, shared) {
                    let message = "a record that it is in may be null";
                    return Err(self.error(Code::BadPath, path, message));
                }
            }
        }
        if moves {
            self.remove(from)?;
        }
        self.put(to, given)?;
        let (anchor, from, to) = (
            from.steps()[..shared].into(),
            from_rest.into(),
            to_rest.into(),
        );
        Ok(match moves {
            true => Action::Move { anchor, from, to },
            false => Action::Copy { anchor, from, to },
        })
    }

    /// Whether one of the records between the shared part of a path and its end may be null.
    fn may_be_null(&mut self, path: &Path, shared: usize) -> bool {
        let steps = path.steps();
        (shared + 1..steps.len()).any(|end| {
            let record = self.now.at(&steps[..end], &mut false);
            record.is_ok_and(|record| record.clone().without_null().1)
        })
    }

    /// Where a field will be in the other schema, after the operations that follow.
    fn destination(&self, field: &Path, later: &[Operation]) -> Option<NodeId> {
        let mut path = field.clone();
        for operation in later {
            path = operation.follow(&path);
        }
        node_at(self.to, path.steps())
    }

    fn literal(
        &mut self,
        field: &Path,
        json: &Json,
        later: &[Operation],
    ) -> Result<(Value, NodeId), Refused> {
        let (parents, _) = self.record_of(field)?;
        self.at(&Path::of(parents))?;
        let Some(node) = self.destination(field, later) else {
            let message = "the schema that this leads to has no such field";
            return Err(self.error(Code::NoSuchField, field, message));
        };
        match Value::from_rule(json, self.to, node) {
            Ok(value) => Ok((value, node)),
            Err(reason) => Err(self.error(Code::BadValue, field, reason)),
        }
    }

    fn default(
        &mut self,
        field: &Path,
        json: &Json,
        later: &[Operation],
    ) -> Result<Action, Refused> {
        let (value, node) = self.literal(field, json, later)?;
        let given = Type::Of(self.to, node);
        if self.exists(field) {
            let (inner, could_be_null) = self.at(field)?.clone().without_null();
            if could_be_null {
                self.lost.insert(field.to_string());
            } else {
                self.warn(Code::NoEffect, field, "it is never missing and never null");
            }
            // From here on it may be either: what was there, or the other schema's literal.
            let (literal, _) = given.without_null();
            *self.at(field)? = match inner.describe() == literal.describe() {
                true => inner,
                false => Type::Union(vec![inner, literal]),
            };
        } else {
            self.put(field, given)?;
        }
        Ok(Action::Default(field.clone(), value))
    }

    fn constant(
        &mut self,
        field: &Path,
        json: &Json,
        later: &[Operation],
    ) -> Result<Action, Refused> {
        let (value, node) = self.literal(field, json, later)?;
        if self.exists(field) {
            self.lost.insert(field.to_string());
            *self.at(field)? = Type::Of(self.to, node);
        } else {
            self.put(field, Type::Of(self.to, node))?;
        }
        Ok(Action::Constant(field.clone(), value))
    }

    fn map(
        &mut self,
        field: &Path,
        symbols: &BTreeMap<String, String>,
        otherwise: Option<&str>,
        later: &[Operation],
    ) -> Result<Action, Refused> {
        let (given, null) = self.at(field)?.clone().without_null();
        let known: Option<Vec<Arc<str>>> = match &given {
            Type::Symbols(known) => Some(known.clone()),
            Type::Of(schema, node) => match schema.kind(*node) {
                Kind::Enum { symbols, .. } => Some(symbols.clone()),
                _ => None,
            },
            _ => None,
        };
        let becomes = |symbol: &str| -> Option<Arc<str>> {
            let mapped = symbols.get(symbol).map(String::as_str).or(otherwise);
            mapped.map(Into::into)
        };
        let after = match known {
            Some(known) => {
                for symbol in symbols.keys() {
                    if !known.iter().any(|known| **known == **symbol) {
                        let message = format!("there is no symbol {symbol}");
                        self.error(Code::UnknownSymbol, field, message);
                    }
                }
                let mut after: Vec<Arc<str>> = Vec::new();
                for symbol in &known {
                    let symbol = becomes(symbol).unwrap_or_else(|| symbol.clone());
                    if after.contains(&symbol) {
                        self.lost.insert(field.to_string());
                    } else {
                        after.push(symbol);
                    }
                }
                Type::Symbols(after)
            }
            None if given.is_text() => {
                // Two texts may become one: nobody knows all of them.
                self.lost.insert(field.to_string());
                match otherwise {
                    None => Type::Text,
                    Some(otherwise) => {
                        let all = symbols.values().map(String::as_str).chain([otherwise]);
                        Type::Symbols(all.map(Into::into).collect())
                    }
                }
            }
            None => {
                let message = format!("{} has no symbols", given.describe());
                return Err(self.error(Code::TypeMismatch, field, message));
            }
        };
        *self.at(field)? = after.with_null(null);
        let target = self.destination(field, later);
        let target = target
            .and_then(|node| only_branch(self.to, node, |kind| matches!(kind, Kind::Enum { .. })));
        let enum_name = target.and_then(|node| match self.to.kind(node) {
            Kind::Enum { name, .. } => Some(name.clone()),
            _ => None,
        });
        let table = symbols.iter();
        let table: BTreeMap<Arc<str>, Arc<str>> = table
            .map(|(old, new)| (old.as_str().into(), new.as_str().into()))
            .collect();
        Ok(Action::Map {
            field: field.clone(),
            becomes: Becomes {
                table,
                otherwise: otherwise.map(Into::into),
                enum_name,
            },
        })
    }

    fn convert(
        &mut self,
        field: &Path,
        shift: i32,
        rounding: Option<Rounding>,
        later: &[Operation],
    ) -> Result<Action, Refused> {
        let (given, null) = self.at(field)?.clone().without_null();
        let form = match &given {
            Type::Text => Some(NumberForm::Text),
            Type::Of(schema, node) => NumberForm::of(schema, *node),
            _ => None,
        };
        let Some(form) = form else {
            let message = format!("{} is no number", given.describe());
            return Err(self.error(Code::TypeMismatch, field, message));
        };
        let is_number = |kind: &Kind| {
            matches!(
                kind,
                Kind::Int
                    | Kind::Long
                    | Kind::Float
                    | Kind::Double
                    | Kind::Decimal { .. }
                    | Kind::String
            )
        };
        let target = self
            .destination(field, later)
            .and_then(|node| only_branch(self.to, node, is_number))
            .and_then(|node| Some((node, NumberForm::of(self.to, node)?)));
        let Some((node, into)) = target else {
            let message = "the schema that this leads to has no number here, or several";
            return Err(self.error(Code::TypeMismatch, field, message));
        };
        if form == NumberForm::Text {
            // "+1", "1.0" and "1e0" are one number.
            self.lost.insert(field.to_string());
        }
        let cuts = into.may_cut(shift, form);
        if rounding.is_some() && cuts {
            self.lost.insert(field.to_string());
        }
        if rounding.is_none() && cuts {
            let message = "numbers with more digits are refused: say `rounding`, or verify";
            self.warn(Code::MayRefuse, field, message);
        } else if form == NumberForm::Text || into.may_overflow(shift, form) {
            self.warn(
                Code::MayRefuse,
                field,
                "not every value is a number that fits",
            );
        }
        *self.at(field)? = Type::Of(self.to, node).with_null(null);
        Ok(Action::Convert {
            field: field.clone(),
            shift,
            rounding,
            into,
        })
    }

    fn splitter(&mut self, parts: &Parts) -> Result<Splitter, Refused> {
        let field = parts.path(&parts.field);
        Splitter::compile(parts).map_err(|bad| match bad {
            BadParts::Pattern(reason) => self.error(Code::BadPattern, &field, reason),
            BadParts::Template(reason) => self.error(Code::BadTemplate, &field, reason),
        })
    }

    fn split(&mut self, parts: &Parts) -> Result<Action, Refused> {
        let splitter = self.splitter(parts)?;
        let field = parts.path(&parts.field);
        let (given, null) = self.at(&field)?.clone().without_null();
        if !given.is_text() {
            let message = format!("{} is no text", given.describe());
            return Err(self.error(Code::TypeMismatch, &field, message));
        }
        self.remove(&field)?;
        if parts.otherwise.is_none() {
            self.lost.insert(field.to_string());
        }
        for name in splitter.fields() {
            let path = parts.path(name);
            if self.exists(&path) {
                let message = "it is there already: drop or rename it first";
                return Err(self.error(Code::FieldExists, &path, message));
            }
            self.put(&path, Type::Text.with_null(null || **name != *parts.whole))?;
        }
        Ok(Action::Split(parts.record().into(), splitter))
    }

    fn join(&mut self, parts: &Parts) -> Result<Action, Refused> {
        let splitter = self.splitter(parts)?;
        let field = parts.path(&parts.field);
        let mut null = false;
        for name in splitter.fields() {
            let path = parts.path(name);
            let (given, nullable) = self.at(&path)?.clone().without_null();
            if !given.is_text() {
                let message = format!("{} is no text", given.describe());
                return Err(self.error(Code::TypeMismatch, &path, message));
            }
            null |= nullable && **name == *parts.whole;
            self.remove(&path)?;
        }
        if self.exists(&field) {
            let message = "it is there already: drop or rename it first";
            return Err(self.error(Code::FieldExists, &field, message));
        }
        self.put(&field, Type::Text.with_null(null))?;
        let message = "parts that `split` would not give come back otherwise";
        self.report.find(
            Severity::Note,
            Code::NormalForm,
            self.direction,
            &field,
            message,
        );
        Ok(Action::Join(parts.record().into(), splitter))
    }

    /// Compares what is left with the other schema, and what is lost with what may be.
    fn finish(&mut self, drops: &[Path]) {
        // What was refused makes more findings that would only distract.
        let sound = self.report.is_ok();
        let direction = self.direction;
        let mut fitting = Fitting::default();
        fitting.look(&self.now, self.to, self.to.root(), "");
        if sound {
            for (code, path, message) in fitting.problems {
                self.report
                    .find(Severity::Error, code, direction, path, message);
            }
        }
        for (path, doubt) in fitting.doubts {
            let code = Code::MayRefuse;
            self.report
                .find(Severity::Warning, code, direction, path, doubt);
        }
        self.lost.extend(fitting.lost);
        let mut used = BTreeSet::new();
        for lost in &self.lost {
            let path = lost.parse::<Path>();
            let accepted = drops
                .iter()
                .find(|drop| path.as_ref().is_ok_and(|path| path.starts_with(drop)));
            match accepted {
                Some(drop) => {
                    used.insert(drop);
                    let message = "it is lost, as the rule accepts";
                    self.report
                        .find(Severity::Note, Code::Drops, direction, lost, message);
                }
                None => {
                    let message =
                        format!("it is lost: keep it, or accept that with \"drops\": [\"{lost}\"]");
                    self.report
                        .find(Severity::Error, Code::Loses, direction, lost, message);
                }
            }
        }
        for drop in drops.iter().filter(|drop| !used.contains(drop)) {
            let message = "`drops` accepts that it is lost, but it is not";
            self.report.find(
                Severity::Warning,
                Code::DropsNothing,
                direction,
                drop,
                message,
            );
        }
    }
}

/// The record itself, or the record in a union with null.
fn record<'t, 'a>(place: &'t mut Type<'a>) -> Option<&'t mut Vec<(Arc<str>, Type<'a>)>> {
    place.open();
    match place {
        Type::Union(branches) => {
            let mut records = branches.iter_mut().filter_map(Type::fields);
            let only = records.next()?;
            records.next().is_none().then_some(only)
        }
        other => other.fields(),
    }
}

fn take_field<'a>(place: &mut Type<'a>, name: &Arc<str>) -> Option<Type<'a>> {
    let fields = record(place)?;
    let index = fields.iter().position(|(known, _)| known == name)?;
    Some(fields.remove(index).1)
}

fn put_field<'a>(place: &mut Type<'a>, name: &Arc<str>, given: Type<'a>) -> Option<()> {
    record(place)?.push((name.clone(), given));
    Some(())
}
