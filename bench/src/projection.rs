//! `bench projection`: events into the board's rows, beside a loop that only copies and merges the
//! same rows; and from a command's answer to the read that shows it.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgPoolOptions};
use tokio::time::{Instant, sleep};

use crate::{
    Result,
    bare_rows::BareRows,
    figures::{Figures, Target},
    reads,
    role::Role,
    stored,
    world::{DEFAULT_SHARDS, World},
};

/// Events of each task: it is created and then assigned, again and again.
const EVENTS_OF_A_TASK: usize = 5;
/// How often ours and the limit take turns.
const TURNS: usize = 2;
/// Commands a second for the way to a visible read.
const RATE: u32 = 500;

#[derive(clap::Args)]
pub struct Options {
    /// Print one JSON object a line: bench, metric, value
    #[arg(long)]
    json: bool,
    /// Events of each turn
    #[arg(long, default_value_t = 300_000)]
    events: usize,
    /// How long the way to a visible read is measured
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Transactions at the same time, of ours and of the limit
    #[arg(long, default_value_t = 4)]
    connections: u32,
    /// Leave the way to a visible read out
    #[arg(long)]
    throughput_only: bool,
}

pub async fn run(options: Options) -> Result<()> {
    let world = World::start(false, DEFAULT_SHARDS).await?;
    let figures = Figures::new(options.json);
    let postgres = PgPoolOptions::new()
        .max_connections(options.connections + 1)
        .connect(&world.postgres)
        .await?;
    let tasks = options.events / EVENTS_OF_A_TASK;
    let events = tasks * EVENTS_OF_A_TASK;
    let (mut ours, mut beside, mut limit) = (0.0, 0.0, 0.0);
    for turn in 0..TURNS {
        let name = format!("projection-{turn}");
        stored::write(&world, &name, tasks, EVENTS_OF_A_TASK).await?;
        let rows = BareRows::new(tasks, EVENTS_OF_A_TASK, world.shards.into())?;
        limit += per_second(events, rows.write(&postgres, options.connections).await?);
        let projection = Projection {
            world: &world,
            postgres: &postgres,
            generation: &name,
            connections: options.connections,
            events,
        };
        ours += per_second(events, projection.time(&["task-board"]).await?);
        let both = ["task-board", "stream-index"];
        beside += per_second(events, projection.time(&both).await?);
    }
    let turns = TURNS as f64;
    figures.figure("bare copy and merge", "per_second", limit / turns, None);
    let target = Target::AtLeast(50_000.0);
    figures.figure("projection", "per_second", ours / turns, Some(target));
    let target = Target::AtLeast(0.5);
    figures.figure("projection", "ratio", ours / limit, Some(target));
    figures.figure(
        "beside the stream index",
        "per_second",
        beside / turns,
        None,
    );

    if !options.throughput_only {
        let lasts = Duration::from_secs(options.seconds);
        let visible = reads::measure(&world, RATE, lasts).await?;
        figures.measured(&format!("command at {RATE}/s"), &visible.commands);
        figures.measured("answer to visible read", &visible.reads);
        let within = |share| visible.reads.quantile_ms(share);
        for (metric, share, most) in [("p50_ms", 0.5, 20.0), ("p99_ms", 0.99, 80.0)] {
            let target = Some(Target::AtMost(most));
            figures.figure("answer to visible read", metric, within(share), target);
        }
    }
    postgres.close().await;
    world.stop().await
}

fn per_second(events: usize, took: Duration) -> f64 {
    events as f64 / took.as_secs_f64()
}

/// A projector that finds a whole log.
struct Projection<'a> {
    world: &'a World,
    postgres: &'a PgPool,
    generation: &'a str,
    connections: u32,
    events: usize,
}

impl Projection<'_> {
    /// From the first checkpoint that moves until all rows of all these models are there.
    async fn time(&self, models: &[&str]) -> Result<Duration> {
        self.forget().await?;
        let models: Vec<_> = models.iter().map(|model| format!("{model:?}")).collect();
        let models = format!("[{}]", models.join(", "));
        let settings = [
            ("ANNALS_PROJECTOR__MODELS", models),
            (
                "ANNALS_PROJECTOR__CONNECTIONS",
                self.connections.to_string(),
            ),
        ];
        let projector = Role::start_with(self.world, "projector", self.generation, &settings);
        let projector = projector.await?;
        let began = loop {
            if self.projected().await?.is_some_and(|least| least > 0) {
                break Instant::now();
            }
            sleep(Duration::from_millis(2)).await;
        };
        // Some of it was projected before we saw it.
        let before = self.projected().await?.unwrap_or(0);
        while self.projected().await?.unwrap_or(0) < self.events as i64 {
            sleep(Duration::from_millis(10)).await;
        }
        let took = began.elapsed();
        projector.stop().await?;
        let share = 1.0 - before as f64 / self.events as f64;
        Ok(took.div_f64(share))
    }

    /// How far the model is that is behind the others.
    async fn projected(&self) -> Result<Option<i64>> {
        let least = sqlx::query_scalar(
            "select min(sum)::bigint from (select sum(next_offset) from annals.checkpoints
                 where topic like '%.' || $1 group by model) as models",
        )
        .bind(self.generation)
        .fetch_one(self.postgres)
        .await;
        // Before the projector has made its tables there is nothing to ask.
        Ok(least.unwrap_or(None))
    }

    /// What an earlier run has built.
    async fn forget(&self) -> Result<()> {
        sqlx::raw_sql(
            "drop schema if exists annals cascade;
             drop schema if exists rm_task_board_e1 cascade;
             drop schema if exists rm_stream_index_e1 cascade;
             checkpoint",
        )
        .execute(self.postgres)
        .await?;
        Ok(())
    }
}
