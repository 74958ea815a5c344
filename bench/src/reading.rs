//! How fast a log is read by something, beside a consumer that decodes the same records and does
//! nothing with them.

use std::{sync::Arc, time::Duration};

use event_log::{
    avro::EventCodec,
    consume::{Arrival, Consumer, PartitionFeed},
};
use tasks::TaskEvent;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Result,
    figures::{Figures, Target},
    stored,
    world::World,
};

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

/// Writes a log and has it read in turns. `read` answers how long it took with the log of this
/// generation, its own start included: what that takes with no log counts for nothing.
pub async fn compare(
    world: &World,
    options: &Options,
    bench: &str,
    metric: &str,
    read: impl AsyncFn(&str) -> Result<Duration>,
) -> Result<()> {
    let figures = Figures::new(options.json);
    stored::write(world, bench, options.tasks, EVENTS_EACH).await?;
    let records = options.tasks * EVENTS_EACH;
    // The first start makes what is missing.
    read("nothing").await?;
    let (mut ours, mut limit) = (Vec::new(), Vec::new());
    for _ in 0..options.turns {
        let empty = read("nothing").await?;
        let full = read(bench).await?;
        ours.push(full.saturating_sub(empty));
        limit.push(consumed(world, bench, records).await?);
    }
    let (ours, limit) = (rate(records, &mut ours), rate(records, &mut limit));
    figures.figure(bench, "records", records as f64, None);
    figures.figure(bench, "consumed_per_second", limit, None);
    figures.figure(bench, metric, ours, None);
    figures.figure(bench, "ratio", ours / limit, Some(Target::AtLeast(0.5)));
    Ok(())
}

/// By the median: whoever starts first warms the file cache for all.
fn rate(records: usize, took: &mut [Duration]) -> f64 {
    took.sort_unstable();
    records as f64 / took[took.len() / 2].as_secs_f64()
}

/// How long a consumer takes to read and decode the whole log.
async fn consumed(world: &World, generation: &str, records: usize) -> Result<Duration> {
    let (context, registry) = (tasks::context(), world.registry()?);
    let codec = EventCodec::<TaskEvent>::connect(&[context.schemas()], &registry).await?;
    let codec = Arc::new(codec);
    let generation = world.generation(generation);
    let from = generation.beginnings(&generation.events_topic("tasks"));
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
