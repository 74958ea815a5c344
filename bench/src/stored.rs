//! A log of tasks that was written past the command side, but is as if it had come through it:
//! what a restart finds.

use std::sync::Arc;

use event_log::{
    append::Appender,
    avro::EventCodec,
    batch::BatchBuilder,
    envelope::CommandHeaders,
    fence::take_over,
    fetch::PartitionReader,
    router::partition_of,
    topics::{Generation, Purpose, ensure_topic},
};
use kernel::{Meta, StreamVersion};
use tasks::{TaskEvent, TaskStatus, UserId};
use tokio::{sync::watch, task::JoinSet};

use crate::{
    Result,
    pipeline::{FINGERPRINT, TRACE_PARENT, assignee, assignment},
    world::World,
};

/// Below what a batch may have at most.
const BATCH_BYTES: usize = 500_000;

/// Writes that many tasks, each created and then assigned until it has `events` events.
pub async fn write(world: &World, name: &str, tasks: usize, events: usize) -> Result<()> {
    let generation = world.generation(name);
    let topic = generation.events_topic("tasks");
    let partitions = generation.partitions;
    ensure_topic(
        &world.cluster(),
        &topic,
        Purpose::Events,
        partitions,
        world.topics,
    )
    .await?;
    let (context, registry) = (tasks::context(), world.registry()?);
    let codec = EventCodec::<TaskEvent>::connect(&[context.schemas()], &registry).await?;
    let codec = Arc::new(codec);
    let mut shards = JoinSet::new();
    for partition in 0..partitions {
        let mut appender = appender(world, &generation, partition).await?;
        let codec = codec.clone();
        shards.spawn(async move {
            let mut batch = BatchBuilder::default();
            for task in 0..tasks {
                let meta = assignment(task, (task * events) as u64)?;
                if partition_of(&meta.stream, partitions) != partition {
                    continue;
                }
                for event in 0..events {
                    push(&mut batch, &codec, meta.clone(), task * events, event)?;
                }
                if batch.size() > BATCH_BYTES {
                    appender.append(std::mem::take(&mut batch)).await?;
                }
            }
            if !batch.is_empty() {
                appender.append(batch).await?;
            }
            Ok::<_, crate::Failure>(())
        });
    }
    while let Some(written) = shards.join_next().await {
        written??;
    }
    Ok(())
}

async fn appender(world: &World, generation: &Generation, partition: i32) -> Result<Appender> {
    let (cluster, topic) = (world.cluster(), generation.events_topic("tasks"));
    let id = generation.transactional_id(partition);
    let taken = take_over(&cluster, &id, std::slice::from_ref(&topic), partition).await?;
    let mut reader = PartitionReader::new(&cluster, &topic, partition, 0);
    reader.read_to_marker(taken.marker, |_| {}).await?;
    let (trouble, _) = watch::channel(None);
    Ok(Appender::new(
        &cluster,
        &topic,
        partition,
        taken.writer,
        reader.next_offset(),
        trouble,
    ))
}

/// The events of each task have numbers from `first` on.
fn push(
    batch: &mut BatchBuilder,
    codec: &EventCodec<TaskEvent>,
    meta: Meta,
    first: usize,
    index: usize,
) -> Result<()> {
    let number = (first + index) as u64;
    let meta = Meta {
        command_id: kernel::CommandId::parse(&crate::pipeline::key(number))?,
        ..meta
    };
    let event = match index {
        0 => TaskEvent::TaskCreated {
            title: "AVRO-12: Sort the records".into(),
            jira_id: None,
            typed_title: None,
            description: String::new(),
            status: TaskStatus::BirdInACage,
        },
        _ => TaskEvent::TaskAssigned {
            assignee: UserId::parse(&assignee(number))?,
        },
    };
    let mut value = Vec::new();
    let event_type = codec.encode(&event, &mut value)?;
    // Term 0 lies before that of every owner to come.
    let headers = CommandHeaders::new(
        &meta,
        "/annals/tasks",
        FINGERPRINT,
        Some(TRACE_PARENT),
        1,
        0,
    );
    let version = StreamVersion(index as u64 + 1);
    batch.push(meta.stream.as_str().as_bytes(), Some(&value), |into| {
        headers.write(into, event_type, version, 0);
    });
    Ok(())
}
