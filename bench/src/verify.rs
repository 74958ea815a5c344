//! `bench verify`: how fast `annals schema verify` reads a log by a candidate rule and back, by which
//! nine of ten events go.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::Instant};

use crate::{
    Result,
    reading::{self, Options},
    world::{DEFAULT_SHARDS, World},
};

pub async fn run(options: Options) -> Result<()> {
    let world = World::start(false, DEFAULT_SHARDS).await?;
    let schemas = candidate(&world.folder)?;
    let verified = async |generation: &str| verified(&world, &schemas, generation).await;
    reading::compare(&world, &options, "verify", "verified_per_second", verified).await?;
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
