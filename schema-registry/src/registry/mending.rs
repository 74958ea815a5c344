//! Mending the rules that lead from one version to another, without making a new version: each
//! mended set is a revision, and all are kept.

use std::time::SystemTime;

use chrono::{DateTime, SubsecRound, Utc};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::types::Json;
use utoipa::ToSchema;

use super::Registry;
use super::change::Change;
use crate::contract::{Rule, RuleSet};
use crate::error::Error;
use crate::journal::RulesRecord;
use crate::store::rules::{self, RuleRevision};
use crate::store::{Deleted, listing, settings};
use crate::subject::{Scope, Subject, VersionNumber};

/// Rules that take the place of a version's migration rules.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MendedRules {
    #[schema(value_type = Vec<Rule>)]
    pub migration_rules: Value,
    /// Why.
    pub comment: Option<String>,
    /// The revision that this one is to become: refused if it is not the next.
    pub revision: Option<i32>,
}

impl Registry {
    /// All revisions of the rules of a version, oldest first.
    pub async fn rule_revisions(
        &self,
        subject: &Subject,
        version: VersionNumber,
    ) -> Result<Vec<RuleRevision>, Error> {
        let found = self.version(subject, version, Deleted::With).await?;
        let mut connection = self.connection().await?;
        let revisions = rules::revisions(&mut *connection, subject, found.version).await?;
        Ok(revisions.into_iter().map(with_fingerprint).collect())
    }

    /// Gives the version's migration rules a new revision. The version and its id stay what they
    /// are: asked for by its number it comes with the new rules, by its id with those that it was
    /// registered with. The same rules again change nothing.
    pub async fn mend_rules(
        &self,
        subject: &Subject,
        version: VersionNumber,
        mended: MendedRules,
        author: Option<String>,
    ) -> Result<RuleRevision, Error> {
        let checked = RuleSet::from_request(json!({ "migrationRules": mended.migration_rules }))?;
        let migration_rules = Json(checked.migration_rules.unwrap_or_default());
        let mut change = Change::begin(self, subject.as_str()).await?;
        let mode = settings::mode_in_scope(change.connection(), &Scope::from(subject)).await?;
        if mode.is_read_only() {
            return Err(Error::NotPermitted(format!(
                "Subject {subject} is in read-only mode"
            )));
        }
        let found =
            listing::version(change.connection(), subject, version, Deleted::Without).await?;
        let found = match found {
            Some(found) => found.version,
            None if listing::exists(change.connection(), subject, Deleted::Without).await? => {
                return Err(Error::VersionNotFound(version));
            }
            None => return Err(Error::SubjectNotFound(subject.clone())),
        };
        let revisions = rules::revisions(change.connection(), subject, found).await?;
        let newest = revisions
            .last()
            .cloned()
            .ok_or(Error::VersionNotFound(version))?;
        let next = newest.revision + 1;
        if mended.revision.is_some_and(|wanted| wanted != next) {
            return Err(Error::InvalidRuleSet(format!(
                "revision {next} is the next one of version {found} of subject {subject}"
            )));
        }
        if newest.migration_rules == migration_rules {
            return Ok(with_fingerprint(newest));
        }
        let revision = with_fingerprint(RuleRevision {
            revision: next,
            migration_rules,
            fingerprint: String::new(),
            comment: mended.comment.map(|comment| comment.replace('\0', "")),
            author,
            // As Postgres keeps it.
            revised_at: DateTime::<Utc>::from(SystemTime::now()).trunc_subsecs(6),
        });
        let number = change.number().await?;
        rules::add(change.connection(), subject, found, &revision, number).await?;
        change.record(RulesRecord::new(subject, found, &revision, number));
        change.commit().await?;
        tracing::info!(%subject, version = found, revision = next,
            "revision {next} of the rules of version {found} of {subject}");
        Ok(revision)
    }
}

fn with_fingerprint(mut revision: RuleRevision) -> RuleRevision {
    revision.fingerprint = fingerprint(&revision.migration_rules);
    revision
}

fn fingerprint(rules: &[Rule]) -> String {
    crate::content::hex(&crate::content::hash_json(rules))
}
