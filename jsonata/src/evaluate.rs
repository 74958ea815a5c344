//! Nodes to values. Every node costs a step, every value its bytes, every level a level.

use std::{rc::Rc, sync::Arc};

use crate::{
    Failure,
    ast::{Kind, Name, Node, Operator},
    budget::{Bound, Budget, DEEPEST, DEEPEST_VALUE},
    functions, number,
    value::{Array, Fields, Frame, Function, Object, Value},
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
const HEADER_BYTES: usize = 64;

impl From<Bound> for Failure {
    fn from(bound: Bound) -> Self {
        Self::Bound(bound)
    }
}

/// Making values, which has its price.
impl Run<'_> {
    pub fn failed(&self, reason: impl Into<String>) -> Failure {
        Failure::Failed(reason.into())
    }

    /// Before it is pushed.
    pub fn item(&mut self) -> Result<(), Bound> {
        self.room(1)
    }

    pub fn room(&mut self, items: usize) -> Result<(), Bound> {
        self.budget.steps(items as u64)?;
        self.budget.bytes(items.saturating_mul(ITEM_BYTES))
    }

    fn deeper(&self, inner: impl Iterator<Item = usize>) -> Result<usize, Bound> {
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

    /// Before it is inserted.
    pub fn field(&mut self) -> Result<(), Bound> {
        self.budget.steps(1)?;
        self.budget.bytes(FIELD_BYTES)
    }

    /// Of fields that were paid for.
    pub fn object(&mut self, fields: Fields) -> Evaluated {
        self.budget.bytes(HEADER_BYTES)?;
        let depth = self.deeper(fields.values().map(Value::depth))?;
        Ok(Value::Object(Rc::new(Object { fields, depth })))
    }

    /// Before a text of that length is made.
    pub fn letters(&mut self, bytes: usize) -> Result<(), Bound> {
        self.budget.read(bytes)?;
        self.budget.bytes(bytes.saturating_add(ITEM_BYTES))
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
        self.budget.bytes(HEADER_BYTES)?;
        self.frames.push(Variables {
            outer: Some(outer),
            bound: Vec::new(),
        });
        Ok(self.frames.len() - 1)
    }

    pub fn bind(&mut self, frame: Frame, name: &Name, value: Value) -> Evaluated<()> {
        self.budget.bytes(ITEM_BYTES * 2)?;
        let bound = &mut self.frames[frame].bound;
        match bound.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => bound.push((name.clone(), value)),
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
            self.frames.truncate(frames);
        }
        result
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

    pub fn evaluate(&mut self, node: &Node, input: &Value, frame: Frame) -> Evaluated {
        self.budget.steps(1)?;
        let result = match &node.kind {
            Kind::Text(_) | Kind::Number(_) | Kind::Bool(_) | Kind::Null => literal(node),
            Kind::Variable(name) => self.variable(name, input, frame)?,
            Kind::Name(name) => self.look_up(input, name)?,
            _ => self.levelled(node, input, frame)?,
        };
        if node.predicates.is_empty() && node.group.is_none() {
            return self.unwrapped(result, node.keep_array);
        }
        self.refined(node, result, frame)
    }

    fn levelled(&mut self, node: &Node, input: &Value, frame: Frame) -> Evaluated {
        self.enter()?;
        let result = self.inner(node, input, frame);
        self.leave();
        result
    }

    /// With the filters and the group behind a node.
    fn refined(&mut self, node: &Node, result: Value, frame: Frame) -> Evaluated {
        let mut result = result;
        self.enter()?;
        for filter in &node.predicates {
            result = self.filter(filter, result, frame)?;
        }
        if let (Some(group), false) = (&node.group, matches!(node.kind, Kind::Path(_))) {
            result = self.group(group, &result, frame)?;
        }
        self.leave();
        self.unwrapped(result, node.keep_array)
    }

    /// A sequence of one value is that value, and one of none is nothing.
    pub fn unwrapped(&mut self, value: Value, keep: bool) -> Evaluated {
        let Value::Array(array) = &value else {
            return Ok(value);
        };
        if !array.sequence {
            return Ok(value);
        }
        match array.items.as_slice() {
            [] => Ok(Value::Undefined),
            [item] if !keep && !array.keep_singleton => Ok(item.clone()),
            _ if keep && !array.keep_singleton => {
                self.marked(value, |array| array.keep_singleton = true)
            }
            _ => Ok(value),
        }
    }

    /// The same array with another mark.
    pub fn marked(&mut self, value: Value, mark: impl FnOnce(&mut Array)) -> Evaluated {
        let Value::Array(mut array) = value else {
            return Ok(value);
        };
        if Rc::get_mut(&mut array).is_none() {
            self.room(array.items.len())?;
        }
        mark(Rc::make_mut(&mut array));
        Ok(Value::Array(array))
    }

    /// Its stack frame is that of every level, so that it does nothing itself.
    fn inner(&mut self, node: &Node, input: &Value, frame: Frame) -> Evaluated {
        match &node.kind {
            Kind::Path(path) => self.path(node, path, input, frame),
            Kind::Binary(operator, left, right) => {
                self.binary(*operator, left, right, input, frame)
            }
            Kind::Call(function, arguments) => self.call(function, arguments, None, input, frame),
            Kind::Object(pairs) => self.group(pairs, input, frame),
            Kind::Array(items) => self.construct(items, node.cons_array, input, frame),
            Kind::Condition(condition, then, otherwise) => {
                self.condition(condition, then, otherwise.as_deref(), input, frame)
            }
            Kind::Block(parts) => self.block(parts, input, frame),
            Kind::Bind(name, value) => self.bound(name, value, input, frame),
            Kind::Elvis(left, right) | Kind::Coalesce(left, right) => {
                let elvis = matches!(node.kind, Kind::Elvis(..));
                self.first_of(elvis, left, right, input, frame)
            }
            Kind::Negate(operand) => self.negate(operand, input, frame),
            Kind::Wildcard => self.wildcard(input),
            Kind::Descendants => self.descendants(input),
            Kind::Parent(slot) => self.parent(*slot, frame),
            Kind::Lambda(_) | Kind::Transform(_) | Kind::Regex(_) => {
                self.closure(&node.kind, input, frame)
            }
            Kind::Partial(function, arguments) => self.partial(function, arguments, input, frame),
            Kind::Chain(left, right) => self.chain(left, right, input, frame),
            Kind::Placeholder => Err(self.failed("`?` stands for an argument only")),
            Kind::Sort(_) => Err(self.failed("a sort stands in a path only")),
            Kind::Text(_)
            | Kind::Number(_)
            | Kind::Bool(_)
            | Kind::Null
            | Kind::Variable(_)
            | Kind::Name(_) => self.evaluate(node, input, frame),
        }
    }

    pub fn condition(
        &mut self,
        condition: &Node,
        then: &Node,
        otherwise: Option<&Node>,
        input: &Value,
        frame: Frame,
    ) -> Evaluated {
        let holds = self.evaluate(condition, input, frame)?;
        match (self.truth(&holds)?, otherwise) {
            (true, _) => self.evaluate(then, input, frame),
            (false, Some(otherwise)) => self.evaluate(otherwise, input, frame),
            (false, None) => Ok(Value::Undefined),
        }
    }

    fn block(&mut self, parts: &[Node], input: &Value, frame: Frame) -> Evaluated {
        self.with_frames(|run| {
            let frame = run.frame(frame)?;
            let mut last = Value::Undefined;
            for part in parts {
                last = run.evaluate(part, input, frame)?;
            }
            Ok(last)
        })
    }

    fn bound(&mut self, name: &Name, value: &Node, input: &Value, frame: Frame) -> Evaluated {
        let value = self.evaluate(value, input, frame)?;
        self.bind(frame, name, value.clone())?;
        Ok(value)
    }

    fn first_of(
        &mut self,
        elvis: bool,
        left: &Node,
        right: &Node,
        input: &Value,
        frame: Frame,
    ) -> Evaluated {
        let left = self.evaluate(left, input, frame)?;
        let holds = match elvis {
            true => self.truth(&left)?,
            false => !left.is_undefined(),
        };
        match holds {
            true => Ok(left),
            false => self.evaluate(right, input, frame),
        }
    }

    fn negate(&mut self, operand: &Node, input: &Value, frame: Frame) -> Evaluated {
        match self.evaluate(operand, input, frame)? {
            Value::Undefined => Ok(Value::Undefined),
            Value::Number(number) => Ok(Value::Number(-number)),
            _ => Err(self.failed("only a number can be negated")),
        }
    }

    fn parent(&mut self, slot: usize, frame: Frame) -> Evaluated {
        let label = self.labels[slot].clone();
        Ok(self.lookup(frame, &label)?.unwrap_or(Value::Undefined))
    }

    fn closure(&mut self, kind: &Kind, input: &Value, frame: Frame) -> Evaluated {
        match kind {
            Kind::Lambda(lambda) => self.keeper(Function::Lambda {
                lambda: Arc::clone(lambda),
                input: input.clone(),
                frame,
            }),
            Kind::Transform(transform) => self.keeper(Function::Transform {
                transform: Arc::clone(transform),
                frame,
            }),
            Kind::Regex(pattern) => self.function(Function::Regex(Arc::clone(pattern))),
            _ => Ok(Value::Undefined),
        }
    }

    fn variable(&mut self, name: &str, input: &Value, frame: Frame) -> Evaluated {
        if name.is_empty() {
            return Ok(match input {
                Value::Array(array) if array.outer => array.items[0].clone(),
                other => other.clone(),
            });
        }
        match self.lookup(frame, name)? {
            Some(value) => Ok(value),
            None => Ok(functions::native(name).map_or(Value::Undefined, Value::Native)),
        }
    }

    /// A field of an object, or of every object of an array.
    pub fn look_up(&mut self, input: &Value, name: &str) -> Evaluated {
        match input {
            Value::Object(object) => {
                let found = object.fields.get(name);
                Ok(found.cloned().unwrap_or(Value::Undefined))
            }
            Value::Array(array) => self.within(|run| {
                let mut found = Vec::new();
                for item in &array.items {
                    run.budget.steps(1)?;
                    match run.look_up(item, name)? {
                        Value::Undefined => {}
                        Value::Array(inner) => {
                            run.room(inner.items.len())?;
                            found.extend_from_slice(&inner.items);
                        }
                        other => {
                            run.item()?;
                            found.push(other);
                        }
                    }
                }
                run.sequence(found)
            }),
            _ => Ok(Value::Undefined),
        }
    }

    /// As a condition; an array is true if any of its items is.
    pub fn truth(&mut self, value: &Value) -> Evaluated<bool> {
        fn looked_at(run: &mut Run, value: &Value) -> Result<(), Bound> {
            if let Value::Array(array) = value {
                run.budget.steps(1 + array.items.len() as u64)?;
                for item in &array.items {
                    looked_at(run, item)?;
                }
            }
            Ok(())
        }
        looked_at(self, value)?;
        Ok(value.is_truthy())
    }

    /// Both one behind the other; always a plain array, except if one of them is nothing.
    pub fn append(&mut self, left: Value, right: Value) -> Evaluated {
        if left.is_undefined() {
            return Ok(right);
        }
        if right.is_undefined() {
            return Ok(left);
        }
        let new = right.items().len();
        if let Value::Array(mut array) = left {
            self.room(new)?;
            let right_depth = right.items().iter().map(Value::depth).max();
            let depth = self.deeper(right_depth.into_iter())?.max(array.depth);
            if Rc::get_mut(&mut array).is_none() {
                self.room(array.items.len())?;
            }
            let into = Rc::make_mut(&mut array);
            into.items.extend_from_slice(right.items());
            (into.sequence, into.keep_singleton) = (false, false);
            (into.cons, into.outer, into.depth) = (false, false, depth);
            return Ok(Value::Array(array));
        }
        self.room(new + 1)?;
        let mut items = Vec::with_capacity(new + 1);
        items.push(left);
        items.extend_from_slice(right.items());
        self.sealed(Array {
            items,
            ..Array::default()
        })
    }

    fn construct(&mut self, parts: &[Node], cons: bool, input: &Value, frame: Frame) -> Evaluated {
        let mut items = Vec::new();
        for part in parts {
            let value = self.evaluate(part, input, frame)?;
            match value {
                Value::Undefined => {}
                Value::Array(array) if !matches!(part.kind, Kind::Array(_)) => {
                    self.room(array.items.len())?;
                    items.extend_from_slice(&array.items);
                }
                other => {
                    self.item()?;
                    items.push(other);
                }
            }
        }
        self.sealed(Array {
            items,
            cons,
            ..Array::default()
        })
    }

    fn wildcard(&mut self, input: &Value) -> Evaluated {
        let values: Vec<Value> = match input {
            Value::Array(array) if array.outer => return self.wildcard(&array.items[0].clone()),
            Value::Array(array) => {
                self.room(array.items.len())?;
                array.items.clone()
            }
            Value::Object(object) => {
                self.room(object.fields.len())?;
                object.fields.values().cloned().collect()
            }
            _ => return Ok(Value::Undefined),
        };
        let mut found = Vec::new();
        let mut appended = false;
        for value in values {
            appended |= matches!(value, Value::Array(_));
            self.flatten(&value, &mut found)?;
        }
        self.sealed(Array {
            items: found,
            sequence: !appended,
            ..Array::default()
        })
    }

    fn flatten(&mut self, value: &Value, into: &mut Vec<Value>) -> Evaluated<()> {
        match value {
            Value::Array(array) => {
                for item in &array.items {
                    self.budget.steps(1)?;
                    self.flatten(item, into)?;
                }
            }
            other => {
                self.item()?;
                into.push(other.clone());
            }
        }
        Ok(())
    }

    fn descendants(&mut self, input: &Value) -> Evaluated {
        fn gather(run: &mut Run, value: &Value, into: &mut Vec<Value>) -> Evaluated<()> {
            run.budget.steps(1)?;
            if !matches!(value, Value::Array(_)) {
                run.item()?;
                into.push(value.clone());
            }
            match value {
                Value::Array(array) => array
                    .items
                    .iter()
                    .try_for_each(|item| gather(run, item, into)),
                Value::Object(object) => object
                    .fields
                    .values()
                    .try_for_each(|value| gather(run, value, into)),
                _ => Ok(()),
            }
        }
        if input.is_undefined() {
            return Ok(Value::Undefined);
        }
        let mut found = Vec::new();
        gather(self, input, &mut found)?;
        self.sequence(found)
    }

    fn binary(
        &mut self,
        operator: Operator,
        left: &Node,
        right: &Node,
        input: &Value,
        frame: Frame,
    ) -> Evaluated {
        let left = self.evaluate(left, input, frame)?;
        if let Operator::And | Operator::Or = operator {
            let holds = self.truth(&left)?;
            if holds == (operator == Operator::Or) {
                return Ok(Value::Bool(holds));
            }
            let right = self.evaluate(right, input, frame)?;
            return Ok(Value::Bool(self.truth(&right)?));
        }
        let right = self.evaluate(right, input, frame)?;
        match operator {
            Operator::Equal | Operator::Unequal => {
                if left.is_undefined() || right.is_undefined() {
                    return Ok(Value::Bool(false));
                }
                let equal = self.equal(&left, &right)?;
                Ok(Value::Bool(equal == (operator == Operator::Equal)))
            }
            Operator::Less
            | Operator::LessOrEqual
            | Operator::Greater
            | Operator::GreaterOrEqual => self.compare(operator, &left, &right),
            Operator::In => {
                if left.is_undefined() || right.is_undefined() {
                    return Ok(Value::Bool(false));
                }
                for item in right.items() {
                    if self.equal(&left, item)? {
                        return Ok(Value::Bool(true));
                    }
                }
                Ok(Value::Bool(false))
            }
            Operator::Concatenate => self.concatenate(&left, &right),
            Operator::Range => self.range(&left, &right),
            _ => self.arithmetic(operator, &left, &right),
        }
    }

    fn arithmetic(&mut self, operator: Operator, left: &Value, right: &Value) -> Evaluated {
        for (side, value) in [("left", left), ("right", right)] {
            if !matches!(value, Value::Number(_) | Value::Undefined) {
                let what = value.type_name();
                return Err(self.failed(format!(
                    "the {side} side of an arithmetic operator is no number, but {what}"
                )));
            }
        }
        let (Value::Number(left), Value::Number(right)) = (left, right) else {
            return Ok(Value::Undefined);
        };
        self.number(match operator {
            Operator::Add => left + right,
            Operator::Subtract => left - right,
            Operator::Multiply => left * right,
            Operator::Divide => left / right,
            _ => left % right,
        })
    }

    fn compare(&mut self, operator: Operator, left: &Value, right: &Value) -> Evaluated {
        for value in [left, right] {
            if !matches!(value, Value::Number(_) | Value::Text(_) | Value::Undefined) {
                let what = value.type_name();
                return Err(self.failed(format!("only numbers and texts are ordered, not {what}")));
            }
        }
        let order = match (left, right) {
            (Value::Undefined, _) | (_, Value::Undefined) => return Ok(Value::Undefined),
            (Value::Number(left), Value::Number(right)) => left.partial_cmp(right),
            (Value::Text(left), Value::Text(right)) => {
                self.budget.read(left.len().min(right.len()))?;
                Some(left.cmp(right))
            }
            _ => return Err(self.failed("a number and a text cannot be compared")),
        };
        Ok(Value::Bool(order.is_some_and(|order| match operator {
            Operator::Less => order.is_lt(),
            Operator::LessOrEqual => order.is_le(),
            Operator::Greater => order.is_gt(),
            _ => order.is_ge(),
        })))
    }

    /// All the way down; what both share is looked at as often as it occurs.
    pub fn equal(&mut self, left: &Value, right: &Value) -> Evaluated<bool> {
        self.budget.steps(1)?;
        Ok(match (left, right) {
            (Value::Undefined, Value::Undefined) | (Value::Null, Value::Null) => true,
            (Value::Bool(left), Value::Bool(right)) => left == right,
            (Value::Number(left), Value::Number(right)) => left == right,
            (Value::Text(left), Value::Text(right)) => {
                self.budget.read(left.len().min(right.len()))?;
                left == right
            }
            (Value::Array(left), Value::Array(right)) => {
                if left.items.len() != right.items.len() {
                    return Ok(false);
                }
                for (left, right) in left.items.iter().zip(&right.items) {
                    if !self.equal(left, right)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Object(left), Value::Object(right)) => {
                if left.fields.len() != right.fields.len() {
                    return Ok(false);
                }
                for (name, left) in &left.fields {
                    match right.fields.get(name) {
                        Some(right) if self.equal(left, right)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Native(left), Value::Native(right)) => std::ptr::eq(*left, *right),
            (Value::Function(left), Value::Function(right)) => Rc::ptr_eq(left, right),
            _ => false,
        })
    }

    fn concatenate(&mut self, left: &Value, right: &Value) -> Evaluated {
        let left = self.written(left)?;
        let right = self.written(right)?;
        self.letters(left.len() + right.len())?;
        let mut text = String::with_capacity(left.len() + right.len());
        text.push_str(&left);
        text.push_str(&right);
        Ok(Value::Text(text.into()))
    }

    /// As text, of nothing none.
    pub fn written(&mut self, value: &Value) -> Evaluated<Arc<str>> {
        match value {
            Value::Text(text) => Ok(Arc::clone(text)),
            Value::Undefined => Ok("".into()),
            Value::Number(number) => Ok(number::text(number::rounded(*number)).into()),
            other => functions::as_text(self, other, false),
        }
    }

    fn range(&mut self, from: &Value, to: &Value) -> Evaluated {
        for value in [from, to] {
            let whole = matches!(value, Value::Number(number) if number.fract() == 0.0);
            if !whole && !value.is_undefined() {
                return Err(self.failed("a range goes from one whole number to another"));
            }
        }
        let (Value::Number(from), Value::Number(to)) = (from, to) else {
            return Ok(Value::Undefined);
        };
        if from > to {
            return Ok(Value::Undefined);
        }
        let length = (to - from + 1.0) as usize;
        self.room(length)?;
        let items = (0..length).map(|step| Value::Number(from + step as f64));
        let items = items.collect();
        self.sequence(items)
    }
}

fn literal(node: &Node) -> Value {
    match &node.kind {
        Kind::Text(text) => Value::Text(Arc::clone(text)),
        Kind::Number(number) => Value::Number(*number),
        Kind::Bool(bool) => Value::Bool(*bool),
        _ => Value::Null,
    }
}
