//! Nodes to values. Every node costs a step, every value its bytes, every level a level.

use std::{rc::Rc, sync::Arc};

use crate::{
    ast::{Kind, Name, Node},
    functions,
    run::{Evaluated, Run},
    value::{Array, Frame, Function, Value},
};

impl Run<'_> {
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
}

fn literal(node: &Node) -> Value {
    match &node.kind {
        Kind::Text(text) => Value::Text(Arc::clone(text)),
        Kind::Number(number) => Value::Number(*number),
        Kind::Bool(bool) => Value::Bool(*bool),
        _ => Value::Null,
    }
}
