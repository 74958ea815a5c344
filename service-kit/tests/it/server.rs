//! How a server begins and ends.

use std::{sync::Arc, time::Duration};

use axum::{Router, routing::get};
use service_kit::{Server, serve::BindError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
};

use crate::{start, start_with};

/// A test that waits for longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn an_address_in_use_is_named_on_one_line() {
    let first = Server::bind("127.0.0.1:0").await.unwrap();
    let address = first.address().to_string();
    let error = Server::bind(&address).await.unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }));
    let message = error.to_string();
    assert!(
        message.contains(&address) && !message.contains('\n'),
        "{message}"
    );

    let error = Server::bind("no address").await.unwrap_err().to_string();
    assert!(
        error.contains("no address") && !error.contains('\n'),
        "{error}"
    );
}

/// A route that says when it was reached and answers when it is let go.
fn held() -> (Router, Arc<Semaphore>, Arc<Semaphore>) {
    let (reached, let_go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (signal, wait) = (reached.clone(), let_go.clone());
    let handler = async move || {
        signal.add_permits(1);
        wait.acquire().await.unwrap().forget();
        "done"
    };
    (Router::new().route("/", get(handler)), reached, let_go)
}

#[tokio::test]
async fn requests_under_way_are_answered_before_the_server_stops() {
    let (router, reached, let_go) = held();
    let server = start(router).await;
    let request = tokio::spawn(crate::client().get(server.url("/")).send());
    reached.acquire().await.unwrap().forget();
    server.shutdown.cancel();
    // No new connections any more, which is how we know that it has begun to stop.
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!server.stopped.is_finished());
    let_go.add_permits(1);
    let answer = request.await.unwrap().unwrap();
    assert_eq!(answer.text().await.unwrap(), "done");
    server.stopped.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_the_server_up() {
    let router = Router::new().route("/", get(async || "fine"));
    // Far longer than a test waits.
    let server = start_with(router, |server| server.drain(Duration::from_secs(3600))).await;
    let client = crate::client();
    client.get(server.url("/")).send().await.unwrap();
    let _silent = TcpStream::connect(server.address).await.unwrap();
    server.shutdown.cancel();
    let stopped = tokio::time::timeout(PATIENCE, server.stopped).await;
    stopped.expect("idle connections end at once").unwrap();
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_cut_off() {
    let (router, reached, _let_go) = held();
    let server = start_with(router, |server| server.drain(Duration::from_millis(50))).await;
    let request = tokio::spawn(crate::client().get(server.url("/")).send());
    reached.acquire().await.unwrap().forget();
    server.shutdown.cancel();
    server.stopped.await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, request).await;
    let answer = answer.expect("the connection is closed, not left open");
    assert!(answer.unwrap().is_err());
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let server = start(Router::new().route("/", get(async || "fine"))).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"fine") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
    }
}
