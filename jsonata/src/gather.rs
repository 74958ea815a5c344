//! What queries find, put together.

use std::rc::Rc;

use crate::{
    ast::{Kind, Node},
    run::{Evaluated, Run},
    value::{Array, Frame, Value},
};

impl Run<'_> {
    /// A field of an object, or of every object of an array.
    pub fn look_up(&mut self, input: &Value, name: &str) -> Evaluated {
        match input {
            Value::Object(object) => {
                self.budget.steps(name.len() as u64 / 64)?;
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
        self.list(items)
    }

    pub fn construct(
        &mut self,
        parts: &[Node],
        cons: bool,
        input: &Value,
        frame: Frame,
    ) -> Evaluated {
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

    pub fn wildcard(&mut self, input: &Value) -> Evaluated {
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

    pub fn descendants(&mut self, input: &Value) -> Evaluated {
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
}
