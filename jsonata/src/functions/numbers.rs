//! Functions of numbers.

use super::{Implementation, given, number_of};
use crate::{
    run::{Evaluated, Run},
    value::Value,
};

pub(super) const FUNCTIONS: [(&str, &str, Implementation); 12] = [
    ("number", "(nsb)-:n", number),
    ("abs", "n-:n", |run, arguments, _| {
        of_one(run, arguments, f64::abs)
    }),
    ("floor", "n-:n", |run, arguments, _| {
        of_one(run, arguments, f64::floor)
    }),
    ("ceil", "n-:n", |run, arguments, _| {
        of_one(run, arguments, f64::ceil)
    }),
    ("round", "n-n?:n", round),
    ("sqrt", "n-:n", |run, arguments, _| {
        of_one(run, arguments, f64::sqrt)
    }),
    ("power", "n-n:n", power),
    ("formatBase", "n-n?:s", format_base),
    ("sum", "a<n>:n", |run, arguments, _| {
        of_many(run, arguments, |numbers| Some(numbers.iter().sum()))
    }),
    ("max", "a<n>:n", |run, arguments, _| {
        of_many(run, arguments, |numbers| {
            numbers.iter().copied().reduce(f64::max)
        })
    }),
    ("min", "a<n>:n", |run, arguments, _| {
        of_many(run, arguments, |numbers| {
            numbers.iter().copied().reduce(f64::min)
        })
    }),
    ("average", "a<n>:n", |run, arguments, _| {
        of_many(run, arguments, |numbers| {
            let sum: f64 = numbers.iter().sum();
            (!numbers.is_empty()).then(|| sum / numbers.len() as f64)
        })
    }),
];

fn of_one(run: &mut Run<'_>, arguments: &[Value], change: fn(f64) -> f64) -> Evaluated {
    match number_of(arguments, 0) {
        Some(number) => run.number(change(number)),
        None => Ok(Value::Undefined),
    }
}

fn of_many(
    run: &mut Run<'_>,
    arguments: &[Value],
    reduce: impl FnOnce(&[f64]) -> Option<f64>,
) -> Evaluated {
    let values = given(arguments, 0);
    if values.is_undefined() {
        return Ok(Value::Undefined);
    }
    run.room(values.items().len())?;
    let numbers = values.items().iter();
    let numbers: Vec<f64> = numbers
        .filter_map(|value| match value {
            Value::Number(number) => Some(*number),
            _ => None,
        })
        .collect();
    match reduce(&numbers) {
        Some(number) => run.number(number),
        None => Ok(Value::Undefined),
    }
}

fn number(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    match given(arguments, 0) {
        Value::Undefined => Ok(Value::Undefined),
        Value::Number(number) => Ok(Value::Number(*number)),
        Value::Bool(bool) => Ok(Value::Number(f64::from(u8::from(*bool)))),
        Value::Text(text) => {
            run.budget.read(text.len())?;
            match read(text) {
                Some(number) => run.number(number),
                None => Err(run.failed("a text is no number")),
            }
        }
        _ => Err(run.failed("only texts and booleans are made numbers")),
    }
}

/// As JSON has them, and with a prefix for other bases.
fn read(text: &str) -> Option<f64> {
    for (prefix, radix) in [("0x", 16), ("0b", 2), ("0o", 8)] {
        if text
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
        {
            let number = u64::from_str_radix(&text[2..], radix).ok();
            return number.map(|number| number as f64);
        }
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    let plain = digits
        .bytes()
        .all(|byte| b"0123456789.eE+-".contains(&byte));
    let starts = digits.starts_with(|c: char| c.is_ascii_digit());
    (plain && starts && !text.ends_with('.') && !digits.contains(".e") && !digits.contains(".E"))
        .then(|| text.parse().ok())
        .flatten()
}

/// Half to even; the point is moved in decimal, where no digit is lost.
fn round(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(number) = number_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    let places = number_of(arguments, 1).unwrap_or(0.0).trunc() as i32;
    let shifted = |number: f64, by: i32| -> f64 {
        let text = format!("{number:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let exponent = exponent.parse::<i32>().unwrap_or(0).saturating_add(by);
        format!("{digits}e{exponent}").parse().unwrap_or(f64::NAN)
    };
    let rounded = match places {
        0 => number.round_ties_even(),
        places => shifted(
            shifted(number, places).round_ties_even(),
            places.saturating_neg(),
        ),
    };
    run.number(rounded + 0.0)
}

fn power(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    match (number_of(arguments, 0), number_of(arguments, 1)) {
        (Some(base), Some(exponent)) => run.number(base.powf(exponent)),
        _ => Ok(Value::Undefined),
    }
}

fn format_base(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(number) = number_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    let radix = number_of(arguments, 1).unwrap_or(10.0).round_ties_even();
    if !(2.0..=36.0).contains(&radix) {
        return Err(run.failed("a base is from 2 to 36"));
    }
    let number = number.round_ties_even();
    if number.abs() > 2_f64.powi(53) {
        return Err(run.failed("the number is too large for another base"));
    }
    let (mut left, radix) = (number.abs() as u64, radix as u64);
    let mut digits = Vec::new();
    loop {
        digits.extend(char::from_digit((left % radix) as u32, radix as u32));
        left /= radix;
        if left == 0 {
            break;
        }
    }
    if number < 0.0 {
        digits.push('-');
    }
    let text: String = digits.into_iter().rev().collect();
    run.text(&text)
}
