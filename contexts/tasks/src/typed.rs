//! Titles as people typed them before a tracker's id had a field of its own.
//!
//! What `schemas/tasks/TaskCreated.v2.migration.json` does with recorded titles is done here with
//! new ones, as long as the first version is still written: the event must be the one that is read
//! back.

/// What stands between a tracker's id and the title; where one is the beginning of another, the
/// longer comes first.
const SEPARATORS: [&str; 8] = ["]:", "] -", "] —", "]", ":", ".", " -", " —"];

/// A typed title in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypedTitle<'a> {
    pub jira_id: Option<&'a str>,
    pub title: &'a str,
    /// Where the parts would give another text.
    pub typed: Option<&'a str>,
}

impl<'a> TypedTitle<'a> {
    pub fn of(typed: &'a str) -> Self {
        match split(typed) {
            Some((jira_id, title)) => Self {
                jira_id: Some(jira_id),
                title,
                typed: (format!("{jira_id}: {title}") != typed).then_some(typed),
            },
            None => Self {
                jira_id: None,
                title: typed,
                typed: None,
            },
        }
    }
}

/// `AVRO-12: Title`, `[AVRO-12] - Title` and their like.
fn split(typed: &str) -> Option<(&str, &str)> {
    let text = typed.strip_prefix('[').unwrap_or(typed);
    let (jira_id, rest) = split_id(text)?;
    SEPARATORS.iter().find_map(|separator| {
        let rest = rest.strip_prefix(separator)?;
        let title = rest.trim_start_matches(' ');
        let begins = title
            .chars()
            .next()
            .is_some_and(|first| !first.is_whitespace());
        (begins && title.len() < rest.len()).then_some((jira_id, title))
    })
}

/// A tracker's id at the beginning: letters and digits, a letter first, `-`, digits.
pub(crate) fn split_id(text: &str) -> Option<(&str, &str)> {
    let (project, rest) = text.split_once('-')?;
    let is_project = project.starts_with(|first: char| first.is_ascii_alphabetic())
        && project.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    let end = project.len() + 1 + digits;
    (is_project && digits > 0).then(|| text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typed_title_has_its_trackers_id_in_many_forms() {
        for typed in [
            "AVRO-12: Sort",
            "AVRO-12. Sort",
            "AVRO-12 - Sort",
            "AVRO-12 — Sort",
            "[AVRO-12] Sort",
            "[AVRO-12] - Sort",
            "[AVRO-12]:   Sort",
        ] {
            let parts = TypedTitle::of(typed);
            assert_eq!(
                (parts.jira_id, parts.title),
                (Some("AVRO-12"), "Sort"),
                "{typed}"
            );
            assert_eq!(parts.typed.is_none(), typed == "AVRO-12: Sort", "{typed}");
        }
    }

    #[test]
    fn what_names_no_tracker_stays_whole() {
        for typed in [
            "Sort",
            "",
            "AVRO-12",
            "AVRO-12:",
            "AVRO-12: ",
            "AVRO-12:Sort",
            "AVRO-12 Sort",
            "AVRO-: Sort",
            "1-2: Sort",
            " AVRO-12: Sort",
            "AVRO-12, AVRO-13: Sort",
        ] {
            let parts = TypedTitle::of(typed);
            assert_eq!(
                (parts.jira_id, parts.title, parts.typed),
                (None, typed, None)
            );
        }
    }
}
