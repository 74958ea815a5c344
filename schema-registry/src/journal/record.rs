//! What the topic says: each record is the whole of what is known about its key.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::contract::{Metadata, Rule, RuleSet};
use crate::mode::Mode;
use crate::references::Reference;
use crate::settings::Settings;
use crate::store::rules::RuleRevision;
use crate::subject::{Scope, Subject};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub(crate) enum Record {
    /// Whose topic this is.
    Registry {
        identity: Uuid,
    },
    Version(Box<VersionRecord>),
    Scope(Box<ScopeRecord>),
    Rules(Box<RulesRecord>),
}

/// A version of a subject, with its schema.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionRecord {
    pub change: i64,
    pub subject: String,
    pub version: i32,
    pub id: i32,
    pub fate: Fate,
    pub registered_at: DateTime<Utc>,
    /// By which the content is known, looked up, and looked up without its contract; hexadecimal.
    pub fingerprint: String,
    pub lookup_fingerprint: String,
    pub schema_fingerprint: String,
    pub schema_type: String,
    pub schema: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub references: Vec<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Metadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rule_set: Option<RuleSet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fate {
    Live,
    /// Softly.
    Deleted,
    /// For good. The record stays, since the same content must never get another id.
    Removed,
}

/// Settings or mode of a scope.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ScopeRecord {
    pub change: i64,
    pub scope: String,
    #[serde(flatten)]
    pub holds: Holds,
}

/// What holds in a scope; nothing of its own where it is absent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Holds {
    Settings(Option<Box<Settings>>),
    Mode(Option<Mode>),
}

/// A revision of a version's migration rules.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RulesRecord {
    pub change: i64,
    pub subject: String,
    pub version: i32,
    pub revision: i32,
    pub migration_rules: Vec<Rule>,
    pub comment: Option<String>,
    pub author: Option<String>,
    pub revised_at: DateTime<Utc>,
}

impl Record {
    /// What the record is about, for the topic: different for registrations that differ in their
    /// id, so that one that came to nothing does not push aside one that did not.
    pub fn key(&self) -> String {
        match self {
            Self::Registry { .. } => "registry".to_owned(),
            Self::Version(it) => format!("version/{}/{}/{}", it.subject, it.version, it.id),
            Self::Scope(it) => match it.holds {
                Holds::Settings(_) => format!("settings/{}", it.scope),
                Holds::Mode(_) => format!("mode/{}", it.scope),
            },
            Self::Rules(it) => format!("rules/{}/{}/{}", it.subject, it.version, it.revision),
        }
    }

    /// What the record is about, in the database.
    pub fn thing(&self) -> String {
        match self {
            Self::Version(it) => format!("version/{}/{}", it.subject, it.version),
            Self::Registry { .. } | Self::Scope(_) | Self::Rules(_) => self.key(),
        }
    }

    pub fn change(&self) -> i64 {
        match self {
            Self::Registry { .. } => 0,
            Self::Version(it) => it.change,
            Self::Scope(it) => it.change,
            Self::Rules(it) => it.change,
        }
    }
}

impl ScopeRecord {
    pub fn settings(scope: &Scope, settings: Option<Settings>, change: i64) -> Self {
        Self {
            change,
            scope: scope.key().to_owned(),
            holds: Holds::Settings(settings.map(Box::new)),
        }
    }

    pub fn mode(scope: &Scope, mode: Option<Mode>, change: i64) -> Self {
        Self {
            change,
            scope: scope.key().to_owned(),
            holds: Holds::Mode(mode),
        }
    }
}

impl RulesRecord {
    pub fn new(subject: &Subject, version: i32, revision: &RuleRevision, change: i64) -> Self {
        Self {
            change,
            subject: subject.as_str().to_owned(),
            version,
            revision: revision.revision,
            migration_rules: revision.migration_rules.0.clone(),
            comment: revision.comment.clone(),
            author: revision.author.clone(),
            revised_at: revision.revised_at,
        }
    }
}

impl From<VersionRecord> for Record {
    fn from(record: VersionRecord) -> Self {
        Self::Version(Box::new(record))
    }
}

impl From<ScopeRecord> for Record {
    fn from(record: ScopeRecord) -> Self {
        Self::Scope(Box::new(record))
    }
}

impl From<RulesRecord> for Record {
    fn from(record: RulesRecord) -> Self {
        Self::Rules(Box::new(record))
    }
}
