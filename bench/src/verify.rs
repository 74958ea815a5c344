//! `bench verify`: how fast `annals schema verify` reads a log by a candidate rule and back, beside
//! a consumer that decodes the same records and does nothing with them.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::Instant};

use crate::{
    Result,
    figures::{Figures, Target},
    restore::{consumed, rate},
    stored,
    world::{DEFAULT_SHARDS, World},
};

const BENCH: &str = "verify";
const EVENTS_EACH: usize = 10;

#[derive(clap::Args)]
pub struct Options {
    /// Print one JSON object a line: bench, metric, value
    #[arg(long)]
    json: bool,
    /// Tasks in the log, of ten events each, nine of which go by the rule
    #[arg(long, default_value_t = 100_000)]
    tasks: usize,
    /// How often both take turns
    #[arg(long, default_value_t = 3)]
    turns: u32,
}

pub async fn run(options: Options) -> Result<()> {
    let world = World::start(false, DEFAULT_SHARDS).await?;
    let figures = Figures::new(options.json);
    stored::write(&world, BENCH, options.tasks, EVENTS_EACH).await?;
    let records = options.tasks * EVENTS_EACH;
    let schemas = candidate(&world.folder)?;
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..options.turns {
        // What starting takes without a log counts for nothing.
        let empty = verified(&world, &schemas, "nothing").await?;
        let full = verified(&world, &schemas, BENCH).await?;
        ours.push(full.saturating_sub(empty));
        limit.push(consumed(&world, BENCH, records).await?);
    }
    let (ours, limit) = (rate(records, &mut ours), rate(records, &mut limit));
    figures.figure(BENCH, "records", records as f64, None);
    figures.figure(BENCH, "consumed_per_second", limit, None);
    figures.figure(BENCH, "verified_per_second", ours, None);
    figures.figure(BENCH, "ratio", ours / limit, Some(Target::AtLeast(0.5)));
    world.stop().await
}

/// The schema files of the tasks, and a version of `TaskAssigned` with its field under another name.
fn candidate(folder: &Path) -> Result<PathBuf> {
    let (context, schemas) = (tasks::context(), folder.join("candidate"));
    let tasks = schemas.join("tasks");
    std::fs::create_dir_all(&tasks)?;
    for file in context.schemas().files() {
        let name = format!("{}.v{}", file.event, file.version);
        std::fs::write(tasks.join(format!("{name}.avsc")), &file.text)?;
        if let Some(migration) = &file.migration {
            let text = migration.to_text();
            std::fs::write(tasks.join(format!("{name}.migration.json")), text)?;
        }
    }
    let newest = context.schemas().current("TaskAssigned");
    let newest = newest.ok_or("there is no TaskAssigned")?;
    let next = format!("TaskAssigned.v{}", newest.version + 1);
    let renamed = newest.text.replace("\"assignee\"", "\"worker\"");
    std::fs::write(tasks.join(format!("{next}.avsc")), renamed)?;
    let rule = r#"{"upgrade":{"type":"ANNALS","operations":[{"op":"rename","from":"assignee","to":"worker"}]}}"#;
    std::fs::write(tasks.join(format!("{next}.migration.json")), rule)?;
    Ok(schemas)
}

/// How long `annals schema verify` takes, from its start to its end.
async fn verified(world: &World, schemas: &Path, generation: &str) -> Result<Duration> {
    let began = Instant::now();
    let output = Command::new(std::env::current_exe()?)
        .args(["schema", "verify", "--schemas"])
        .arg(schemas)
        .current_dir(&world.folder)
        .env("ANNALS_KAFKA", &world.kafka)
        .env("ANNALS_REGISTRY", &world.registry)
        .env("ANNALS_GENERATION", generation)
        .env("ANNALS_DATA", &world.folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let took = began.elapsed();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("annals schema verify failed: {said}").into());
    }
    Ok(took)
}
