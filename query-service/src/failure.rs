//! What a read that fails is answered with.

use axum::http::StatusCode;
use service_kit::{Problem, problem::Chain};
use sqlx::error::DatabaseError;

/// Postgres did not answer, or refused the statement.
///
/// As a [`Problem`]: 503 `read-side-unavailable` with `Retry-After` while Postgres is away,
/// starting or out of connections, 503 `read-timed-out` for a statement that took too long,
/// otherwise 500 `internal`.
#[derive(Debug, thiserror::Error)]
#[error("failed to read from Postgres")]
pub struct ReadFailed(#[from] pub sqlx::Error);

impl ReadFailed {
    /// Whether it is the connection or the server, not the statement.
    pub(crate) fn is_of_the_server(&self) -> bool {
        match &self.0 {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => true,
            sqlx::Error::Database(error) => is_of_the_server(&**error),
            _ => false,
        }
    }
}

/// Connection trouble, lack of resources, shutdown and start, conflict with a standby's recovery.
fn is_of_the_server(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| {
        ["08", "53", "57P", "58", "40"]
            .iter()
            .any(|class| code.starts_with(class))
    })
}

impl From<ReadFailed> for Problem {
    fn from(failed: ReadFailed) -> Self {
        if failed.is_of_the_server() {
            // Readiness says it once; here it would be said for each request.
            tracing::debug!(error = %Chain(&failed), "answered that the read side is away");
            return unavailable("the database does not answer");
        }
        let code = failed.0.as_database_error().and_then(DatabaseError::code);
        if code.as_deref() == Some(QUERY_CANCELED) {
            tracing::warn!(error = %Chain(&failed), "a query took too long");
            return Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "read-timed-out",
                "The read took too long",
            )
            .retry_after(5);
        }
        Problem::internal(&failed)
    }
}

/// What Postgres says of a statement that exceeds `statement_timeout`.
const QUERY_CANCELED: &str = "57014";

/// 503 `read-side-unavailable`.
pub(crate) fn unavailable(detail: impl Into<String>) -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "read-side-unavailable",
        "The read side is not available at the moment",
    )
    .detail(detail)
    .retry_after(1)
}

/// 400 `invalid-path`.
pub(crate) fn malformed_path() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "invalid-path",
        "The path is not valid",
    )
}

/// There is no such thing for this caller: 404 with a code of the context's own, such as
/// `task-not-found`. Another tenant's is no different from one that never was.
pub fn not_found(code: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, code, "There is no such thing").detail(detail)
}
