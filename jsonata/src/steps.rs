//! Paths: steps, filters, and the bindings that some of them carry along.

use std::rc::Rc;

use crate::{
    ast::{Kind, Name, Node, Path, Stage},
    run::{Evaluated, Run},
    value::{Frame, Tuple, Value},
};

impl Run<'_> {
    pub fn path(&mut self, node: &Node, path: &Path, input: &Value, frame: Frame) -> Evaluated {
        let first = &path.steps[0];
        if let (Kind::Name(name), [only]) = (&first.kind, path.steps.as_slice())
            && !matches!(input, Value::Array(_))
            && is_plain(only)
            && !path.keep_singleton
            && node.group.is_none()
        {
            // What most paths are, and comes to the same.
            return self.look_up(input, name);
        }
        let absolute = matches!(first.kind, Kind::Variable(_));
        let mut inputs = match input {
            Value::Array(_) if absolute => self.array(vec![input.clone()])?,
            Value::Array(_) => input.clone(),
            other if first.cons_array => self.array(vec![other.clone()])?,
            other => other.clone(),
        };
        let mut result = Value::Undefined;
        let mut tuples: Option<Vec<Tuple>> = None;
        let mut carrying = false;
        for (index, step) in path.steps.iter().enumerate() {
            carrying |= step.tuple;
            if index == 0 && step.cons_array {
                result = self.evaluate(step, &inputs, frame)?;
            } else if carrying {
                tuples = Some(self.tuple_step(step, &inputs, tuples.take(), frame)?);
                continue;
            } else {
                let last = index + 1 == path.steps.len();
                result = self.step(step, &inputs, frame, last)?;
            }
            if !carrying && matches!(&result, Value::Array(found) if found.items.is_empty()) {
                break;
            }
            if result.is_undefined() {
                break;
            }
            inputs = result.clone();
        }
        if let Some(tuples) = tuples {
            if node.tuple && node.group.is_none() {
                return self.tuples(tuples);
            }
            if let Some(group) = &node.group {
                let tuples = self.tuples(tuples)?;
                return self.group(group, &tuples, frame);
            }
            self.room(tuples.len())?;
            let items = tuples.into_iter().map(|tuple| tuple.at);
            let items = items.collect();
            result = self.sequence(items)?;
        }
        if path.keep_singleton {
            if matches!(&result, Value::Array(array) if array.cons && !array.sequence) {
                self.item()?;
                result = self.sequence(vec![result])?;
            }
            result = self.marked(result, |array| array.keep_singleton = true)?;
        }
        match &node.group {
            Some(group) => self.group(group, &result, frame),
            None => Ok(result),
        }
    }

    fn step(&mut self, step: &Node, inputs: &Value, frame: Frame, last: bool) -> Evaluated {
        if let Kind::Sort(terms) = &step.kind {
            let sorted = self.sort_values(terms, inputs, frame)?;
            return self.filtered(&step.stages, sorted, frame);
        }
        let mut found = Vec::new();
        for input in inputs.items() {
            let result = self.evaluate(step, input, frame)?;
            let result = self.filtered(&step.stages, result, frame)?;
            match result {
                Value::Undefined => {}
                Value::Tuples(all) => {
                    self.room(all.tuples.len())?;
                    found.extend(all.tuples.iter().map(|tuple| tuple.at.clone()));
                }
                other => {
                    self.item()?;
                    found.push(other);
                }
            }
        }
        if let (true, [Value::Array(only)]) = (last, found.as_slice())
            && !only.sequence
        {
            return Ok(Value::Array(Rc::clone(only)));
        }
        let nested = |value: &Value| matches!(value, Value::Array(array) if !array.cons);
        if !found.iter().any(nested) {
            return self.sequence(found);
        }
        let mut flat = Vec::new();
        for value in found {
            match value {
                Value::Array(array) if !array.cons => {
                    self.room(array.items.len())?;
                    flat.extend_from_slice(&array.items);
                }
                other => {
                    self.item()?;
                    flat.push(other);
                }
            }
        }
        self.sequence(flat)
    }

    fn filtered(&mut self, stages: &[Stage], value: Value, frame: Frame) -> Evaluated {
        let mut value = value;
        for stage in stages {
            if let Stage::Filter(filter) = stage {
                value = self.within(|run| run.filter(filter, value, frame))?;
            }
        }
        Ok(value)
    }

    /// `[filter]`: by position, or by whether it holds.
    pub fn filter(&mut self, filter: &Node, input: Value, frame: Frame) -> Evaluated {
        if let Value::Tuples(all) = &input {
            for tuple in &all.tuples {
                self.tuple(tuple)?;
            }
            let kept = self.filter_tuples(filter, all.tuples.clone(), frame)?;
            return self.tuples(kept);
        }
        if input.is_undefined() {
            return Ok(input);
        }
        let items = input.items();
        if let Kind::Number(position) = filter.kind {
            return match at(position, items.len()).map(|at| items[at].clone()) {
                Some(Value::Array(array)) => Ok(Value::Array(array)),
                found => {
                    self.item()?;
                    self.sequence(found.into_iter().collect())
                }
            };
        }
        let mut kept = Vec::new();
        for (index, item) in items.iter().enumerate() {
            let verdict = self.evaluate(filter, item, frame)?;
            for _ in 0..self.times(&verdict, index, items.len())? {
                self.item()?;
                kept.push(item.clone());
            }
        }
        self.sequence(kept)
    }

    /// How often an item stays: numbers are positions.
    fn times(&mut self, verdict: &Value, index: usize, length: usize) -> Evaluated<usize> {
        let numbers = verdict.items();
        self.budget.steps(numbers.len() as u64)?;
        let number = |value: &Value| matches!(value, Value::Number(_));
        if !numbers.is_empty() && numbers.iter().all(number) {
            let positions = numbers.iter().filter(
                |value| matches!(value, Value::Number(number) if at(*number, length) == Some(index)),
            );
            return Ok(positions.count());
        }
        Ok(usize::from(self.truth(verdict)?))
    }

    fn filter_tuples(
        &mut self,
        filter: &Node,
        tuples: Vec<Tuple>,
        frame: Frame,
    ) -> Evaluated<Vec<Tuple>> {
        let length = tuples.len();
        if let Kind::Number(position) = filter.kind {
            let mut tuples = tuples;
            let found = at(position, length).map(|at| tuples.swap_remove(at));
            return Ok(found.into_iter().collect());
        }
        let mut kept = Vec::new();
        for (index, tuple) in tuples.into_iter().enumerate() {
            let verdict = self.with_tuple(&tuple, frame, |run, frame| {
                run.evaluate(filter, &tuple.at, frame)
            })?;
            for _ in 0..self.times(&verdict, index, length)? {
                self.tuple(&tuple)?;
                kept.push(tuple.clone());
            }
        }
        Ok(kept)
    }

    /// Before one more is made.
    pub fn tuple(&mut self, like: &Tuple) -> Evaluated<()> {
        self.room(2 + 2 * like.bound.len())?;
        Ok(())
    }

    /// With the tuple's bindings as variables.
    pub fn with_tuple<T>(
        &mut self,
        tuple: &Tuple,
        frame: Frame,
        work: impl FnOnce(&mut Self, Frame) -> Evaluated<T>,
    ) -> Evaluated<T> {
        self.with_frames(|run| {
            let inner = run.frame(frame)?;
            for (name, value) in &tuple.bound {
                run.bind(inner, name, value.clone())?;
            }
            work(run, inner)
        })
    }

    fn tuple_step(
        &mut self,
        step: &Node,
        inputs: &Value,
        tuples: Option<Vec<Tuple>>,
        frame: Frame,
    ) -> Evaluated<Vec<Tuple>> {
        if let Kind::Sort(terms) = &step.kind {
            let sorted = match tuples {
                Some(tuples) => self.sort_tuples(terms, tuples, frame)?,
                None => {
                    let sorted = self.sort_values(terms, inputs, frame)?;
                    self.room(sorted.items().len() * 4)?;
                    let items = sorted.items().iter().enumerate();
                    items
                        .map(|(index, at)| Tuple {
                            at: at.clone(),
                            bound: position(step, index),
                        })
                        .collect()
                }
            };
            return self.staged(&step.stages, sorted, frame);
        }
        let tuples = match tuples {
            Some(tuples) => tuples,
            None => {
                self.room(inputs.items().len() * 2)?;
                let items = inputs.items().iter().cloned();
                let bound = Vec::new;
                items.map(|at| Tuple { at, bound: bound() }).collect()
            }
        };
        let mut made = Vec::new();
        for tuple in &tuples {
            let result = self.with_tuple(tuple, frame, |run, frame| {
                run.evaluate(step, &tuple.at, frame)
            })?;
            if let Value::Tuples(inner) = &result {
                for inner in &inner.tuples {
                    let mut next = tuple.clone();
                    next.at = inner.at.clone();
                    for (name, value) in &inner.bound {
                        bind(&mut next, name, value.clone());
                    }
                    self.tuple(&next)?;
                    made.push(next);
                }
                continue;
            }
            if result.is_undefined() {
                continue;
            }
            for (index, item) in result.items().iter().enumerate() {
                let mut next = tuple.clone();
                match &step.focus {
                    Some(focus) => bind(&mut next, focus, item.clone()),
                    None => next.at = item.clone(),
                }
                if let Some(name) = &step.index {
                    bind(&mut next, name, Value::Number(index as f64));
                }
                if let Some(slot) = step.ancestor {
                    let label = self.labels[slot].clone();
                    bind(&mut next, &label, tuple.at.clone());
                }
                self.tuple(&next)?;
                made.push(next);
            }
        }
        self.staged(&step.stages, made, frame)
    }

    fn staged(
        &mut self,
        stages: &[Stage],
        tuples: Vec<Tuple>,
        frame: Frame,
    ) -> Evaluated<Vec<Tuple>> {
        let mut tuples = tuples;
        for stage in stages {
            match stage {
                Stage::Filter(filter) => {
                    tuples = self.within(|run| run.filter_tuples(filter, tuples, frame))?;
                }
                Stage::Index(name) => {
                    self.room(tuples.len() * 2)?;
                    for (index, tuple) in tuples.iter_mut().enumerate() {
                        bind(tuple, name, Value::Number(index as f64));
                    }
                }
            }
        }
        Ok(tuples)
    }

    /// Without what a path carries along.
    pub fn plain(&mut self, value: Value) -> Evaluated {
        let Value::Tuples(all) = &value else {
            return Ok(value);
        };
        self.room(all.tuples.len())?;
        let items = all.tuples.iter().map(|tuple| tuple.at.clone());
        let items = items.collect();
        let found = self.sequence(items)?;
        self.unwrapped(found, false)
    }
}

/// Without filters, and without anything that is bound.
fn is_plain(step: &Node) -> bool {
    step.stages.is_empty() && step.predicates.is_empty() && !step.tuple && !step.keep_array
}

/// The place in an array of that length; negative ones count from its end.
fn at(position: f64, length: usize) -> Option<usize> {
    let position = position.floor();
    let position = if position < 0.0 {
        position + length as f64
    } else {
        position
    };
    (0.0..length as f64)
        .contains(&position)
        .then_some(position as usize)
}

fn position(step: &Node, index: usize) -> Vec<(Name, Value)> {
    let name = step.index.iter().cloned();
    name.map(|name| (name, Value::Number(index as f64)))
        .collect()
}

fn bind(tuple: &mut Tuple, name: &Name, value: Value) {
    match tuple.bound.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value,
        None => tuple.bound.push((name.clone(), value)),
    }
}
