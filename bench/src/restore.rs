//! `bench restore`: how fast a command service has its shards' state again, beside a consumer
//! that decodes the same records and does nothing with them.

use std::{sync::Arc, time::Duration};

use event_log::{
    Position,
    avro::EventCodec,
    consume::{Arrival, Consumer, PartitionFeed},
};
use tasks::TaskEvent;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Result,
    figures::{Figures, Target},
    role::Role,
    stored,
    world::{DEFAULT_SHARDS, World},
};

const BENCH: &str = "restore";
const EVENTS_EACH: usize = 10;

#[derive(clap::Args)]
pub struct Options {
    /// Print one JSON object a line: bench, metric, value
    #[arg(long)]
    json: bool,
    /// Tasks in the log, of ten events each
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
    // The first start makes what is missing; what starting takes without a log counts for nothing.
    started(&world, "nothing").await?;
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..options.turns {
        let empty = started(&world, "nothing").await?;
        let full = started(&world, BENCH).await?;
        ours.push(full.saturating_sub(empty));
        limit.push(consumed(&world, BENCH, records).await?);
    }
    let (ours, limit) = (rate(records, &mut ours), rate(records, &mut limit));
    figures.figure(BENCH, "records", records as f64, None);
    figures.figure(BENCH, "consumed_per_second", limit, None);
    figures.figure(BENCH, "restored_per_second", ours, None);
    figures.figure(BENCH, "ratio", ours / limit, Some(Target::AtLeast(0.5)));
    world.stop().await
}

/// By the median: whoever starts first warms the file cache for all.
pub fn rate(records: usize, took: &mut [Duration]) -> f64 {
    took.sort_unstable();
    records as f64 / took[took.len() / 2].as_secs_f64()
}

/// How long a command service takes from its start until it serves every shard.
async fn started(world: &World, generation: &str) -> Result<Duration> {
    let began = Instant::now();
    let service = Role::start(world, "command-service", generation).await?;
    let took = began.elapsed();
    service.stop().await?;
    Ok(took)
}

/// How long a consumer takes to read and decode the whole log.
pub async fn consumed(world: &World, generation: &str, records: usize) -> Result<Duration> {
    let (context, registry) = (tasks::context(), world.registry()?);
    let codec = EventCodec::<TaskEvent>::connect(&[context.schemas()], &registry).await?;
    let codec = Arc::new(codec);
    let generation = world.generation(generation);
    let from: Vec<_> = (0..generation.partitions)
        .map(|partition| Position {
            topic: generation.events_topic("tasks"),
            partition,
            offset: 0,
        })
        .collect();
    let began = Instant::now();
    let (consumer, feeds) = Consumer::open(&world.cluster(), "bench", &from)?;
    let mut readers = JoinSet::new();
    for feed in feeds {
        readers.spawn(decode_all(feed, codec.clone()));
    }
    let mut decoded = 0;
    loop {
        tokio::select! {
            error = consumer.attend() => return Err(error.into()),
            reader = readers.join_next() => match reader {
                Some(read) => decoded += read??,
                None => break,
            },
        }
    }
    let took = began.elapsed();
    consumer.close().await;
    if decoded != records {
        return Err(format!("{decoded} records were read instead of {records}").into());
    }
    Ok(took)
}

async fn decode_all(feed: PartitionFeed, codec: Arc<EventCodec<TaskEvent>>) -> Result<usize> {
    let mut decoded = 0;
    loop {
        match feed.next().await? {
            Arrival::End => return Ok(decoded),
            Arrival::Record(record) => {
                let envelope = record.envelope?;
                let event = codec.decode(&envelope.event_type, &record.value)?;
                std::hint::black_box(event);
                decoded += 1;
            }
        }
    }
}
