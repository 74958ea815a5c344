//! Functions of arrays.

use super::{Implementation, given};
use crate::{
    run::{Evaluated, Run},
    value::{Array, Value},
};

pub(super) const FUNCTIONS: [(&str, &str, Implementation); 8] = [
    ("count", "a:n", count),
    ("append", "xx:a", append),
    ("reverse", "a:a", reverse),
    ("distinct", "x:x", distinct),
    ("zip", "a+", zip),
    ("boolean", "x-:b", boolean),
    ("not", "x-:b", not),
    ("exists", "x:b", exists),
];

fn count(_: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let value = given(arguments, 0);
    let count = match value.is_undefined() {
        true => 0,
        false => value.items().len(),
    };
    Ok(Value::Number(count as f64))
}

fn append(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    run.append(given(arguments, 0).clone(), given(arguments, 1).clone())
}

fn reverse(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let value = given(arguments, 0);
    if value.is_undefined() {
        return Ok(Value::Undefined);
    }
    run.room(value.items().len())?;
    let items = value.items().iter().rev().cloned().collect();
    run.list(items)
}

fn distinct(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let value = given(arguments, 0);
    let Value::Array(array) = value else {
        return Ok(value.clone());
    };
    let mut kept: Vec<Value> = Vec::new();
    for item in &array.items {
        let mut known = false;
        for other in &kept {
            if run.equal(item, other)? {
                known = true;
                break;
            }
        }
        if !known {
            run.item()?;
            kept.push(item.clone());
        }
    }
    run.sealed(Array {
        items: kept,
        sequence: array.sequence,
        ..Array::default()
    })
}

fn zip(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let lengths = arguments.iter().map(|value| match value.is_undefined() {
        true => 0,
        false => value.items().len(),
    });
    let shortest = lengths.min().unwrap_or(0);
    let mut rows = Vec::new();
    for index in 0..shortest {
        run.room(arguments.len() + 1)?;
        let row = arguments.iter().map(|value| value.items()[index].clone());
        let items = row.collect();
        rows.push(run.list(items)?);
    }
    run.list(rows)
}

fn boolean(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let value = given(arguments, 0);
    match value.is_undefined() {
        true => Ok(Value::Undefined),
        false => Ok(Value::Bool(run.truth(value)?)),
    }
}

fn not(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let value = given(arguments, 0);
    match value.is_undefined() {
        true => Ok(Value::Undefined),
        false => Ok(Value::Bool(!run.truth(value)?)),
    }
}

fn exists(_: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    Ok(Value::Bool(!given(arguments, 0).is_undefined()))
}
