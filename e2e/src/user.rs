//! Somebody with a token, who sends commands and reads.

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
};

use reqwest::{Body, Method, RequestBuilder};
use serde_json::Value;

use crate::{answer::Answer, choose_crypto, eventually::eventually};

/// Cheap to clone.
#[derive(Clone)]
pub struct User {
    http: reqwest::Client,
    commands: SocketAddr,
    queries: SocketAddr,
    token: Option<String>,
}

/// A command that is not sent yet. It has a key of its own unless it gets another.
#[derive(Clone)]
pub struct Command {
    user: User,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

/// A read that is not sent yet.
#[derive(Clone)]
pub struct Read {
    user: User,
    path: String,
    positions: Vec<String>,
}

impl User {
    pub fn new(commands: SocketAddr, queries: SocketAddr, token: &str) -> Self {
        choose_crypto();
        Self {
            http: reqwest::Client::new(),
            commands,
            queries,
            token: Some(token.to_owned()),
        }
    }

    /// The same with this in place of the token.
    pub fn with_token(&self, token: Option<&str>) -> Self {
        Self {
            token: token.map(str::to_owned),
            ..self.clone()
        }
    }

    /// The same, with another command service.
    pub fn at(&self, commands: SocketAddr) -> Self {
        Self {
            commands,
            ..self.clone()
        }
    }

    /// `POST` of this path.
    pub fn command(&self, path: impl Into<String>) -> Command {
        Command {
            user: self.clone(),
            path: path.into(),
            headers: vec![("idempotency-key", new_key())],
            body: None,
        }
    }

    pub fn create_task(&self, title: &str) -> Command {
        self.command("/v1/tasks")
            .json(serde_json::json!({ "title": title }))
    }

    pub fn assign(&self, id: &str, assignee: &str) -> Command {
        self.command(format!("/v1/tasks/{id}/assign"))
            .json(serde_json::json!({ "assignee": assignee }))
    }

    pub fn complete(&self, id: &str) -> Command {
        self.command(format!("/v1/tasks/{id}/complete"))
    }

    /// `GET` of this path of the query service.
    pub fn read(&self, path: impl Into<String>) -> Read {
        Read {
            user: self.clone(),
            path: path.into(),
            positions: Vec::new(),
        }
    }

    /// `GET` of this path of the command service.
    pub async fn recall(&self, path: &str) -> Answer {
        let request = self.request(Method::GET, self.commands, path);
        answer_to(request)
            .await
            .expect("the command service answers")
    }

    fn request(&self, method: Method, to: SocketAddr, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("http://{to}{path}"));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
}

impl Command {
    /// The same command, for another command service.
    pub fn to(mut self, commands: SocketAddr) -> Self {
        self.user.commands = commands;
        self
    }

    pub fn key(self, key: &str) -> Self {
        self.header("idempotency-key", key)
    }

    pub fn command_id(&self) -> &str {
        let key = self.headers.iter().find(|it| it.0 == "idempotency-key");
        &key.expect("the command has a key").1
    }

    pub fn without_key(mut self) -> Self {
        self.headers.retain(|(name, _)| *name != "idempotency-key");
        self
    }

    pub fn if_match(self, version: u64) -> Self {
        self.header("if-match", &format!("\"{version}\""))
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn json(self, body: Value) -> Self {
        self.body(body.to_string())
    }

    /// A body as it is, said to be JSON.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        self.header("content-type", "application/json")
    }

    /// # Panics
    /// When there is no answer.
    pub async fn send(&self) -> Answer {
        self.attempt().await.expect("the command service answers")
    }

    /// As a client should: again with the same key, until there is an answer that is not 503.
    pub async fn until_answered(&self) -> Answer {
        eventually(&format!("an answer to POST {}", self.path), async || {
            self.attempt().await.ok().filter(|it| it.status != 503)
        })
        .await
    }

    pub async fn attempt(&self) -> reqwest::Result<Answer> {
        let user = &self.user;
        let mut request = user.request(Method::POST, user.commands, &self.path);
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if let Some(body) = &self.body {
            request = request.body(Body::from(body.clone()));
        }
        answer_to(request).await
    }
}

impl Read {
    /// Waits until it sees the events of the command with this answer.
    pub fn after(mut self, command: &Answer) -> Self {
        self.positions.push(command.position());
        self
    }

    /// As a client should: again, as long as what it waits for is not visible yet.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&self) -> Answer {
        eventually(&format!("an answer to GET {}", self.path), async || {
            let answer = self.attempt().await;
            let answer = answer.expect("the query service answers");
            (answer.status != 503 || self.positions.is_empty()).then_some(answer)
        })
        .await
    }

    pub async fn attempt(&self) -> reqwest::Result<Answer> {
        let user = &self.user;
        let mut request = user.request(Method::GET, user.queries, &self.path);
        for position in &self.positions {
            request = request.header("annals-position", position);
        }
        answer_to(request).await
    }
}

async fn answer_to(request: RequestBuilder) -> reqwest::Result<Answer> {
    Answer::of(request.send().await?).await
}

/// An idempotency key that nobody has used.
pub fn new_key() -> String {
    format!("e2e-{:016x}", RandomState::new().hash_one(0_u8))
}
