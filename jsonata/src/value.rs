//! Values while an expression is evaluated.

use std::{rc::Rc, sync::Arc};

use indexmap::IndexMap;

use crate::{
    ast::{Lambda, Name, Transform},
    functions::Native,
    pattern::Pattern,
};

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(Arc<str>),
    Array(Rc<Array>),
    Object(Rc<Object>),
    Native(&'static Native),
    Function(Rc<Function>),
    /// What flows through a path that binds variables beside its values.
    Tuples(Rc<Tuples>),
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Array {
    pub items: Vec<Value>,
    /// What a query found, in contrast to an array of the data: of one value, it is that value,
    /// and of none, nothing.
    pub sequence: bool,
    /// Except if this says otherwise.
    pub keep_singleton: bool,
    /// From an array constructor in a path, which is not flattened.
    pub cons: bool,
    /// The input itself, if it is an array.
    pub outer: bool,
    /// Levels of arrays and objects, this one included.
    pub depth: usize,
}

pub(crate) type Fields = IndexMap<Name, Value>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Object {
    pub fields: Fields,
    pub depth: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Tuple {
    pub at: Value,
    pub bound: Vec<(Name, Value)>,
}

#[derive(Clone, Debug)]
pub(crate) struct Tuples {
    pub tuples: Vec<Tuple>,
    pub depth: usize,
}

/// A frame of variables, by its number.
pub(crate) type Frame = usize;

#[derive(Debug)]
pub(crate) enum Function {
    Lambda {
        lambda: Arc<Lambda>,
        input: Value,
        frame: Frame,
    },
    /// With some arguments given already.
    Partial {
        function: Value,
        arguments: Vec<Option<Value>>,
        depth: usize,
    },
    /// The first, then the second.
    Chain {
        first: Value,
        second: Value,
        depth: usize,
    },
    Transform {
        transform: Arc<Transform>,
        frame: Frame,
    },
    Regex(Arc<Pattern>),
    /// Asks for the next match from a byte on.
    NextMatch {
        pattern: Arc<Pattern>,
        text: Arc<str>,
        from: usize,
    },
}

impl Value {
    pub fn text(text: &str) -> Self {
        Self::Text(text.into())
    }

    pub fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined)
    }

    pub fn is_function(&self) -> bool {
        matches!(self, Self::Native(_) | Self::Function(_))
    }

    /// Levels of what is in it.
    pub fn depth(&self) -> usize {
        match self {
            Self::Array(array) => array.depth,
            Self::Object(object) => object.depth,
            Self::Tuples(tuples) => tuples.depth,
            Self::Function(function) => match &**function {
                // What `$` was where it was made, which may be such a function itself.
                Function::Lambda { input, .. } => 1 + input.depth(),
                Function::Partial { depth, .. } | Function::Chain { depth, .. } => *depth,
                Function::Transform { .. } | Function::Regex(_) | Function::NextMatch { .. } => 0,
            },
            _ => 0,
        }
    }

    /// The items of an array, or the value as the only one.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(array) => &array.items,
            other => std::slice::from_ref(other),
        }
    }

    pub fn is_truthy(&self) -> bool {
        match self {
            Self::Undefined | Self::Null | Self::Native(_) | Self::Function(_) => false,
            Self::Bool(bool) => *bool,
            Self::Number(number) => *number != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::Array(array) => array.items.iter().any(Self::is_truthy),
            Self::Object(object) => !object.fields.is_empty(),
            Self::Tuples(all) => all.tuples.iter().any(|tuple| tuple.at.is_truthy()),
        }
    }

    /// What `$type` calls it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Undefined => "nothing",
            Self::Null => "null",
            Self::Bool(_) => "boolean",
            Self::Number(_) => "number",
            Self::Text(_) => "string",
            Self::Array(_) | Self::Tuples(_) => "array",
            Self::Object(_) => "object",
            Self::Native(_) | Self::Function(_) => "function",
        }
    }
}
