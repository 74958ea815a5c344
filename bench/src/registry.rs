//! `bench registry`: look-ups and registrations, the look-up by id beside the least that could
//! answer it: an axum handler with one statement of sqlx. Then schemas that are made to hurt.

mod hostile;

use std::{
    io::Write,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get as route_get,
};
use event_log::{cluster::Cluster, topics::TopicOptions};
use schema_registry::{Config, Service, TopicConfig};
use serde::Serialize;
use service_kit::SecretUrl;
use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    figures::{Figures, Target},
    http::{Connection, get},
    load::{Caller, Measured, load},
    role::{READY, Role},
    world::{DEFAULT_SHARDS, World},
};

/// How often a thing and its limit take turns.
const TURNS: u32 = 4;
/// Schemas that are there to be looked up.
const SCHEMAS: usize = 500;
/// Versions that a subject gets before the next one begins.
const VERSIONS: u64 = 10;
const POOL: u32 = 8;

#[derive(clap::Args)]
pub struct Options {
    /// Print one JSON object a line: bench, metric, value
    #[arg(long)]
    json: bool,
    /// How long each figure is measured
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Connections that look up, and a quarter of them register
    #[arg(long, default_value_t = 64)]
    connections: usize,
}

pub async fn run(options: Options) -> Result<()> {
    let turn = Duration::from_secs(1) * options.seconds / TURNS;
    let world = World::start(false, DEFAULT_SHARDS).await?;
    let figures = Figures::new(options.json);
    let alone = Role::of_verb(&world, SERVE, &[&world.postgres]).await?;
    let bare = Role::of_verb(&world, BARE, &[&world.postgres]).await?;
    let ids = Arc::new(fill(alone.address).await?);

    let (mut by_id, mut limit) = (Measured::default(), Measured::default());
    let (mut by_schema, mut registered) = (Measured::default(), Measured::default());
    let mut askers = Askers::connect(alone.address, &ids, options.connections).await?;
    let mut to_bare = Askers::connect(bare.address, &ids, options.connections).await?;
    let mut lookers = Lookers::connect(alone.address, options.connections).await?;
    let registering = options.connections.div_ceil(4);
    let mut registrars = Registrars::connect(alone.address, registering).await?;
    for _ in 0..TURNS {
        by_id.add(load(&mut askers, turn).await?);
        limit.add(load(&mut to_bare, turn).await?);
        by_schema.add(load(&mut lookers, turn).await?);
        registered.add(load(&mut registrars, turn).await?);
    }
    let connections = options.connections;
    figures.measured(&format!("bare look-up, {connections} conn."), &limit);
    let name = format!("look-up by id, {connections} conn.");
    figures.measured(&name, &by_id);
    figures.figure(
        &name,
        "per_second",
        by_id.per_second(),
        Some(Target::AtLeast(5_000.0)),
    );
    let ratio = by_id.per_second() / limit.per_second();
    figures.figure(&name, "ratio", ratio, Some(Target::AtLeast(0.6)));
    let name = format!("look-up by schema, {connections} conn.");
    figures.measured(&name, &by_schema);
    let name = format!("registrations, {registering} conn.");
    figures.measured(&name, &registered);
    let target = Some(Target::AtLeast(300.0));
    figures.figure(&name, "per_second", registered.per_second(), target);
    hostile::measure(&alone, &figures).await?;
    alone.stop().await?;
    bare.stop().await?;

    // The same with each registration in the topic before it is answered.
    let kafka = world.kafka.clone();
    let with_topic = Role::of_verb(&world, SERVE, &[&world.postgres, &kafka]).await?;
    let mut registrars = Registrars::connect(with_topic.address, registering).await?;
    let measured = load(&mut registrars, turn * TURNS).await?;
    let name = format!("registrations, topic, {registering} conn.");
    figures.measured(&name, &measured);
    figures.figure(&name, "per_second", measured.per_second(), target);
    with_topic.stop().await?;
    world.stop().await
}

/// The verb under which this binary serves a registry: its address, Postgres, and Kafka if changes
/// are to be written there.
pub const SERVE: &str = "serve-registry";
/// The verb under which it serves the bare handler: its address, and Postgres.
pub const BARE: &str = "bare-look-up";

/// Serves until the process is ended.
pub async fn serve(address: String, postgres: &str, kafka: Option<&str>) -> Result<()> {
    let config = Config {
        address,
        postgres: SecretUrl::new(postgres),
        max_connections: POOL,
        anonymous: Some(schema_registry::Role::Write),
        ..Config::default()
    };
    let mut service = Service::bind(config).await?;
    if let Some(kafka) = kafka {
        service = service.write_to(TopicConfig {
            cluster: Cluster::new(kafka),
            name: TopicConfig::DEFAULT_NAME.into(),
            options: TopicOptions::default(),
        })?;
    }
    service.serve(CancellationToken::new()).await;
    Ok(())
}

#[derive(Serialize)]
struct Found {
    schema: String,
}

/// Serves until the process is ended.
pub async fn serve_bare(address: &str, postgres: &str) -> Result<()> {
    let pool = PgPoolOptions::new()
        .max_connections(POOL)
        .connect(postgres)
        .await?;
    let router = Router::new()
        .route("/schemas/ids/{id}", route_get(look_up))
        .route(READY, route_get(async || ""))
        .with_state(pool);
    Ok(axum::serve(TcpListener::bind(address).await?, router).await?)
}

async fn look_up(
    State(pool): State<PgPool>,
    Path(id): Path<i32>,
) -> std::result::Result<Json<Found>, StatusCode> {
    let found = sqlx::query_scalar("select schema from registry.schemas where id = $1")
        .bind(id)
        .fetch_optional(&pool)
        .await
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    let schema = found.ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(Found { schema }))
}

/// Registers what is looked up later, one schema a subject; gives the ids.
async fn fill(address: SocketAddr) -> Result<Vec<i64>> {
    let mut connection = Connection::open(address).await?;
    let mut ids = Vec::with_capacity(SCHEMAS);
    let mut request = Vec::new();
    for number in 0..SCHEMAS as u64 {
        post(
            &mut request,
            &format!("/subjects/looked-up-{number}/versions"),
            number,
            0,
        )?;
        let status = connection.ask(&request).await?;
        connection.expect(200, status)?;
        let answer: serde_json::Value = serde_json::from_str(connection.body())?;
        ids.push(answer["id"].as_i64().ok_or("no id")?);
    }
    Ok(ids)
}

/// A schema of the size of an event's: ten fields, the last ones new in each version.
fn schema(number: u64, version: u64) -> String {
    let field = |n: u64| format!(r#"{{\"name\":\"f{n}\",\"type\":\"string\",\"default\":\"\"}}"#);
    let fields: Vec<String> = (version..version + 10).map(field).collect();
    format!(
        r#"{{\"type\":\"record\",\"name\":\"Bench{number}\",\"namespace\":\"annals.bench\",\"fields\":[{}]}}"#,
        fields.join(",")
    )
}

fn post(into: &mut Vec<u8>, path: &str, number: u64, version: u64) -> Result<()> {
    let body = format!(r#"{{"schema":"{}"}}"#, schema(number, version));
    let length = body.len();
    into.clear();
    write!(
        into,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: \
         application/vnd.schemaregistry.v1+json\r\ncontent-length: {length}\r\n\r\n{body}"
    )?;
    Ok(())
}

/// Asks for the schemas of ids, one after the other.
struct Askers {
    connection: Connection,
    ids: Arc<Vec<i64>>,
    turn: usize,
}

impl Askers {
    async fn connect(address: SocketAddr, ids: &Arc<Vec<i64>>, count: usize) -> Result<Vec<Self>> {
        let mut askers = Vec::new();
        for turn in 0..count {
            askers.push(Self {
                connection: Connection::open(address).await?,
                ids: ids.clone(),
                turn: turn * 7,
            });
        }
        Ok(askers)
    }
}

impl Caller for Askers {
    async fn call(&mut self) -> Result<u32> {
        self.turn = (self.turn + 1) % self.ids.len();
        let path = format!("/schemas/ids/{}", self.ids[self.turn]);
        let status = self.connection.ask(&get(&path, &[])).await?;
        self.connection.expect(200, status)?;
        Ok(1)
    }
}

/// Asks for the versions of schemas.
struct Lookers {
    connection: Connection,
    request: Vec<u8>,
    turn: u64,
}

impl Lookers {
    async fn connect(address: SocketAddr, count: usize) -> Result<Vec<Self>> {
        let mut lookers = Vec::new();
        for turn in 0..count as u64 {
            lookers.push(Self {
                connection: Connection::open(address).await?,
                request: Vec::new(),
                turn: turn * 7,
            });
        }
        Ok(lookers)
    }
}

impl Caller for Lookers {
    async fn call(&mut self) -> Result<u32> {
        self.turn = (self.turn + 1) % SCHEMAS as u64;
        let path = format!("/subjects/looked-up-{}", self.turn);
        post(&mut self.request, &path, self.turn, 0)?;
        let status = self.connection.ask(&self.request).await?;
        self.connection.expect(200, status)?;
        Ok(1)
    }
}

/// Registers new schemas: ten versions of a subject, and then of the next.
struct Registrars {
    connection: Connection,
    request: Vec<u8>,
    subject: u64,
    version: u64,
}

/// Each number is a subject.
static NEXT: AtomicU64 = AtomicU64::new(1_000_000);

impl Registrars {
    async fn connect(address: SocketAddr, count: usize) -> Result<Vec<Self>> {
        let mut registrars = Vec::new();
        for _ in 0..count {
            registrars.push(Self {
                connection: Connection::open(address).await?,
                request: Vec::new(),
                subject: 0,
                version: VERSIONS,
            });
        }
        Ok(registrars)
    }
}

impl Caller for Registrars {
    async fn call(&mut self) -> Result<u32> {
        self.version += 1;
        if self.version >= VERSIONS {
            self.version = 0;
            self.subject = NEXT.fetch_add(1, Ordering::Relaxed);
        }
        let path = format!("/subjects/registered-{}/versions", self.subject);
        post(&mut self.request, &path, self.subject, self.version)?;
        let status = self.connection.ask(&self.request).await?;
        self.connection.expect(200, status)?;
        Ok(1)
    }
}
