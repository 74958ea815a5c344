//! The board: every task as it is now, and what happened to it.

use std::collections::BTreeMap;

use annals::http::{IntoParams, OpenApiRouter, Problem, ToSchema, routes};
use annals::query::{
    Changes, Followable, Listed, Page, PageParams, Path, Query, Reader, Reads, Snapshot, Versioned,
    not_found,
};
use annals::read_model::{PgConnection, ReadModel, Recorded};
use annals::{DateTime, Utc};
use kernel::StreamVersion;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::TaskEvent;

pub(crate) struct TaskBoard;

impl ReadModel for TaskBoard {
    const NAME: &'static str = "task-board";
    const VERSION: u32 = 2;
    const CONTEXTS: &'static [&'static str] = &["tasks"];
    const TABLES: &'static str = "
        create table tasks (
            tenant       text not null,
            id           text not null,
            version      bigint not null,
            title        text not null default '',
            jira_id      text,
            description  text not null default '',
            created_by   text not null default '',
            created_at   timestamptz,
            assignee     text,
            completed_at timestamptz,
            primary key (tenant, id)
        );
        create index tasks_newest on tasks (tenant, created_at desc, id);
        create index tasks_open_of on tasks (tenant, assignee) where completed_at is null;
        create table history (
            tenant  text not null,
            id      text not null,
            version bigint not null,
            event   text not null,
            at      timestamptz not null,
            actor   text not null,
            data    jsonb not null,
            primary key (tenant, id, version)
        );";
    type Event = TaskEvent;

    async fn project(
        events: &[Recorded<TaskEvent>],
        db: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        let mut happenings = Happenings::default();
        for event in events {
            happenings.take(event);
        }
        happenings.write(db).await
    }
}

/// What a batch of events changes.
#[derive(Default)]
struct Happenings {
    history: HistoryRows,
    /// By tenant and id, so that two batches never wait for each other's rows.
    tasks: BTreeMap<(String, String), Changed>,
}

/// Column by column, as `unnest` takes them.
#[derive(Default)]
struct HistoryRows {
    tenants: Vec<String>,
    ids: Vec<String>,
    versions: Vec<i64>,
    events: Vec<String>,
    times: Vec<DateTime<Utc>>,
    actors: Vec<String>,
    data: Vec<Value>,
}

/// A task after the batch, as far as the batch knows it.
#[derive(Default)]
struct Changed {
    version: i64,
    title: String,
    jira_id: Option<String>,
    description: String,
    created_by: String,
    created_at: Option<DateTime<Utc>>,
    assignee: Option<String>,
    completed_at: Option<DateTime<Utc>>,
}

impl Happenings {
    fn take(&mut self, recorded: &Recorded<TaskEvent>) {
        let envelope = &recorded.envelope;
        let (tenant, id) = (envelope.stream.tenant(), envelope.stream.id());
        let actor = envelope.actor.to_string();
        let version = envelope.version.0 as i64;
        let task = self.tasks.entry((tenant.into(), id.into())).or_default();
        task.version = version;
        let data = match &recorded.event {
            TaskEvent::TaskCreated {
                title,
                jira_id,
                typed_title: _,
                description,
                status: _,
            } => {
                task.title.clone_from(title);
                task.jira_id.clone_from(jira_id);
                task.description.clone_from(description);
                task.created_by.clone_from(&actor);
                task.created_at = Some(envelope.time);
                json!({ "title": title, "jira_id": jira_id, "description": description })
            }
            TaskEvent::TaskAssigned { assignee } => {
                task.assignee = Some(assignee.as_str().to_owned());
                json!({ "assignee": assignee })
            }
            TaskEvent::TaskCompleted { completed_by } => {
                task.completed_at = Some(envelope.time);
                json!({ "completed_by": completed_by })
            }
        };
        let history = &mut self.history;
        history.tenants.push(tenant.to_owned());
        history.ids.push(id.to_owned());
        history.versions.push(version);
        history.events.push(envelope.event_name().to_owned());
        history.times.push(envelope.time);
        history.actors.push(actor);
        history.data.push(data);
    }

    async fn write(self, db: &mut PgConnection) -> Result<(), sqlx::Error> {
        let Self { history, tasks } = self;
        sqlx::query(
            "insert into history (tenant, id, version, event, at, actor, data)
             select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[],
                                  $5::timestamptz[], $6::text[], $7::jsonb[])",
        )
        .bind(history.tenants)
        .bind(history.ids)
        .bind(history.versions)
        .bind(history.events)
        .bind(history.times)
        .bind(history.actors)
        .bind(history.data)
        .execute(&mut *db)
        .await?;
        let (tenants, ids): (Vec<_>, Vec<_>) = tasks.keys().cloned().unzip();
        let tasks: Vec<_> = tasks.into_values().collect();
        let texts = |text: fn(&Changed) -> &String| -> Vec<String> {
            tasks.iter().map(text).cloned().collect()
        };
        let times = |time: fn(&Changed) -> Option<DateTime<Utc>>| -> Vec<_> {
            tasks.iter().map(time).collect()
        };
        let versions: Vec<_> = tasks.iter().map(|task| task.version).collect();
        let jira_ids: Vec<_> = tasks.iter().map(|task| task.jira_id.clone()).collect();
        let assignees: Vec<_> = tasks.iter().map(|task| task.assignee.clone()).collect();
        sqlx::query(
            "insert into tasks (tenant, id, version, title, jira_id, description, created_by,
                                created_at, assignee, completed_at)
             select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[],
                                  $6::text[], $7::text[], $8::timestamptz[], $9::text[],
                                  $10::timestamptz[])
             on conflict (tenant, id) do update set
                version = excluded.version,
                assignee = coalesce(excluded.assignee, tasks.assignee),
                completed_at = coalesce(excluded.completed_at, tasks.completed_at)",
        )
        .bind(tenants)
        .bind(ids)
        .bind(versions)
        .bind(texts(|task| &task.title))
        .bind(jira_ids)
        .bind(texts(|task| &task.description))
        .bind(texts(|task| &task.created_by))
        .bind(times(|task| task.created_at))
        .bind(assignees)
        .bind(times(|task| task.completed_at))
        .execute(db)
        .await?;
        Ok(())
    }
}

pub(crate) fn queries() -> OpenApiRouter<Reads> {
    OpenApiRouter::new()
        .routes(routes!(list_tasks).followed::<TaskBoard>(Changes::All))
        .routes(routes!(list_own_open_tasks))
        .routes(routes!(show_task).followed::<TaskBoard>(Changes::OfKey("id")))
}

/// A task as the board shows it.
#[derive(Clone, Debug, Serialize, ToSchema, sqlx::FromRow)]
struct TaskRow {
    id: String,
    /// Of the task's stream; what `If-Match` of the next command may name.
    version: i64,
    title: String,
    /// Its id in a tracker.
    #[schema(example = "AVRO-12")]
    jira_id: Option<String>,
    description: String,
    /// `open` or `done`.
    #[schema(example = "open")]
    status: String,
    assignee: Option<String>,
    #[schema(example = "user:ada")]
    created_by: String,
    created_at: DateTime<Utc>,
    completed_at: Option<DateTime<Utc>>,
}

impl Listed for TaskRow {
    const LIST: &'static str = "tasks-newest-first";
    type Key = (DateTime<Utc>, String);

    fn key(&self) -> Self::Key {
        (self.created_at, self.id.clone())
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TaskFilter {
    /// Only titles or tracker's ids that contain this text, in any case.
    title: Option<String>,
    /// `open`, `done`, or both when left out.
    status: Option<Status>,
    /// Only tasks of this assignee.
    assignee: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Status {
    Open,
    Done,
}

/// All tasks, newest first
#[utoipa::path(
    get,
    path = "/v1/tasks",
    tag = "tasks",
    params(TaskFilter, PageParams<TaskRow>),
    responses((status = 200, description = "A page of tasks", body = Page<TaskRow>)),
)]
async fn list_tasks(
    reader: Reader<TaskBoard>,
    Query(filter): Query<TaskFilter>,
    page: PageParams<TaskRow>,
) -> Result<Page<TaskRow>, Problem> {
    let mut snapshot = reader.snapshot().await?;
    select_tasks(&mut snapshot, filter, page).await
}

/// The caller's own open tasks, newest first
#[utoipa::path(
    get,
    path = "/v1/my/tasks",
    tag = "tasks",
    params(PageParams<TaskRow>),
    responses((status = 200, description = "A page of tasks", body = Page<TaskRow>)),
)]
async fn list_own_open_tasks(
    reader: Reader<TaskBoard>,
    page: PageParams<TaskRow>,
) -> Result<Page<TaskRow>, Problem> {
    let own_open = TaskFilter {
        title: None,
        status: Some(Status::Open),
        assignee: Some(reader.caller.actor.name().to_owned()),
    };
    let mut snapshot = reader.snapshot().await?;
    select_tasks(&mut snapshot, own_open, page).await
}

async fn select_tasks(
    snapshot: &mut Snapshot,
    filter: TaskFilter,
    page: PageParams<TaskRow>,
) -> Result<Page<TaskRow>, Problem> {
    let (after_time, after_id) = page.after.clone().unzip();
    let rows = snapshot
        .query_as(
            "select id, version, title, jira_id, description, assignee, created_by, created_at, completed_at,
                    case when completed_at is null then 'open' else 'done' end as status
               from tasks
              where tenant = $1
                and created_at is not null
                and ($2::text is null or position(lower($2) in lower(title)) > 0
                                      or position(lower($2) in lower(jira_id)) > 0)
                and ($3::bool is null or (completed_at is not null) = $3)
                and ($4::text is null or assignee = $4)
                and ($5::timestamptz is null or created_at < $5 or (created_at = $5 and id > $6))
              order by created_at desc, id
              limit $7",
        )
        .bind(filter.title)
        .bind(filter.status.map(|status| status == Status::Done))
        .bind(filter.assignee)
        .bind(after_time)
        .bind(after_id)
        .bind(page.rows())
        .fetch_all()
        .await?;
    snapshot.page(&page, rows).await
}

/// A task and what happened to it.
#[derive(Clone, Debug, Serialize, ToSchema)]
struct TaskWithHistory {
    #[serde(flatten)]
    task: TaskRow,
    /// Oldest first.
    history: Vec<TaskHappening>,
}

#[derive(Clone, Debug, Serialize, ToSchema, sqlx::FromRow)]
struct TaskHappening {
    version: i64,
    #[schema(example = "TaskAssigned")]
    event: String,
    at: DateTime<Utc>,
    #[schema(example = "user:ada")]
    actor: String,
    #[schema(value_type = Object)]
    data: Value,
}

/// One task with its history
#[utoipa::path(
    get,
    path = "/v1/tasks/{id}",
    tag = "tasks",
    params(("id" = String, Path, description = "The task's id")),
    responses(
        (status = 200, description = "The task", body = TaskWithHistory),
        (status = 404, description = "`no-such-task`"),
    ),
)]
async fn show_task(
    reader: Reader<TaskBoard>,
    Path(id): Path<String>,
) -> Result<Versioned<TaskWithHistory>, Problem> {
    let mut snapshot = reader.snapshot().await?;
    let task: TaskRow = snapshot
        .query_as(
            "select id, version, title, jira_id, description, assignee, created_by, created_at, completed_at,
                    case when completed_at is null then 'open' else 'done' end as status
               from tasks where tenant = $1 and id = $2 and created_at is not null",
        )
        .bind(&id)
        .fetch_optional()
        .await?
        .ok_or_else(|| not_found("no-such-task", "There is no such task"))?;
    let history = snapshot
        .query_as(
            "select version, event, at, actor, data
               from history where tenant = $1 and id = $2 order by version",
        )
        .bind(&id)
        .fetch_all()
        .await?;
    Ok(Versioned {
        version: StreamVersion(task.version as u64),
        body: TaskWithHistory { task, history },
    })
}

#[cfg(test)]
mod tests;
