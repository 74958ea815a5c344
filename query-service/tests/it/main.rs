//! The query service over real HTTP on a real Postgres. Each test has a database and a service
//! of its own, and writes what the projector would write.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod admission;
mod board;
mod follower;
mod following;
mod history;
mod measure;
mod outage;
mod pages;
mod replica;
mod snapshots;
mod tenants;
mod waiting;

use std::{
    future::Future,
    net::SocketAddr,
    time::{Duration, Instant},
};

use event_log::{Position, PositionToken};
use kernel::{Actor, Tenant};
use query_service::{Config, POSITION, QueryService, served};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::Value;
use service_kit::{DevKey, Readiness, SecretUrl, TokenRequest};
use sqlx::PgPool;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_secs(3600);
/// A test that waits for longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running service, and what a test needs to play projector and client.
struct Running {
    postgres: PgPool,
    address: SocketAddr,
    readiness: Readiness,
    key: DevKey,
    client: reqwest::Client,
    shutdown: CancellationToken,
    stopped: JoinHandle<()>,
}

/// On a database with the platform's tables and an edition of the board.
async fn start() -> Running {
    start_with(|_| ()).await
}

async fn start_with(configure: impl FnOnce(&mut Config)) -> Running {
    let url = dev_stack::shared().await.fresh_database().await.unwrap();
    let postgres = PgPool::connect(&url).await.unwrap();
    projector::read_side::migrate(&postgres).await.unwrap();
    board::build(&postgres, 1).await;
    board::activate(&postgres, 1).await;
    postgres.close().await;
    let running = start_on(&url, configure).await;
    running.ready().await;
    running
}

/// On whatever is, or is not, at this address.
async fn start_on(url: &str, configure: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::new(SecretUrl::new(url));
    config.address = "127.0.0.1:0".into();
    // However busy this machine is.
    config.position_wait_ms = 60_000;
    config.statement_timeout_ms = 60_000;
    configure(&mut config);
    let key = DevKey::generate();
    let readiness = Readiness::new();
    let (models, queries) = (vec![served::<board::Board>()], vec![board::queries()]);
    let service = QueryService::bind(config, models, queries, key.verifier(), readiness.clone())
        .await
        .unwrap();
    // reqwest asks for a provider even where no TLS is spoken; the first call installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let shutdown = CancellationToken::new();
    Running {
        postgres: PgPool::connect_lazy(url).unwrap(),
        address: service.address(),
        readiness,
        key,
        client: reqwest::Client::builder().no_proxy().build().unwrap(),
        stopped: tokio::spawn(service.serve(shutdown.clone())),
        shutdown,
    }
}

impl Running {
    fn token(&self, user: &str, tenant: &str) -> String {
        self.token_for(user, tenant, HOUR)
    }

    /// Of somebody with every role.
    fn token_for(&self, user: &str, tenant: &str, ttl: Duration) -> String {
        let tenant = Tenant::parse(tenant).unwrap();
        let request = TokenRequest::new(Actor::User(user.into())).tenant(tenant);
        self.key.issue(&request.role("admin"), ttl)
    }

    fn request(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address))
    }

    async fn ready(&self) {
        timeout(PATIENCE, self.readiness.until_ready())
            .await
            .unwrap_or_else(|_| panic!("not ready: {:?}", self.readiness.report()));
    }

    async fn get_as(&self, tenant: &str, path: &str) -> Response {
        answered(self.request(path).bearer_auth(self.token("ada", tenant))).await
    }

    async fn get(&self, path: &str) -> Response {
        self.get_as("main", path).await
    }

    /// Where the read side may be away.
    async fn get_once(&self, path: &str) -> Response {
        let request = self.request(path).bearer_auth(self.token("ada", "main"));
        request.send().await.unwrap()
    }

    async fn get_json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        let status = response.status();
        let body = response.text().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// The read of a client that wants to see this offset of partition 0.
    fn get_waiting(
        &self,
        path: &str,
        offset: i64,
    ) -> impl Future<Output = Response> + Send + 'static {
        answered(self.waiting(path, offset))
    }

    fn waiting(&self, path: &str, offset: i64) -> RequestBuilder {
        self.request(path)
            .bearer_auth(self.token("ada", "main"))
            .header(POSITION.as_str(), token(board::TOPIC, 0, offset))
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.stopped.await.unwrap();
        self.postgres.close().await;
    }
}

/// The answer, to who comes again as long as there is no connection to Postgres: on a busy machine it
/// may take longer to make one than a read waits for it.
async fn answered(request: RequestBuilder) -> Response {
    let began = Instant::now();
    loop {
        let response = request.try_clone().unwrap().send().await.unwrap();
        if response.status() != StatusCode::SERVICE_UNAVAILABLE {
            return response;
        }
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        if !text.contains("read-side-unavailable") || began.elapsed() > PATIENCE {
            let mut whole = axum::http::Response::new(text);
            *whole.status_mut() = status;
            *whole.headers_mut() = headers;
            return whole.into();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn token(topic: &str, partition: i32, offset: i64) -> String {
    let position = Position {
        topic: topic.into(),
        partition,
        offset,
    };
    PositionToken::of(position, None).encode()
}

/// Of an event of this stream, in whatever partition.
fn token_of(stream: &str, partition: i32, offset: i64) -> String {
    let position = Position {
        topic: board::TOPIC.into(),
        partition,
        offset,
    };
    PositionToken::of(position, Some(stream.parse().unwrap())).encode()
}

/// Of the board's topic, which has two.
fn partition_of(stream: &str) -> i32 {
    event_log::router::partition_of(&stream.parse().unwrap(), 2)
}

/// The problem that was answered, once it is clear that it is this one.
async fn problem(response: Response, status: u16, code: &str) -> Value {
    let answered = response.status();
    let headers = response.headers().clone();
    let text = response.text().await.unwrap();
    assert_eq!(answered.as_u16(), status, "{text}");
    assert_eq!(
        headers["content-type"], "application/problem+json",
        "{text}"
    );
    if status == 503 {
        assert!(headers.contains_key("retry-after"), "{text}");
    }
    let body: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(body["code"], code, "{text}");
    body
}

fn titles(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|it| it["title"].as_str().unwrap())
        .collect()
}

/// Asks until it is so.
async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let asking = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, asking)
        .await
        .unwrap_or_else(|_| panic!("gave up waiting until {what}"));
}
