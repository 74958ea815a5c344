//! Whether what the operations leave fits the other schema, and what is lost on the way.

use std::collections::{BTreeSet, HashSet};

use super::{
    report::Code,
    schema::{Field, Kind, NodeId, Schema},
    types::Type,
};

/// What was found on the way through two types.
#[derive(Clone, Default)]
pub(super) struct Fitting {
    pub problems: Vec<(Code, String, String)>,
    /// Some values will not fit, which only the events can tell.
    pub doubts: Vec<(String, String)>,
    pub lost: BTreeSet<String>,
    /// Pairs of nodes that were looked at, or are: types may contain themselves.
    seen: HashSet<(usize, NodeId, NodeId)>,
    steps: u32,
}

/// Unions that nearly fit make many ways: no event needs as many.
const MOST_STEPS: u32 = 200_000;

impl Fitting {
    pub fn problem(&mut self, code: Code, path: &str, message: String) {
        self.problems.push((code, path.to_owned(), message));
    }

    pub fn look(&mut self, given: &Type<'_>, schema: &Schema, node: NodeId, path: &str) {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            if self.steps == MOST_STEPS + 1 {
                let message = "the schemas have too many ways to be compared".to_owned();
                self.problem(Code::TypeMismatch, path, message);
            }
            return;
        }
        let composite = matches!(
            schema.kind(node),
            Kind::Record { .. } | Kind::Array(_) | Kind::Map(_) | Kind::Union(_)
        );
        if let Type::Of(from, id) = given
            && composite
            && !self
                .seen
                .insert((std::ptr::from_ref(*from) as usize, *id, node))
        {
            return;
        }
        let mut given = given.clone();
        given.open();
        match (&given, schema.kind(node)) {
            (Type::Union(branches), target) => {
                for branch in branches {
                    if matches!(branch, Type::Null) && !takes_null(schema, node) {
                        let message = format!(
                            "it may be null, which {} is not: give it a default",
                            schema.describe(node)
                        );
                        self.problem(Code::TypeMismatch, path, message);
                    } else if let Kind::Union(targets) = target {
                        self.branch(branch, schema, targets, path);
                    } else {
                        self.look(branch, schema, node, path);
                    }
                }
            }
            (given, Kind::Union(targets)) => self.branch(given, schema, targets, path),
            (Type::Record(given), Kind::Record { fields, .. }) => {
                self.record(given, schema, fields, path);
            }
            (Type::Array(given), Kind::Array(items)) => {
                self.look(given, schema, *items, &format!("{path}[]"));
            }
            (Type::Map(given), Kind::Map(values)) => {
                self.look(given, schema, *values, &format!("{path}{{}}"));
            }
            (Type::Symbols(symbols), Kind::Enum { .. }) => {
                self.symbols(symbols, schema, node, path);
            }
            (Type::Symbols(_), Kind::String) | (Type::Null, Kind::Null) => {}
            (Type::Text, Kind::String) => self.text(None, schema, node, path),
            (Type::Text, Kind::Bytes) => {}
            (Type::Of(from, id), _) => self.leaf(from, *id, schema, node, path),
            (given, _) => self.mismatch(&given.describe(), schema, node, path),
        }
    }

    /// The branch of the same type, or else the first that takes it.
    fn branch(&mut self, given: &Type<'_>, schema: &Schema, targets: &[NodeId], path: &str) {
        let same = targets
            .iter()
            .find(|target| is_same_type(given, schema, **target));
        if let Some(target) = same {
            return self.look(given, schema, *target, path);
        }
        for target in targets {
            let mut trial = Self {
                seen: self.seen.clone(),
                steps: self.steps,
                ..Self::default()
            };
            trial.look(given, schema, *target, path);
            self.steps = trial.steps;
            if trial.problems.is_empty() {
                self.doubts.extend(trial.doubts);
                self.lost.extend(trial.lost);
                self.seen = trial.seen;
                return;
            }
        }
        let targets: Vec<_> = targets.iter().map(|node| schema.describe(*node)).collect();
        let message = format!("{} is none of {}", given.describe(), targets.join(", "));
        self.problem(Code::TypeMismatch, path, message);
    }

    fn record(
        &mut self,
        given: &[(std::sync::Arc<str>, Type<'_>)],
        schema: &Schema,
        fields: &[Field],
        path: &str,
    ) {
        let below = |name: &str| match path {
            "" => name.to_owned(),
            path => format!("{path}.{name}"),
        };
        let mut taken = HashSet::new();
        for field in fields {
            let names = || std::iter::once(&field.name).chain(&field.aliases);
            let found = names().find_map(|name| given.iter().find(|(known, _)| known == name));
            match found {
                Some((name, inner)) => {
                    taken.insert(name);
                    self.look(inner, schema, field.node, &below(&field.name));
                }
                None if field.default.is_some() => {}
                None => {
                    let message =
                        "no operation produces it, and the schema has no default".to_owned();
                    self.problem(Code::NotProduced, &below(&field.name), message);
                }
            }
        }
        for (name, _) in given {
            if !taken.contains(name) {
                self.lost.insert(below(name));
            }
        }
    }

    fn symbols(
        &mut self,
        given: &[std::sync::Arc<str>],
        schema: &Schema,
        node: NodeId,
        path: &str,
    ) {
        let Kind::Enum {
            name,
            symbols,
            default,
        } = schema.kind(node)
        else {
            return;
        };
        for symbol in given.iter().filter(|symbol| !symbols.contains(symbol)) {
            match default {
                Some(_) => {
                    self.lost.insert(path.to_owned());
                }
                None => {
                    let message = format!("{name} has no symbol {symbol}: map it");
                    self.problem(Code::SymbolNotMapped, path, message);
                }
            }
        }
    }

    fn text(&mut self, from: Option<&str>, schema: &Schema, node: NodeId, path: &str) {
        if let Some(logical) = schema.node(node).logical.as_deref()
            && from != Some(logical)
        {
            let doubt = format!("not every text is a {logical}");
            self.doubts.push((path.to_owned(), doubt));
        }
    }

    fn leaf(&mut self, from: &Schema, id: NodeId, schema: &Schema, node: NodeId, path: &str) {
        let logical = from.node(id).logical.as_deref();
        let wanted = schema.node(node).logical.as_deref();
        let changed = matches!((logical, wanted), (Some(a), Some(b)) if a != b);
        match (from.kind(id), schema.kind(node)) {
            (Kind::String, Kind::String) => self.text(logical, schema, node, path),
            (Kind::Int | Kind::Long, Kind::Int | Kind::Long) if changed => {
                self.mismatch(&from.describe(id), schema, node, path);
            }
            (Kind::Null, Kind::Null)
            | (Kind::Boolean, Kind::Boolean)
            | (Kind::Int, Kind::Int | Kind::Long | Kind::Double)
            | (Kind::Long, Kind::Long)
            | (Kind::Float, Kind::Float | Kind::Double)
            | (Kind::Double, Kind::Double)
            | (Kind::Bytes | Kind::Decimal { .. }, Kind::Bytes)
            | (Kind::String, Kind::Bytes) => {}
            (Kind::Int, Kind::Float) | (Kind::Long, Kind::Float | Kind::Double) => {
                self.lost.insert(path.to_owned());
            }
            (Kind::Bytes, Kind::String) => {
                self.doubts
                    .push((path.to_owned(), "not all bytes are text".to_owned()));
            }
            (Kind::Bytes, Kind::Decimal { precision, .. }) => {
                let doubt = format!("it may have more than {precision} digits");
                self.doubts.push((path.to_owned(), doubt));
            }
            (Kind::Fixed { size, .. }, Kind::Fixed { size: wanted, .. }) if size == wanted => {}
            (Kind::Enum { symbols, .. }, Kind::Enum { .. }) => {
                self.symbols(symbols, schema, node, path);
            }
            (
                Kind::Decimal {
                    precision,
                    scale,
                    fixed,
                },
                Kind::Decimal {
                    precision: more,
                    scale: same,
                    fixed: wanted,
                },
            ) if scale == same && precision <= more && (wanted.is_none() || fixed <= wanted) => {}
            _ => self.mismatch(&from.describe(id), schema, node, path),
        }
    }

    fn mismatch(&mut self, given: &str, schema: &Schema, node: NodeId, path: &str) {
        let hint = match schema.kind(node) {
            Kind::Int | Kind::Long | Kind::Float | Kind::Double | Kind::Decimal { .. } => {
                ": convert it"
            }
            Kind::Enum { .. } => ": map it",
            _ => "",
        };
        let message = format!("{given} is no {}{hint}", schema.describe(node));
        self.problem(Code::TypeMismatch, path, message);
    }
}

fn takes_null(schema: &Schema, node: NodeId) -> bool {
    match schema.kind(node) {
        Kind::Null => true,
        Kind::Union(branches) => branches.iter().any(|branch| takes_null(schema, *branch)),
        _ => false,
    }
}

/// What `binary::is_branch` says of a type's values.
fn is_same_type(given: &Type<'_>, schema: &Schema, node: NodeId) -> bool {
    match (given, schema.kind(node)) {
        (Type::Null, Kind::Null)
        | (Type::Text, Kind::String)
        | (Type::Array(_), Kind::Array(_))
        | (Type::Map(_), Kind::Map(_)) => true,
        (Type::Of(from, id), kind) => match (from.type_name(*id), schema.type_name(node)) {
            (Some(a), Some(b)) => a == b,
            (None, None) => std::mem::discriminant(from.kind(*id)) == std::mem::discriminant(kind),
            _ => false,
        },
        _ => false,
    }
}
