//! People who create tasks all the time, whatever is done to the system meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use annals::{Demo, DemoError};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tasks::TypedTitle;
use tokio::{task::JoinHandle, time::sleep};

use super::untrue;
use crate::demo::{
    api::{Answer, StoryError},
    work::TITLES,
};

const PEOPLE: usize = 3;
/// Between two tasks of one person: they are to be followed, not to be measured.
const PAUSE: Duration = Duration::from_millis(30);
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// What they fill in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The tracker's id is typed into the title.
    OneField,
    TwoFields,
}

pub(super) struct People {
    desk: Desk,
    stop: Arc<AtomicBool>,
    two_fields: Arc<AtomicBool>,
    at_work: Vec<JoinHandle<Result<(), StoryError>>>,
}

/// Where tasks are created.
#[derive(Clone)]
struct Desk {
    http: reqwest::Client,
    url: String,
    token: String,
    /// How many were acknowledged.
    created: Arc<AtomicUsize>,
}

impl People {
    pub fn begin(demo: &Demo) -> Self {
        let desk = Desk {
            http: reqwest::Client::new(),
            url: format!("http://{}/v1/tasks", demo.commands),
            token: demo.token("polly", &["worker"]),
            created: Arc::default(),
        };
        let (stop, two_fields) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let at_work = (0..PEOPLE).map(|person| {
            let (desk, stop, two_fields) = (desk.clone(), stop.clone(), two_fields.clone());
            tokio::spawn(async move {
                let titles = titles();
                let turns = (0..).take_while(|_| !stop.load(Relaxed));
                for turn in turns {
                    let typed = titles[(turn * PEOPLE + person) % titles.len()];
                    let key = format!("task-{person}-{turn}");
                    desk.create(&key, typed, two_fields.load(Relaxed)).await?;
                    sleep(PAUSE).await;
                }
                Ok(())
            })
        });
        Self {
            at_work: at_work.collect(),
            desk,
            stop,
            two_fields,
        }
    }

    pub fn fill_in(&self, form: Form) {
        self.two_fields.store(form == Form::TwoFields, Relaxed);
    }

    /// How many tasks are there, by the answers.
    pub fn created(&self) -> usize {
        self.desk.created.load(Relaxed)
    }

    /// One more task, whatever the answer is.
    pub async fn send(&self, key: &str, body: &Value) -> Result<Answer, DemoError> {
        let answer = self.desk.send(key, body).await?;
        self.desk.count(&answer);
        Ok(answer)
    }

    /// Answers how many tasks there are at last.
    pub async fn end(self) -> Result<usize, DemoError> {
        self.stop.store(true, Relaxed);
        for person in self.at_work {
            match person.await {
                Ok(worked) => worked?,
                Err(error) => return Err(untrue(format!("somebody stopped working: {error}"))),
            }
        }
        Ok(self.desk.created.load(Relaxed))
    }
}

impl Desk {
    /// With the title as it was typed, or with what it means in two fields. Who is told that a title
    /// has no brackets any more fills in the other form.
    async fn create(&self, key: &str, typed: &str, two_fields: bool) -> Result<(), StoryError> {
        let parts = TypedTitle::of(typed);
        let in_two = json!({ "title": parts.title, "jira_id": parts.jira_id });
        let in_one = json!({ "title": typed });
        let (first, second) = match two_fields {
            true => (&in_two, &in_two),
            false => (&in_one, &in_two),
        };
        let mut answer = self.send(key, first).await?;
        if answer.status == StatusCode::CONFLICT && !two_fields {
            answer = self.send(&format!("{key}-again"), second).await?;
        }
        match answer.status.is_success() {
            true => {
                self.count(&answer);
                Ok(())
            }
            false => Err(answer.unexpected(format!("creating {typed:?}"))),
        }
    }

    fn count(&self, answer: &Answer) {
        if answer.status.is_success() && !answer.replayed {
            self.created.fetch_add(1, Relaxed);
        }
    }

    /// The same command again until it is answered.
    async fn send(&self, key: &str, body: &Value) -> Result<Answer, StoryError> {
        loop {
            let request = self
                .http
                .post(&self.url)
                .bearer_auth(&self.token)
                .header("Idempotency-Key", key)
                .json(body);
            let unreachable = |source| StoryError::Unreachable {
                step: format!("creating task {key}"),
                source,
            };
            let response = request.send().await.map_err(unreachable)?;
            let status = response.status();
            let replayed = response.headers().contains_key("idempotency-replayed");
            let body = response.json().await.map_err(unreachable)?;
            if status != StatusCode::SERVICE_UNAVAILABLE {
                return Ok(Answer {
                    status,
                    body,
                    replayed,
                });
            }
            sleep(AGAIN_AFTER).await;
        }
    }
}

/// Such as two forms can say: brackets that are no tracker's have no place in the new one.
fn titles() -> Vec<&'static str> {
    let lines = TITLES.lines();
    let typed = lines.filter_map(|line| Some(line.split_once('\t')?.1));
    let titles = typed.filter(|typed| !TypedTitle::of(typed).title.contains(['[', ']']));
    titles.collect()
}
