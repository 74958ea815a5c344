//! A command as it comes in: who sends it, its key, what it expects, its body.

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, header},
};
use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};
use event_log::Fingerprint;
use kernel::{Actor, CommandId, Decider, Meta, StreamId, StreamVersion};
use serde::{Deserialize, de::DeserializeOwned};
use service_kit::{Identity, Json, Problem, TraceContext};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use super::Accepted;
use crate::{
    commands::{Commands, Submission},
    outcome::Expected,
    recorded::first_half,
};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const ISSUED_AT: &str = "annals-issued-at";
const RECORD_ANSWER: &str = "annals-record-answer";

/// Everything about a command but the stream that it is for.
///
/// As an extractor it refuses: no token 401, no `Idempotency-Key` 400
/// `key-missing`, a malformed one 400 `key-malformed`, a malformed `If-Match`
/// 400 `if-match-malformed`, a malformed `Annals-Issued-At` 400
/// `issued-at-malformed`, `Annals-Record-Answer` of a person 403 `service-required`, and a body as
/// [`Json`] does.
#[derive(Clone, Debug)]
pub struct CommandRequest<T = NoBody> {
    pub identity: Identity,
    pub command_id: CommandId,
    /// From `If-Match: "<version>"`, `If-Match: *` or `If-None-Match: *`.
    pub expected: Expected,
    /// From `Annals-Issued-At: <RFC 3339>`: when the client made the command, the same for
    /// every retry.
    pub issued_at: Option<DateTime<Utc>>,
    /// From `Annals-Record-Answer: true`, which only services may send: every retry is answered
    /// the same, a rejection too.
    pub record_answer: bool,
    pub body: T,
    trace: TraceContext,
    route: String,
    raw: Bytes,
}

/// A command without a body; an empty JSON object is accepted as well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NoBody {}

impl<S, T> FromRequest<S> for CommandRequest<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let identity = Identity::from_request_parts(&mut parts, state).await?;
        let trace = TraceContext::from_request_parts(&mut parts, state)
            .await
            .unwrap_or_else(|never| match never {});
        let command_id = command_id(&parts.headers)?;
        let expected = expected(&parts.headers)?;
        let issued_at = issued_at(&parts.headers)?;
        let record_answer = record_answer(&parts.headers, &identity)?;
        let route = format!("{} {}", parts.method, parts.uri);
        let empty = !parts.headers.contains_key(header::CONTENT_TYPE)
            && axum::body::HttpBody::is_end_stream(&body);
        let (body, raw) = if empty {
            (service_kit::json::parse(b"{}")?, Bytes::new())
        } else {
            let request = Request::from_parts(parts, body);
            let Json { value, raw } = Json::from_request(request, state).await?;
            (value, raw)
        };
        Ok(Self {
            identity,
            command_id,
            expected,
            issued_at,
            record_answer,
            body,
            trace,
            route,
            raw,
        })
    }
}

impl Commands {
    /// Has the stream `id` of `D`'s kind, in the caller's tenant, decide.
    ///
    /// # Errors
    /// 404 `not-found` when `id` cannot be the id of a stream, and whatever the
    /// command's outcome asks for.
    pub async fn send<D: Decider>(
        &self,
        id: &str,
        command: D::Command,
        request: &CommandRequest<impl Sync>,
    ) -> Result<Accepted, Problem> {
        let submission = request.submission(D::KIND, id)?;
        let acceptance = self.submit::<D>(submission, command).await?;
        Ok(Accepted::new(acceptance))
    }
}

impl Commands {
    /// Like [`send`](Self::send) of a command that has to be prepared first: `prepare` gathers
    /// facts that are not in the stream, and makes the command of them.
    ///
    /// ```ignore
    /// let assign = async {
    ///     let worker = workers.any_active().await?;
    ///     Ok(TaskCommand::Assign { to: worker })
    /// };
    /// commands.send_prepared::<Task>(&id, assign, &request).await
    /// ```
    ///
    /// A command that is recorded or under way gets its answer, and `prepare` is not run.
    pub async fn send_prepared<D: Decider>(
        &self,
        id: &str,
        prepare: impl Future<Output = Result<D::Command, Problem>> + Send,
        request: &CommandRequest<impl Sync>,
    ) -> Result<Accepted, Problem> {
        let submission = request.submission(D::KIND, id)?;
        let acceptance = self
            .submit_prepared::<D, Problem>(submission, prepare)
            .await?;
        Ok(Accepted::new(acceptance))
    }
}

impl<T> CommandRequest<T> {
    /// The id of what this command creates: the same for every retry.
    pub fn new_id(&self) -> String {
        StreamId::id_for_new(
            &self.identity.tenant,
            &self.identity.actor,
            &self.command_id,
        )
    }

    fn submission(&self, kind: &str, id: &str) -> Result<Submission, Problem> {
        let tenant = &self.identity.tenant;
        let stream = StreamId::new(tenant, kind, id).map_err(|malformed| {
            Problem::new(StatusCode::NOT_FOUND, "not-found", "There is no such thing")
                .detail(format!("{id:?} {malformed}"))
        })?;
        Ok(Submission {
            expected: self.expected,
            fingerprint: self.fingerprint(&stream),
            issued_at: self.issued_at,
            record_answer: self.record_answer,
            trace_parent: Some(self.trace.to_string().into()),
            meta: Meta {
                stream,
                tenant: tenant.clone(),
                actor: self.identity.actor.clone(),
                at: now(),
                command_id: self.command_id.clone(),
                correlation_id: self.correlation_id(),
                causation_id: None,
                written: Default::default(),
            },
        })
    }

    fn fingerprint(&self, stream: &StreamId) -> Fingerprint {
        let actor = &self.identity.actor;
        let expected = match self.expected {
            Expected::Any => "any".to_owned(),
            Expected::Exists => "exists".to_owned(),
            Expected::Exactly(version) => version.to_string(),
        };
        let mut hash = Sha256::new();
        let head = [
            actor.kind(),
            actor.name(),
            &self.route,
            stream.as_str(),
            &expected,
        ];
        for part in head {
            hash.update(part);
            hash.update("\n");
        }
        hash.update(&self.raw);
        Fingerprint(first_half(hash))
    }

    /// The request's trace, as a UUID: one id follows the request everywhere.
    fn correlation_id(&self) -> Uuid {
        Uuid::from_u128(self.trace.trace_id.into())
    }
}

/// Event times are kept to the microsecond.
fn now() -> DateTime<Utc> {
    DateTime::<Utc>::from(std::time::SystemTime::now()).trunc_subsecs(6)
}

fn command_id(headers: &HeaderMap) -> Result<CommandId, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "key-missing",
            "An idempotency key is required",
        )
        .detail(
            "send the header `Idempotency-Key` with a new UUID for each command, \
             and the same one when you send a command again",
        ));
    };
    let text = match values.next() {
        None => value.to_str().unwrap_or_default(),
        // Which of them it is, the client has to say.
        Some(_) => "",
    };
    // The draft standard writes the key as a quoted string; both forms name the same key.
    let bare = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'))
        .unwrap_or(text);
    CommandId::parse(bare).map_err(|malformed| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "key-malformed",
            "The idempotency key is malformed",
        )
        .detail(format!("the one `Idempotency-Key` {malformed}"))
    })
}

fn issued_at(headers: &HeaderMap) -> Result<Option<DateTime<Utc>>, Problem> {
    let Some(value) = headers.get(ISSUED_AT) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default();
    let time = DateTime::parse_from_rfc3339(text).ok();
    time.map(|time| Some(time.to_utc())).ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "issued-at-malformed",
            "The time of issue is malformed",
        )
        .detail("`Annals-Issued-At` must be a time by RFC 3339, such as 2026-03-01T12:00:00Z")
    })
}

/// Each such answer stays in the log for ever: not for everybody.
fn record_answer(headers: &HeaderMap, caller: &Identity) -> Result<bool, Problem> {
    let Some(value) = headers.get(RECORD_ANSWER) else {
        return Ok(false);
    };
    let problem = match (value.as_bytes(), &caller.actor) {
        (b"true", Actor::Service(_) | Actor::System(_)) => return Ok(true),
        (b"true", Actor::User(_)) => Problem::new(
            StatusCode::FORBIDDEN,
            "service-required",
            "Only a service may ask for this",
        )
        .detail(
            "a person's rejected command is not recorded: `Annals-Record-Answer` is for services",
        ),
        _ => Problem::new(
            StatusCode::BAD_REQUEST,
            "record-answer-malformed",
            "The header is malformed",
        )
        .detail("`Annals-Record-Answer` must be `true`, or be left out"),
    };
    Err(problem)
}

fn expected(headers: &HeaderMap) -> Result<Expected, Problem> {
    let malformed = |header: &str| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "if-match-malformed",
            "The precondition is malformed",
        )
        .detail(format!(
            "`{header}` must be the version from an ETag in double quotes, such as \"3\", or *"
        ))
    };
    let none_match = headers.get(header::IF_NONE_MATCH);
    match (headers.get(header::IF_MATCH), none_match) {
        (None, None) => Ok(Expected::Any),
        (None, Some(value)) if value == "*" => Ok(Expected::Exactly(StreamVersion::NONE)),
        (Some(value), None) if value == "*" => Ok(Expected::Exists),
        (Some(value), None) => value
            .to_str()
            .ok()
            .and_then(|text| text.strip_prefix('"')?.strip_suffix('"')?.parse().ok())
            .map(|version| Expected::Exactly(StreamVersion(version)))
            .ok_or_else(|| malformed("If-Match")),
        (_, Some(_)) => Err(malformed("If-None-Match")),
    }
}
