//! What clients and other nodes see over HTTP that only a context of a test brings about.

use std::time::Duration;

use axum::{extract::Path, routing::post};
use chrono::{DateTime, Utc};
use command_service::{Accepted, CommandRequest, CommandServer, Commands};
use kernel::Actor;
use reqwest::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use service_kit::{DevKey, Problem, Readiness, TokenRequest};
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::world::{Add, BUG, Counter, generation, service};

#[derive(Deserialize)]
struct AddBody {
    by: i32,
}

async fn add(
    commands: Commands,
    Path(id): Path<String>,
    request: CommandRequest<AddBody>,
) -> Result<Accepted, Problem> {
    let command = Add(request.body.by);
    commands.send::<Counter>(&id, command, &request).await
}

struct Http {
    client: reqwest::Client,
    key: DevKey,
    url: String,
}

impl Http {
    /// A node that remembers two commands. It ends with the test.
    async fn start() -> Self {
        let mut service = service(dev_stack::shared().await, generation()).await;
        service.config.address = "127.0.0.1:0".into();
        service.config.remembered_commands = 2;
        let key = DevKey::generate();
        let readiness = Readiness::new();
        let routes = OpenApiRouter::new().route("/v1/counters/{id}/add", post(add));
        let bound = CommandServer::bind(
            service,
            vec![routes],
            key.verifier(),
            readiness.clone(),
            CancellationToken::new(),
        );
        let server = bound.await.unwrap();
        let url = format!("http://{}/v1/counters", server.address());
        tokio::spawn(server.serve());
        readiness.until_ready().await;
        Self {
            client: reqwest::Client::new(),
            key,
            url,
        }
    }

    async fn add(&self, stream: &str, key: &str, by: i32) -> Response {
        self.send(stream, key, by, Actor::User("ada".into()), &[])
            .await
    }

    async fn send(
        &self,
        stream: &str,
        key: &str,
        by: i32,
        actor: Actor,
        headers: &[(&str, &str)],
    ) -> Response {
        let token = TokenRequest::new(actor);
        let token = self.key.issue(&token, Duration::from_secs(600));
        let mut request = self
            .client
            .post(format!("{}/{stream}/add", self.url))
            .bearer_auth(token)
            .header("idempotency-key", key)
            .header("content-type", "application/json")
            .body(json!({ "by": by }).to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await.unwrap()
    }
}

async fn problem(response: Response, status: u16, code: &str) -> Value {
    let found = response.status();
    let body: Value = serde_json::from_str(&response.text().await.unwrap()).unwrap();
    assert_eq!(
        (found.as_u16(), &body["code"]),
        (status, &json!(code)),
        "{body}"
    );
    body
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decider_that_panics_is_told_by_trace_id_and_stops_its_stream() {
    let http = Http::start().await;
    assert_eq!(http.add("a", "1", 1).await.status(), 200);
    let bug = problem(http.add("a", "2", BUG).await, 500, "internal").await;
    assert!(
        bug["trace_id"].as_str().is_some_and(|id| id.len() == 32),
        "{bug}"
    );
    assert!(!bug.to_string().contains("asked to"), "{bug}");
    problem(http.add("a", "3", 1).await, 409, "stream-stopped").await;
    // What was answered stays so, and its neighbours are served.
    assert_eq!(http.add("a", "1", 1).await.status(), 200);
    assert_eq!(http.add("b", "1", 1).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_was_issued_before_the_window_is_refused() {
    let http = Http::start().await;
    let issued: DateTime<Utc> = std::time::SystemTime::now().into();
    let issued = issued.to_rfc3339();
    let ada = || Actor::User("ada".into());
    let headers = [("annals-issued-at", issued.as_str())];
    let first = http.send("a", "1", 1, ada(), &headers).await;
    assert_eq!(first.status(), 200);
    let again = http.send("a", "1", 1, ada(), &headers).await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    for key in ["2", "3"] {
        assert_eq!(http.add("a", key, 1).await.status(), 200);
    }
    let passed = http.send("a", "1", 1, ada(), &headers).await;
    let passed = problem(passed, 409, "window-passed").await;
    assert!(passed["forgotten_until"].is_string(), "{passed}");
    let malformed = [("annals-issued-at", "yesterday")];
    let malformed = http.send("a", "4", 1, ada(), &malformed).await;
    problem(malformed, 400, "issued-at-malformed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn services_may_have_their_rejections_recorded() {
    let http = Http::start().await;
    let record = [("annals-record-answer", "true")];
    let billing = || Actor::Service("billing".into());
    let rejected = http.send("a", "1", 101, billing(), &record).await;
    let first = problem(rejected, 409, "full").await;
    assert_eq!(http.add("a", "2", -50).await.status(), 200);
    let again = http.send("a", "1", 101, billing(), &record).await;
    let again = problem(again, 409, "full").await;
    assert_eq!(again["detail"], first["detail"]);
    let unrecorded = http.send("a", "3", 101, billing(), &[]).await;
    assert_eq!(unrecorded.status(), 200, "the state has changed");

    let ada = Actor::User("ada".into());
    let person = http.send("a", "4", 1, ada, &record).await;
    problem(person, 403, "service-required").await;
    let malformed = [("annals-record-answer", "yes")];
    let malformed = http.send("a", "5", 1, billing(), &malformed).await;
    problem(malformed, 400, "record-answer-malformed").await;
}
