//! How tasks are commanded over HTTP.

use annals::http::{
    Accepted, CommandRequest, Commands, NoBody, OpenApiRouter, Path, Problem, field,
};
use axum::routing::post;
use serde::Deserialize;

use super::{
    task::{Task, TaskCommand},
    values::{Description, Title, UserId},
};

const ASSIGNERS: &[&str] = &["manager", "admin"];

pub(crate) fn commands() -> OpenApiRouter<Commands> {
    OpenApiRouter::new()
        .route("/v1/tasks", post(create_task))
        .route("/v1/tasks/{id}/assign", post(assign_task))
        .route("/v1/tasks/{id}/complete", post(complete_task))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateTask {
    title: String,
    #[serde(default)]
    description: String,
    assignee: Option<String>,
}

async fn create_task(
    commands: Commands,
    request: CommandRequest<CreateTask>,
) -> Result<Accepted, Problem> {
    let CreateTask {
        title,
        description,
        assignee,
    } = &request.body;
    if assignee.is_some() {
        request.identity.require_any(ASSIGNERS)?;
    }
    let command = TaskCommand::Create {
        title: field("title", Title::parse(title))?,
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

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AssignTask {
    assignee: String,
}

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

async fn complete_task(
    commands: Commands,
    Path(id): Path<String>,
    request: CommandRequest<NoBody>,
) -> Result<Accepted, Problem> {
    commands
        .send::<Task>(&id, TaskCommand::Complete, &request)
        .await
}
