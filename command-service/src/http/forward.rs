//! Requests for shards that other nodes serve: sent on to them as they came.
//!
//! A handler need not know. When the shard that it asks is elsewhere, the handler's answer is
//! dropped and the request goes to the owner; while nobody is the owner, it waits. Whoever gets a
//! request that was sent on and is not the owner answers 421 with a hint and does not send it on.

use std::{
    cell::Cell,
    convert::Infallible,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::{Body, HttpBody},
    extract::Request,
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, Version, header, request::Parts,
        uri::PathAndQuery,
    },
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures::future::{BoxFuture, Either, FutureExt};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use service_kit::{Problem, TraceContext, trace::TRACEPARENT};
use tokio::time::{Instant, sleep, sleep_until};
use tower::{Layer, Service};

use crate::{
    commands::{Commands, Shards},
    directory::Owner,
    shard::ShardStatus,
};

/// Marks a request that another node has sent on; its value is that node's address.
const FORWARDED: HeaderName = HeaderName::from_static("annals-forwarded-by");
/// The hint of a 421: the owner's address and term.
const OWNER: HeaderName = HeaderName::from_static("annals-owner");

/// About one connection between two nodes, not about the request (RFC 9110, section 7.6.1).
const OF_ONE_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
];

const CONNECT_WITHIN: Duration = Duration::from_millis(500);
/// How soon a connection to a node that stands still is noticed.
const PING_EVERY: Duration = Duration::from_secs(1);
const PONG_WITHIN: Duration = Duration::from_secs(2);
/// Before an owner that cannot be reached is tried again.
const PAUSE: Duration = Duration::from_millis(50);

tokio::task_local! {
    /// Which shard the request under way was for, if that is not served here.
    static NEEDED: Cell<Option<i32>>;
}

/// Says that the request under way is for a shard that is not served here.
pub(crate) fn needed(shard: i32) {
    // Without HTTP, whoever asks is told by the error alone.
    let _ = NEEDED.try_with(|needed| needed.set(Some(shard)));
}

/// For `Router::layer`, around the routes of commands.
#[derive(Clone)]
pub(crate) struct ForwardLayer(Forwarder);

#[derive(Clone)]
pub(crate) struct Forwarding<S> {
    inner: S,
    forwarder: Forwarder,
}

#[derive(Clone)]
pub(crate) struct Forwarder {
    commands: Commands,
}

/// Keeps one connection to each node.
pub(crate) type NodeClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn client() -> NodeClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_WITHIN));
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_only(true)
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PONG_WITHIN)
        .build(connector)
}

/// The shard that was asked just now and is not served here, if that is why there is no answer.
/// Whoever takes this finds the answer in another way, and the request is not sent on.
pub(crate) fn take_needed() -> Option<i32> {
    NEEDED.try_with(Cell::take).ok().flatten()
}

impl ForwardLayer {
    pub fn new(commands: Commands) -> Self {
        Self(Forwarder { commands })
    }
}

impl<S> Layer<S> for ForwardLayer {
    type Service = Forwarding<S>;

    fn layer(&self, inner: S) -> Forwarding<S> {
        Forwarding {
            inner,
            forwarder: self.0.clone(),
        }
    }
}

impl<S> Service<Request> for Forwarding<S>
where
    S: Service<Request, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Either<S::Future, BoxFuture<'static, Result<Response, Infallible>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        // HTTP/2 names the host within the URI. What a command is must not depend on it.
        if request.uri().authority().is_some() {
            let path = request.uri().path_and_query().cloned();
            *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
        }
        if self.forwarder.shards().group.is_settled() {
            return Either::Left(self.inner.call(request));
        }
        let other = self.inner.clone();
        let ready = std::mem::replace(&mut self.inner, other);
        let forwarder = self.forwarder.clone();
        Either::Right(async move { Ok(forwarder.handle(ready, request).await) }.boxed())
    }
}

impl Forwarder {
    pub fn new(commands: Commands) -> Self {
        Self { commands }
    }

    /// The answer of this shard's owner to a `GET` of this path, by whoever sent these headers;
    /// `None` when this node is the owner, or nobody.
    pub async fn get(&self, shard: i32, path: &str, headers: &HeaderMap) -> Option<Response> {
        let request = axum::http::Request::builder().uri(path).body(()).ok()?;
        let (mut head, ()) = request.into_parts();
        head.headers = headers.clone();
        let kept = Kept {
            head,
            body: Arc::default(),
        };
        let deadline = Instant::now() + self.shards().answer_within;
        match self.find(shard, &kept, deadline).await {
            Found::There(response) => Some(response),
            Found::Here | Found::Nowhere => None,
        }
    }

    async fn handle<S>(&self, mut service: S, request: Request) -> Response
    where
        S: Service<Request, Response = Response, Error = Infallible>,
    {
        let deadline = Instant::now() + self.shards().answer_within;
        let (head, body) = request.into_parts();
        let kept = Kept {
            head: head.clone(),
            body: Arc::default(),
        };
        let mut request = Request::from_parts(head, kept.keep(body));
        loop {
            let answered = async {
                let Ok(response) = service.call(request).await;
                (response, NEEDED.with(Cell::get))
            };
            let needed = Cell::new(None);
            let (response, needed) = NEEDED.scope(needed, answered).await;
            let Some(shard) = needed else {
                return response;
            };
            if kept.head.headers.contains_key(FORWARDED) {
                return self.misdirected(shard);
            }
            match self.find(shard, &kept, deadline).await {
                Found::Here => request = kept.again(),
                Found::There(response) => return response,
                // The handler's own answer: 503 with Retry-After.
                Found::Nowhere => return response,
            }
        }
    }

    /// Asks whoever owns the shard, and waits while nobody does.
    async fn find(&self, shard: i32, kept: &Kept, deadline: Instant) -> Found {
        let patience = Instant::now() + self.shards().hand_over_wait;
        let give_up_at = patience.min(deadline);
        let mut misled: Option<Owner> = None;
        let mut hint = None;
        loop {
            if self.serves(shard) {
                return Found::Here;
            }
            let known = self.shards().directory.owner(shard);
            let owner = newer(hint.take(), known.clone())
                .or_else(|| self.planned(shard))
                .filter(|owner| owner.node != self.shards().group.address())
                .filter(|owner| misled.as_ref().is_none_or(|by| owner.term > by.term));
            let Some(owner) = owner else {
                tokio::select! {
                    () = self.here(shard) => continue,
                    () = self.shards().directory.changed(shard, known.as_ref()) => continue,
                    () = sleep_until(give_up_at) => return Found::Nowhere,
                }
            };
            let answer = tokio::select! {
                answer = self.ask(&owner, kept) => answer,
                // It has been deposed; its answer may never come.
                () = self.shards().directory.changed(shard, known.as_ref()) => continue,
                () = sleep_until(deadline) => return Found::Nowhere,
            };
            match answer {
                Ok(response) if response.status() != StatusCode::MISDIRECTED_REQUEST => {
                    return Found::There(response);
                }
                Ok(response) => {
                    hint = hint_in(response.headers());
                    misled = Some(owner);
                }
                Err(error) if Instant::now() < give_up_at => {
                    tracing::debug!(%error, node = owner.node, "a node cannot be reached");
                    sleep(PAUSE).await;
                }
                Err(_) => return Found::Nowhere,
            }
        }
    }

    /// Where nothing is known yet: the node that is to serve the shard.
    fn planned(&self, shard: i32) -> Option<Owner> {
        let node = self.shards().group.node_of(shard)?;
        Some(Owner { node, term: 0 })
    }

    async fn ask(
        &self,
        owner: &Owner,
        kept: &Kept,
    ) -> Result<Response, hyper_util::client::legacy::Error> {
        let request = kept.onward(&owner.node, self.shards().group.address());
        let response = self.shards().client.request(request).await?;
        metrics::counter!("annals_forwarded_requests_total").increment(1);
        let (mut head, body) = response.into_parts();
        remove_hop_headers(&mut head.headers);
        head.version = Version::HTTP_11;
        Ok(Response::from_parts(head, Body::new(body)))
    }

    fn misdirected(&self, shard: i32) -> Response {
        let problem = Problem::new(
            StatusCode::MISDIRECTED_REQUEST,
            "misdirected",
            "Another node serves this stream",
        );
        match self.shards().directory.owner(shard) {
            Some(Owner { node, term }) => match HeaderValue::try_from(format!("{node} {term}")) {
                Ok(hint) => problem.header(OWNER, hint),
                Err(_) => problem,
            },
            None => problem,
        }
        .into_response()
    }

    fn serves(&self, shard: i32) -> bool {
        let status = &self.shards().shards[shard as usize].status;
        status.borrow().is_here()
    }

    async fn here(&self, shard: i32) {
        let mut status = self.shards().shards[shard as usize].status.clone();
        if status.wait_for(ShardStatus::is_here).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn shards(&self) -> &Shards {
        self.commands.shards()
    }
}

enum Found {
    /// This node has become the owner.
    Here,
    There(Response),
    /// Not within the time that a request waits.
    Nowhere,
}

/// A request, to be sent again. Its body is what the handler has read of it: a handler that asks
/// a shard has read it whole.
struct Kept {
    head: Parts,
    body: Arc<Mutex<Vec<Bytes>>>,
}

impl Kept {
    /// The body, of which every part is kept as it is read.
    fn keep(&self, body: Body) -> Body {
        if body.is_end_stream() {
            return body;
        }
        let kept = self.body.clone();
        Body::new(body.map_frame(move |frame| {
            if let Some(data) = frame.data_ref() {
                lock(&kept).push(data.clone());
            }
            frame
        }))
    }

    fn again(&self) -> Request {
        Request::from_parts(self.head.clone(), Body::from(self.body()))
    }

    fn onward(&self, to: &str, from: &str) -> axum::http::Request<Full<Bytes>> {
        let path = self.head.uri.path_and_query();
        let path = path.map_or("/", PathAndQuery::as_str);
        let mut request = axum::http::Request::new(Full::new(self.body()));
        *request.method_mut() = self.head.method.clone();
        // An address that is none ends as a node that cannot be reached.
        *request.uri_mut() = format!("http://{to}{path}").parse().unwrap_or_default();
        let headers = request.headers_mut();
        *headers = self.head.headers.clone();
        remove_hop_headers(headers);
        // The body's length is known anew.
        headers.remove(header::CONTENT_LENGTH);
        headers.remove(header::EXPECT);
        if let Some(trace) = TraceContext::current() {
            headers.insert(TRACEPARENT, trace.header_value());
        }
        if let Ok(from) = HeaderValue::from_str(from) {
            headers.insert(FORWARDED, from);
        }
        request
    }

    fn body(&self) -> Bytes {
        let mut parts = lock(&self.body);
        if parts.len() > 1 {
            let whole = parts.concat().into();
            *parts = vec![whole];
        }
        parts.first().cloned().unwrap_or_default()
    }
}

fn lock(kept: &Mutex<Vec<Bytes>>) -> MutexGuard<'_, Vec<Bytes>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

fn remove_hop_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in OF_ONE_HOP.iter().chain(&named) {
        headers.remove(name);
    }
}

fn newer(one: Option<Owner>, other: Option<Owner>) -> Option<Owner> {
    [one, other].into_iter().flatten().max_by_key(|it| it.term)
}

fn hint_in(headers: &HeaderMap) -> Option<Owner> {
    let (node, term) = headers.get(OWNER)?.to_str().ok()?.split_once(' ')?;
    Some(Owner {
        node: node.to_owned(),
        term: term.parse().ok()?,
    })
}
