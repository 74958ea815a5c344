//! A registry that runs within the test, on a database of its own.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use schema_registry::{Config, Role, Service};
use serde_json::{Value, json};
use service_kit::SecretUrl;
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long anything may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Stops when it is dropped.
pub struct Running {
    pub address: SocketAddr,
    client: reqwest::Client,
    _stop: DropGuard,
}

/// A registry on a new database.
pub async fn registry() -> Running {
    registry_on(&new_database().await).await
}

pub async fn new_database() -> String {
    let stack = dev_stack::shared().await;
    stack.fresh_database().await.unwrap()
}

/// Another instance on the same database, ready for requests.
pub async fn registry_on(database: &str) -> Running {
    let running = starting_on(database).await;
    running.until_ready(true).await;
    running
}

/// An instance that may not be ready yet.
pub async fn starting_on(database: &str) -> Running {
    let config = Config {
        address: "127.0.0.1:0".to_owned(),
        postgres: SecretUrl::new(database),
        anonymous: Some(Role::Write),
        ..Config::default()
    };
    start(Service::bind(config).await.unwrap())
}

pub fn start(service: Service) -> Running {
    let address = service.address();
    let stop = CancellationToken::new();
    tokio::spawn(service.serve(stop.clone()));
    Running {
        address,
        client: http_client(),
        _stop: stop.drop_guard(),
    }
}

pub fn http_client() -> reqwest::Client {
    install_crypto();
    reqwest::Client::new()
}

/// reqwest wants a crypto provider even where nothing is encrypted.
pub fn install_crypto() {
    // An error means that another test was first.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

impl Running {
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client
            .request(method, format!("http://{}{path}", self.address))
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    pub async fn put(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::PUT, path).json(&body)).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(&body)).await
    }

    /// Asks to register the schema as the next version of the subject.
    pub async fn register(&self, subject: &str, schema: &Value) -> Answer {
        let body = json!({ "schema": schema.to_string() });
        self.post(&format!("/subjects/{subject}/versions"), body)
            .await
    }

    /// The same, again as long as the registry has no connection to spare: of many at once, on a
    /// busy machine, some may wait too long for one.
    pub async fn register_at_last(&self, subject: &str, schema: &Value) -> Answer {
        let registering = async {
            loop {
                let answer = self.register(subject, schema).await;
                if answer.body["error_code"] != 50001 {
                    return answer;
                }
            }
        };
        tokio::time::timeout(PATIENCE, registering).await.unwrap()
    }

    /// Registers the schema, which must work, and returns its id.
    #[track_caller]
    pub fn registered(&self, subject: &str, schema: &Value) -> impl Future<Output = i64> + use<'_> {
        let registering = (subject.to_owned(), schema.clone());
        async move {
            let answer = self.register(&registering.0, &registering.1).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            answer.body["id"].as_i64().unwrap()
        }
    }

    /// Waits until the registry says that it is ready, or that it is not.
    pub async fn until_ready(&self, ready: bool) -> Answer {
        let readiness = async {
            loop {
                let answer = self.get("/health/ready").await;
                if answer.body["ready"] == ready {
                    return answer;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, readiness).await.unwrap()
    }
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub content_type: String,
    pub text: String,
    /// Null if the text is not JSON.
    pub body: Value,
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let content_type = response.headers()["content-type"].to_str().unwrap();
        let content_type = content_type.to_owned();
        let status = response.status();
        let text = response.text().await.unwrap();
        Self {
            status,
            content_type,
            body: serde_json::from_str(&text).unwrap_or_default(),
            text,
        }
    }

    /// Compares all but guids, which follow from the rest.
    #[track_caller]
    pub fn is(&self, expected: Value) {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let mut body = self.body.clone();
        remove_guids(&mut body);
        assert_eq!(body, expected);
    }

    #[track_caller]
    pub fn is_registered(&self, id: i64, version: i64) {
        assert_eq!(self.status, StatusCode::OK, "{}", self.text);
        let found = (&self.body["id"], &self.body["version"]);
        assert_eq!(found, (&json!(id), &json!(version)), "{}", self.text);
    }

    #[track_caller]
    pub fn is_error(&self, code: u32) {
        assert_eq!(self.body["error_code"], code, "{}", self.text);
        assert!(self.body["message"].is_string(), "{}", self.text);
        let status = self.status.as_u16().to_string();
        assert!(code.to_string().starts_with(&status), "{status}");
    }
}

fn remove_guids(body: &mut Value) {
    match body {
        Value::Array(items) => items.iter_mut().for_each(remove_guids),
        Value::Object(object) => {
            if let Some(guid) = object.remove("guid") {
                assert_eq!(guid.as_str().map(str::len), Some(36), "{guid}");
            }
        }
        _ => {}
    }
}
