//! What every request meets before and after its handler.

use std::io;

use axum::{
    Router,
    extract::FromRequestParts,
    http::request::Parts,
    routing::{get, post},
};
use serde::Deserialize;
use service_kit::{
    Problem, Readiness, TraceContext,
    extract::{Path, Query},
};

use crate::{problem, start};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn an_answer_names_the_trace_of_its_request() {
    let seen = get(async |trace: TraceContext| {
        assert_eq!(TraceContext::current(), Some(trace));
        trace.to_string()
    });
    let server = start(Router::new().route("/", seen)).await;
    let request = crate::client().get(server.url("/"));
    let answer = request
        .header("traceparent", TRACEPARENT)
        .send()
        .await
        .unwrap();
    let header = answer.headers()["traceparent"].to_str().unwrap().to_owned();
    assert_eq!(header[..36], TRACEPARENT[..36]);
    assert_eq!(answer.text().await.unwrap(), header);

    let request = crate::client().get(server.url("/"));
    let answer = request
        .header("traceparent", "nonsense")
        .send()
        .await
        .unwrap();
    let header = answer.headers()["traceparent"].to_str().unwrap();
    assert!(TraceContext::parse(header).is_some(), "{header}");
}

struct Panicking;

impl<S: Sync> FromRequestParts<S> for Panicking {
    type Rejection = Problem;

    async fn from_request_parts(_: &mut Parts, _: &S) -> Result<Self, Problem> {
        panic!("secret invariant broken")
    }
}

#[tokio::test]
async fn a_bug_answers_with_its_trace_and_nothing_else() {
    let failing = async || Problem::internal(&io::Error::other("secret detail"));
    let router = Router::new()
        .route("/fail", get(failing))
        .route("/panic", get(async |_: Panicking| "never"))
        .route("/fine", get(async || "fine"));
    let server = start(router).await;
    for path in ["/fail", "/panic"] {
        let answer = server.get(path).await;
        assert_eq!(answer.status(), 500);
        let header = answer.headers()["traceparent"].to_str().unwrap().to_owned();
        let problem = problem(answer).await;
        assert_eq!(problem["code"], "internal");
        assert_eq!(problem["trace_id"], header[3..35]);
        assert!(!problem.to_string().contains("secret"), "{problem}");
        assert_eq!(problem.as_object().unwrap().len(), 5, "{problem}");
    }
    assert_eq!(server.get("/fine").await.status(), 200);
}

#[tokio::test]
async fn unknown_routes_and_methods_are_problems() {
    let server = start(Router::new().route("/tasks", post(async || ""))).await;
    let answer = server.get("/elsewhere").await;
    assert_eq!(answer.status(), 404);
    assert_eq!(problem(answer).await["code"], "no-such-route");

    let answer = server.get("/tasks").await;
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.headers()["allow"], "POST");
    assert_eq!(problem(answer).await["code"], "method-not-allowed");
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[allow(dead_code)]
    size: Option<u8>,
}

#[tokio::test]
async fn parameters_that_do_not_parse_are_problems() {
    let router = Router::new()
        .route(
            "/tasks/{id}",
            get(async |Path(id): Path<u32>| id.to_string()),
        )
        .route("/tasks", get(async |_: Query<Page>| "page"));
    let server = start(router).await;
    assert_eq!(server.get("/tasks/7").await.text().await.unwrap(), "7");
    let answer = server.get("/tasks/seven").await;
    assert_eq!(answer.status(), 400);
    assert_eq!(problem(answer).await["code"], "invalid-path");
    assert_eq!(server.get("/tasks?size=7").await.status(), 200);
    for query in ["size=seven", "size=256", "sise=7"] {
        let answer = server.get(&format!("/tasks?{query}")).await;
        assert_eq!(answer.status(), 400, "{query}");
        assert_eq!(problem(answer).await["code"], "invalid-query");
    }
}

#[tokio::test]
async fn requests_are_counted_by_the_route_that_they_match() {
    let readiness = Readiness::new();
    let counted = async |Path(id): Path<u32>| id.to_string();
    let router = Router::new()
        .route("/counted/{id}", get(counted).post(counted))
        .merge(readiness.routes());
    let server = start(router).await;
    // Another status and another method on the same route are counted apart.
    server.get("/counted/none").await;
    let post = crate::client().post(server.url("/counted/1"));
    post.send().await.unwrap();
    for id in 0..3 {
        server.get(&format!("/counted/{id}")).await;
    }
    server.get("/counted/0/elsewhere").await;
    let metrics = server.get("/metrics").await.text().await.unwrap();
    let labels = r#"method="GET",path="/counted/{id}",status="200""#;
    for line in [
        format!("http_requests_total{{{labels}}} 3"),
        format!("http_request_duration_seconds_count{{{labels}}} 3"),
        format!("http_request_duration_seconds_bucket{{{labels},le=\"10\"}} 3"),
    ] {
        assert!(
            metrics.lines().any(|found| found == line),
            "{line} in\n{metrics}"
        );
    }
    assert!(!metrics.contains("elsewhere"), "{metrics}");
}

#[tokio::test]
async fn readiness_says_which_component_is_missing_and_why() {
    let readiness = Readiness::new();
    let kafka = readiness.component("kafka");
    let server = start(readiness.routes()).await;
    assert_eq!(server.get("/health/live").await.status(), 200);

    kafka.not_ready("connection refused");
    let answer = server.get("/health/ready").await;
    assert_eq!(answer.status(), 503);
    let report: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(report["ready"], false);
    assert_eq!(
        report["components"]["kafka"]["reason"],
        "connection refused"
    );
    assert!(report["components"]["kafka"]["since"].is_string());

    kafka.ready();
    let answer = server.get("/health/ready").await;
    assert_eq!(answer.status(), 200);
    let report: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(report["components"]["kafka"]["ready"], true);
}
