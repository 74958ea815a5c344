//! Following on a query's own URL.
//!
//! The query answers first, as it would without: what it refuses is refused to a follower too,
//! and what it shows is the first thing that a follower is told. The place from which changes
//! come is taken before, so that nothing is missed in between.

use std::time::Duration;

use axum::{
    Extension,
    body::{Bytes, to_bytes},
    extract::{FromRequestParts, RawPathParams, Request, ws::WebSocketUpgrade},
    http::{HeaderMap, Method, header, request::Parts},
    middleware::{self, Next},
    response::Response,
};
use projector::ReadModel;
use serde::Deserialize;
use service_kit::{Identity, Peer, Problem, openapi::text_parameter};
use tokio::time::{Instant, timeout};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        ContentBuilder, KnownFormat, ObjectBuilder, RefOr, Required, ResponseBuilder, SchemaFormat,
        Type,
        path::{Operation, Parameter, ParameterBuilder, ParameterIn},
    },
};
use utoipa_axum::router::UtoipaMethodRouter;

use super::{
    change::{Change, ChangesPage},
    event_stream::{self, EVENT_STREAM},
    follower::{Followed, Follower},
    interest::{Changes, Interest},
    limits::Slot,
    long_poll,
    place::Place,
    source::Otherwise,
    tail::Joined,
    web_socket,
};
use crate::{
    failure::unavailable,
    parameters, position,
    read_side::{Served, served},
    reader::Reads,
};

/// Makes the routes of queries followable.
pub trait Followable: Sized {
    /// Lets clients follow the model on this query's URL: with `Accept: text/event-stream`, as a
    /// WebSocket, or with the parameter `wait`. They are told which keys have changed; who may
    /// hear that is whom the query answers.
    ///
    /// # Panics
    /// If the query is not a GET, or its path does not have the parameter that is named.
    fn followed<M: ReadModel>(self, changes: Changes) -> Self;
}

impl Followable for UtoipaMethodRouter<Reads> {
    fn followed<M: ReadModel>(self, changes: Changes) -> Self {
        followed(self, served::<M>(), changes)
    }
}

pub(crate) fn followed(
    (mut schemas, mut paths, router): UtoipaMethodRouter<Reads>,
    model: Served,
    changes: Changes,
) -> UtoipaMethodRouter<Reads> {
    for (path, item) in &mut paths.paths {
        let operation = item.get.as_mut();
        let operation = operation.unwrap_or_else(|| panic!("{path} is no GET to be followed"));
        if let Changes::OfKey(name) = changes {
            let named = format!("{{{name}}}");
            assert!(path.contains(&named), "{path} has no parameter {name}");
        }
        describe(operation);
    }
    schemas.push((Change::name().into(), Change::schema()));
    schemas.push((ChangesPage::name().into(), ChangesPage::schema()));
    Change::schemas(&mut schemas);
    let layer = middleware::from_fn(
        move |Extension(reads): Extension<Reads>, request: Request, next: Next| {
            follow(reads, model, changes, request, next)
        },
    );
    (schemas, paths, router.layer(layer))
}

/// How somebody wants to follow.
enum Asked {
    EventStream,
    WebSocket(Box<WebSocketUpgrade>),
    LongPoll(Duration),
}

#[derive(Deserialize)]
struct Parameters {
    wait: Option<Wait>,
    since: Option<String>,
}

/// Seconds.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Wait(u64);

const MAX_WAIT_SECONDS: u64 = 60;
/// In place of a position: everything that there is.
const BEGINNING: &str = "beginning";
const LAST_EVENT_ID: &str = "last-event-id";
/// Longer states are left out.
const MAX_STATE_BYTES: usize = 1 << 20;
/// How long the tail may take to come up.
const JOINED_WITHIN: Duration = Duration::from_secs(5);

impl TryFrom<String> for Wait {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let seconds = text.parse().ok().filter(|it| *it <= MAX_WAIT_SECONDS);
        seconds
            .map(Self)
            .ok_or_else(|| format!("expected seconds, a number from 0 to {MAX_WAIT_SECONDS}"))
    }
}

async fn follow(
    reads: Reads,
    model: Served,
    changes: Changes,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    if request.method() != Method::GET {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let parameters: Parameters = parameters::parse(parts.uri.query().unwrap_or_default())?;
    let Some(asked) = asked(&mut parts, parameters.wait).await? else {
        if parameters.since.is_some() {
            let how = "is of use only to who follows: with `wait`, `Accept: text/event-stream` \
                       or as a WebSocket";
            return Err(Problem::invalid_field("since", how));
        }
        return Ok(next.run(Request::from_parts(parts, body)).await);
    };
    let caller = Identity::from_request_parts(&mut parts, &()).await?;
    let path = RawPathParams::from_request_parts(&mut parts, &()).await;
    let path = path.map_err(|_| crate::failure::malformed_path())?;
    let followed = Followed {
        interest: Interest::of(changes, &path, &caller.tenant)?,
        tenant: caller.tenant.clone(),
        reads,
        model,
    };
    let since = since(&followed, &parts.headers, parameters.since.as_deref()).await?;
    let address = parts.extensions.get::<Peer>().map(|peer| peer.0.ip());
    let begin = Begin {
        slot: followed.reads.limits().enter(&caller.tenant, address)?,
        expires: until(&caller),
        waits: position::is_named(&parts),
        followed,
        since,
    };
    let query = next.run(Request::from_parts(parts, body));
    let (follower, state) = match begin.follower(query).await? {
        Ok(begun) => begun,
        Err(refused) => return Ok(refused),
    };
    match asked {
        Asked::EventStream => Ok(event_stream::answer(follower, state)),
        Asked::WebSocket(upgrade) => Ok(web_socket::answer(*upgrade, follower, state)),
        Asked::LongPoll(wait) => long_poll::answer(follower, wait).await,
    }
}

async fn asked(parts: &mut Parts, wait: Option<Wait>) -> Result<Option<Asked>, Problem> {
    let upgrade = parts.headers.get(header::UPGRADE);
    if upgrade.is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"websocket")) {
        let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await;
        let upgrade = upgrade.map_err(|rejection| {
            Problem::new(
                rejection.status(),
                "upgrade-malformed",
                "This is no request for a WebSocket",
            )
            .detail(rejection.body_text())
        })?;
        return Ok(Some(Asked::WebSocket(Box::new(upgrade))));
    }
    if accepts_event_stream(&parts.headers) {
        return Ok(Some(Asked::EventStream));
    }
    Ok(wait.map(|wait| Asked::LongPoll(Duration::from_secs(wait.0))))
}

fn accepts_event_stream(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT);
    let accepted = accepted.iter().filter_map(|value| value.to_str().ok());
    let mut ranges = accepted.flat_map(|value| value.split(','));
    ranges.any(|range| {
        let name = range.split(';').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case(EVENT_STREAM)
    })
}

/// Where to go on: what the browser says, which is newer, or what the URL says. It may be beyond
/// what can be seen, but not beyond the log: who begins there would hear nothing of what comes.
async fn since(
    followed: &Followed,
    headers: &HeaderMap,
    parameter: Option<&str>,
) -> Result<Option<(Place, Otherwise)>, Problem> {
    let last = headers.get(LAST_EVENT_ID).map(|it| it.to_str());
    let text = match last {
        Some(Ok("")) | None => parameter,
        Some(Ok(last)) => Some(last),
        Some(Err(_)) => return Err(position::malformed()),
    };
    let Some(text) = text else {
        return Ok(None);
    };
    if text == BEGINNING {
        return Ok(Some((Place::default(), Otherwise::AtTheStart)));
    }
    let place = Place::decode(text).map_err(|_| position::malformed())?;
    let Followed {
        reads,
        model,
        tenant,
        ..
    } = followed;
    let marks = reads.check(*model, tenant, &position::marks_in(text)?)?;
    reads.refuse_beyond(*model, &marks, Instant::now()).await?;
    Ok(Some((place, Otherwise::Now)))
}

/// Everything that is needed to begin.
struct Begin {
    followed: Followed,
    since: Option<(Place, Otherwise)>,
    slot: Slot,
    expires: Instant,
    /// The query waits for a position first, for seconds perhaps.
    waits: bool,
}

impl Begin {
    /// The follower and what it is told first, or what the query has answered instead.
    async fn follower(
        self,
        query: impl Future<Output = Response>,
    ) -> Result<Result<(Follower, Option<Bytes>), Response>, Problem> {
        let Self {
            followed,
            since,
            slot,
            expires,
            waits,
        } = self;
        // Thousands may come back at once. Who waits must not keep them from it.
        let reads = followed.reads.clone();
        let _turn = match waits {
            true => None,
            false => Some(reads.turn_to_start().await),
        };
        if let Some((place, otherwise)) = since {
            let answer = query.await;
            if !answer.status().is_success() {
                return Ok(Err(answer));
            }
            let follower = Follower::behind(followed, place, otherwise, slot, expires).await?;
            return Ok(Ok((follower, None)));
        }
        let joined = joined(&followed).await?;
        let answer = query.await;
        if !answer.status().is_success() {
            return Ok(Err(answer));
        }
        let state = to_bytes(answer.into_body(), MAX_STATE_BYTES).await.ok();
        let follower = Follower::at_the_tail(followed, joined, slot, expires);
        Ok(Ok((follower, state)))
    }
}

async fn joined(followed: &Followed) -> Result<Joined, Problem> {
    match timeout(JOINED_WITHIN, followed.join(Place::default())).await {
        Ok(Ok(joined)) => Ok(joined),
        Ok(Err(_)) => Err(unavailable("the service is stopping")),
        Err(_elapsed) => Err(unavailable("the changes cannot be read")),
    }
}

/// When the caller's token is over.
fn until(caller: &Identity) -> Instant {
    let now = std::time::SystemTime::now();
    let expires: std::time::SystemTime = caller.expires_at.into();
    let left = expires.duration_since(now).unwrap_or_default();
    // A clock of the far future is no reason to panic.
    Instant::now() + left.min(Duration::from_secs(365 * 24 * 3600))
}

fn describe(operation: &mut Operation) {
    let wait = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int32)))
        .minimum(Some(0))
        .maximum(Some(MAX_WAIT_SECONDS));
    let wait: Parameter = ParameterBuilder::new()
        .name("wait")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(
            "Long-poll: answer with what has changed after `since` instead, or nothing after so \
             many seconds",
        ))
        .schema(Some(wait))
        .build();
    let since = text_parameter(
        "since",
        ParameterIn::Query,
        "For who follows: a position, from which to go on, or `beginning`",
    );
    let last = text_parameter(
        "Last-Event-ID",
        ParameterIn::Header,
        "The same, as browsers say it; it is newer",
    );
    let parameters = operation.parameters.get_or_insert_default();
    parameters.extend([wait, since, last].map(Into::into));

    let responses = &mut operation.responses.responses;
    if let Some(RefOr::T(answer)) = responses.get_mut("200") {
        let text = ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "Events `state`, `change` and `end`, whose `id` is the position after them",
            ))
            .build();
        let events = ContentBuilder::new().schema(Some(text)).build();
        answer.content.insert(EVENT_STREAM.into(), events.into());
        answer.description.push_str(
            ". With `wait`: ChangesPage. With `Accept: text/event-stream`: the same changes, live",
        );
    }
    for (status, description) in [
        (
            "101",
            "A WebSocket: messages {event, position, data}. Browsers give the token as a \
             subprotocol: `new WebSocket(url, [\"annals.changes\", \"annals.bearer.\" + token])`",
        ),
        ("410", "`position-too-old`: read anew"),
        (
            "429",
            "`too-many-followers`: of this tenant, or from this address",
        ),
    ] {
        responses
            .entry(status.into())
            .or_insert_with(|| ResponseBuilder::new().description(description).into());
    }
}
