//! An expression that was read: paths are put together, parents resolved.

use std::sync::Arc;

use crate::{pattern::Pattern, signature::Signature};

pub(crate) type Name = Arc<str>;

/// Where the value of a `%` is kept while a path is walked; its label is known when all is read.
pub(crate) type Slot = usize;

#[derive(Debug)]
pub(crate) struct Node {
    pub kind: Kind,
    /// Filters of what is no step of a path.
    pub predicates: Vec<Node>,
    /// Filters and positions of a step, in their order.
    pub stages: Vec<Stage>,
    /// `{key: value}` behind it.
    pub group: Option<Vec<(Node, Node)>>,
    /// `[]` behind it: one value stays an array.
    pub keep_array: bool,
    /// An array constructor at the ends of a path is not flattened.
    pub cons_array: bool,
    /// From here on the path carries bindings beside its values.
    pub tuple: bool,
    /// `@$name`
    pub focus: Option<Name>,
    /// `#$name`
    pub index: Option<Name>,
    /// A later `%` needs the value that this step starts from.
    pub ancestor: Option<Slot>,
    /// Those of its `%` that lead out of it.
    pub seeking: Vec<Slot>,
    /// Levels of nodes, itself included.
    pub height: usize,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Text(Name),
    Number(f64),
    Bool(bool),
    Null,
    Regex(Arc<Pattern>),
    Name(Name),
    Variable(Name),
    Wildcard,
    Descendants,
    Parent(Slot),
    Path(Path),
    Binary(Operator, Box<Node>, Box<Node>),
    Bind(Name, Box<Node>),
    Negate(Box<Node>),
    Array(Vec<Node>),
    Object(Vec<(Node, Node)>),
    Condition(Box<Node>, Box<Node>, Option<Box<Node>>),
    /// `a ?: b`: the first if it is true.
    Elvis(Box<Node>, Box<Node>),
    /// `a ?? b`: the first if there is one.
    Coalesce(Box<Node>, Box<Node>),
    Block(Vec<Node>),
    Call(Box<Node>, Vec<Node>),
    /// A call with `?` among its arguments: a function of those.
    Partial(Box<Node>, Vec<Node>),
    Placeholder,
    Lambda(Arc<Lambda>),
    /// `a ~> b`
    Chain(Box<Node>, Box<Node>),
    Sort(Vec<Term>),
    Transform(Arc<Transform>),
}

#[derive(Debug)]
pub(crate) struct Path {
    pub steps: Vec<Node>,
    pub keep_singleton: bool,
}

#[derive(Debug)]
pub(crate) enum Stage {
    Filter(Node),
    Index(Name),
}

#[derive(Debug)]
pub(crate) struct Term {
    pub by: Node,
    pub descending: bool,
}

#[derive(Debug)]
pub(crate) struct Lambda {
    pub parameters: Vec<Name>,
    pub signature: Option<Signature>,
    pub body: Node,
}

/// `|location|update,delete|`
#[derive(Debug)]
pub(crate) struct Transform {
    pub location: Node,
    pub update: Node,
    pub delete: Option<Node>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    In,
    Concatenate,
    Range,
}

impl Node {
    pub fn new(kind: Kind) -> Self {
        let mut node = Self {
            kind,
            predicates: Vec::new(),
            stages: Vec::new(),
            group: None,
            keep_array: false,
            cons_array: false,
            tuple: false,
            focus: None,
            index: None,
            ancestor: None,
            seeking: Vec::new(),
            height: 0,
        };
        node.height = 1 + node
            .kind
            .children()
            .map(|child| child.height)
            .max()
            .unwrap_or(0);
        node
    }

    /// A path of one step.
    pub fn path(step: Self) -> Self {
        Self::new(Kind::Path(Path {
            steps: vec![step],
            keep_singleton: false,
        }))
    }

    /// What a predicate, position or binding behind this node is about: the last step of a path.
    pub fn last_step(&mut self) -> &mut Self {
        if !matches!(self.kind, Kind::Path(_)) {
            return self;
        }
        match &mut self.kind {
            Kind::Path(path) => {
                let last = path.steps.len() - 1;
                &mut path.steps[last]
            }
            _ => unreachable!("it is a path"),
        }
    }
}

impl Kind {
    fn children(&self) -> Box<dyn Iterator<Item = &Node> + '_> {
        match self {
            Self::Path(Path { steps: nodes, .. }) | Self::Array(nodes) | Self::Block(nodes) => {
                Box::new(nodes.iter())
            }
            Self::Binary(_, one, two)
            | Self::Elvis(one, two)
            | Self::Coalesce(one, two)
            | Self::Chain(one, two) => Box::new([&**one, &**two].into_iter()),
            Self::Bind(_, one) | Self::Negate(one) => Box::new(std::iter::once(&**one)),
            Self::Object(pairs) => Box::new(pairs.iter().flat_map(|(key, value)| [key, value])),
            Self::Condition(condition, then, otherwise) => Box::new(
                [&**condition, &**then]
                    .into_iter()
                    .chain(otherwise.as_deref()),
            ),
            Self::Call(function, arguments) | Self::Partial(function, arguments) => {
                Box::new(std::iter::once(&**function).chain(arguments))
            }
            Self::Lambda(lambda) => Box::new(std::iter::once(&lambda.body)),
            Self::Sort(terms) => Box::new(terms.iter().map(|term| &term.by)),
            Self::Transform(transform) => Box::new(
                [&transform.location, &transform.update]
                    .into_iter()
                    .chain(&transform.delete),
            ),
            Self::Text(_)
            | Self::Number(_)
            | Self::Bool(_)
            | Self::Null
            | Self::Regex(_)
            | Self::Name(_)
            | Self::Variable(_)
            | Self::Wildcard
            | Self::Descendants
            | Self::Parent(_)
            | Self::Placeholder => Box::new(std::iter::empty()),
        }
    }
}
