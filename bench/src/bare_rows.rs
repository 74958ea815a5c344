//! The limit for a projection: the same rows, copied into the same tables and merged, with no log
//! to read, nothing to decode, and no checkpoint.

use std::{fmt::Write, time::Duration};

use event_log::router::partition_of;
use kernel::{StreamId, Tenant};
use sqlx::PgPool;
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

use crate::{Result, pipeline::assignee};

/// Rows of one transaction, about as many as the projector takes at most.
const BATCH: usize = 10_000;

const TABLES: &str = "
    drop schema if exists bare cascade;
    create schema bare;
    create table bare.tasks (
        tenant text not null, id text not null, version bigint not null,
        title text not null default '', description text not null default '',
        created_by text not null default '', created_at timestamptz, assignee text,
        completed_at timestamptz, primary key (tenant, id));
    create index on bare.tasks (tenant, created_at desc, id);
    create index on bare.tasks (tenant, assignee) where completed_at is null;
    create table bare.history (
        tenant text not null, id text not null, version bigint not null, event text not null,
        at timestamptz not null, actor text not null, data jsonb not null,
        primary key (tenant, id, version));
    checkpoint";

/// Each task's last row of a batch, as a batch knows nothing older than itself.
const MERGE: &str = "
    insert into bare.tasks as t (tenant, id, version, title, created_by, created_at, assignee)
    select distinct on (tenant, id) tenant, id, version, title, actor, at, assignee
      from staged order by tenant, id, version desc
    on conflict (tenant, id) do update
       set version = excluded.version, assignee = coalesce(excluded.assignee, t.assignee)";

/// Batches of rows as COPY takes them, by partition.
pub struct BareRows {
    partitions: Vec<Vec<Batch>>,
}

#[derive(Default)]
struct Batch {
    rows: usize,
    history: String,
    tasks: String,
}

impl BareRows {
    pub fn new(tasks: usize, events: usize, partitions: i32) -> Result<Self> {
        let mut all: Vec<Vec<Batch>> = Vec::new();
        all.resize_with(partitions as usize, Vec::new);
        for task in 0..tasks {
            let id = Uuid::from_u128(task as u128).to_string();
            let stream = StreamId::new(&Tenant::default(), "task", &id)?;
            let batches = &mut all[partition_of(&stream, partitions) as usize];
            for event in 0..events {
                if batches.last().is_none_or(|batch| batch.rows >= BATCH) {
                    batches.push(Batch::default());
                }
                if let Some(batch) = batches.last_mut() {
                    batch.push(&id, event, (task * events + event) as u64);
                }
            }
        }
        Ok(Self { partitions: all })
    }

    /// How long so many connections take to write all of them.
    pub async fn write(self, postgres: &PgPool, connections: u32) -> Result<Duration> {
        sqlx::raw_sql(TABLES).execute(postgres).await?;
        let mut lanes: Vec<Vec<Vec<Batch>>> = Vec::new();
        lanes.resize_with(connections as usize, Vec::new);
        for (place, partition) in self.partitions.into_iter().enumerate() {
            lanes[place % connections as usize].push(partition);
        }
        let began = Instant::now();
        let mut writing = JoinSet::new();
        for lane in lanes {
            let postgres = postgres.clone();
            writing.spawn(async move {
                for batch in lane.into_iter().flatten() {
                    batch.write(&postgres).await?;
                }
                Ok::<_, crate::Failure>(())
            });
        }
        while let Some(written) = writing.join_next().await {
            written??;
        }
        Ok(began.elapsed())
    }
}

impl Batch {
    fn push(&mut self, id: &str, event: usize, number: u64) {
        const AT: &str = "2026-11-21T10:00:00Z";
        const ACTOR: &str = "user:manager";
        let version = event + 1;
        let assignee = assignee(number);
        // Writing to a string cannot fail.
        let _ = match event {
            0 => writeln!(
                self.history,
                "main\t{id}\t{version}\tTaskCreated\t{AT}\t{ACTOR}\t\
                 {{\"title\": \"AVRO-12: Sort the records\", \"description\": \"\"}}"
            ),
            _ => writeln!(
                self.history,
                "main\t{id}\t{version}\tTaskAssigned\t{AT}\t{ACTOR}\t\
                 {{\"assignee\": \"{assignee}\"}}"
            ),
        };
        let assignee = if event == 0 { "\\N" } else { &assignee };
        let _ = writeln!(
            self.tasks,
            "main\t{id}\t{version}\tAVRO-12: Sort the records\t{ACTOR}\t{AT}\t{assignee}"
        );
        self.rows += 1;
    }

    async fn write(self, postgres: &PgPool) -> Result<()> {
        let mut transaction = postgres.begin().await?;
        sqlx::raw_sql(
            "create temporary table staged (tenant text, id text, version bigint, title text,
                 actor text, at timestamptz, assignee text) on commit drop",
        )
        .execute(&mut *transaction)
        .await?;
        for (statement, rows) in [
            ("copy bare.history from stdin", self.history),
            ("copy staged from stdin", self.tasks),
        ] {
            let mut copy = transaction.copy_in_raw(statement).await?;
            copy.send(rows.as_bytes()).await?;
            copy.finish().await?;
        }
        sqlx::query(MERGE).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}
