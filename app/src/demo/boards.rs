//! What the query service shows, as of the story's last command, and whether it is true.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    api::{Api, StoryError},
    cast::{ADMIN, MANAGER, WORKERS},
    narrator::Narrator,
    table::{Table, shortened},
    work::{Task, Work, untrue},
};

#[derive(Deserialize)]
pub(super) struct BoardTask {
    id: String,
    title: String,
    jira_id: Option<String>,
    status: String,
    assignee: Option<String>,
    created_by: String,
}

/// Somebody in the directory.
#[derive(Deserialize)]
pub(super) struct Colleague {
    pub id: String,
    pub name: String,
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

#[derive(Deserialize)]
struct TaskWithHistory {
    title: String,
    history: Vec<Happening>,
}

#[derive(Deserialize)]
struct Happening {
    version: u64,
    event: String,
    at: String,
    actor: String,
    data: serde_json::Value,
}

/// Everybody who is registered.
pub(super) async fn colleagues(api: &Api<'_>) -> Result<Vec<Colleague>, StoryError> {
    list(api, ADMIN, "/v1/users?limit=200").await
}

/// Every task there is, newest first.
pub(super) async fn all_tasks(api: &Api<'_>) -> Result<Vec<BoardTask>, StoryError> {
    list(api, MANAGER, "/v1/tasks?limit=200").await
}

/// Reads the boards, compares them with what this run has done, and prints them.
pub(super) async fn show(
    api: &Api<'_>,
    work: &Work,
    narrator: &mut Narrator,
) -> Result<(), StoryError> {
    narrator.step("the boards are read, as of the last command", 1);
    let tasks = all_tasks(api).await?;
    compare(api, &work.tasks, &tasks)?;
    let own_open: Vec<BoardTask> = list(api, WORKERS[0], "/v1/my/tasks?limit=200").await?;
    let counts = count(api, &tasks);
    let expected = counts.get(WORKERS[0]).map_or(0, |count| count.open);
    if own_open.len() != expected {
        let what = format!("{} own open tasks instead of {expected}", own_open.len());
        return Err(untrue("reading a worker's own board", what));
    }
    narrator.done("they show every command of this story");

    let mut table = Table::new(["tasks of", "open", "done"]);
    for (assignee, Count { open, done }) in &counts {
        table.row([assignee.clone(), open.to_string(), done.to_string()]);
    }
    narrator.say(&format!("\n{} tasks\n\n{table}", tasks.len()));

    let mut table = Table::new(["title", "id", "status", "assignee", "created by"]);
    for task in tasks.iter().take(10) {
        table.row([
            shortened(&task.title, 60),
            task.jira_id.clone().unwrap_or_default(),
            task.status.clone(),
            api.name_of(task.assignee.as_deref().unwrap_or("–")).into(),
            by(api, &task.created_by),
        ]);
    }
    narrator.say(&format!("The newest tasks\n\n{table}"));
    show_history(api, work, narrator).await
}

/// The history of the task with which most has happened.
async fn show_history(api: &Api<'_>, work: &Work, narrator: &Narrator) -> Result<(), StoryError> {
    let Some(Task { id, .. }) = work.tasks.iter().find(|task| task.done) else {
        return Err(untrue("reading a task's history", "no task was completed"));
    };
    let task: TaskWithHistory = api.read(MANAGER, &format!("/v1/tasks/{id}")).await?;
    let mut table = Table::new(["version", "event", "at (UTC)", "by", "says"]);
    for happening in &task.history {
        let says = match happening.data.get("assignee").and_then(|it| it.as_str()) {
            Some(assignee) => format!("to {}", api.name_of(assignee)),
            None => String::new(),
        };
        table.row([
            happening.version.to_string(),
            happening.event.clone(),
            happening.at.get(11..23).unwrap_or_default().to_owned(),
            by(api, &happening.actor),
            says,
        ]);
    }
    let title = shortened(&task.title, 72);
    narrator.say(format!("The history of one, “{title}”\n\n{table}").trim_end());
    Ok(())
}

async fn list<T: serde::de::DeserializeOwned>(
    api: &Api<'_>,
    who: &str,
    path: &str,
) -> Result<Vec<T>, StoryError> {
    let mut all = Vec::new();
    let mut next = path.to_owned();
    loop {
        let page: Page<T> = api.read(who, &next).await?;
        all.extend(page.items);
        match page.next_cursor {
            Some(cursor) => next = format!("{path}&cursor={cursor}"),
            None => return Ok(all),
        }
    }
}

/// Every task of this run is on the board once, as it should be.
fn compare(api: &Api<'_>, expected: &[Task], board: &[BoardTask]) -> Result<(), StoryError> {
    for task in expected {
        let shown: Vec<_> = board.iter().filter(|shown| shown.id == task.id).collect();
        let status = if task.done { "done" } else { "open" };
        let as_expected = |shown: &&BoardTask| {
            let assignee = shown.assignee.as_deref().map(|id| api.name_of(id));
            shown.status == status && assignee == task.assignee
        };
        if shown.len() != 1 || !shown.iter().all(as_expected) {
            let what = format!(
                "task {} should be there once, {status} and assigned to {:?}",
                task.id, task.assignee
            );
            return Err(untrue("comparing the board with the story", what));
        }
    }
    Ok(())
}

#[derive(Default)]
struct Count {
    open: usize,
    done: usize,
}

/// By assignee.
fn count(api: &Api<'_>, tasks: &[BoardTask]) -> BTreeMap<String, Count> {
    let mut counts: BTreeMap<String, Count> = BTreeMap::new();
    for task in tasks {
        let assignee = api.name_of(task.assignee.as_deref().unwrap_or("nobody yet"));
        let count = counts.entry(assignee.to_owned()).or_default();
        match task.status.as_str() {
            "done" => count.done += 1,
            _ => count.open += 1,
        }
    }
    counts
}

/// `mia` of `user:` and mia's id.
fn by(api: &Api<'_>, actor: &str) -> String {
    let id = actor.split_once(':').map_or(actor, |(_, id)| id);
    api.name_of(id).into()
}
