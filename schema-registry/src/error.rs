//! What can go wrong, with the codes of Confluent's registry, by which its clients decide. The
//! texts are close to Confluent's too, since people search for them.

use crate::avro::{InvalidSchema, TooComplex};
use crate::subject::{Scope, Subject, VersionNumber};
use event_log::snapshots::SnapshotError;
use uuid::Uuid;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Subject '{0}' not found.")]
    SubjectNotFound(Subject),
    #[error("Version {0} not found.")]
    VersionNotFound(VersionNumber),
    #[error("Schema {0} not found")]
    IdNotFound(i32),
    #[error("Schema {0} not found")]
    GuidNotFound(Uuid),
    #[error("Schema not found")]
    SchemaNotFound,
    #[error("Subject '{0}' not found.")]
    ScopeNotFound(Scope),
    #[error("Subject '{0}' was soft deleted. Set permanent=true to delete permanently")]
    SubjectSoftDeleted(Subject),
    #[error("Subject '{0}' was not deleted first before being permanently deleted")]
    SubjectNotSoftDeleted(Subject),
    #[error("Subject '{0}' Version {1} was soft deleted. Set permanent=true to delete permanently")]
    VersionSoftDeleted(Subject, VersionNumber),
    #[error("Subject '{0}' Version {1} was not deleted first before being permanently deleted")]
    VersionNotSoftDeleted(Subject, VersionNumber),
    #[error("Subject '{0}' does not have subject-level compatibility configured")]
    NoSubjectConfig(Scope),
    #[error("Subject '{0}' does not have subject-level mode configured")]
    NoSubjectMode(Scope),
    #[error("Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: [{}]", objections.join(", "))]
    Incompatible {
        subject: Subject,
        objections: Vec<String>,
    },
    #[error("Invalid schema, details: {}", chain(.0))]
    InvalidSchema(#[source] InvalidSchema),
    #[error("Invalid schema, details: {0}")]
    UnsupportedSchema(String),
    #[error("Invalid schema, details: {0}")]
    TooComplex(#[source] TooComplex),
    #[error(
        "Invalid schema, details: the schemas are too large to be compared with {versions} versions at once: let the level not be a transitive one, delete versions that nobody reads any more, or begin a compatibility group"
    )]
    TooManyVersions { versions: usize },
    #[error(
        "The specified version '{0}' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\""
    )]
    InvalidVersion(String),
    #[error(
        "Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, forward_transitive, and full_transitive"
    )]
    InvalidLevel,
    #[error("Invalid mode. Valid values are READWRITE, READONLY, READONLY_OVERRIDE and IMPORT")]
    InvalidMode,
    #[error("the setting {0} is not of the right type")]
    UnusableSetting(&'static str),
    #[error("there is no setting `{0}`")]
    UnknownSetting(String),
    #[error("{0}")]
    NotPermitted(String),
    #[error("One or more references exist to the schema {{subject={0},version={1}}}.")]
    ReferenceExists(Subject, i32),
    #[error("Schema already registered with id {id} instead of input id {wanted}")]
    IdDoesNotMatch { id: i32, wanted: i32 },
    #[error("Invalid metadata: {0}")]
    InvalidMetadata(String),
    #[error("Invalid ruleset: {0}")]
    InvalidRuleSet(String),
    #[error("The specified subject '{0}' is not a valid subject.")]
    InvalidSubject(String),
    #[error("HTTP 408 Request Timeout")]
    BodyTooSlow,
    #[error("the body is too large: at most {most} bytes are accepted")]
    BodyTooLarge { most: usize },
    #[error("HTTP 415 Unsupported Media Type")]
    UnsupportedMediaType,
    #[error("the body could not be read")]
    BrokenBody(#[source] axum::Error),
    #[error("Malformed request: {0}")]
    MalformedJson(#[source] serde_json::Error),
    #[error("Unprocessable request: {0}")]
    UnexpectedJson(#[source] serde_json::Error),
    #[error("Error in the backend data store")]
    Store(#[from] sqlx::Error),
    #[error("Error in the backend data store")]
    Topic(#[source] SnapshotError),
    #[error("the schema and what belongs to it are too large: at most {most} bytes are accepted")]
    TooLargeForTopic { most: usize },
    #[error("Register operation timed out")]
    TopicSilent,
    #[error("Error in the backend data store: it is being restored")]
    NotRestored,
    #[error("User is not authenticated")]
    NotAuthenticated,
    #[error("User is denied operation: it takes the role {0}")]
    NotAllowed(&'static str),
    #[error("Internal server error")]
    Panicked(#[from] tokio::task::JoinError),
}

impl Error {
    /// Confluent's `error_code`. Its first three digits are the HTTP status.
    pub fn code(&self) -> u32 {
        match self {
            Self::MalformedJson(_) | Self::BrokenBody(_) => 400,
            Self::BodyTooSlow => 408,
            Self::BodyTooLarge { .. } | Self::TooLargeForTopic { .. } => 413,
            Self::UnsupportedMediaType => 415,
            Self::NotAuthenticated => 40101,
            Self::NotAllowed(_) => 40301,
            Self::SubjectNotFound(_) | Self::ScopeNotFound(_) => 40401,
            Self::VersionNotFound(_) => 40402,
            Self::IdNotFound(_) | Self::GuidNotFound(_) | Self::SchemaNotFound => 40403,
            Self::SubjectSoftDeleted(_) => 40404,
            Self::SubjectNotSoftDeleted(_) => 40405,
            Self::VersionSoftDeleted(..) => 40406,
            Self::VersionNotSoftDeleted(..) => 40407,
            Self::NoSubjectConfig(_) => 40408,
            Self::NoSubjectMode(_) => 40409,
            Self::Incompatible { .. } => 409,
            Self::UnexpectedJson(_) | Self::UnusableSetting(_) | Self::UnknownSetting(_) => 422,
            Self::InvalidSchema(_)
            | Self::UnsupportedSchema(_)
            | Self::InvalidMetadata(_)
            | Self::TooComplex(_)
            | Self::TooManyVersions { .. } => 42201,
            Self::InvalidVersion(_) => 42202,
            Self::InvalidLevel => 42203,
            Self::InvalidMode => 42204,
            Self::NotPermitted(_) => 42205,
            Self::ReferenceExists(..) => 42206,
            Self::IdDoesNotMatch { .. } => 42207,
            Self::InvalidSubject(_) => 42208,
            Self::InvalidRuleSet(_) => 42210,
            Self::Panicked(_) => 500,
            Self::Store(error) if timed_out(error) => 50002,
            Self::TopicSilent => 50002,
            Self::Store(_) | Self::Topic(_) | Self::NotRestored => 50001,
        }
    }

    /// Whether the answer is there and cannot be had at the moment.
    pub(crate) fn is_store_away(&self) -> bool {
        matches!(self, Self::Store(_) | Self::NotRestored)
    }
}

/// A statement that Postgres gave up on. Waiting in vain for a connection is not among these: then
/// Postgres is away, or so busy that it makes no difference.
fn timed_out(error: &sqlx::Error) -> bool {
    const QUERY_CANCELED: &str = "57014";
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    error
        .as_database_error()
        .and_then(|error| error.code())
        .is_some_and(|code| [QUERY_CANCELED, LOCK_NOT_AVAILABLE].contains(&code.as_ref()))
}

fn chain(error: &InvalidSchema) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
