//! Figures, not verdicts:
//! `cargo test --release -p query-service --test it -- --ignored --nocapture measure`

#![allow(clippy::print_stdout, reason = "the figures are what it is for")]

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{Json, Router, extract::State, routing::get};
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{Running, board, start, token};

const LASTS: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; takes a minute"]
async fn a_trivial_query_beside_a_bare_handler() {
    let running = start().await;
    board::project(&running.postgres, 1, &[(1, "feed the parrot")]).await;
    board::tell(&running.postgres, 1).await;
    let bare = bare_handler(&running).await;
    let plain = head(&running, "/v1/tasks/1", "");
    let position = format!("annals-position: {}\r\n", token(board::TOPIC, 0, 0));
    let positioned = head(&running, "/v1/tasks/1", &position);
    for connections in [1, 16, 64] {
        let limit = load(bare, &plain, connections).await;
        report("bare handler", connections, &limit, &limit);
        for (name, head) in [("query", &plain), ("query with position", &positioned)] {
            let ours = load(running.address, head, connections).await;
            report(name, connections, &ours, &limit);
        }
    }
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; takes some seconds"]
async fn from_the_commit_to_the_waiting_answer() {
    let running = start().await;
    let mut client = Client::connect(running.address).await;
    let mut delays = Vec::new();
    for offset in 0..1_000 {
        let position = format!("annals-position: {}\r\n", token(board::TOPIC, 0, offset));
        let head = head(&running, "/v1/tasks/1", &position);
        let read = tokio::spawn(async move {
            client.ask(&head, "404").await;
            (client, Instant::now())
        });
        tokio::time::sleep(Duration::from_millis(3)).await;
        assert!(!read.is_finished());
        board::project(&running.postgres, offset + 1, &[]).await;
        let committed = Instant::now();
        board::tell(&running.postgres, offset + 1).await;
        let (same, answered) = read.await.unwrap();
        client = same;
        delays.push(answered.saturating_duration_since(committed));
    }
    println!("from the commit to the answer: {}", quantiles(&delays));
    running.stop().await;
}

/// axum and sqlx, one statement, no token, no transaction.
async fn bare_handler(running: &Running) -> SocketAddr {
    let options = running.postgres.connect_options();
    let postgres = PgPoolOptions::new()
        .max_connections(16)
        .test_before_acquire(false)
        .connect_with((*options).clone())
        .await
        .unwrap();
    let show = async |State(postgres): State<PgPool>| {
        let (id, title, done): (i32, String, bool) = sqlx::query_as(
            "select id, title, done from rm_test_board_e1.tasks where tenant = $1 and id = $2",
        )
        .bind("main")
        .bind(1)
        .fetch_one(&postgres)
        .await
        .unwrap();
        Json(serde_json::json!({"id": id, "title": title, "done": done}))
    };
    let router = Router::new()
        .route("/v1/tasks/1", get(show))
        .with_state(postgres);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn head(running: &Running, path: &str, more: &str) -> String {
    let token = running.token("ada", "main");
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{more}\r\n")
}

async fn load(address: SocketAddr, head: &str, connections: usize) -> Vec<Duration> {
    let mut clients = JoinSet::new();
    let end = Instant::now() + LASTS;
    for _ in 0..connections {
        let head = head.to_owned();
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut took = Vec::new();
            while Instant::now() < end {
                let asked = Instant::now();
                client.ask(&head, "200").await;
                took.push(asked.elapsed());
            }
            took
        });
    }
    clients.join_all().await.into_iter().flatten().collect()
}

fn report(name: &str, connections: usize, took: &[Duration], limit: &[Duration]) {
    println!(
        "{name}, {connections} connections: {:.0}/s, {}, ratio {:.2}",
        took.len() as f64 / LASTS.as_secs_f64(),
        quantiles(took),
        took.len() as f64 / limit.len() as f64
    );
}

fn quantiles(took: &[Duration]) -> String {
    let mut sorted = took.to_vec();
    sorted.sort();
    let at = |share: f64| sorted[(share * (sorted.len() - 1) as f64) as usize];
    format!(
        "p50 {:?}, p99 {:?}, p99.9 {:?}",
        at(0.5),
        at(0.99),
        at(0.999)
    )
}

/// Costs next to nothing, since it runs on the same cores as what it measures.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: Vec::with_capacity(4096),
        }
    }

    /// Sends the request and reads the answer, which must have this status.
    async fn ask(&mut self, head: &str, status: &str) {
        self.stream.write_all(head.as_bytes()).await.unwrap();
        self.buffer.clear();
        while !is_whole(&self.buffer) {
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert_ne!(read, 0, "the server closed the connection");
        }
        let answer = std::str::from_utf8(&self.buffer).unwrap();
        assert_eq!(answer.split(' ').nth(1), Some(status), "{answer}");
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(answer) else {
        return false;
    };
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .expect("the answer has a length");
    body.len() >= length.parse().unwrap()
}
