//! What the rules take for granted: values that are well-formed by their type.

use std::fmt;

use kernel::{Actor, Malformed};
use serde::{Deserialize, Deserializer, Serialize, de};

/// A task's title as typed: 1–2,000 characters, no control characters, not only blanks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Title(String);

/// More about a task: up to 20,000 characters; line breaks and tabs, no other control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Description(String);

/// A user as the sign-on names them: 1–128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct UserId(String);

impl Title {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.trim().is_empty() {
            return Err(Malformed("is empty"));
        }
        if text.chars().count() > 2_000 {
            return Err(Malformed("is longer than 2,000 characters"));
        }
        if text.chars().any(char::is_control) {
            return Err(Malformed("contains a control character"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Description {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.chars().count() > 20_000 {
            return Err(Malformed("is longer than 20,000 characters"));
        }
        let is_layout = |c| matches!(c, '\n' | '\r' | '\t');
        if text.chars().any(|c| c.is_control() && !is_layout(c)) {
            return Err(Malformed("contains a control character"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl UserId {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.is_empty() || text.len() > 128 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Malformed("is not 1 to 128 visible ASCII characters"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is this user who acts.
    pub fn is(&self, actor: &Actor) -> bool {
        matches!(actor, Actor::User(name) if *name == self.0)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! parse_when_deserialized {
    ($($value:ty),*) => {$(
        impl<'de> Deserialize<'de> for $value {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    )*};
}

parse_when_deserialized!(Title, Description, UserId);
