//! `bench commands`: each thing beside its limit, in turns, so that both meet the same machine.

use std::time::Duration;

use crate::{
    Result,
    bare_log::BareLog,
    figures::{Figures, Target},
    http::{Assigner, Connection, create_task, get},
    load::{Measured, load},
    pipeline::{Groups, Pipeline},
    reads,
    role::Role,
    world::{DEFAULT_SHARDS, TASKS, World},
};

/// How often a thing and its limit take turns.
const TURNS: u32 = 4;

/// What a command may take beyond a bare append and a bare handler, with nobody else there.
const OWN_SHARE_MS: f64 = 0.2;

#[derive(clap::Args)]
pub struct Options {
    /// Print one JSON object a line: bench, metric, value
    #[arg(long)]
    json: bool,
    /// Let Kafka sync each append to disk, as a database does
    #[arg(long)]
    fsync: bool,
    /// How long each figure is measured
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Shards of the log, and of the bare log beside it
    #[arg(long, default_value_t = DEFAULT_SHARDS, value_parser = clap::value_parser!(u16).range(1..))]
    shards: u16,
    /// Concurrent callers in process, and connections over HTTP
    #[arg(long, value_delimiter = ',', default_values_t = [1, 64, 256])]
    callers: Vec<usize>,
    /// Leave the other parts out
    #[arg(long)]
    only: Option<Part>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The pipeline beside the bare log
    InProcess,
    /// The HTTP API beside a bare handler
    Http,
    /// From a command's answer to the read that shows it
    Reads,
}

pub async fn run(options: Options) -> Result<()> {
    let lasts = Duration::from_secs(1) * options.seconds;
    let world = World::start(options.fsync, options.shards).await?;
    let figures = Figures::new(options.json);
    figures.figure("log", "shards", options.shards.into(), None);
    let wanted = |part| options.only.is_none_or(|only| only == part);
    if wanted(Part::InProcess) {
        in_process(&world, &figures, &options.callers, lasts / TURNS).await?;
    }
    if wanted(Part::Http) {
        over_http(&world, &figures, &options.callers, lasts / TURNS).await?;
    }
    if wanted(Part::Reads) {
        let visible = reads::measure(&world, reads::RATE, lasts).await?;
        let rate = reads::RATE;
        figures.measured(&format!("command at {rate}/s"), &visible.commands);
        figures.measured("answer to visible read", &visible.reads);
    }
    world.stop().await
}

async fn in_process(
    world: &World,
    figures: &Figures,
    callers: &[usize],
    turn: Duration,
) -> Result<()> {
    let mut bare = BareLog::start(world).await?;
    let pipeline = Pipeline::start(world).await?;
    figures.figure(
        "bare log",
        "bytes_per_record",
        bare.record_bytes() as f64,
        None,
    );
    for &callers in callers {
        // One caller keeps one shard busy, at whichever it is.
        let shards = callers.min(world.shards.into());
        let (mut ours, mut limit, mut mean_group) = (Measured::default(), Measured::default(), 0.0);
        for _ in 0..TURNS {
            let (measured, group) = pipeline.measure(callers, turn).await?;
            ours.add(measured);
            limit.add(bare.measure(shards, group, turn).await?);
            mean_group += group / f64::from(TURNS);
        }
        let bench = format!("pipeline, {callers} callers");
        figures.measured(&format!("bare log, {shards} × {mean_group:.1}"), &limit);
        figures.measured(&bench, &ours);
        figures.figure(&bench, "mean_group", mean_group, None);
        let ratio = ours.per_second() / limit.per_second();
        figures.figure(&bench, "ratio", ratio, Some(Target::AtLeast(0.3)));
    }
    pipeline.stop().await
}

async fn over_http(
    world: &World,
    figures: &Figures,
    callers: &[usize],
    turn: Duration,
) -> Result<()> {
    let bare = Role::bare_handler(world).await?;
    let stack = Role::stack(world).await?;
    let service = Role::start(world, "command-service", "http").await?;
    let token = world.token();
    let mut creator = Connection::open(service.address).await?;
    let mut tasks = Vec::with_capacity(TASKS);
    for _ in 0..TASKS {
        tasks.push(create_task(&mut creator, &token).await?);
    }
    for &connections in callers {
        let (mut to_bare, mut to_stack, mut to_service) = (Vec::new(), Vec::new(), Vec::new());
        for first in 0..connections {
            let own = || {
                tasks
                    .iter()
                    .skip(first)
                    .step_by(connections)
                    .cloned()
                    .collect()
            };
            to_bare.push(Assigner::connect(bare.address, &token, own()).await?);
            to_stack.push(Assigner::connect(stack.address, &token, own()).await?);
            to_service.push(Assigner::connect(service.address, &token, own()).await?);
        }
        let mut ours = Measured::default();
        let (mut limit, mut without_shard) = (Measured::default(), Measured::default());
        let before = groups(&mut creator).await?;
        for _ in 0..TURNS {
            ours.add(load(&mut to_service, turn).await?);
            limit.add(load(&mut to_bare, turn).await?);
            without_shard.add(load(&mut to_stack, turn).await?);
        }
        let bench = format!("HTTP API, {connections} connections");
        figures.measured(&format!("bare handler, {connections} connections"), &limit);
        let stack_alone = format!("stack alone, {connections} connections");
        figures.measured(&stack_alone, &without_shard);
        figures.measured(&bench, &ours);
        let mean_group = groups(&mut creator).await?.mean_size_since(before);
        figures.figure(&bench, "mean_group", mean_group, None);
        let ratio = ours.per_second() / limit.per_second();
        let target = (connections >= 64).then_some(Target::AtLeast(0.6));
        figures.figure(&bench, "ratio", ratio, target);
        let ratio = limit.total_cpu_us() / ours.total_cpu_us();
        figures.figure(&bench, "ratio_of_cpu", ratio, None);
        if connections == 1 {
            let append = BareLog::start(world).await?.measure(1, 1.0, turn).await?;
            figures.measured("bare log, 1 × 1.0", &append);
            let median = |measured: &Measured| measured.quantile_ms(0.5);
            let most = Target::AtMost(median(&append) + median(&limit) + OWN_SHARE_MS);
            figures.figure(&bench, "median_ms", median(&ours), Some(most));
        }
    }
    service.stop().await?;
    stack.stop().await?;
    bare.stop().await
}

/// The groups of a service that is reached over this connection.
async fn groups(connection: &mut Connection) -> Result<Groups> {
    let status = connection.ask(&get("/metrics", &[])).await?;
    connection.expect(200, status)?;
    Ok(Groups::told_by(connection.body()))
}
