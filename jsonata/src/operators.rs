//! Operators between two values, and what counts as true, equal and text.

use std::{rc::Rc, sync::Arc};

use crate::{
    ast::{Node, Operator},
    budget::Bound,
    functions, number,
    run::{Evaluated, Run},
    value::{Frame, Value},
};

impl Run<'_> {
    pub fn binary(
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
                    self.budget.steps(name.len() as u64 / 64)?;
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
}
