//! The type that an event has between two operations, as far as the schemas tell it.

use std::sync::Arc;

use super::{
    path::Step,
    schema::{Kind, NodeId, Schema},
};

/// As a schema has it, until an operation has to look into it.
#[derive(Clone, Debug)]
pub(super) enum Type<'a> {
    Of(&'a Schema, NodeId),
    Null,
    Text,
    /// One of these: of an enum, or as text.
    Symbols(Vec<Arc<str>>),
    Record(Vec<(Arc<str>, Type<'a>)>),
    Array(Box<Type<'a>>),
    Map(Box<Type<'a>>),
    Union(Vec<Type<'a>>),
}

/// Why a path does not lead anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Blocked {
    /// This field is not there.
    Missing(Arc<str>),
    /// This step is not possible here.
    Shape(&'static str),
}

impl<'a> Type<'a> {
    pub fn nullable(inner: Self) -> Self {
        Self::Union(vec![Self::Null, inner])
    }

    /// Shows the first level of what a schema has.
    pub fn open(&mut self) {
        let Self::Of(schema, node) = *self else {
            return;
        };
        let of = |node: NodeId| Self::Of(schema, node);
        *self = match schema.kind(node) {
            Kind::Record { fields, .. } => {
                let fields = fields.iter();
                Self::Record(
                    fields
                        .map(|field| (field.name.clone(), of(field.node)))
                        .collect(),
                )
            }
            Kind::Array(items) => Self::Array(Box::new(of(*items))),
            Kind::Map(values) => Self::Map(Box::new(of(*values))),
            Kind::Union(branches) => {
                Self::Union(branches.iter().map(|branch| of(*branch)).collect())
            }
            Kind::Null => Self::Null,
            _ => return,
        };
    }

    pub fn fields(&mut self) -> Option<&mut Vec<(Arc<str>, Self)>> {
        self.open();
        match self {
            Self::Record(fields) => Some(fields),
            _ => None,
        }
    }

    /// What the steps lead to; null is passed over, and then noted.
    pub fn at(&mut self, steps: &[Step], through_null: &mut bool) -> Result<&mut Self, Blocked> {
        let Some((step, rest)) = steps.split_first() else {
            return Ok(self);
        };
        let (wanted, what) = match step {
            Step::Field(_) => (0, "there is no record"),
            Step::Items => (1, "there is no array"),
            Step::Values => (2, "there is no map"),
        };
        let place = self
            .shaped(wanted, through_null)
            .ok_or(Blocked::Shape(what))?;
        let next = match (step, place) {
            (Step::Field(name), Self::Record(fields)) => fields
                .iter_mut()
                .find(|(known, _)| known == name)
                .map(|(_, inner)| inner)
                .ok_or_else(|| Blocked::Missing(name.clone()))?,
            (Step::Items, Self::Array(inner)) | (Step::Values, Self::Map(inner)) => &mut **inner,
            _ => return Err(Blocked::Shape(what)),
        };
        next.at(rest, through_null)
    }

    /// Itself, or the only branch of a union, that is a record (0), an array (1) or a map (2).
    fn shaped(&mut self, wanted: u8, through_null: &mut bool) -> Option<&mut Self> {
        self.open();
        let Self::Union(branches) = self else {
            return Some(self);
        };
        for branch in &mut *branches {
            branch.open();
        }
        *through_null |= branches.iter().any(|branch| matches!(branch, Self::Null));
        let mut fitting = branches.iter_mut().filter(|branch| {
            matches!(
                (wanted, branch),
                (0, Self::Record(_)) | (1, Self::Array(_)) | (2, Self::Map(_))
            )
        });
        let only = fitting.next()?;
        fitting.next().is_none().then_some(only)
    }

    /// Without null, and whether it could be null; unions of one are what is in them.
    pub fn without_null(mut self) -> (Self, bool) {
        self.open();
        let Self::Union(mut branches) = self else {
            return (self, false);
        };
        let before = branches.len();
        branches.iter_mut().for_each(Self::open);
        branches.retain(|branch| !matches!(branch, Self::Null));
        let could_be_null = branches.len() < before;
        match branches.len() {
            1 => (branches.swap_remove(0), could_be_null),
            _ => (Self::Union(branches), could_be_null),
        }
    }

    pub fn with_null(self, null: bool) -> Self {
        match (null, self) {
            (false, same) => same,
            (true, Self::Union(mut branches)) => {
                branches.insert(0, Self::Null);
                Self::Union(branches)
            }
            (true, inner) => Self::nullable(inner),
        }
    }

    pub fn is_text(&self) -> bool {
        match self {
            Self::Text => true,
            Self::Of(schema, node) => matches!(schema.kind(*node), Kind::String),
            _ => false,
        }
    }

    pub fn describe(&self) -> String {
        match self {
            Self::Of(schema, node) => schema.describe(*node),
            Self::Null => "null".into(),
            Self::Text => "string".into(),
            Self::Symbols(symbols) => format!("one of {}", symbols.join(", ")),
            Self::Record(_) => "record".into(),
            Self::Array(_) => "array".into(),
            Self::Map(_) => "map".into(),
            Self::Union(branches) => {
                let branches: Vec<_> = branches.iter().map(Self::describe).collect();
                format!("union of {}", branches.join(", "))
            }
        }
    }
}

/// The node that a path leads to in a schema; null is passed over.
pub(super) fn node_at(schema: &Schema, steps: &[Step]) -> Option<NodeId> {
    let mut node = schema.root();
    for step in steps {
        node = only_branch(schema, node, |kind| {
            matches!(
                (step, kind),
                (Step::Field(_), Kind::Record { .. })
                    | (Step::Items, Kind::Array(_))
                    | (Step::Values, Kind::Map(_))
            )
        })?;
        node = match (step, schema.kind(node)) {
            (Step::Field(name), Kind::Record { fields, .. }) => {
                fields.iter().find(|field| field.name == *name)?.node
            }
            (Step::Items, Kind::Array(inner)) | (Step::Values, Kind::Map(inner)) => *inner,
            _ => return None,
        };
    }
    Some(node)
}

/// The node itself, or the only branch of a union, that is as wanted.
pub(super) fn only_branch(
    schema: &Schema,
    node: NodeId,
    wanted: impl Fn(&Kind) -> bool,
) -> Option<NodeId> {
    match schema.kind(node) {
        Kind::Union(branches) => {
            let mut fitting = branches
                .iter()
                .filter(|branch| wanted(schema.kind(**branch)));
            let only = *fitting.next()?;
            fitting.next().is_none().then_some(only)
        }
        kind => wanted(kind).then_some(node),
    }
}
