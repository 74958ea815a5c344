//! The board: every task as it is now, and what happened to it.

use std::collections::BTreeMap;

use annals::read_model::{PgConnection, ReadModel, Recorded};
use annals::{DateTime, Utc};
use serde_json::{Value, json};

use super::task::TaskEvent;

pub(crate) struct TaskBoard;

impl ReadModel for TaskBoard {
    const NAME: &'static str = "task-board";
    const VERSION: u32 = 1;
    const CONTEXTS: &'static [&'static str] = &["tasks"];
    const TABLES: &'static str = "
        create table tasks (
            tenant       text not null,
            id           text not null,
            version      bigint not null,
            title        text not null default '',
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
                description,
                status: _,
            } => {
                task.title.clone_from(title);
                task.description.clone_from(description);
                task.created_by.clone_from(&actor);
                task.created_at = Some(envelope.time);
                json!({ "title": title, "description": description })
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
        let assignees: Vec<_> = tasks.iter().map(|task| task.assignee.clone()).collect();
        sqlx::query(
            "insert into tasks (tenant, id, version, title, description, created_by, created_at,
                                assignee, completed_at)
             select * from unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[],
                                  $6::text[], $7::timestamptz[], $8::text[], $9::timestamptz[])
             on conflict (tenant, id) do update set
                version = excluded.version,
                assignee = coalesce(excluded.assignee, tasks.assignee),
                completed_at = coalesce(excluded.completed_at, tasks.completed_at)",
        )
        .bind(tenants)
        .bind(ids)
        .bind(versions)
        .bind(texts(|task| &task.title))
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
