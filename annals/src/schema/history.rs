//! `annals schema history`: what happened to an event's schema, and to the rules between its
//! versions.

use std::fmt::Write;

use event_log::registry::RegistryError;
use serde::Serialize;

use super::registry::{Registered, Registry, Revision};

#[derive(Debug, Serialize)]
pub(super) struct History {
    subject: String,
    versions: Vec<Version>,
}

#[derive(Debug, Serialize)]
struct Version {
    version: u32,
    id: u32,
    /// Oldest first; the first came with the version. Unset where the registry keeps none.
    revisions: Option<Vec<Revision>>,
}

/// Nothing when the registry does not know the subject.
pub(super) async fn history(
    registry: &Registry,
    subject: &str,
) -> Result<Option<History>, RegistryError> {
    let mut versions = Vec::new();
    for Registered { version, id, .. } in registry.all(subject).await? {
        versions.push(Version {
            version,
            id,
            revisions: registry.revisions(subject, version).await?,
        });
    }
    let subject = subject.to_owned();
    Ok((!versions.is_empty()).then_some(History { subject, versions }))
}

impl History {
    pub(super) fn text(&self) -> String {
        let mut text = self.subject.clone();
        for version in &self.versions {
            let _ = write!(text, "\n  v{}, id {}", version.version, version.id);
            if version.revisions.is_none() {
                text.push_str("; this registry keeps no revisions of rules");
            }
            for revision in version.revisions.iter().flatten() {
                let _ = write!(text, "\n    {}", line(revision));
            }
        }
        text
    }
}

fn line(revision: &Revision) -> String {
    let Revision {
        revision,
        migration_rules,
        fingerprint,
        comment,
        author,
        revised_at,
    } = revision;
    let rules = migration_rules.as_array().map_or(0, Vec::len);
    let what = match (revision, rules) {
        (1, 0) => "registered, without rules".into(),
        (1, rules) => format!("registered, with {rules} rules"),
        (revision, rules) => format!("revision {revision}: {rules} rules"),
    };
    let mut line = format!("{revised_at}  {what}");
    if rules > 0 {
        let _ = write!(line, " {}", &fingerprint[..fingerprint.len().min(12)]);
    }
    if let Some(author) = author {
        let _ = write!(line, ", by {author}");
    }
    if let Some(comment) = comment {
        let _ = write!(line, ": {comment}");
    }
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn revision(revision: u32, rules: usize, comment: Option<&str>) -> Revision {
        Revision {
            revision,
            migration_rules: vec![json!({}); rules].into(),
            fingerprint: "0123456789abcdef".into(),
            comment: comment.map(Into::into),
            author: comment.map(|_| "ada".into()),
            revised_at: "2026-11-21T10:00:00Z".into(),
        }
    }

    #[test]
    fn a_history_tells_who_mended_what_and_why() {
        let versions = [
            (1, Some(vec![revision(1, 0, None)])),
            (
                2,
                Some(vec![
                    revision(1, 2, None),
                    revision(2, 2, Some("empty titles")),
                ]),
            ),
            (3, None),
        ];
        let history = History {
            subject: "annals.tasks.TaskCreated".into(),
            versions: versions
                .map(|(version, revisions)| Version {
                    version,
                    id: version + 6,
                    revisions,
                })
                .into(),
        };
        assert_eq!(
            history.text(),
            "annals.tasks.TaskCreated
  v1, id 7
    2026-11-21T10:00:00Z  registered, without rules
  v2, id 8
    2026-11-21T10:00:00Z  registered, with 2 rules 0123456789ab
    2026-11-21T10:00:00Z  revision 2: 2 rules 0123456789ab, by ada: empty titles
  v3, id 9; this registry keeps no revisions of rules"
        );
    }
}
