//! Request bodies over the wire: sizes, types and slow clients.

use axum::{Router, routing::post};
use serde::Deserialize;
use service_kit::{
    Json,
    json::{DEFAULT_BODY_LIMIT, body_limit},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{Running, client, problem, start};

#[derive(Deserialize)]
struct NewTask {
    title: String,
}

async fn tasks() -> Running {
    let create =
        async |body: Json<NewTask>| format!("{}/{}", body.value.title.len(), body.raw.len());
    let small = post(create).layer(body_limit(64));
    let large = post(create).layer(body_limit(2 * DEFAULT_BODY_LIMIT));
    let text = post(async |text: String| text.len().to_string());
    let router = Router::new()
        .route("/tasks", post(create))
        .route("/small", small)
        .route("/large", large)
        .route("/text", text);
    start(router).await
}

fn body_of(bytes: usize) -> String {
    let frame = r#"{"title":""}"#.len();
    format!(r#"{{"title":"{}"}}"#, "x".repeat(bytes - frame))
}

impl Running {
    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Response {
        let request = client().post(self.url(path)).body(body);
        let request = request.header("content-type", "application/json; charset=utf-8");
        request.send().await.unwrap()
    }
}

#[tokio::test]
async fn a_body_is_given_parsed_and_as_it_came() {
    let server = tasks().await;
    let answer = server.post("/tasks", "  {\"title\": \"feed\"}\n").await;
    assert_eq!(answer.text().await.unwrap(), "4/20");
}

#[tokio::test]
async fn a_body_up_to_the_limit_is_accepted_and_one_over_it_is_not() {
    let server = tasks().await;
    for (path, limit) in [
        ("/tasks", DEFAULT_BODY_LIMIT),
        ("/small", 64),
        ("/large", 2 * DEFAULT_BODY_LIMIT),
    ] {
        let answer = server.post(path, body_of(limit)).await;
        assert_eq!(answer.status(), 200, "{path}");
        for size in [limit + 1, limit + 1_000_000, limit + 7_000_000] {
            let answer = server.post(path, body_of(size)).await;
            assert_eq!(answer.status(), 413, "{path} {size}");
            let problem = problem(answer).await;
            assert_eq!(problem["code"], "too-large");
            assert_eq!(problem["limit"], limit);
        }
    }
    let answer = server
        .post("/text", "x".repeat(DEFAULT_BODY_LIMIT + 1))
        .await;
    assert_eq!(answer.status(), 413);
}

/// A client that sends all of it before it looks for an answer, as many do.
async fn send_then_read(server: &Running, head: &str, body: &[u8]) -> String {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = format!(
        "POST /tasks HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
         content-type: application/json\r\n{head}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn a_client_that_sends_too_much_gets_to_see_the_answer() {
    let server = tasks().await;
    let body = body_of(7_000_000);
    let head = format!("content-length: {}", body.len());
    let answer = send_then_read(&server, &head, body.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");

    // The same without announcing the length.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let body = chunk.repeat(100) + "0\r\n\r\n";
    let head = "transfer-encoding: chunked";
    let answer = send_then_read(&server, head, body.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
}

#[tokio::test]
async fn a_client_that_asks_first_need_not_send_what_is_too_large() {
    let server = tasks().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /tasks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                expect: 100-continue\r\ncontent-length: 1000000\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_body_that_is_not_called_json_is_refused() {
    let server = tasks().await;
    for content_type in [
        None,
        Some("text/plain"),
        Some("application/jsonp"),
        Some(""),
    ] {
        let mut request = client().post(server.url("/tasks")).body(r#"{"title":"t"}"#);
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 415, "{content_type:?}");
        assert_eq!(problem(answer).await["code"], "unsupported-media-type");
    }
    let request = client().post(server.url("/tasks")).body(r#"{"title":"t"}"#);
    let request = request.header("content-type", "application/merge-patch+json");
    assert_eq!(request.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn malformed_and_invalid_bodies_are_told_apart() {
    let server = tasks().await;
    for (body, status, code) in [
        ("{", 400, "malformed-json"),
        ("", 400, "malformed-json"),
        ("{}", 422, "invalid-field"),
        (r#"{"title":1}"#, 422, "invalid-field"),
        (r#"{"title":"t","more":1}"#, 422, "invalid-field"),
    ] {
        let answer = server.post("/tasks", body).await;
        assert_eq!(answer.status(), status, "{body}");
        assert_eq!(problem(answer).await["code"], code, "{body}");
    }
}
