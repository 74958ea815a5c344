//! A context as its author writes it, and the projector's hand on its tables.

use event_log::Recorded;
use kernel::StreamVersion;
use projector::{
    ReadModel,
    read_side::{CHANNEL, CheckpointMoved, Edition},
};
use query_service::{
    Changes, Followable, Listed, Page, PageParams, Query, Reader, Reads, Versioned, not_found,
};
use serde::{Deserialize, Serialize};
use service_kit::{Problem, extract::Path};
use sqlx::{AssertSqlSafe, FromRow, PgConnection, PgPool};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

pub const TOPIC: &str = "annals.board.events.1";

pub struct Board;

#[derive(Serialize, Deserialize, Clone, Debug, PartialEq)]
pub enum Nothing {}

impl ReadModel for Board {
    const NAME: &'static str = "test-board";
    const VERSION: u32 = 1;
    const CONTEXTS: &'static [&'static str] = &["board"];
    const TABLES: &'static str = "
        create table tasks (
            tenant  text not null,
            id      int not null,
            title   text not null,
            done    bool not null default false,
            version bigint not null default 1,
            primary key (tenant, id)
        )";
    type Event = Nothing;

    async fn project(_: &[Recorded<Nothing>], _: &mut PgConnection) -> Result<(), sqlx::Error> {
        Ok(())
    }
}

pub fn queries() -> OpenApiRouter<Reads> {
    OpenApiRouter::new()
        .routes(routes!(list_tasks).followed::<Board>(Changes::All))
        .routes(routes!(show_task).followed::<Board>(Changes::OfKey("id")))
        .routes(routes!(count_twice))
        .routes(routes!(forget_the_tenant))
        .routes(routes!(forget_the_tenant_too))
        .routes(routes!(take_long))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct TaskFilter {
    /// Part of the title
    search: Option<String>,
    /// Only those that are done, or not done
    done: Option<bool>,
}

#[derive(FromRow, Serialize, ToSchema)]
struct TaskRow {
    id: i32,
    title: String,
    done: bool,
    #[serde(skip)]
    version: i64,
}

impl Listed for TaskRow {
    const LIST: &'static str = "tasks by title and id";
    type Key = (String, i32);

    fn key(&self) -> Self::Key {
        (self.title.clone(), self.id)
    }
}

/// All tasks, by title.
#[utoipa::path(get, path = "/v1/tasks", params(TaskFilter, PageParams<TaskRow>), responses((status = 200, body = Page<TaskRow>)))]
async fn list_tasks(
    reads: Reader<Board>,
    Query(filter): Query<TaskFilter>,
    page: PageParams<TaskRow>,
) -> Result<Page<TaskRow>, Problem> {
    let mut db = reads.snapshot().await?;
    let (title, id) = page.after.clone().unzip();
    let rows = db
        .query_as(
            "select id, title, done, version from tasks
             where tenant = $1
               and ($2::text is null or strpos(title, $2) > 0)
               and ($3::bool is null or done = $3)
               and ($4::text is null or (title, id) > ($4, $5))
             order by title, id limit $6",
        )
        .bind(filter.search)
        .bind(filter.done)
        .bind(title)
        .bind(id)
        .bind(page.rows())
        .fetch_all()
        .await?;
    db.page(&page, rows).await
}

/// One task.
#[utoipa::path(get, path = "/v1/tasks/{id}", params(("id" = i32, Path)), responses((status = 200, body = TaskRow)))]
async fn show_task(
    reads: Reader<Board>,
    Path(id): Path<i32>,
) -> Result<Versioned<TaskRow>, Problem> {
    let mut db = reads.snapshot().await?;
    let task: Option<TaskRow> = db
        .query_as("select id, title, done, version from tasks where tenant = $1 and id = $2")
        .bind(id)
        .fetch_optional()
        .await?;
    let task = task.ok_or_else(|| not_found("task-not-found", format!("there is no task {id}")))?;
    Ok(Versioned {
        version: StreamVersion(task.version as u64),
        body: task,
    })
}

/// Counts, lets somebody else write, and counts again.
#[utoipa::path(get, path = "/v1/counts", responses((status = 200, body = Vec<i64>)))]
async fn count_twice(reads: Reader<Board>) -> Result<axum::Json<Vec<i64>>, Problem> {
    let count = "select count(*) from tasks where tenant = $1";
    let mut db = reads.snapshot().await?;
    let (before,): (i64,) = db.query_as(count).fetch_one().await?;
    // Until the test, which holds this lock, has written and let it go.
    let _: (bool,) = db
        .query_as("select pg_advisory_lock_shared(7) is not null and $1 <> ''")
        .fetch_one()
        .await?;
    let (after,): (i64,) = db.query_as(count).fetch_one().await?;
    Ok(axum::Json(vec![before, after]))
}

/// A mistake of an author.
#[utoipa::path(get, path = "/v1/forgetful", responses((status = 200, body = Vec<i32>)))]
async fn forget_the_tenant(reads: Reader<Board>) -> Result<axum::Json<Vec<i32>>, Problem> {
    let mut db = reads.snapshot().await?;
    let rows: Vec<(i32,)> = db.query_as("select id from tasks").fetch_all().await?;
    Ok(axum::Json(rows.into_iter().map(|row| row.0).collect()))
}

/// The same with another parameter.
#[utoipa::path(get, path = "/v1/forgetful/{id}", params(("id" = i32, Path)), responses((status = 200, body = Vec<i32>)))]
async fn forget_the_tenant_too(
    reads: Reader<Board>,
    Path(id): Path<i32>,
) -> Result<axum::Json<Vec<i32>>, Problem> {
    let mut db = reads.snapshot().await?;
    let rows: Vec<(i32,)> = db
        .query_as("select id from tasks where id >= $2")
        .bind(id)
        .fetch_all()
        .await?;
    Ok(axum::Json(rows.into_iter().map(|row| row.0).collect()))
}

/// A query without an index.
#[utoipa::path(get, path = "/v1/slow", responses((status = 200)))]
async fn take_long(reads: Reader<Board>) -> Result<(), Problem> {
    let mut db = reads.snapshot().await?;
    let _: (bool,) = db
        .query_as("select pg_sleep(600) is null and $1 <> ''")
        .fetch_one()
        .await?;
    Ok(())
}

/// The table that the projector gives every edition beside the model's own.
const CHANGES: &str = r#"
    create table changes (
        tenant text not null, key text not null, topic text not null, partition integer not null,
        "offset" bigint not null, stream text not null, version bigint not null
    );
    create index changes_by_position on changes (partition, "offset");
    create index changes_of_key on changes (hashtext(key), partition, "offset")"#;

/// Makes the tables of an edition, with a checkpoint at 0 in each of two partitions.
pub async fn build(postgres: &PgPool, number: i32) {
    build_with(postgres, number, Board::TABLES).await;
}

pub async fn build_with(postgres: &PgPool, number: i32, tables: &str) {
    let edition = edition(number);
    let schema = edition.schema();
    let statements = format!(
        "create schema {schema}; set search_path to {schema}; {tables}; {CHANGES}; reset search_path"
    );
    let mut connection = postgres.acquire().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(&mut *connection)
        .await
        .unwrap();
    sqlx::query(
        "insert into annals.editions (model, edition, version, tables) values ($1, $2, $3, $4)",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .bind(edition.version)
    .bind(tables)
    .execute(&mut *connection)
    .await
    .unwrap();
    for partition in 0..2 {
        sqlx::query(
            "insert into annals.checkpoints (model, edition, topic, partition, topic_id, next_offset, term)
             values ($1, $2, $3, $4, gen_random_uuid(), 0, 0)",
        )
        .bind(&edition.model)
        .bind(edition.number)
        .bind(TOPIC)
        .bind(partition)
        .execute(&mut *connection)
        .await
        .unwrap();
    }
}

pub async fn activate(postgres: &PgPool, number: i32) {
    sqlx::query(
        "insert into annals.active_editions (model, edition) values ($1, $2)
         on conflict (model) do update set edition = excluded.edition",
    )
    .bind(Board::NAME)
    .bind(number)
    .execute(postgres)
    .await
    .unwrap();
}

/// Writes tasks of the tenant `main` and moves the checkpoint of partition 0 of edition 1, in
/// one transaction, and tells nobody.
pub async fn project(postgres: &PgPool, next_offset: i64, tasks: &[(i32, &str)]) {
    project_for(postgres, "main", 1, next_offset, tasks).await;
}

pub async fn project_for(
    postgres: &PgPool,
    tenant: &str,
    number: i32,
    next_offset: i64,
    tasks: &[(i32, &str)],
) {
    let edition = edition(number);
    let mut transaction = postgres.begin().await.unwrap();
    sqlx::query(
        "update annals.checkpoints set next_offset = $4
         where model = $1 and edition = $2 and topic = $3 and partition = 0",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .bind(TOPIC)
    .bind(next_offset)
    .execute(&mut *transaction)
    .await
    .unwrap();
    edition.enter(&mut transaction).await.unwrap();
    for (id, title) in tasks {
        sqlx::query("insert into tasks (tenant, id, title) values ($1, $2, $3)")
            .bind(tenant)
            .bind(id)
            .bind(title)
            .execute(&mut *transaction)
            .await
            .unwrap();
    }
    transaction.commit().await.unwrap();
}

/// Changes of tasks of the tenant `main`, by events of a stream each, in this partition of edition
/// 1 from the offset where its checkpoint is; tells of them.
pub async fn change(postgres: &PgPool, partition: i32, tasks: &[i32]) {
    change_of("main", 1, postgres, partition, tasks).await;
}

pub async fn change_of(
    tenant: &str,
    number: i32,
    postgres: &PgPool,
    partition: i32,
    tasks: &[i32],
) {
    let edition = edition(number);
    let mut transaction = postgres.begin().await.unwrap();
    edition.enter(&mut transaction).await.unwrap();
    let next_offset: i64 = sqlx::query_scalar(
        r#"with changed as (
               insert into changes
               select $1, id::text, $2, $3, c.next_offset + place - 1,
                      $1 || '/task/' || id, c.next_offset + place
                 from unnest($4::int[]) with ordinality as t (id, place), annals.checkpoints as c
                where (c.model, c.edition, c.topic, c.partition) = ($5, $6, $2, $3))
           update annals.checkpoints set next_offset = next_offset + cardinality($4)
            where (model, edition, topic, partition) = ($5, $6, $2, $3) returning next_offset"#,
    )
    .bind(tenant)
    .bind(TOPIC)
    .bind(partition)
    .bind(tasks)
    .bind(&edition.model)
    .bind(edition.number)
    .fetch_one(&mut *transaction)
    .await
    .unwrap();
    transaction.commit().await.unwrap();
    tell_of(postgres, number, partition, next_offset).await;
}

/// What the projector tells after its commit.
pub async fn tell(postgres: &PgPool, next_offset: i64) {
    tell_of(postgres, 1, 0, next_offset).await;
}

async fn tell_of(postgres: &PgPool, edition: i32, partition: i32, next_offset: i64) {
    let moved = CheckpointMoved {
        model: Board::NAME.into(),
        edition,
        topic: TOPIC.into(),
        partition,
        next_offset,
    };
    sqlx::query("select pg_notify($1, $2)")
        .bind(CHANNEL)
        .bind(serde_json::to_string(&moved).unwrap())
        .execute(postgres)
        .await
        .unwrap();
}

fn edition(number: i32) -> Edition {
    Edition {
        model: Board::NAME.into(),
        number,
        version: Board::VERSION as i32,
    }
}
