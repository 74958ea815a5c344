//! Functions of objects.

use super::{Implementation, given, text_of};
use crate::{
    run::{Evaluated, Run},
    value::{Fields, Value},
};

pub(super) const FUNCTIONS: [(&str, &str, Implementation); 5] = [
    ("keys", "x-:a<s>", keys),
    ("lookup", "x-s:x", lookup),
    ("spread", "x-:a<o>", spread),
    ("merge", "a<o>:o", merge),
    ("clone", "(oa)-:o", copy),
];

fn keys(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    fn gather(run: &mut Run<'_>, value: &Value, into: &mut Fields) -> Evaluated<()> {
        run.budget.steps(1)?;
        match value {
            Value::Array(array) => array
                .items
                .iter()
                .try_for_each(|item| gather(run, item, into)),
            Value::Object(object) => object.fields.keys().try_for_each(|name| {
                run.field(name)?;
                into.insert(name.clone(), Value::Null);
                Ok(())
            }),
            _ => Ok(()),
        }
    }
    let mut names = Fields::new();
    gather(run, given(arguments, 0), &mut names)?;
    run.room(names.len())?;
    run.sequence(names.into_keys().map(Value::Text).collect())
}

fn lookup(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    match text_of(arguments, 1) {
        Some(name) => run.look_up(given(arguments, 0), name),
        None => Ok(Value::Undefined),
    }
}

fn spread(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    fn spread_into(run: &mut Run<'_>, value: &Value, into: &mut Vec<Value>) -> Evaluated<()> {
        run.budget.steps(1)?;
        match value {
            Value::Array(array) => array
                .items
                .iter()
                .try_for_each(|item| spread_into(run, item, into)),
            Value::Object(object) => object.fields.iter().try_for_each(|(name, value)| {
                run.item()?;
                run.field(name)?;
                let fields = [(name.clone(), value.clone())];
                into.push(run.object(fields.into_iter().collect())?);
                Ok(())
            }),
            other => {
                run.item()?;
                into.push(other.clone());
                Ok(())
            }
        }
    }
    let value = given(arguments, 0);
    if !matches!(value, Value::Array(_) | Value::Object(_)) {
        return Ok(value.clone());
    }
    let mut parts = Vec::new();
    spread_into(run, value, &mut parts)?;
    run.sequence(parts)
}

fn merge(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let value = given(arguments, 0);
    if value.is_undefined() {
        return Ok(Value::Undefined);
    }
    let mut merged = Fields::new();
    for item in value.items() {
        if let Value::Object(object) = item {
            for (name, value) in &object.fields {
                run.field(name)?;
                merged.insert(name.clone(), value.clone());
            }
        }
    }
    run.object(merged)
}

/// Values never change, so that one is its own copy.
fn copy(_: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    Ok(given(arguments, 0).clone())
}
