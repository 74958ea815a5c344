//! Names of subjects and numbers of versions, checked once at the edge.
//!
//! A subject may be in a context, and is then written `:.context:name`. What is configured is
//! configured for a subject, for a context or for all: a [`Scope`].

use std::fmt;

use crate::error::Error;

/// Bytes; Kafka's topic names, from which subjects are made, have at most 249.
const LONGEST: usize = 1024;
/// The scope under which Confluent's registry keeps what holds in all contexts.
const ALL_CONTEXTS: &str = ":.__GLOBAL:";

/// The name under which versions of one schema are kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject(String);

impl Subject {
    pub fn parse(name: &str) -> Result<Self, Error> {
        let name = normal(name);
        let (context, unqualified) = split(name);
        let reserved = ["__GLOBAL", "__EMPTY"].contains(&unqualified);
        if unqualified.trim().is_empty() || reserved || is_odd(name) || context == ".__GLOBAL" {
            return Err(invalid(name));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name as a client sees it: qualified unless it is in the default context.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands before the name, empty in the default context: `:.context:`.
    pub(crate) fn qualifier(&self) -> &str {
        let (_, unqualified) = split(&self.0);
        &self.0[..self.0.len() - unqualified.len()]
    }

    /// Another subject as this one's schemas refer to it: in the same context unless it says so.
    pub(crate) fn sibling(&self, name: &str) -> Result<Self, Error> {
        if name.starts_with(":.") {
            Self::parse(name)
        } else {
            Self::parse(&format!("{}{name}", self.qualifier()))
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What settings and modes are for: the key under which they are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope(String);

impl Scope {
    /// All of the default context.
    pub fn global() -> Self {
        Self(String::new())
    }

    /// A subject, or a context, which is a subject with an empty name: `:.context:`.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let name = normal(name);
        let (_, unqualified) = split(name);
        if ["__GLOBAL", "__EMPTY"].contains(&unqualified) || is_odd(name) {
            return Err(invalid(name));
        }
        if !name.is_empty() && name.trim().is_empty() {
            return Err(invalid(name));
        }
        Ok(Self(name.to_owned()))
    }

    pub(crate) fn key(&self) -> &str {
        &self.0
    }

    /// What holds for a whole context, and not for one subject.
    pub(crate) fn is_context(&self) -> bool {
        split(&self.0).1.is_empty()
    }

    /// Whether there is always something to answer with.
    pub(crate) fn is_global(&self) -> bool {
        self.0.is_empty() || self.0 == ALL_CONTEXTS
    }

    /// The keys that hold here, the nearest first.
    pub(crate) fn chain(&self) -> [&str; 3] {
        let (_, unqualified) = split(&self.0);
        let context = &self.0[..self.0.len() - unqualified.len()];
        [&self.0, context, ALL_CONTEXTS]
    }
}

impl From<&Subject> for Scope {
    fn from(subject: &Subject) -> Self {
        Self(subject.0.clone())
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Context and name; the default context is called `.`.
fn split(name: &str) -> (&str, &str) {
    match name.strip_prefix(':') {
        Some(rest) if rest.starts_with('.') => rest.split_once(':').unwrap_or((rest, "")),
        _ => (".", name),
    }
}

/// `:.:name` is a long way to say `name`.
fn normal(name: &str) -> &str {
    name.strip_prefix(":.:").unwrap_or(name)
}

fn is_odd(name: &str) -> bool {
    // A context that is not closed would make one thing have two names.
    let open = name.starts_with(":.") && !name[1..].contains(':');
    name.len() > LONGEST || name.chars().any(char::is_control) || open
}

fn invalid(name: &str) -> Error {
    Error::InvalidSubject(name.chars().take(100).collect())
}

/// A version of a subject as a request names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
