//! Where a page ends, in the hands of a client until it asks for the next one.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::page::Listed;

/// Longer cursors than this are refused unread.
const MAX_CURSOR_BYTES: usize = 4096;

/// The form that is written; others are from the future, or forged.
const FORM: u8 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<L, K>(u8, L, K);

/// The cursor after this row.
pub(crate) fn after<T: Listed>(row: &T) -> String {
    let json = serde_json::to_vec(&Written(FORM, T::LIST, row.key()))
        .expect("a sort key is plain data, which serializes");
    BASE64_URL_SAFE_NO_PAD.encode(json)
}

/// The key in a cursor of this list; `None` if it is malformed or another list's.
pub(crate) fn read<T: Listed>(cursor: &str) -> Option<T::Key> {
    if cursor.len() > MAX_CURSOR_BYTES {
        return None;
    }
    let json = BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?;
    let Written(form, list, key) =
        serde_json::from_slice::<Written<String, Key<T::Key>>>(&json).ok()?;
    (form == FORM && list == T::LIST).then_some(key.0)
}

/// A key without NUL, which JSON can carry and Postgres cannot.
struct Key<K>(K);

impl<'de, K: DeserializeOwned> Deserialize<'de> for Key<K> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        if value.to_string().contains("\\u0000") {
            return Err(serde::de::Error::custom("holds a NUL"));
        }
        serde_json::from_value(value)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}
