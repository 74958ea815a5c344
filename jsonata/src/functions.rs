//! The functions that every expression has, and those that are refused.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use crate::{
    run::{Evaluated, Run},
    signature::Signature,
    value::Value,
};

mod arrays;
mod higher_order;
mod matching;
mod numbers;
mod objects;
mod text;
mod times;

pub(crate) use matching::next_match;

#[derive(Debug)]
pub(crate) struct Native {
    pub implementation: Implementation,
    signature: Signature,
}

/// Arguments that fit the signature, and the context.
pub(crate) type Implementation = fn(&mut Run<'_>, &[Value], &Value) -> Evaluated;

impl Native {
    pub fn signature(&self) -> &Signature {
        &self.signature
    }
}

pub(crate) fn native(name: &str) -> Option<&'static Native> {
    static NATIVES: LazyLock<HashMap<&str, Native>> = LazyLock::new(|| {
        let tables: [&[(&str, &str, Implementation)]; 7] = [
            &text::FUNCTIONS,
            &matching::FUNCTIONS,
            &numbers::FUNCTIONS,
            &arrays::FUNCTIONS,
            &objects::FUNCTIONS,
            &higher_order::FUNCTIONS,
            &times::FUNCTIONS,
        ];
        let all = tables.into_iter().flatten();
        all.filter_map(|(name, signature, implementation)| {
            let signature = Signature::parse(signature).ok()?;
            let implementation = *implementation;
            let native = Native {
                implementation,
                signature,
            };
            Some((*name, native))
        })
        .collect()
    });
    NATIVES.get(name)
}

/// Why a function of other implementations is not there.
pub(crate) fn refused(name: &str) -> Option<&'static str> {
    Some(match name {
        "now" | "millis" | "random" | "shuffle" | "uuid" => "it gives another result each time",
        "eval" => "it hides what is done",
        "formatNumber" | "formatInteger" | "parseInteger" => "it knows no picture strings",
        _ => return None,
    })
}

/// An argument, or nothing.
fn given(arguments: &[Value], index: usize) -> &Value {
    arguments.get(index).unwrap_or(&Value::Undefined)
}

fn text_of(arguments: &[Value], index: usize) -> Option<&Arc<str>> {
    match arguments.get(index) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

fn number_of(arguments: &[Value], index: usize) -> Option<f64> {
    match arguments.get(index) {
        Some(Value::Number(number)) => Some(*number),
        _ => None,
    }
}

/// As JSON, except texts, which are themselves; functions are empty texts.
pub(crate) fn as_text(run: &mut Run<'_>, value: &Value, pretty: bool) -> Evaluated<Arc<str>> {
    match value {
        Value::Text(text) => Ok(Arc::clone(text)),
        Value::Native(_) | Value::Function(_) => Ok("".into()),
        other => {
            let mut written = String::new();
            text::write(run, other, pretty.then_some(0), &mut written)?;
            run.letters(written.len())?;
            Ok(written.into())
        }
    }
}
