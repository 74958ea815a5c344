//! Functions of texts. Each pays for its result before it makes it.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Implementation, as_text, given, number_of, text_of};
use crate::{
    number,
    run::{Evaluated, Run},
    value::Value,
};

pub(super) const FUNCTIONS: [(&str, &str, Implementation); 19] = [
    ("string", "x-b?:s", string),
    ("substring", "s-nn?:s", substring),
    ("substringBefore", "s-s:s", substring_before),
    ("substringAfter", "s-s:s", substring_after),
    ("lowercase", "s-:s", lowercase),
    ("uppercase", "s-:s", uppercase),
    ("length", "s-:n", length),
    ("trim", "s-:s", trim),
    ("pad", "s-ns?:s", pad),
    ("join", "a<s>s?:s", join),
    ("base64encode", "s-:s", base64_encode),
    ("base64decode", "s-:s", base64_decode),
    ("encodeUrlComponent", "s-:s", encode_url_component),
    ("encodeUrl", "s-:s", encode_url),
    ("decodeUrlComponent", "s-:s", decode_url),
    ("decodeUrl", "s-:s", decode_url),
    ("error", "s?:x", error),
    ("assert", "bs?:x", assert),
    ("type", "x:s", kind),
];

fn string(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let value = given(arguments, 0);
    if value.is_undefined() {
        return Ok(Value::Undefined);
    }
    let pretty = matches!(given(arguments, 1), Value::Bool(true));
    as_text(run, value, pretty).map(Value::Text)
}

/// JSON, with two spaces for each level if there is one.
pub(super) fn write(
    run: &mut Run<'_>,
    value: &Value,
    level: Option<usize>,
    into: &mut String,
) -> Evaluated<()> {
    let before = into.len();
    let inner = level.map(|level| level + 1);
    let line = |into: &mut String, level: Option<usize>| {
        if let Some(level) = level {
            into.push('\n');
            into.extend(std::iter::repeat_n("  ", level));
        }
    };
    let enclosed: Option<(char, char)> = match value {
        Value::Array(_) | Value::Tuples(_) => Some(('[', ']')),
        Value::Object(_) => Some(('{', '}')),
        _ => None,
    };
    run.budget.steps(1)?;
    match value {
        Value::Undefined | Value::Null => into.push_str("null"),
        Value::Bool(bool) => into.push_str(if *bool { "true" } else { "false" }),
        Value::Number(number) => into.push_str(&number::text(number::rounded(*number))),
        Value::Text(text) => {
            run.letters(quoted(text))?;
            quote(text, into);
        }
        Value::Native(_) | Value::Function(_) => into.push_str("\"\""),
        Value::Array(_) | Value::Object(_) | Value::Tuples(_) => {}
    }
    let Some((open, close)) = enclosed else {
        run.letters(into.len() - before)?;
        return Ok(());
    };
    into.push(open);
    let mut first = true;
    let mut begin = |run: &mut Run<'_>, into: &mut String| -> Evaluated<()> {
        run.letters(2 + inner.unwrap_or(0) * 2)?;
        if !std::mem::take(&mut first) {
            into.push(',');
        }
        line(into, inner);
        Ok(())
    };
    match value {
        Value::Array(array) => {
            for item in &array.items {
                begin(run, into)?;
                write(run, item, inner, into)?;
            }
        }
        Value::Object(object) => {
            for (name, value) in &object.fields {
                begin(run, into)?;
                run.letters(quoted(name))?;
                quote(name, into);
                into.push_str(if level.is_some() { ": " } else { ":" });
                write(run, value, inner, into)?;
            }
        }
        _ => {}
    }
    if into.len() > before + 1 {
        line(into, level);
    }
    into.push(close);
    run.letters(2 + level.unwrap_or(0) * 2)?;
    Ok(())
}

/// At most so many bytes.
fn quoted(text: &str) -> usize {
    let escaped = text
        .bytes()
        .filter(|byte| *byte < b' ' || b"\"\\".contains(byte));
    2 + text.len() + 5 * escaped.count()
}

fn quote(text: &str, into: &mut String) {
    into.push('"');
    for c in text.chars() {
        match c {
            '"' => into.push_str("\\\""),
            '\\' => into.push_str("\\\\"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            '\u{8}' => into.push_str("\\b"),
            '\u{c}' => into.push_str("\\f"),
            c if c < ' ' => into.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => into.push(c),
        }
    }
    into.push('"');
}

fn length(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(text) = text_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    run.budget.read(text.len())?;
    Ok(Value::Number(text.chars().count() as f64))
}

fn substring(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let (Some(text), Some(start)) = (text_of(arguments, 0), number_of(arguments, 1)) else {
        return Ok(Value::Undefined);
    };
    run.budget.read(text.len())?;
    let count = text.chars().count() as f64;
    let start = if count + start < 0.0 { 0.0 } else { start };
    let from = if start < 0.0 { count + start } else { start };
    let end = match number_of(arguments, 2) {
        Some(length) if length <= 0.0 => return Ok(Value::text("")),
        Some(length) => from + length,
        None => count,
    };
    let (from, end) = (from.trunc() as usize, end.trunc() as usize);
    let mut starts = text.char_indices().map(|(at, _)| at).skip(from);
    let first = starts.next().unwrap_or(text.len());
    let behind = match end.saturating_sub(from) {
        0 => first,
        count => starts.nth(count - 1).unwrap_or(text.len()),
    };
    run.text(&text[first..behind])
}

/// Where the other text begins, with what it costs to look for it.
fn found_at(run: &mut Run<'_>, arguments: &[Value]) -> Evaluated<Option<(usize, usize)>> {
    let (Some(text), Some(separator)) = (text_of(arguments, 0), text_of(arguments, 1)) else {
        return Ok(None);
    };
    run.budget.read(text.len())?;
    Ok(text.find(&**separator).map(|at| (at, separator.len())))
}

fn substring_before(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(text) = text_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    match found_at(run, arguments)? {
        Some((at, _)) => run.text(&text[..at]),
        None => Ok(Value::Text(text.clone())),
    }
}

fn substring_after(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(text) = text_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    match found_at(run, arguments)? {
        Some((at, length)) => run.text(&text[at + length..]),
        None => Ok(Value::Text(text.clone())),
    }
}

fn changed(
    run: &mut Run<'_>,
    arguments: &[Value],
    growth: usize,
    change: impl FnOnce(&str) -> String,
) -> Evaluated {
    let Some(text) = text_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    run.letters(text.len().saturating_mul(growth))?;
    Ok(Value::Text(change(text).into()))
}

fn lowercase(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    changed(run, arguments, 3, str::to_lowercase)
}

fn uppercase(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    changed(run, arguments, 3, str::to_uppercase)
}

fn trim(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    changed(run, arguments, 1, |text| {
        let words = text.split([' ', '\t', '\n', '\r']);
        let mut trimmed = String::with_capacity(text.len());
        for word in words.filter(|word| !word.is_empty()) {
            if !trimmed.is_empty() {
                trimmed.push(' ');
            }
            trimmed.push_str(word);
        }
        trimmed
    })
}

fn pad(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let (Some(text), Some(width)) = (text_of(arguments, 0), number_of(arguments, 1)) else {
        return Ok(Value::Undefined);
    };
    let fill = match text_of(arguments, 2) {
        Some(fill) if !fill.is_empty() => &**fill,
        _ => " ",
    };
    run.letters(text.len())?;
    let missing = (width.abs().trunc() as usize).saturating_sub(text.chars().count());
    let widest = fill.chars().map(char::len_utf8).max().unwrap_or(1);
    let length = missing.saturating_mul(widest);
    run.letters(length)?;
    let mut padded = String::with_capacity(text.len() + length);
    let padding = fill.chars().cycle().take(missing);
    if width > 0.0 {
        padded.push_str(text);
        padded.extend(padding);
    } else {
        padded.extend(padding);
        padded.push_str(text);
    }
    Ok(Value::Text(padded.into()))
}

fn join(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let texts = given(arguments, 0);
    if texts.is_undefined() {
        return Ok(Value::Undefined);
    }
    let separator = text_of(arguments, 1).map_or("", |text| &**text);
    let texts = texts.items().iter();
    let texts = texts.filter_map(|item| match item {
        Value::Text(text) => Some(&**text),
        _ => None,
    });
    let mut joined = String::new();
    for (index, text) in texts.enumerate() {
        run.letters(text.len().saturating_add(separator.len()))?;
        if index > 0 {
            joined.push_str(separator);
        }
        joined.push_str(text);
    }
    run.text(&joined)
}

fn base64_encode(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    changed(run, arguments, 2, |text| STANDARD.encode(text))
}

fn base64_decode(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(text) = text_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    run.letters(text.len())?;
    let bytes = STANDARD.decode(&**text).ok();
    match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
        Some(decoded) => Ok(Value::Text(decoded.into())),
        None => Err(run.failed("this is no text in Base64")),
    }
}

fn encoded(text: &str, kept: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if c.is_ascii_alphanumeric() || kept.contains(c) {
            encoded.push(c);
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

fn encode_url_component(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    changed(run, arguments, 3, |text| encoded(text, "-_.!~*'()"))
}

fn encode_url(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    changed(run, arguments, 3, |text| {
        encoded(text, "-_.!~*'();/?:@&=+$,#")
    })
}

fn decode_url(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let Some(text) = text_of(arguments, 0) else {
        return Ok(Value::Undefined);
    };
    run.letters(text.len())?;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = after
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let Some(byte) = digits else {
            return Err(run.failed("this is no encoded URL"));
        };
        bytes.push(byte);
        rest = &after[2..];
    }
    match String::from_utf8(bytes) {
        Ok(decoded) => Ok(Value::Text(decoded.into())),
        Err(_) => Err(run.failed("this is no encoded URL")),
    }
}

fn said(arguments: &[Value], index: usize, otherwise: &str) -> String {
    let message = text_of(arguments, index).map_or(otherwise, |text| &**text);
    message.chars().take(1_000).collect()
}

fn error(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    Err(run.failed(said(arguments, 0, "$error() was called")))
}

fn assert(run: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    match given(arguments, 0) {
        Value::Bool(true) => Ok(Value::Undefined),
        _ => Err(run.failed(said(arguments, 1, "an $assert does not hold"))),
    }
}

fn kind(_: &mut Run<'_>, arguments: &[Value], _: &Value) -> Evaluated {
    let value = given(arguments, 0);
    Ok(match value {
        Value::Undefined => Value::Undefined,
        other => Value::text(other.type_name()),
    })
}
