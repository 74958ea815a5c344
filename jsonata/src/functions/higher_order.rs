//! Functions that take functions.

use super::{Implementation, given};
use crate::{
    run::{Evaluated, Run},
    value::{Fields, Value},
};

pub(super) const FUNCTIONS: [(&str, &str, Implementation); 7] = [
    ("map", "af", map),
    ("filter", "af", filter),
    ("single", "af?", single),
    ("reduce", "afj?:j", reduce),
    ("sift", "o-f?:o", sift),
    ("each", "o-f:a", each),
    ("sort", "af?:a", sort),
];

/// With as many of these as the function has a use for.
fn apply(run: &mut Run<'_>, function: &Value, given: &[&Value]) -> Evaluated {
    let arity = run.arity(function).max(1);
    run.room(arity.min(given.len()))?;
    let arguments = given.iter().take(arity).copied().cloned().collect();
    let result = run.apply(function.clone(), arguments, &Value::Undefined)?;
    run.plain(result)
}

fn position(index: usize) -> Value {
    Value::Number(index as f64)
}

fn map(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let (values, function) = (given(arguments, 0), given(arguments, 1));
    if values.is_undefined() {
        return Ok(Value::Undefined);
    }
    let mut made = Vec::new();
    for (index, value) in values.items().iter().enumerate() {
        let result = apply(run, function, &[value, &position(index), values])?;
        if !result.is_undefined() {
            run.item()?;
            made.push(result);
        }
    }
    run.sequence(made)
}

fn filter(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let (values, function) = (given(arguments, 0), given(arguments, 1));
    if values.is_undefined() {
        return Ok(Value::Undefined);
    }
    let mut kept = Vec::new();
    for (index, value) in values.items().iter().enumerate() {
        let verdict = apply(run, function, &[value, &position(index), values])?;
        if run.truth(&verdict)? {
            run.item()?;
            kept.push(value.clone());
        }
    }
    run.sequence(kept)
}

fn single(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let (values, function) = (given(arguments, 0), given(arguments, 1));
    if values.is_undefined() {
        return Ok(Value::Undefined);
    }
    let mut found = None;
    for (index, value) in values.items().iter().enumerate() {
        let holds = match function.is_undefined() {
            true => true,
            false => {
                let verdict = apply(run, function, &[value, &position(index), values])?;
                run.truth(&verdict)?
            }
        };
        if holds && found.replace(value).is_some() {
            return Err(run.failed("$single has found more than one value"));
        }
    }
    match found {
        Some(value) => Ok(value.clone()),
        None => Err(run.failed("$single has found no value")),
    }
}

fn reduce(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let (values, function) = (given(arguments, 0), given(arguments, 1));
    if values.is_undefined() {
        return Ok(Value::Undefined);
    }
    if run.arity(function) < 2 {
        return Err(run.failed("the function of a $reduce needs two parameters"));
    }
    let items = values.items().iter().enumerate();
    let mut result = given(arguments, 2).clone();
    for (index, value) in items {
        if index == 0 && result.is_undefined() {
            result = value.clone();
            continue;
        }
        result = apply(run, function, &[&result, value, &position(index), values])?;
    }
    Ok(result)
}

fn sift(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let (Value::Object(object), function) = (given(arguments, 0), given(arguments, 1)) else {
        return Ok(Value::Undefined);
    };
    let whole = given(arguments, 0);
    let mut kept = Fields::new();
    for (name, value) in &object.fields {
        let verdict = apply(run, function, &[value, &Value::Text(name.clone()), whole])?;
        if run.truth(&verdict)? {
            run.field(name)?;
            kept.insert(name.clone(), value.clone());
        }
    }
    match kept.is_empty() {
        true => Ok(Value::Undefined),
        false => run.object(kept),
    }
}

fn each(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let (Value::Object(object), function) = (given(arguments, 0), given(arguments, 1)) else {
        return Ok(Value::Undefined);
    };
    let whole = given(arguments, 0);
    let mut made = Vec::new();
    for (name, value) in &object.fields {
        let result = apply(run, function, &[value, &Value::Text(name.clone()), whole])?;
        if !result.is_undefined() {
            run.item()?;
            made.push(result);
        }
    }
    run.sequence(made)
}

/// A merge sort of our own: a comparison may fail, and is any function.
fn sort(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let (values, function) = (given(arguments, 0), given(arguments, 1));
    if values.is_undefined() {
        return Ok(Value::Undefined);
    }
    let items = values.items();
    run.room(items.len())?;
    if function.is_undefined() {
        let numbers = items.iter().all(|item| matches!(item, Value::Number(_)));
        let texts = items.iter().all(|item| matches!(item, Value::Text(_)));
        if !numbers && !texts {
            return Err(run.failed("only numbers, or texts, are sorted without a function"));
        }
    }
    let mut runs: Vec<Vec<Value>> = items.iter().map(|item| vec![item.clone()]).collect();
    run.room(items.len())?;
    while runs.len() > 1 {
        run.budget.steps(items.len() as u64)?;
        let mut merged = Vec::with_capacity(runs.len().div_ceil(2));
        let mut pairs = runs.into_iter();
        while let Some(left) = pairs.next() {
            merged.push(match pairs.next() {
                Some(right) => merge(run, function, left, right)?,
                None => left,
            });
        }
        runs = merged;
    }
    run.list(runs.into_iter().flatten().collect())
}

fn merge(
    run: &mut Run<'_>,
    function: &Value,
    left: Vec<Value>,
    right: Vec<Value>,
) -> Evaluated<Vec<Value>> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(one), Some(two)) = (left.peek(), right.peek()) {
        let swap = match (function, one, two) {
            (Value::Undefined, Value::Number(one), Value::Number(two)) => one > two,
            (Value::Undefined, Value::Text(one), Value::Text(two)) => {
                run.budget.read(one.len().min(two.len()))?;
                one > two
            }
            _ => {
                let verdict = apply(run, function, &[one, two])?;
                run.truth(&verdict)?
            }
        };
        merged.extend(if swap { right.next() } else { left.next() });
    }
    merged.extend(left);
    merged.extend(right);
    Ok(merged)
}
