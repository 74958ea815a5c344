//! Points in time, as milliseconds and as ISO 8601.

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Utc};

use super::{Implementation, given, number_of, text_of};
use crate::{
    run::{Evaluated, Run},
    value::Value,
};

pub(super) const FUNCTIONS: [(&str, &str, Implementation); 2] = [
    ("toMillis", "s-s?:n", to_millis),
    ("fromMillis", "n-s?s?:s", from_millis),
];

const NO_PICTURES: &str = "times are written as ISO 8601 only, without picture strings";

fn to_millis(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(text) = text_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    if !given(arguments, 1).is_undefined() {
        return Err(run.failed(NO_PICTURES));
    }
    run.budget.read(text.len())?;
    match read(text) {
        Some(time) => Ok(Value::Number(time.timestamp_millis() as f64)),
        None => Err(run.failed("a text is no ISO 8601 time")),
    }
}

/// A year, a month, a day, or a time with its offset (`Z`, `+01:00`, `+0100`); UTC without one.
fn read(text: &str) -> Option<DateTime<Utc>> {
    let midnight = |date: NaiveDate| Some(date.and_hms_opt(0, 0, 0)?.and_utc());
    match text.len() {
        4 => return midnight(NaiveDate::from_ymd_opt(text.parse().ok()?, 1, 1)?),
        7 => return midnight(NaiveDate::parse_from_str(&format!("{text}-01"), "%Y-%m-%d").ok()?),
        10 => return midnight(NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?),
        _ => {}
    }
    let with_offset = DateTime::parse_from_rfc3339(text)
        .or_else(|_| DateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f%z"));
    match with_offset {
        Ok(time) => Some(time.to_utc()),
        Err(_) => {
            let local = chrono::NaiveDateTime::parse_from_str(text, "%Y-%m-%dT%H:%M:%S%.f");
            Some(local.ok()?.and_utc())
        }
    }
}

fn from_millis(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(millis) = number_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    if !given(arguments, 1).is_undefined() || !given(arguments, 2).is_undefined() {
        return Err(run.failed(NO_PICTURES));
    }
    let time = DateTime::from_timestamp_millis(millis.trunc() as i64);
    match time.filter(|time| (0..=9999).contains(&time.year())) {
        Some(time) => run.text(&time.to_rfc3339_opts(SecondsFormat::Millis, true)),
        None => Err(run.failed("a time is out of range")),
    }
}
