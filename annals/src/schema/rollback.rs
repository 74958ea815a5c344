//! `annals schema rollback`: an earlier revision of a rule becomes the newest again. Nothing is
//! ever deleted: what was in between stays in the history.

use serde::Serialize;

use super::{
    SchemaError,
    registry::{Registry, Revision},
};

#[derive(Debug, Serialize)]
pub(super) struct RolledBack {
    subject: String,
    version: u32,
    /// Whose rules hold again.
    to: u32,
    /// As which they hold.
    revision: u32,
}

/// The revision before the one whose rules hold now, unless one is named: going back twice goes
/// back by two.
pub(super) async fn rollback(
    registry: &Registry,
    subject: &str,
    version: u32,
    to: Option<u32>,
    reason: Option<&str>,
) -> Result<RolledBack, SchemaError> {
    let revisions = registry.revisions(subject, version).await?;
    let revisions = revisions.ok_or_else(|| SchemaError::NoRevisions {
        subject: subject.into(),
        version,
    })?;
    let (target, next) = target(&revisions, to).ok_or_else(|| SchemaError::NoRevision {
        subject: subject.into(),
        version,
        newest: revisions.last().map_or(0, |it| it.revision),
    })?;
    let mut comment = format!("back to revision {}", target.revision);
    if let Some(reason) = reason {
        comment = format!("{comment}: {reason}");
    }
    let mended = registry
        .mend(
            subject,
            version,
            &target.migration_rules,
            next,
            Some(&comment),
        )
        .await?;
    Ok(RolledBack {
        subject: subject.into(),
        version,
        to: target.revision,
        revision: mended.revision,
    })
}

/// The revision that is meant, and the number that comes next.
fn target(revisions: &[Revision], to: Option<u32>) -> Option<(&Revision, u32)> {
    let (newest, earlier) = revisions.split_last()?;
    let target = match to {
        None => {
            let holds = |it: &&Revision| it.migration_rules != newest.migration_rules;
            earlier.iter().take_while(holds).last()?
        }
        Some(to) => earlier.iter().find(|it| it.revision == to)?,
    };
    Some((target, newest.revision + 1))
}

impl RolledBack {
    pub(super) fn text(&self) -> String {
        let Self {
            subject,
            version,
            to,
            revision,
        } = self;
        format!(
            "the rules of {subject} v{version} are those of revision {to} again, as revision {revision}\n  \
             → put them into the file as well, and start the services again, which take rules when \
             they start; models and snapshots that were built with the others say that they need a \
             rebuild"
        )
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn revisions(count: u32) -> Vec<Revision> {
        let revisions = (1..=count).map(|revision| Revision {
            revision,
            migration_rules: json!([revision]),
            fingerprint: String::new(),
            comment: None,
            author: None,
            revised_at: String::new(),
        });
        revisions.collect()
    }

    fn check(count: u32, to: Option<u32>, expected: Option<(u32, u32)>) {
        let revisions = revisions(count);
        let found = target(&revisions, to).map(|(target, next)| (target.revision, next));
        assert_eq!(found, expected);
    }

    #[test]
    fn going_back_again_goes_further_back() {
        let mut revisions = revisions(3);
        let mut again = revisions[1].clone();
        again.revision = 4;
        revisions.push(again);
        let found = target(&revisions, None).map(|(target, next)| (target.revision, next));
        assert_eq!(found, Some((1, 5)));
    }

    #[test]
    fn it_goes_back_by_one_or_to_a_named_one_and_forward_in_number() {
        check(3, None, Some((2, 4)));
        check(3, Some(1), Some((1, 4)));
        check(3, Some(3), None);
        check(3, Some(9), None);
        check(1, None, None);
        check(0, None, None);
    }
}
