//! The services, as a client sees them.

use std::collections::{BTreeMap, HashMap};

use annals::Demo;
use reqwest::{RequestBuilder, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::cast::Person;

/// Commands and reads of everybody in the story.
pub(super) struct Api<'a> {
    demo: &'a Demo,
    http: reqwest::Client,
    commands: String,
    queries: String,
    /// By name; tokens, boards and commands know people by their ids.
    people: HashMap<&'static str, Known>,
    /// By stream, the position of its last command: what later reads wait for.
    positions: BTreeMap<String, String>,
}

struct Known {
    id: String,
    token: String,
}

/// What became of a command.
pub(super) struct Answer {
    pub status: StatusCode,
    pub body: Value,
    /// The answer is that of an earlier attempt.
    pub replayed: bool,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum StoryError {
    #[error("{step}: there was no answer")]
    Unreachable {
        step: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("{step}: answered {status}, {body}")]
    Unexpected {
        step: String,
        status: StatusCode,
        body: Value,
    },
    #[error("{step}: {what}")]
    Untrue { step: String, what: String },
}

impl<'a> Api<'a> {
    pub fn new(demo: &'a Demo) -> Self {
        Self {
            demo,
            http: reqwest::Client::new(),
            commands: format!("http://{}", demo.commands),
            queries: format!("http://{}", demo.queries),
            people: HashMap::new(),
            positions: BTreeMap::new(),
        }
    }

    /// From now on this person acts under this id.
    pub fn sign_on(&mut self, person: &Person, id: &str) {
        let token = self.demo.token(id, &[person.role]);
        let id = id.to_owned();
        self.people.insert(person.name, Known { id, token });
    }

    pub fn id_of(&self, name: &str) -> &str {
        &self.people[name].id
    }

    /// What people call whoever has this id.
    pub fn name_of<'n>(&self, id: &'n str) -> &'n str
    where
        'static: 'n,
    {
        let known = self.people.iter().find(|(_, known)| known.id == id);
        known.map_or(id, |(name, _)| name)
    }

    /// Sends a command, which must be accepted.
    pub async fn command(
        &mut self,
        who: &str,
        key: &str,
        path: &str,
        body: Value,
    ) -> Result<Answer, StoryError> {
        let answer = self.send(who, key, path, body).await?;
        match answer.status.is_success() {
            true => Ok(answer),
            false => Err(answer.unexpected(format!("{who}'s POST {path}"))),
        }
    }

    /// Sends a command, whatever its answer is.
    pub async fn send(
        &mut self,
        who: &str,
        key: &str,
        path: &str,
        body: Value,
    ) -> Result<Answer, StoryError> {
        let step = || format!("{who}'s POST {path}");
        let request = self
            .http
            .post(format!("{}{path}", self.commands))
            .header("Idempotency-Key", key)
            .json(&body);
        let answer = self.answer(who, request, step).await?;
        if let (Some(stream), Some(position)) = (answer.text("stream"), answer.text("position")) {
            self.positions
                .insert(stream.to_owned(), position.to_owned());
        }
        Ok(answer)
    }

    /// Reads, as of the last command of each stream.
    pub async fn read<T: DeserializeOwned>(&self, who: &str, path: &str) -> Result<T, StoryError> {
        let step = || format!("{who}'s GET {path}");
        let url = format!("{}{path}", self.queries);
        let request = self
            .positions
            .values()
            .fold(self.http.get(url), |request, position| {
                request.header("Annals-Position", position)
            });
        let answer = self.answer(who, request, step).await?;
        if answer.status != StatusCode::OK {
            return Err(answer.unexpected(step()));
        }
        serde_json::from_value(answer.body).map_err(|error| StoryError::Untrue {
            step: step(),
            what: format!("the answer is not what the story expects: {error}"),
        })
    }

    async fn answer(
        &self,
        who: &str,
        request: RequestBuilder,
        step: impl Fn() -> String,
    ) -> Result<Answer, StoryError> {
        let unreachable = |source| StoryError::Unreachable {
            step: step(),
            source,
        };
        let response = request
            .bearer_auth(&self.people[who].token)
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        let replayed = response.headers().contains_key("idempotency-replayed");
        let text = response.text().await.map_err(unreachable)?;
        Ok(Answer {
            status,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
            replayed,
        })
    }
}

impl Answer {
    pub fn text(&self, member: &str) -> Option<&str> {
        self.body.get(member)?.as_str()
    }

    pub fn unexpected(self, step: String) -> StoryError {
        let Answer { status, body, .. } = self;
        StoryError::Unexpected { step, status, body }
    }
}
