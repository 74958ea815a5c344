//! What the rules take for granted: values that are well-formed by their type.

use std::fmt;

use kernel::{Actor, Malformed};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::typed::split_id;

/// A task's title as typed: 1–2,000 characters, no control characters, not only blanks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Title(String);

/// A task's id in a tracker, such as `AVRO-12`: letters and digits, a letter first, `-`, digits;
/// up to 64 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct JiraId(String);

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

    pub(crate) fn has_brackets(&self) -> bool {
        self.0.contains(['[', ']'])
    }
}

impl JiraId {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        match split_id(text) {
            Some((_, "")) if text.len() <= 64 => Ok(Self(text.to_owned())),
            _ => Err(Malformed("is not a tracker's id such as AVRO-12")),
        }
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

parse_when_deserialized!(Title, JiraId, Description, UserId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_kept_as_typed() {
        for text in ["[AVRO-12] - Ä title", "AVRO-12: x", "  padded  ", "🦜"] {
            assert_eq!(Title::parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn titles_that_nobody_can_read_are_refused() {
        let long = "x".repeat(2_001);
        for text in ["", "   ", "a\nb", "a\u{0}b", "a\u{85}b", &long] {
            assert!(Title::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn a_trackers_id_is_a_project_and_a_number() {
        assert_eq!(JiraId::parse("AVRO-12").unwrap().as_str(), "AVRO-12");
        let long = format!("A-{}", "1".repeat(63));
        for text in [
            "", "AVRO", "AVRO-", "-12", "AVRO-12 ", "[A-1]", "1A-1", &long,
        ] {
            assert!(JiraId::parse(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn descriptions_may_have_lines() {
        assert!(Description::parse("").is_ok());
        assert!(Description::parse("one\n\ttwo\r\n").is_ok());
        assert!(Description::parse("bell\u{7}").is_err());
    }
}
