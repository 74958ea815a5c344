//! `bench restore`: how fast a command service has its shards' state again.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    Result,
    reading::{self, Options},
    role::Role,
    world::{DEFAULT_SHARDS, World},
};

pub async fn run(options: Options) -> Result<()> {
    let world = World::start(false, DEFAULT_SHARDS).await?;
    let started = async |generation: &str| started(&world, generation).await;
    reading::compare(&world, &options, "restore", "restored_per_second", started).await?;
    world.stop().await
}

/// How long a command service takes from its start until it serves every shard.
async fn started(world: &World, generation: &str) -> Result<Duration> {
    let began = Instant::now();
    let service = Role::start(world, "command-service", generation).await?;
    let took = began.elapsed();
    service.stop().await?;
    Ok(took)
}
