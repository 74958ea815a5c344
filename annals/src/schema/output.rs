//! What the verbs print, and the files that they keep.

use std::path::Path;

use serde::{Serialize, de::DeserializeOwned};

use super::SchemaError;

/// `1 error`, `2 errors`.
pub(super) fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

pub(super) fn shown<T: Serialize>(
    json: bool,
    value: &T,
    text: impl FnOnce(&T) -> String,
) -> String {
    match json {
        true => to_json(value),
        false => text(value),
    }
}

pub(super) fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value)
        .unwrap_or_else(|error| unreachable!("a report is plain JSON: {error}"))
}

/// Fails now, and not after a long look at the log.
pub(super) fn expect_writable(path: &Path) -> Result<(), SchemaError> {
    let mut options = std::fs::OpenOptions::new();
    let opened = options.append(true).create(true).open(path);
    opened.map(drop).map_err(|source| SchemaError::Write {
        path: path.into(),
        source,
    })
}

pub(super) fn write(path: &Path, text: &str) -> Result<(), SchemaError> {
    std::fs::write(path, text).map_err(|source| SchemaError::Write {
        path: path.into(),
        source,
    })
}

pub(super) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, SchemaError> {
    let text = std::fs::read_to_string(path).map_err(|source| SchemaError::Read {
        path: path.into(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| SchemaError::NotOurs {
        path: path.into(),
        source,
    })
}
