//! Why a value cannot be taken: the value apart from the words, since of an event with personal
//! fields nobody may read it in a log, a report or a table.

use std::fmt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// It says nothing that only the event knows.
    Plain(String),
    /// A value, and what is wrong with it.
    Of { value: String, words: String },
    /// Somebody else's text, which may quote the event.
    Opaque(String),
}

impl Reason {
    pub fn plain(words: impl Into<String>) -> Self {
        Self::Plain(words.into())
    }

    pub fn of(value: impl fmt::Display, words: impl Into<String>) -> Self {
        Self::Of {
            value: value.to_string(),
            words: words.into(),
        }
    }

    pub fn told(self) -> String {
        match self {
            Self::Plain(words) | Self::Opaque(words) => words,
            Self::Of { value, words } => format!("{value} {words}"),
        }
    }

    /// Without anything that stands in the event.
    pub fn told_discreetly(self) -> String {
        match self {
            Self::Plain(words) => words,
            Self::Of { words, .. } => format!("it {words}"),
            Self::Opaque(_) => UNTOLD.into(),
        }
    }
}

/// Instead of what may quote a personal field.
pub(crate) const UNTOLD: &str =
    "why is not told, since it may quote the event, which has personal fields";
