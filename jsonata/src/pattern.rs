//! Regular expressions as ECMAScript writes them, on an engine that is linear in time.

use regex::{Regex, RegexBuilder};

use crate::budget::{Bound, Budget};

#[derive(Debug)]
pub(crate) struct Pattern {
    regex: Regex,
    /// Steps for each 64 bytes of text: the engine's time is that of text times pattern.
    weight: u64,
}

/// Bytes of a compiled pattern, and the steps for 64 bytes of text; the smallest that fits holds.
const SIZES: [(usize, u64); 3] = [(4 << 10, 4), (16 << 10, 16), (64 << 10, 64)];
/// For each direction, when it is used.
const CACHE_BYTES: usize = 256 << 10;
/// In one expression: each keeps its caches.
pub(crate) const MOST_PATTERNS: usize = 32;

impl Pattern {
    pub fn new(pattern: &str, flags: &str) -> Result<Self, String> {
        let translated = translate(pattern);
        let mut refused = String::new();
        for (size, weight) in SIZES {
            let regex = RegexBuilder::new(&translated)
                .case_insensitive(flags.contains('i'))
                .multi_line(flags.contains('m'))
                .nest_limit(64)
                .size_limit(size)
                .dfa_size_limit(CACHE_BYTES)
                .build();
            match regex {
                Ok(regex) => return Ok(Self { regex, weight }),
                Err(regex::Error::CompiledTooBig(_)) => {
                    refused = format!("the regular expression /{pattern:.100}/ is too large");
                }
                Err(error) => {
                    let last = error.to_string();
                    let reason = last.lines().last().unwrap_or_default();
                    let reason = reason.trim_start_matches("error: ");
                    return Err(format!(
                        "the regular expression /{pattern:.100}/ is refused: {reason} (it has to run in linear time)"
                    ));
                }
            }
        }
        Err(refused)
    }

    /// The next match from a byte on: the whole, then its groups, each with its bytes.
    pub fn find(
        &self,
        budget: &mut Budget,
        text: &str,
        from: usize,
    ) -> Result<Option<Found>, Bound> {
        let left = text.len().saturating_sub(from);
        // The engine may read to the end before it knows where a match ends.
        budget.steps((1 + left as u64 / 64) * self.weight)?;
        let Some(captures) = self.regex.captures_at(text, from) else {
            return Ok(None);
        };
        let groups = captures.iter();
        let groups: Vec<_> = groups
            .map(|group| group.map(|group| group.range()))
            .collect();
        let whole = groups.first().cloned().flatten().unwrap_or(from..from);
        Ok(Some(Found {
            whole,
            groups: groups.into_iter().skip(1).collect(),
        }))
    }
}

pub(crate) struct Found {
    pub whole: std::ops::Range<usize>,
    pub groups: Vec<Option<std::ops::Range<usize>>>,
}

/// What ECMAScript reads otherwise: ASCII classes, `[` within brackets, `[^]`.
fn translate(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len() + 16);
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('d') => translated.push_str("[0-9]"),
                Some('D') => translated.push_str("[^0-9]"),
                Some('w') => translated.push_str("[0-9A-Za-z_]"),
                Some('W') => translated.push_str("[^0-9A-Za-z_]"),
                Some('b') if !in_class => translated.push_str("(?-u:\\b)"),
                Some('B') if !in_class => translated.push_str("(?-u:\\B)"),
                Some('u') => translated.push_str("\\u"),
                Some(c) if !c.is_ascii_alphanumeric() && c.is_ascii() && c != '<' && c != '>' => {
                    translated.extend(['\\', c]);
                }
                Some(c) if c.is_ascii_alphanumeric() => translated.extend(['\\', c]),
                Some(c) => translated.push(c),
                None => translated.push('\\'),
            },
            '[' if in_class => translated.push_str("\\["),
            '[' => {
                in_class = true;
                translated.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    translated.push('^');
                }
                if chars.next_if_eq(&']').is_some() {
                    // `[^]` is everything, `[]` nothing.
                    let everything = translated.ends_with('^');
                    translated.truncate(translated.len() - 1 - usize::from(everything));
                    translated.push_str(if everything { "(?s:.)" } else { "[^\\s\\S]" });
                    in_class = false;
                }
            }
            ']' => {
                in_class = false;
                translated.push(']');
            }
            '&' | '~' if in_class => translated.extend(['\\', c]),
            c => translated.push(c),
        }
    }
    translated
}
