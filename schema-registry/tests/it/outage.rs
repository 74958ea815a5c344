//! Postgres away: the registry says so, does not die, and goes on by itself.

use std::net::SocketAddr;

use serde_json::json;
use service_kit::SecretUrl;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::running::{new_database, starting_on};

/// A way to a server. What happens to it happens to open connections and to new ones.
struct Way {
    address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    /// Connections are closed.
    Cut,
    /// Connections stay and nothing comes through.
    Silent,
}

impl Way {
    async fn to(postgres: String, state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = watch::Sender::new(state);
        let current = state.subscribe();
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(connect(client, postgres.clone(), current.clone()));
            }
        });
        Self { address, state }
    }

    fn becomes(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn connect(mut client: TcpStream, postgres: String, mut current: watch::Receiver<State>) {
    if *current.borrow() == State::Open {
        let mut server = TcpStream::connect(postgres).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
            _ = current.wait_for(|state| *state != State::Open) => {}
        }
    }
    // An error means that the test is over.
    let _ = current.wait_for(|state| *state != State::Silent).await;
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
    let way = Way::to(host.to_owned(), State::Cut).await;
    let registry = starting_on(&format!("{user}@{}/{name}", way.address)).await;

    let report = registry.until_ready(false).await;
    assert_eq!(report.status, 503);
    registry.get("/subjects").await.is_error(50001);
    registry.get("/health/live").await;

    way.becomes(State::Open);
    registry.until_ready(true).await;
    let schema = json!("string");
    let id = registry.registered("users", &schema).await;

    way.becomes(State::Cut);
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

    way.becomes(State::Open);
    registry.until_ready(true).await;
    assert_eq!(registry.registered("users", &schema).await, id);
    registry
        .get("/subjects/users/versions")
        .await
        .is(json!([1]));
}

#[tokio::test]
async fn a_silent_postgres_is_given_up_too() {
    let database = new_database().await;
    let (user, host, name) = host_of(&database);
    let way = Way::to(host.to_owned(), State::Open).await;
    let registry = starting_on(&format!("{user}@{}/{name}", way.address)).await;
    registry.until_ready(true).await;
    way.becomes(State::Silent);
    registry.until_ready(false).await;
    registry.get("/subjects").await.is_error(50001);
    way.becomes(State::Open);
    registry.until_ready(true).await;
    registry.get("/subjects").await.is(json!([]));
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

/// What was answered once is answered while Postgres is away; what was not is an error, and is asked
/// again when it is back.
#[tokio::test]
async fn what_is_remembered_is_served_without_postgres() {
    let database = new_database().await;
    let (user, host, name) = host_of(&database);
    let way = Way::to(host.to_owned(), State::Open).await;
    let registry = starting_on(&format!("{user}@{}/{name}", way.address)).await;
    registry.until_ready(true).await;
    let schema = json!("string");
    let looked_up = json!({"schema": schema.to_string()});
    let id = registry.registered("users", &schema).await;
    let other = registry.registered("others", &json!("int")).await;
    let asked = [
        format!("/schemas/ids/{id}"),
        "/subjects/users/versions/latest".to_owned(),
    ];
    let mut answers = Vec::new();
    for path in &asked {
        answers.push(registry.get(path).await.text);
    }
    registry.post("/subjects/users", looked_up.clone()).await;
    // An error is not remembered.
    registry.get("/schemas/ids/99").await.is_error(40403);

    for state in [State::Cut, State::Silent] {
        way.becomes(state);
        registry.until_ready(false).await;
        for (path, answer) in asked.iter().zip(&answers) {
            assert_eq!(&registry.get(path).await.text, answer);
        }
        let found = registry.post("/subjects/users", looked_up.clone()).await;
        assert_eq!(found.body["id"], id, "{}", found.text);
        registry
            .get(&format!("/schemas/ids/{other}"))
            .await
            .is_error(50001);
        registry.get("/schemas/ids/99").await.is_error(50001);
        way.becomes(State::Open);
        registry.until_ready(true).await;
    }
    assert_eq!(
        registry.get(&format!("/schemas/ids/{other}")).await.status,
        200
    );
    assert_eq!(
        registry.registered("users", &json!("bytes")).await,
        other + 1
    );
}
