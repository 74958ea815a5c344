//! `bench memory`: what a task stream takes in the memory of its owner while nothing happens to it.

use crate::{
    Result,
    figures::{Figures, Target},
    role::Role,
    stored,
    world::World,
};

const BENCH: &str = "idle task streams";
/// Created and assigned.
const EVENTS_EACH: usize = 2;

#[derive(clap::Args)]
pub struct Options {
    /// Print one JSON object a line: bench, metric, value
    #[arg(long)]
    json: bool,
    /// Tasks in memory
    #[arg(long, default_value_t = 1_000_000)]
    tasks: usize,
}

/// Counts from the difference to a service with half of the streams. In both the window of
/// remembered commands is full, so that it counts for nothing; what it takes is told apart.
pub async fn run(options: Options) -> Result<()> {
    let world = World::start(false).await?;
    let figures = Figures::new(options.json);
    let window = command_service::Config::default().remembered_commands;
    let (all, half) = (options.tasks, options.tasks / 2);
    let partitions = world.generation("all").partitions as usize;
    if half * EVENTS_EACH < window * partitions * 5 / 4 {
        let least = window * partitions * 5 / EVENTS_EACH / 2;
        return Err(format!("too few tasks to tell them apart: at least {least}").into());
    }
    stored::write(&world, "half", half, EVENTS_EACH).await?;
    stored::write(&world, "all", all, EVENTS_EACH).await?;
    let empty = resident(&world, "none").await?;
    let with_half = resident(&world, "half").await?;
    let with_all = resident(&world, "all").await?;
    let each = (with_all - with_half) / (all - half) as f64;
    figures.figure(BENCH, "streams", all as f64, None);
    figures.figure(BENCH, "bytes_each", each, Some(Target::AtMost(400.0)));
    let window_bytes = with_half - empty - each * half as f64;
    let remembered = (window * partitions) as f64;
    let bench = "remembered commands";
    figures.figure(bench, "bytes_each", window_bytes / remembered, None);
    world.stop().await
}

/// Resident memory of a service that has restored this generation and serves it, in bytes.
async fn resident(world: &World, generation: &str) -> Result<f64> {
    let service = Role::start(world, "command-service", generation).await?;
    let bytes = service.resident_bytes()?;
    service.stop().await?;
    Ok(bytes)
}
