//! Postgres away: the registry says so, does not die, and goes on by itself.

use std::net::SocketAddr;

use serde_json::json;
use service_kit::SecretUrl;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::running::{new_database, starting_on};

/// A way to Postgres that can be cut: connections are closed, and new ones too, as long as it is.
struct Way {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Way {
    async fn to(postgres: String, open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = watch::Sender::new(open);
        let state = open.subscribe();
        tokio::spawn(async move {
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                let (mut state, postgres) = (state.clone(), postgres.clone());
                tokio::spawn(async move {
                    if !*state.borrow() {
                        return;
                    }
                    let mut server = TcpStream::connect(postgres).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        _ = state.wait_for(|open| !open) => {}
                    }
                });
            }
        });
        Self { address, open }
    }
}

/// The parts of `postgres://user@host:port/database`.
fn host_of(url: &str) -> (&str, &str, &str) {
    let (before, rest) = url.split_once('@').unwrap();
    let (host, database) = rest.split_once('/').unwrap();
    (before, host, database)
}

#[tokio::test]
async fn postgres_may_come_late_and_go_in_between() {
    let database = new_database().await;
    let (user, host, name) = host_of(&database);
    let way = Way::to(host.to_owned(), false).await;
    let registry = starting_on(&format!("{user}@{}/{name}", way.address)).await;

    let report = registry.until_ready(false).await;
    assert_eq!(report.status, 503);
    registry.get("/subjects").await.is_error(50001);
    registry.get("/health/live").await;

    way.open.send_replace(true);
    registry.until_ready(true).await;
    let schema = json!("string");
    let id = registry.registered("users", &schema).await;

    way.open.send_replace(false);
    let report = registry.until_ready(false).await;
    assert!(
        report.body["components"]["postgres"]["reason"].is_string(),
        "{}",
        report.text
    );
    registry
        .register("users", &json!("int"))
        .await
        .is_error(50001);

    way.open.send_replace(true);
    registry.until_ready(true).await;
    assert_eq!(registry.registered("users", &schema).await, id);
    registry
        .get("/subjects/users/versions")
        .await
        .is(json!([1]));
}

#[tokio::test]
async fn an_address_that_is_none_is_told_without_its_password() {
    let config = schema_registry::Config {
        postgres: SecretUrl::new("mysql//user:hunter2@db"),
        address: "127.0.0.1:0".to_owned(),
        ..schema_registry::Config::default()
    };
    let error = schema_registry::Service::bind(config).await.unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
