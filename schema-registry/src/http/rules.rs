//! `…/rules`: revisions of a version's migration rules, which Confluent's registry does not have.

use axum::extract::State;
use axum::{Extension, Json};

use super::Answer;
use super::path::InPath;
use super::request::Body;
use crate::Registry;
use crate::access::Caller;
use crate::registry::MendedRules;
use crate::store::rules::RuleRevision;

pub(super) async fn list_revisions(
    State(registry): State<Registry>,
    path: InPath,
) -> Answer<Vec<RuleRevision>> {
    let subject = path.subject(&registry).await?;
    let revisions = registry.rule_revisions(&subject, path.version()?);
    revisions.await.map(Json)
}

pub(super) async fn mend_rules(
    State(registry): State<Registry>,
    path: InPath,
    Extension(caller): Extension<Caller>,
    Body(mended): Body<MendedRules>,
) -> Answer<RuleRevision> {
    let subject = path.subject(&registry).await?;
    let revision = registry.mend_rules(&subject, path.version()?, mended, caller.name);
    revision.await.map(Json)
}
