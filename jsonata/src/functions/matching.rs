//! `$match`, `$contains`, `$replace`, `$split`: with texts, or with regular expressions.

use std::sync::Arc;

use super::{Implementation, given, number_of, text_of};
use crate::{
    pattern::{Found, Pattern},
    run::{Evaluated, Run},
    value::{Fields, Function, Value},
};

pub(super) const FUNCTIONS: [(&str, &str, Implementation); 4] = [
    ("match", "s-f<s:o>n?:a<o>", find_all),
    ("contains", "s-(sf):b", contains),
    ("replace", "s-(sf)(sf)n?:s", replace),
    ("split", "s-(sf)n?:a<s>", split),
];

/// A regular expression among the arguments.
fn pattern(run: &Run<'_>, arguments: &[Value], index: usize) -> Evaluated<Option<Arc<Pattern>>> {
    match given(arguments, index) {
        Value::Function(function) => match &**function {
            Function::Regex(pattern) => Ok(Some(Arc::clone(pattern))),
            _ => Err(run.failed("only a regular expression can match")),
        },
        Value::Native(_) => Err(run.failed("only a regular expression can match")),
        _ => Ok(None),
    }
}

/// How many at most.
fn limit(run: &Run<'_>, arguments: &[Value], index: usize) -> Evaluated<f64> {
    match number_of(arguments, index) {
        Some(limit) if limit < 0.0 => Err(run.failed("a limit cannot be negative")),
        limit => Ok(limit.unwrap_or(f64::INFINITY)),
    }
}

/// The next match that is not empty, as whoever looks for all of them needs it.
fn next(run: &mut Run<'_>, pattern: &Pattern, text: &str, from: usize) -> Evaluated<Option<Found>> {
    let found = pattern.find(&mut run.budget, text, from)?;
    match found {
        Some(found) if found.whole.is_empty() => {
            Err(run.failed("a regular expression matches an empty text"))
        }
        found => Ok(found),
    }
}

/// What a regular expression that is called as a function gives.
pub(crate) fn next_match(
    run: &mut Run<'_>,
    pattern: &Arc<Pattern>,
    text: &Arc<str>,
    from: usize,
) -> Evaluated {
    let Some(found) = pattern.find(&mut run.budget, text, from)? else {
        return Ok(Value::Undefined);
    };
    let mut fields = Fields::new();
    let (start, end) = (found.whole.start, found.whole.end);
    for name in ["match", "start", "end", "groups", "next"] {
        run.field(name)?;
    }
    fields.insert("match".into(), run.text(&text[start..end])?);
    run.budget.read(end)?;
    fields.insert("start".into(), Value::Number(units(&text[..start])));
    fields.insert("end".into(), Value::Number(units(&text[..end])));
    fields.insert("groups".into(), groups(run, text, &found)?);
    if !found.whole.is_empty() {
        let next = Function::NextMatch {
            pattern: Arc::clone(pattern),
            text: Arc::clone(text),
            from: end,
        };
        fields.insert("next".into(), run.function(next)?);
    }
    run.object(fields)
}

/// Positions are told in UTF-16, as elsewhere.
fn units(text: &str) -> f64 {
    text.chars().map(char::len_utf16).sum::<usize>() as f64
}

fn groups(run: &mut Run<'_>, text: &str, found: &Found) -> Evaluated {
    let mut groups = Vec::with_capacity(found.groups.len());
    for group in &found.groups {
        let group = group.clone().map_or("", |range| &text[range]);
        groups.push(run.text(group)?);
    }
    run.array(groups)
}

fn find_all(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(text) = text_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    let Some(pattern) = pattern(run, arguments, 1)? else {
        return Err(run.failed("$match needs a regular expression"));
    };
    let limit = limit(run, arguments, 2)?.ceil() as usize;
    let mut matches = Vec::new();
    let (mut from, mut counted, mut index) = (0, 0, 0.0);
    while matches.len() < limit {
        let Some(found) = next(run, &pattern, text, from)? else {
            break;
        };
        index += units(&text[counted..found.whole.start]);
        counted = found.whole.start;
        from = found.whole.end;
        let mut fields = Fields::new();
        for name in ["match", "index", "groups"] {
            run.field(name)?;
        }
        fields.insert("match".into(), run.text(&text[found.whole.clone()])?);
        fields.insert("index".into(), Value::Number(index));
        fields.insert("groups".into(), groups(run, text, &found)?);
        run.item()?;
        matches.push(run.object(fields)?);
    }
    run.sequence(matches)
}

fn contains(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(text) = text_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    if let Some(pattern) = pattern(run, arguments, 1)? {
        return Ok(Value::Bool(
            pattern.find(&mut run.budget, text, 0)?.is_some(),
        ));
    }
    let Some(part) = text_of(arguments, 1) else {
        return Ok(Value::Undefined);
    };
    run.budget.read(text.len())?;
    Ok(Value::Bool(text.contains(&**part)))
}

fn replace(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(text) = text_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    let limit = limit(run, arguments, 3)?.ceil() as usize;
    let replacement = given(arguments, 2);
    let mut replaced = String::new();
    let mut add = |run: &mut Run<'_>, part: &str| -> Evaluated<()> {
        run.letters(part.len())?;
        replaced.push_str(part);
        Ok(())
    };
    let mut from = 0;
    let mut count = 0;
    if let Some(pattern) = pattern(run, arguments, 1)? {
        while count < limit {
            let Some(found) = next(run, &pattern, text, from)? else {
                break;
            };
            add(run, &text[from..found.whole.start])?;
            match replacement {
                Value::Text(template) => {
                    expand(run, template, text, &found, &mut add)?;
                }
                function => {
                    let next = next_match(run, &pattern, text, found.whole.start)?;
                    match run.apply(function.clone(), vec![next], &Value::Undefined)? {
                        Value::Text(part) => add(run, &part)?,
                        _ => return Err(run.failed("a match is replaced by a string only")),
                    }
                }
            }
            from = found.whole.end;
            count += 1;
        }
    } else {
        let Some(sought) = text_of(arguments, 1) else {
            return Ok(Value::Undefined);
        };
        if sought.is_empty() {
            return Err(run.failed("an empty text cannot be replaced"));
        }
        let Value::Text(replacement) = replacement else {
            return Err(run.failed("a text is replaced by a string only"));
        };
        run.budget.read(text.len())?;
        for (at, part) in text.match_indices(&**sought).take(limit) {
            add(run, &text[from..at])?;
            add(run, replacement)?;
            from = at + part.len();
        }
    }
    add(run, &text[from..])?;
    run.text(&replaced)
}

/// `$0` and `$1`, and `$$` for a dollar sign.
fn expand(
    run: &mut Run<'_>,
    template: &str,
    text: &str,
    found: &Found,
    add: &mut impl FnMut(&mut Run<'_>, &str) -> Evaluated<()>,
) -> Evaluated<()> {
    let group = |number: usize| {
        let range = found.groups.get(number.wrapping_sub(1)).cloned().flatten();
        range.map_or("", |range| &text[range])
    };
    let most_digits = found.groups.len().max(1).ilog10() as usize + 1;
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('$') {
        add(run, before)?;
        rest = after;
        if let Some(after) = rest.strip_prefix('$') {
            add(run, "$")?;
            rest = after;
            continue;
        }
        if let Some(after) = rest.strip_prefix('0') {
            add(run, &text[found.whole.clone()])?;
            rest = after;
            continue;
        }
        let digits = rest.bytes().take(most_digits);
        let digits = digits.take_while(u8::is_ascii_digit).count();
        let number = |digits: usize| rest[..digits].parse().ok();
        let read = match number(digits) {
            Some(known) if digits > 1 && known > found.groups.len() => {
                number(digits - 1).map(|number: usize| (number, digits - 1))
            }
            known => known.map(|number| (number, digits)),
        };
        match read {
            Some((number, digits)) => {
                add(run, group(number))?;
                rest = &rest[digits..];
            }
            None => add(run, "$")?,
        }
    }
    add(run, rest)
}

fn split(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(text) = text_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    let limit = limit(run, arguments, 2)?.trunc() as usize;
    let mut parts = Vec::new();
    if let Some(pattern) = pattern(run, arguments, 1)? {
        let mut from = 0;
        while parts.len() < limit {
            let Some(found) = next(run, &pattern, text, from)? else {
                break;
            };
            parts.push(run.text(&text[from..found.whole.start])?);
            from = found.whole.end;
        }
        if parts.len() < limit {
            parts.push(run.text(&text[from..])?);
        }
        return run.array(parts);
    }
    let Some(separator) = text_of(arguments, 1) else {
        return Ok(Value::Undefined);
    };
    run.budget.read(text.len())?;
    if separator.is_empty() {
        let mut unit = [0; 4];
        for c in text.chars().take(limit) {
            parts.push(run.text(c.encode_utf8(&mut unit))?);
        }
    } else {
        for part in text.split(&**separator).take(limit) {
            parts.push(run.text(part)?);
        }
    }
    run.array(parts)
}
