//! How every error leaves over HTTP: RFC 9457 Problem Details.
//!
//! Clients see what they can act on; the log sees the chain, once, here.

use std::{borrow::Cow, error::Error, fmt};

use axum::{
    body::Body,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::trace::TraceContext;

/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An error as a client sees it: `{type, title, status, detail, code, …}`.
///
/// `code` is kebab-case and stable: clients decide by it. `type` is
/// `urn:annals:problem:<code>`: RFC 9457 lets `about:blank` say no more than the
/// status does, and a URL would promise a page; a URN is just as stable as the code.
#[derive(Clone)]
pub struct Problem(Box<Content>);

#[derive(Clone)]
struct Content {
    status: StatusCode,
    code: &'static str,
    title: Cow<'static, str>,
    detail: Option<String>,
    members: Vec<(&'static str, Value)>,
    headers: HeaderMap,
}

impl Problem {
    /// `title` is the same for every problem with this code.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        title: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Content {
            status,
            code,
            title: title.into(),
            detail: None,
            members: Vec::new(),
            headers: HeaderMap::new(),
        }))
    }

    /// A bug or an unexpected failure: 500 `internal` with the trace id and nothing else.
    /// The chain of the error goes into the log, so call this once, at the boundary.
    pub fn internal(error: &dyn Error) -> Self {
        tracing::error!(error = %Chain(error), "failed to answer a request: {error}");
        Self::internal_logged()
    }

    /// The answer of [`Problem::internal`], for what is in the log already.
    pub(crate) fn internal_logged() -> Self {
        let problem = Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Internal error",
        );
        match TraceContext::current() {
            Some(trace) => problem.with("trace_id", trace.trace_id.to_string()),
            None => problem,
        }
    }

    /// A field of the request breaks a rule: 422 `invalid-field`, with the member `field`.
    ///
    /// `path` is written `items[2].title`; `message` goes on from it: "is longer than 200 characters".
    pub fn invalid_field(path: impl Into<String>, message: impl fmt::Display) -> Self {
        let path = path.into();
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid-field",
            "A field is not valid",
        )
        .detail(format!("`{path}` {message}"))
        .with("field", path)
    }

    /// Something that this service needs is away for now: 503 `unavailable` with `Retry-After`.
    pub fn unavailable(detail: impl Into<String>, retry_after_seconds: u64) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "unavailable",
            "Not available at the moment",
        )
        .detail(detail)
        .retry_after(retry_after_seconds)
    }

    /// What is particular to this occurrence, for a person.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// A further member, for programs. The standard members cannot be replaced by it.
    pub fn with(mut self, key: &'static str, value: impl Serialize) -> Self {
        debug_assert!(
            !["type", "title", "status", "detail", "code"].contains(&key),
            "`{key}` is a standard member of a problem"
        );
        let value = serde_json::to_value(value)
            .expect("a member of a problem is plain data, which serializes");
        self.0.members.push((key, value));
        self
    }

    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, seconds.into())
    }

    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    pub fn code(&self) -> &'static str {
        self.0.code
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self).expect("a problem is plain data, which serializes");
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.0.status;
        *response.headers_mut() = self.0.headers;
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        response
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let content = &self.0;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("urn:annals:problem:{}", content.code))?;
        map.serialize_entry("title", &content.title)?;
        map.serialize_entry("status", &content.status.as_u16())?;
        if let Some(detail) = &content.detail {
            map.serialize_entry("detail", detail)?;
        }
        map.serialize_entry("code", content.code)?;
        for (key, value) in &content.members {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0.status.as_u16(), self.0.code)?;
        match &self.0.detail {
            Some(detail) => write!(f, ": {detail}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Problem({self})")
    }
}

impl Error for Problem {}

/// The shape of a problem in OpenAPI; further members may follow.
#[derive(ToSchema)]
#[allow(dead_code, reason = "only its schema is used")]
struct Shape {
    /// Stable name of the kind of problem
    #[schema(example = "urn:annals:problem:invalid-field")]
    r#type: String,
    /// The kind of problem, for a person
    title: String,
    /// The HTTP status
    status: u16,
    /// This occurrence, for a person
    detail: Option<String>,
    /// The kind of problem, for a program; stable
    #[schema(example = "invalid-field")]
    code: String,
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        Shape::schema()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        "Problem".into()
    }
}

/// An error and what caused it, on one line. Some errors say their cause themselves: it is said once.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut next = Some(self.0);
        let causes = std::iter::from_fn(|| {
            let error = next?;
            next = error.source().map(|it| it as &dyn Error);
            Some(error.to_string())
        });
        f.write_str(&told_once(causes))
    }
}

/// An error's text and those of its causes, on one line; what was said already is left out.
pub fn told_once(causes: impl Iterator<Item = String>) -> String {
    let told = causes.reduce(|mut told, cause| {
        if !told.contains(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
        told
    });
    told.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_has_the_standard_members_and_its_own() {
        let problem = Problem::new(
            StatusCode::CONFLICT,
            "already-completed",
            "Already completed",
        )
        .detail("task 7 was completed yesterday")
        .with("version", 3);
        assert_eq!(
            serde_json::to_value(&problem).unwrap(),
            json!({
                "type": "urn:annals:problem:already-completed",
                "title": "Already completed",
                "status": 409,
                "detail": "task 7 was completed yesterday",
                "code": "already-completed",
                "version": 3,
            })
        );
    }

    #[test]
    fn a_problem_is_answered_with_its_status_type_and_headers() {
        let response = Problem::unavailable("Kafka is away", 2).into_response();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
    }

    #[test]
    fn an_internal_error_keeps_its_cause_to_itself() {
        let cause = std::io::Error::other("password is hunter2");
        let text = serde_json::to_string(&Problem::internal(&cause)).unwrap();
        assert!(
            text.contains("internal") && !text.contains("hunter2"),
            "{text}"
        );
    }

    #[derive(Debug, thiserror::Error)]
    enum Failure {
        #[error("failed to open the shop")]
        Open(#[source] std::io::Error),
        #[error("failed to open the shop: {0}")]
        Telling(#[source] std::io::Error),
        #[error("there is no cake: {0}")]
        Outer(#[source] Box<Failure>),
    }

    #[test]
    fn a_cause_is_told_once() {
        let cause = || std::io::Error::other("the key is lost");
        for error in [Failure::Open(cause()), Failure::Telling(cause())] {
            let told = Chain(&error).to_string();
            assert_eq!(told, "failed to open the shop: the key is lost");
        }
        let outer = Failure::Outer(Box::new(Failure::Open(cause())));
        let told = Chain(&outer).to_string();
        assert_eq!(
            told,
            "there is no cake: failed to open the shop: the key is lost"
        );
    }

    #[test]
    fn a_problem_is_small_enough_to_be_an_error() {
        assert_eq!(size_of::<Problem>(), size_of::<usize>());
    }
}
