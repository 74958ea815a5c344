//! Names of subjects and numbers of versions, checked once at the edge.

use std::fmt;

use crate::error::Error;

/// The name under which versions of one schema are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject(String);

impl Subject {
    /// Bytes; Kafka's topic names, from which subjects are made, have at most 249.
    const LONGEST: usize = 1024;

    pub fn parse(name: &str) -> Result<Self, Error> {
        let reserved = ["__GLOBAL", "__EMPTY"].contains(&name);
        if name.trim().is_empty()
            || name.len() > Self::LONGEST
            || reserved
            || name.chars().any(char::is_control)
        {
            return Err(Error::InvalidSubject(name.chars().take(100).collect()));
        }
        Ok(Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A version of a subject as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionNumber {
    Latest,
    Number(i32),
}

impl VersionNumber {
    /// `-1` is what older clients send for `latest`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "latest" | "-1" => Ok(Self::Latest),
            number => match number.parse() {
                Ok(number @ 1..) => Ok(Self::Number(number)),
                _ => Err(Error::InvalidVersion(text.chars().take(100).collect())),
            },
        }
    }
}

impl fmt::Display for VersionNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}
