//! How tasks are commanded over HTTP.

use annals::http::{
    Accepted, AcceptedBody, CommandRequest, Commands, Current, Identity, NoBody, OpenApiRouter,
    Path, Problem, ToSchema, field, routes,
};
use serde::{Deserialize, Serialize};

use crate::{Description, JiraId, Task, TaskCommand, TaskStatus, Title, UserId};

const ASSIGNERS: &[&str] = &["manager", "admin"];

pub(crate) fn commands() -> OpenApiRouter<Commands> {
    OpenApiRouter::new()
        .routes(routes!(create_task))
        .routes(routes!(assign_task))
        .routes(routes!(complete_task))
        .routes(routes!(show_task_state))
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateTask {
    /// 1–2,000 characters; no control characters, no brackets.
    #[schema(example = "Sort the records")]
    title: String,
    /// Its id in a tracker: a project of letters and digits, `-`, a number.
    #[schema(example = "AVRO-12")]
    jira_id: Option<String>,
    /// Up to 20,000 characters.
    #[serde(default)]
    description: String,
    /// Who is to do it; only a manager or an admin may say so.
    assignee: Option<String>,
}

/// Create a task
///
/// Anyone signed in may. The task's id follows from tenant, caller and
/// `Idempotency-Key`: a retry meets the first attempt.
#[utoipa::path(
    post,
    path = "/v1/tasks",
    tag = "tasks",
    request_body = CreateTask,
    responses(
        (status = 201, description = "The task was created", body = AcceptedBody),
        (status = 403, description = "`role-required`: an assignee was named"),
        (status = 409, description = "`brackets-in-title`: a tracker's id has a field of its own"),
    ),
)]
async fn create_task(
    commands: Commands,
    request: CommandRequest<CreateTask>,
) -> Result<Accepted, Problem> {
    let CreateTask {
        title,
        jira_id,
        description,
        assignee,
    } = &request.body;
    if assignee.is_some() {
        request.identity.require_any(ASSIGNERS)?;
    }
    let command = TaskCommand::Create {
        title: field("title", Title::parse(title))?,
        jira_id: jira_id
            .as_deref()
            .map(|id| field("jira_id", JiraId::parse(id)))
            .transpose()?,
        description: field("description", Description::parse(description))?,
        assignee: assignee
            .as_deref()
            .map(|name| field("assignee", UserId::parse(name)))
            .transpose()?,
    };
    let id = request.new_id();
    let accepted = commands.send::<Task>(&id, command, &request).await?;
    Ok(accepted.created_at(format!("/v1/tasks/{id}")))
}

#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AssignTask {
    /// Who is to do it, as the sign-on names them.
    assignee: String,
}

/// Assign a task
///
/// Managers and admins may, as often as they like, while the task is open.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/assign",
    tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    request_body = AssignTask,
    responses(
        (status = 200, description = "The task is assigned", body = AcceptedBody),
        (status = 403, description = "`role-required`"),
        (status = 404, description = "`no-such-task`"),
        (status = 409, description = "`already-completed`"),
    ),
)]
async fn assign_task(
    commands: Commands,
    Path(id): Path<String>,
    request: CommandRequest<AssignTask>,
) -> Result<Accepted, Problem> {
    request.identity.require_any(ASSIGNERS)?;
    let to = field("assignee", UserId::parse(&request.body.assignee))?;
    commands
        .send::<Task>(&id, TaskCommand::Assign { to }, &request)
        .await
}

/// Complete a task
///
/// Only its assignee may, once.
#[utoipa::path(
    post,
    path = "/v1/tasks/{id}/complete",
    tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    responses(
        (status = 200, description = "The task is completed", body = AcceptedBody),
        (status = 403, description = "`not-the-assignee`"),
        (status = 404, description = "`no-such-task`"),
        (status = 409, description = "`already-completed`"),
    ),
)]
async fn complete_task(
    commands: Commands,
    Path(id): Path<String>,
    request: CommandRequest<NoBody>,
) -> Result<Accepted, Problem> {
    commands
        .send::<Task>(&id, TaskCommand::Complete, &request)
        .await
}

/// A task as its rules see it.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct TaskState {
    status: Status,
    /// The same for people.
    #[schema(example = "bird in a cage")]
    label: &'static str,
    /// Who is to do it; of a task that is done, nobody.
    assignee: Option<String>,
}

/// What clients know a status as, whatever the events call it.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TaskStatus)]
enum Status {
    Open,
    Closed,
}

/// Show a task as it is now
///
/// From the task's owner, not from a read model: whatever was answered before is in it. `ETag`
/// is for the next command's `If-Match`.
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}/state",
    tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    responses(
        (status = 200, description = "The task's state", body = TaskState),
        (status = 404, description = "`not-found`"),
    ),
)]
async fn show_task_state(
    commands: Commands,
    caller: Identity,
    Path(id): Path<String>,
) -> Result<Current<TaskState>, Problem> {
    let task = commands.current::<Task>(&id, &caller).await?;
    Ok(task.map(TaskState::of))
}

impl TaskState {
    fn of(task: Task) -> Self {
        let (status, assignee) = match task {
            Task::Unknown => (TaskStatus::BirdInACage, None),
            Task::Open { assignee } => (TaskStatus::BirdInACage, assignee),
            Task::Done => (TaskStatus::MilletInABowl, None),
        };
        Self {
            status: match status {
                TaskStatus::BirdInACage => Status::Open,
                TaskStatus::MilletInABowl => Status::Closed,
            },
            label: status.label(),
            assignee: assignee.map(|user| user.to_string()),
        }
    }
}
