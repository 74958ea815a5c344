//! `bench memory`: what a task stream takes in the memory of its owner while nothing happens to it.

use command_service::Config;

use crate::{
    Result,
    figures::{Figures, Target},
    role::Role,
    stored,
    world::{DEFAULT_SHARDS, World},
};

const STREAMS: &str = "idle task streams";
const REMEMBERED: &str = "remembered commands";
/// Created and assigned.
const EVENTS_EACH: usize = 2;
/// How many commands a shard remembers while the streams are weighed: next to none.
const SMALL_WINDOW: usize = 1_000;

#[derive(clap::Args)]
pub struct Options {
    /// Print one JSON object a line: bench, metric, value
    #[arg(long)]
    json: bool,
    /// Tasks in memory
    #[arg(long, default_value_t = 1_000_000)]
    tasks: usize,
}

/// Weighs by differences: to a service with half of the streams, and to one that remembers
/// as many commands as it does by default.
pub async fn run(options: Options) -> Result<()> {
    let world = World::start(false, DEFAULT_SHARDS).await?;
    let figures = Figures::new(options.json);
    let (all, half) = (options.tasks, options.tasks / 2);
    stored::write(&world, "half", half, EVENTS_EACH).await?;
    stored::write(&world, "all", all, EVENTS_EACH).await?;
    let with_half = resident(&world, "half", SMALL_WINDOW).await?;
    let with_all = resident(&world, "all", SMALL_WINDOW).await?;
    let each = (with_all - with_half) / (all - half) as f64;
    figures.figure(STREAMS, "streams", all as f64, None);
    figures.figure(STREAMS, "bytes_each", each, Some(Target::AtMost(400.0)));

    let window = Config::default().remembered_commands;
    let remembering = resident(&world, "all", window).await?;
    let partitions = world.generation("all").partitions as usize;
    let remembered = (all * EVENTS_EACH).min(window * partitions) - SMALL_WINDOW * partitions;
    let each = (remembering - with_all) / remembered as f64;
    figures.figure(REMEMBERED, "bytes_each", each, None);
    world.stop().await
}

/// Resident memory of a service that has restored this generation and serves it, in bytes.
async fn resident(world: &World, generation: &str, window: usize) -> Result<f64> {
    let window = ("ANNALS_COMMANDS__REMEMBERED_COMMANDS", window.to_string());
    let service = Role::start_with(world, "command-service", generation, &[window]).await?;
    let bytes = service.resident_bytes()?;
    service.stop().await?;
    Ok(bytes)
}
