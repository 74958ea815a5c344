//! The kit over real HTTP: each test starts a server of its own on a free port.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bodies;
mod boundary;
mod server;
mod tokens;

use std::net::SocketAddr;

use axum::Router;
use reqwest::Response;
use serde_json::Value;
use service_kit::Server;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Running {
    address: SocketAddr,
    shutdown: CancellationToken,
    stopped: JoinHandle<()>,
}

async fn start(router: Router) -> Running {
    start_with(router, |server| server).await
}

async fn start_with(router: Router, configure: impl FnOnce(Server) -> Server) -> Running {
    let server = configure(Server::bind("127.0.0.1:0").await.unwrap());
    let address = server.address();
    let shutdown = CancellationToken::new();
    let stopped = tokio::spawn(server.serve(router, shutdown.clone()));
    Running {
        address,
        shutdown,
        stopped,
    }
}

impl Running {
    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> Response {
        client().get(self.url(path)).send().await.unwrap()
    }
}

fn client() -> reqwest::Client {
    // reqwest asks for a provider even where no TLS is spoken; the first call installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// The problem that was answered, once it is clear that it is one.
#[track_caller]
fn problem(response: Response) -> impl Future<Output = Value> {
    let status = response.status();
    let content_type = response.headers()["content-type"].clone();
    async move {
        assert_eq!(content_type, "application/problem+json");
        let body: Value = response.json().await.unwrap();
        assert_eq!(body["status"], status.as_u16());
        let code = body["code"].as_str().unwrap();
        assert_eq!(body["type"], format!("urn:annals:problem:{code}"));
        body
    }
}
