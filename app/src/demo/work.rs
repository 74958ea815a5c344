//! The work of a day: tasks are created, handed out, handed on and completed.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::StatusCode;
use serde_json::json;
use tasks::TypedTitle;

use super::{
    api::{Api, StoryError},
    cast::{MANAGER, WORKERS},
    narrator::Narrator,
};

/// See `demo/README.md` for where they come from.
pub(super) const TITLES: &str = include_str!("../../demo/task-titles.tsv");
const TASKS: usize = 40;

/// What this run of the story has done, to compare the boards with.
pub(super) struct Work {
    /// Makes this run's keys its own, so that it continues on the data of earlier ones.
    run: u128,
    /// Where it goes on in the list of titles.
    earlier: usize,
    pub tasks: Vec<Task>,
}

pub(super) struct Task {
    pub id: String,
    title: &'static str,
    created_by: &'static str,
    pub assignee: Option<&'static str>,
    pub done: bool,
}

impl Work {
    pub fn new(earlier_tasks: usize) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            run: now.unwrap_or_default().as_millis(),
            earlier: earlier_tasks,
            tasks: Vec::new(),
        }
    }

    /// Mia hands hers out at once; what workers create, she hands out later, but for a few.
    pub async fn create(
        &mut self,
        api: &mut Api<'_>,
        narrator: &mut Narrator,
    ) -> Result<(), StoryError> {
        narrator.step(
            "tasks are created by mia, the manager, and by the workers, with titles that people typed",
            TASKS as u64,
        );
        let titles: Vec<_> = TITLES
            .lines()
            .filter_map(|line| Some(line.split_once('\t')?.1))
            // Such were typed once, and are refused by now.
            .filter(|typed| !TypedTitle::of(typed).title.contains(['[', ']']))
            .collect();
        for n in 0..TASKS {
            let title = titles[(self.earlier + n) % titles.len()];
            let worker = worker(n);
            let (created_by, assignee) = match n % 2 {
                0 => (MANAGER, Some(worker)),
                _ => (worker, None),
            };
            let body = creation(api, title, assignee);
            let key = self.key("create", n);
            let answer = api.command(created_by, &key, "/v1/tasks", body).await?;
            let id = answer.text("id").unwrap_or_default().to_owned();
            self.tasks.push(Task {
                id,
                title,
                created_by,
                assignee,
                done: false,
            });
            narrator.progress();
        }
        narrator.done(&format!("{TASKS} created"));
        Ok(())
    }

    /// Half of the workers' tasks get an assignee, and a quarter of mia's another one.
    pub async fn hand_on(
        &mut self,
        api: &mut Api<'_>,
        narrator: &mut Narrator,
    ) -> Result<(), StoryError> {
        let chosen: Vec<_> = (0..TASKS).filter(|n| n % 4 == 1 || n % 8 == 0).collect();
        narrator.step(
            "mia hands out what the workers created, and hands some tasks on to somebody else",
            chosen.len() as u64,
        );
        let mut reassigned = 0;
        for n in &chosen {
            let (key, task) = (self.key("assign", *n), &mut self.tasks[*n]);
            let to = worker(n + 2);
            reassigned += usize::from(task.assignee.is_some());
            let path = format!("/v1/tasks/{}/assign", task.id);
            let body = json!({ "assignee": api.id_of(to) });
            api.command(MANAGER, &key, &path, body).await?;
            task.assignee = Some(to);
            narrator.progress();
        }
        narrator.done(&format!(
            "{} handed out, {reassigned} handed on",
            chosen.len() - reassigned
        ));
        Ok(())
    }

    pub async fn complete(
        &mut self,
        api: &mut Api<'_>,
        narrator: &mut Narrator,
    ) -> Result<(), StoryError> {
        let assigned = (0..TASKS).filter(|n| self.tasks[*n].assignee.is_some());
        let chosen: Vec<_> = assigned.filter(|n| n % 5 < 2).collect();
        narrator.step(
            "the workers complete some of what they were assigned",
            chosen.len() as u64,
        );
        for n in &chosen {
            let (key, task) = (self.key("complete", *n), &mut self.tasks[*n]);
            let path = format!("/v1/tasks/{}/complete", task.id);
            let assignee = task.assignee.unwrap_or_default();
            api.command(assignee, &key, &path, json!({})).await?;
            task.done = true;
            narrator.progress();
        }
        narrator.done(&format!("{} completed", chosen.len()));
        Ok(())
    }

    pub async fn try_what_is_refused(
        &self,
        api: &mut Api<'_>,
        narrator: &mut Narrator,
    ) -> Result<(), StoryError> {
        let open = |task: &&Task| !task.done && task.assignee.is_some();
        let task = self.tasks.iter().find(open);
        let task = task.ok_or_else(|| untrue("refusing", "no task is open"))?;
        let another = WORKERS.iter().find(|name| task.assignee != Some(name));
        let another = another.copied().unwrap_or(MANAGER);
        let assignee = task.assignee.unwrap_or_default();
        narrator.step(&format!("{another} tries to complete {assignee}'s task"), 1);
        let path = format!("/v1/tasks/{}/complete", task.id);
        let key = self.key("refused", 0);
        let answer = api.send(another, &key, &path, json!({})).await?;
        match (answer.status, answer.text("code")) {
            (StatusCode::FORBIDDEN, Some(code @ "not-the-assignee")) => {
                narrator.done(&format!("refused with {}, {code}", answer.status));
                Ok(())
            }
            _ => Err(answer.unexpected(format!("{another} completing {assignee}'s task"))),
        }
    }

    /// As a client does that did not get the answer.
    pub async fn send_one_twice(
        &self,
        api: &mut Api<'_>,
        narrator: &mut Narrator,
    ) -> Result<(), StoryError> {
        let first = &self.tasks[0];
        narrator.step("a client that missed an answer sends its command again", 1);
        let body = creation(api, first.title, Some(worker(0)));
        let key = self.key("create", 0);
        let answer = api
            .command(first.created_by, &key, "/v1/tasks", body)
            .await?;
        if !answer.replayed || answer.text("id") != Some(&first.id) {
            return Err(answer.unexpected("creating the first task again".into()));
        }
        narrator.done("the same answer as the first time; nothing was created twice");
        Ok(())
    }

    fn key(&self, step: &str, n: usize) -> String {
        format!("demo-{}-{step}-{n}", self.run)
    }
}

/// Whose turn it is: everybody gets some of everything.
fn worker(n: usize) -> &'static str {
    WORKERS[(n / 2 + n / 8) % WORKERS.len()]
}

fn creation(api: &Api<'_>, typed: &str, assignee: Option<&str>) -> serde_json::Value {
    let TypedTitle { title, jira_id, .. } = TypedTitle::of(typed);
    let assignee = assignee.map(|name| api.id_of(name));
    json!({ "title": title, "jira_id": jira_id, "assignee": assignee })
}

pub(super) fn untrue(step: &str, what: impl Into<String>) -> StoryError {
    StoryError::Untrue {
        step: step.into(),
        what: what.into(),
    }
}
