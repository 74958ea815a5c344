//! Revisions of a version's migration rules.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgExecutor;
use sqlx::types::Json;
use utoipa::ToSchema;

use super::Result;
use crate::contract::Rule;
use crate::subject::Subject;

/// One revision of the rules that lead to a version and back from it.
#[derive(Clone, Debug, Serialize, ToSchema, sqlx::FromRow)]
#[serde(rename_all = "camelCase")]
pub struct RuleRevision {
    pub revision: i32,
    #[schema(value_type = Vec<Rule>)]
    pub migration_rules: Json<Vec<Rule>>,
    /// SHA-256 over the rules: what a plan that was made of them carries.
    #[sqlx(skip)]
    pub fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Who revised them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    pub revised_at: DateTime<Utc>,
}

/// All revisions, the first of which came with the version.
pub(crate) async fn revisions(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    version: i32,
) -> Result<Vec<RuleRevision>> {
    sqlx::query_as(
        "select 1 as revision, coalesce(s.rule_set -> 'migrationRules', '[]') as migration_rules,
                null as comment, null as author, v.registered_at as revised_at
         from registry.versions v join registry.schemas s on s.id = v.schema_id
         where v.subject = $1 and v.version = $2
         union all
         select revision, migration_rules, comment, author, revised_at
         from registry.rule_revisions where subject = $1 and version = $2
         order by revision",
    )
    .bind(subject.as_str())
    .bind(version)
    .fetch_all(executor)
    .await
}

pub(crate) async fn add(
    executor: impl PgExecutor<'_>,
    subject: &Subject,
    version: i32,
    revision: &RuleRevision,
    change: i64,
) -> Result<()> {
    sqlx::query(
        "insert into registry.rule_revisions
             (subject, version, revision, migration_rules, comment, author, revised_at, change)
         values ($1, $2, $3, $4, $5, $6, $7, $8)
         on conflict (subject, version, revision) do nothing",
    )
    .bind(subject.as_str())
    .bind(version)
    .bind(revision.revision)
    .bind(&revision.migration_rules)
    .bind(&revision.comment)
    .bind(&revision.author)
    .bind(revision.revised_at)
    .bind(change)
    .execute(executor)
    .await?;
    Ok(())
}
