//! Thousands who follow: what each of them costs, and how long a change takes to all of them.

use std::{net::SocketAddr, time::Duration};

use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    Result,
    figures::{Figures, Target},
    http::{Assigner, Connection, create_task},
    role::Role,
    world::{DEFAULT_SHARDS, World},
};

const GENERATION: &str = "following";
const BENCH: &str = "following";
/// So many connections are opened at a time.
const OPENING: usize = 50;
const TOLD_WITHIN: Duration = Duration::from_secs(30);
/// Between two changes, so that each finds everything idle.
const PAUSE: Duration = Duration::from_millis(100);

#[derive(Args)]
pub struct Options {
    /// One JSON object a line: bench, metric, value
    #[arg(long)]
    json: bool,
    /// Followers of a task to which nothing happens
    #[arg(long, default_value_t = 5_000)]
    idle: usize,
    /// Followers of a task that changes
    #[arg(long, default_value_t = 1_000)]
    told: usize,
    /// How often it changes
    #[arg(long, default_value_t = 200)]
    changes: usize,
}

pub async fn run(options: Options) -> Result<()> {
    let world = World::start(false, DEFAULT_SHARDS).await?;
    let figures = Figures::new(options.json);
    let commands = Role::start(&world, "command-service", GENERATION).await?;
    let projector = Role::start(&world, "projector", GENERATION).await?;
    let enough = (2 * (options.idle + options.told)).to_string();
    let limits = [
        "ANNALS_QUERIES__FOLLOWING__ALL",
        "ANNALS_QUERIES__FOLLOWING__OF_ONE_TENANT",
        "ANNALS_QUERIES__FOLLOWING__OF_ONE_ADDRESS",
        "ANNALS_QUERIES__CLIENT_CONNECTIONS",
        "ANNALS_QUERIES__CLIENT_CONNECTIONS_OF_ONE_ADDRESS",
    ]
    .map(|name| (name, enough.clone()));
    let queries = Role::start_with(&world, "query-service", GENERATION, &limits).await?;
    let token = world.token();
    let mut creator = Connection::open(commands.address).await?;
    let idle = create_task(&mut creator, &token).await?;
    let busy = create_task(&mut creator, &token).await?;
    let address = queries.address;
    visible(address, &token, &busy).await?;

    let before = queries.resident_bytes()?;
    let (told, mut hears) = mpsc::unbounded_channel();
    let began = Instant::now();
    let _idle = open(address, &token, &idle, options.idle, None).await?;
    let took = began.elapsed().as_secs_f64();
    let with_idle = queries.resident_bytes()?;
    figures.figure(BENCH, "idle_followers", options.idle as f64, None);
    figures.figure(BENCH, "opened_per_second", options.idle as f64 / took, None);
    let megabytes = with_idle / 1e6;
    figures.figure(BENCH, "resident_mb", megabytes, Some(Target::AtMost(300.0)));
    let each = (with_idle - before) / options.idle as f64;
    figures.figure(BENCH, "bytes_each", each, None);

    let _told = open(address, &token, &busy, options.told, Some(told)).await?;
    let mut assigner = Assigner::connect(commands.address, &token, vec![busy]).await?;
    let mut to_all = Vec::new();
    let mut to_each = Vec::new();
    for _ in 0..options.changes {
        sleep(PAUSE).await;
        assigner.assign().await?;
        let answered = Instant::now();
        let mut last = answered;
        for _ in 0..options.told {
            let heard = timeout(TOLD_WITHIN, hears.recv()).await?;
            let heard: Instant = heard.ok_or("nobody hears any more")?;
            to_each.push(heard.saturating_duration_since(answered));
            last = last.max(heard);
        }
        to_all.push(last - answered);
    }
    figures.figure(BENCH, "told_followers", options.told as f64, None);
    figures.figure(
        BENCH,
        "to_each_p50_ms",
        quantile_ms(&mut to_each, 0.5),
        None,
    );
    figures.figure(BENCH, "to_all_p50_ms", quantile_ms(&mut to_all, 0.5), None);
    let p99 = quantile_ms(&mut to_all, 0.99);
    figures.figure(BENCH, "to_all_p99_ms", p99, Some(Target::AtMost(100.0)));
    for role in [queries, projector, commands] {
        role.stop().await?;
    }
    world.stop().await
}

/// Opens so many followers of a task, each of which tells when it hears of a change.
async fn open(
    address: SocketAddr,
    token: &str,
    task: &str,
    count: usize,
    told: Option<mpsc::UnboundedSender<Instant>>,
) -> Result<JoinSet<Result<()>>> {
    let mut followers = JoinSet::new();
    let mut opening = JoinSet::new();
    for _ in 0..count {
        if opening.len() >= OPENING {
            followers.spawn(listen(opened(&mut opening).await?, told.clone()));
        }
        opening.spawn(follow(address, token.to_owned(), task.to_owned()));
    }
    while !opening.is_empty() {
        followers.spawn(listen(opened(&mut opening).await?, told.clone()));
    }
    Ok(followers)
}

async fn opened(opening: &mut JoinSet<Result<TcpStream>>) -> Result<TcpStream> {
    let opened = opening.join_next().await.ok_or("nothing is opened")?;
    opened?
}

async fn follow(address: SocketAddr, token: String, task: String) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    let head = format!(
        "GET /v1/tasks/{task} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         accept: text/event-stream\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await?;
    let mut answer = Vec::new();
    while !contains(&answer, b"event: state") {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(format!("refused: {}", String::from_utf8_lossy(&answer)).into());
        }
    }
    Ok(stream)
}

async fn listen(mut stream: TcpStream, told: Option<mpsc::UnboundedSender<Instant>>) -> Result<()> {
    let mut heard = [0; 2048];
    loop {
        let read = stream.read(&mut heard).await?;
        if read == 0 {
            return Err("a follower was dropped".into());
        }
        if let Some(told) = &told
            && contains(&heard[..read], b"event: change")
        {
            told.send(Instant::now())?;
        }
    }
}

async fn visible(address: SocketAddr, token: &str, task: &str) -> Result<()> {
    let deadline = Instant::now() + TOLD_WITHIN;
    let bearer = format!("Bearer {token}");
    let request = crate::http::get(&format!("/v1/tasks/{task}"), &[("authorization", &*bearer)]);
    let mut connection = Connection::open(address).await?;
    while connection.ask(&request).await? != 200 {
        if Instant::now() > deadline {
            return Err("a task does not show up".into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn quantile_ms(took: &mut [Duration], share: f64) -> f64 {
    took.sort();
    let index = (share * took.len().saturating_sub(1) as f64).round() as usize;
    took.get(index).map_or(0.0, |took| took.as_secs_f64() * 1e3)
}
