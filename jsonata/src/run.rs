//! One evaluation: what it may still take, its variables, and how values are made, which has its
//! price.

use std::rc::Rc;

use crate::{
    Failure,
    ast::Name,
    budget::{Bound, Budget, DEEPEST, DEEPEST_VALUE},
    value::{Array, Fields, Frame, Function, Object, Tuple, Tuples, Value},
};

pub(crate) type Evaluated<T = Value> = Result<T, Failure>;

/// One evaluation of an expression.
pub(crate) struct Run<'a> {
    pub budget: Budget,
    pub labels: &'a [Name],
    depth: usize,
    frames: Vec<Variables>,
    /// Functions that keep a frame; while there are no new ones, new frames can go.
    keepers: usize,
}

struct Variables {
    outer: Option<Frame>,
    bound: Vec<(Name, Value)>,
}

const ITEM_BYTES: usize = 32;
const FIELD_BYTES: usize = 96;
/// Characters of an error: what an expression says may be long.
const LONGEST_REASON: usize = 1_000;
const HEADER_BYTES: usize = 64;
/// With room for four variables, which the first of them takes.
const FRAME_BYTES: usize = 192;
const VARIABLE_BYTES: usize = 64;

impl From<Bound> for Failure {
    fn from(bound: Bound) -> Self {
        Self::Bound(bound)
    }
}

impl<'a> Run<'a> {
    pub fn new(labels: &'a [Name]) -> Self {
        Self {
            budget: Budget::new(),
            labels,
            depth: 0,
            frames: vec![Variables {
                outer: None,
                bound: Vec::new(),
            }],
            keepers: 0,
        }
    }
}

/// Making values.
impl Run<'_> {
    pub fn failed(&self, reason: impl Into<String>) -> Failure {
        let mut reason = reason.into();
        if let Some((end, _)) = reason.char_indices().nth(LONGEST_REASON) {
            reason.truncate(end);
        }
        Failure::Failed(reason)
    }

    /// Before it is pushed.
    pub fn item(&mut self) -> Result<(), Bound> {
        self.room(1)
    }

    pub fn room(&mut self, items: usize) -> Result<(), Bound> {
        self.budget.steps(items as u64)?;
        self.budget.bytes(items.saturating_mul(ITEM_BYTES))
    }

    pub fn deeper(&self, inner: impl Iterator<Item = usize>) -> Result<usize, Bound> {
        let depth = 1 + inner.max().unwrap_or(0);
        match depth <= DEEPEST_VALUE {
            true => Ok(depth),
            false => Err(Bound::ValueDepth),
        }
    }

    /// Of items that were paid for.
    pub fn sealed(&mut self, mut array: Array) -> Evaluated {
        self.budget.bytes(HEADER_BYTES)?;
        array.depth = self.deeper(array.items.iter().map(Value::depth))?;
        Ok(Value::Array(Rc::new(array)))
    }

    /// A new array of few items.
    pub fn array(&mut self, items: Vec<Value>) -> Evaluated {
        self.room(items.len())?;
        self.list(items)
    }

    /// Of items that were paid for.
    pub fn list(&mut self, items: Vec<Value>) -> Evaluated {
        self.sealed(Array {
            items,
            ..Array::default()
        })
    }

    /// Of items that were paid for: what a query has found.
    pub fn sequence(&mut self, items: Vec<Value>) -> Evaluated {
        self.sealed(Array {
            items,
            sequence: true,
            ..Array::default()
        })
    }

    /// Of tuples that were paid for.
    pub fn tuples(&mut self, tuples: Vec<Tuple>) -> Evaluated {
        self.budget.bytes(HEADER_BYTES)?;
        let values = tuples.iter().flat_map(|tuple| {
            let bound = tuple.bound.iter().map(|(_, value)| value);
            bound.chain([&tuple.at])
        });
        let depth = self.deeper(values.map(Value::depth))?;
        Ok(Value::Tuples(Rc::new(Tuples { tuples, depth })))
    }

    /// Before it is inserted, for which its name is read.
    pub fn field(&mut self, name: &str) -> Result<(), Bound> {
        self.budget.read(name.len())?;
        self.budget.bytes(FIELD_BYTES)
    }

    /// Of fields that were paid for.
    pub fn object(&mut self, fields: Fields) -> Evaluated {
        self.budget.bytes(HEADER_BYTES)?;
        let depth = self.deeper(fields.values().map(Value::depth))?;
        Ok(Value::Object(Rc::new(Object { fields, depth })))
    }

    /// Before a text of that length is made, which is there twice while it is made.
    pub fn letters(&mut self, bytes: usize) -> Result<(), Bound> {
        let twice = bytes.saturating_mul(2).saturating_add(ITEM_BYTES);
        self.budget.bytes(twice)?;
        self.budget.read(bytes)
    }

    pub fn text(&mut self, text: &str) -> Evaluated {
        self.letters(text.len())?;
        Ok(Value::text(text))
    }

    pub fn number(&self, number: f64) -> Evaluated {
        match number.is_finite() {
            true => Ok(Value::Number(number)),
            false => Err(self.failed("a number is out of range")),
        }
    }

    /// A function that keeps a frame.
    pub fn keeper(&mut self, function: Function) -> Evaluated {
        self.keepers += 1;
        self.function(function)
    }

    pub fn function(&mut self, function: Function) -> Evaluated {
        self.budget.bytes(HEADER_BYTES)?;
        let value = Value::Function(Rc::new(function));
        self.deeper(std::iter::once(value.depth()))?;
        Ok(value)
    }

    /// One level more, for whatever calls itself. After a failure nobody counts any more.
    pub fn enter(&mut self) -> Result<(), Bound> {
        if self.depth == DEEPEST {
            return Err(Bound::Depth);
        }
        self.depth += 1;
        Ok(())
    }

    pub fn leave(&mut self) {
        self.depth -= 1;
    }

    pub fn within<T>(&mut self, work: impl FnOnce(&mut Self) -> Evaluated<T>) -> Evaluated<T> {
        self.enter()?;
        let result = work(self);
        self.leave();
        result
    }
}

/// Variables.
impl Run<'_> {
    pub fn frame(&mut self, outer: Frame) -> Evaluated<Frame> {
        self.budget.bytes(FRAME_BYTES)?;
        self.frames.push(Variables {
            outer: Some(outer),
            bound: Vec::new(),
        });
        Ok(self.frames.len() - 1)
    }

    pub fn bind(&mut self, frame: Frame, name: &Name, value: Value) -> Evaluated<()> {
        let bound = &mut self.frames[frame].bound;
        self.budget.steps(bound.len() as u64 / 8)?;
        match bound.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => {
                self.budget.bytes(VARIABLE_BYTES)?;
                bound.push((name.clone(), value));
            }
        }
        Ok(())
    }

    /// Each frame on the way is a step.
    pub fn lookup(&mut self, frame: Frame, name: &str) -> Evaluated<Option<Value>> {
        let mut at = Some(frame);
        while let Some(frame) = at {
            let variables = &self.frames[frame];
            self.budget.steps(1 + variables.bound.len() as u64 / 8)?;
            let found = variables.bound.iter().find(|(known, _)| **known == *name);
            if let Some((_, value)) = found {
                return Ok(Some(value.clone()));
            }
            at = variables.outer;
        }
        Ok(None)
    }

    /// Frames that were made meanwhile go, unless a function keeps one of them.
    pub fn with_frames<T>(&mut self, work: impl FnOnce(&mut Self) -> Evaluated<T>) -> Evaluated<T> {
        let (frames, keepers) = (self.frames.len(), self.keepers);
        let result = work(self);
        if self.keepers == keepers {
            for gone in self.frames.drain(frames..) {
                let bytes = FRAME_BYTES + VARIABLE_BYTES * gone.bound.len();
                self.budget.give_back(bytes);
            }
        }
        result
    }
}
