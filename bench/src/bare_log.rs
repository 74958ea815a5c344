//! The limit of the pipeline: a loop that appends behind the same fence and does nothing else.
//!
//! Its records are those of the pipeline to the byte, headers included, but written once and
//! copied: nothing is decided, encoded, remembered or answered.

use std::sync::Arc;

use event_log::{
    append::Appender,
    avro::EventCodec,
    batch::{Batch, BatchBuilder, ProducerIdentity},
    envelope::CommandHeaders,
    fence::take_over,
    fetch::PartitionReader,
    topics::{Purpose, ensure_topic},
};
use kernel::StreamVersion;
use tasks::{TaskEvent, UserId};
use tokio::sync::watch;

use crate::{
    Result,
    load::{Caller, Measured, load},
    pipeline::{FINGERPRINT, TRACE_PARENT, assignee, assignment},
    world::World,
};

pub struct BareLog {
    shards: Vec<Shard>,
}

struct Shard {
    appender: Appender,
    record: Arc<Record>,
    /// Mean size of the groups; the sizes themselves are whole and spread evenly.
    mean_group: f64,
    owed: f64,
}

/// A record of the pipeline's, ready to be copied into batches.
struct Record {
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

impl BareLog {
    /// Takes over shards of its own.
    pub async fn start(world: &World) -> Result<Self> {
        let cluster = world.cluster();
        let generation = world.generation("bare");
        let topic = generation.events_topic("tasks");
        let partitions = generation.partitions;
        ensure_topic(&cluster, &topic, Purpose::Events, partitions, world.topics).await?;
        let record = Arc::new(Record::of_an_assignment(world).await?);
        let mut shards = Vec::new();
        for partition in 0..partitions {
            let id = generation.transactional_id(partition);
            let taken = take_over(&cluster, &id, std::slice::from_ref(&topic), partition).await?;
            let mut reader = PartitionReader::new(&cluster, &topic, partition, 0);
            reader.read_to_marker(taken.marker, |_| {}).await?;
            let next_offset = reader.next_offset();
            let (trouble, _) = watch::channel(None);
            shards.push(Shard {
                appender: Appender::new(
                    &cluster,
                    &topic,
                    partition,
                    taken.writer,
                    next_offset,
                    trouble,
                ),
                record: record.clone(),
                mean_group: 1.0,
                owed: 0.0,
            });
        }
        Ok(Self { shards })
    }

    /// Size of a record with its headers, in bytes.
    pub fn record_bytes(&self) -> usize {
        let mut batch = BatchBuilder::default();
        let empty = batch.size();
        self.shards[0].record.write(&mut batch);
        batch.size() - empty
    }

    /// Records a second, on that many shards at once, in groups of this mean size.
    pub async fn measure(
        &mut self,
        shards: usize,
        mean_group: f64,
        lasts: std::time::Duration,
    ) -> Result<Measured> {
        for shard in &mut self.shards {
            shard.mean_group = mean_group;
        }
        let mut busy: Vec<_> = self.shards.drain(..shards).collect();
        let measured = load(&mut busy, lasts).await;
        self.shards.append(&mut busy);
        measured
    }
}

impl Caller for Shard {
    async fn call(&mut self) -> Result<u32> {
        self.owed += self.mean_group;
        let records = self.owed.max(1.0) as u32;
        self.owed -= f64::from(records);
        let mut batch = BatchBuilder::default();
        for _ in 0..records {
            self.record.write(&mut batch);
        }
        self.appender.append(batch).await?;
        Ok(records)
    }
}

impl Record {
    async fn of_an_assignment(world: &World) -> Result<Self> {
        let context = tasks::context();
        let registry = world.registry()?;
        let codec = EventCodec::<TaskEvent>::connect(&[context.schemas()], &registry).await?;
        let (meta, version) = (assignment(0, 0)?, StreamVersion(1_000));
        let assignee = UserId::parse(&assignee(0))?;
        let mut value = Vec::new();
        let event_type = codec.encode(&TaskEvent::TaskAssigned { assignee }, &mut value)?;
        let (source, trace) = ("/annals/tasks", Some(TRACE_PARENT));
        let headers = CommandHeaders::new(&meta, source, FINGERPRINT, trace, 1, 1);

        let mut batch = BatchBuilder::default();
        let key = meta.stream.as_str().as_bytes();
        batch.push(key, Some(&value), |into| {
            headers.write(into, event_type, version, 0);
        });
        let mut bytes = batch.seal(ProducerIdentity { id: 0, epoch: 0 }, 0, 0);
        let batch = Batch::read(&mut bytes)?.ok_or("the batch is whole")?;
        let record = batch.records().next().ok_or("the batch has a record")??;
        Ok(Self {
            key: key.to_vec(),
            headers: record
                .headers()
                .map(|(name, value)| (name.to_owned(), value.to_vec()))
                .collect(),
            value,
        })
    }

    fn write(&self, batch: &mut BatchBuilder) {
        batch.push(&self.key, Some(&self.value), |into| {
            for (name, value) in &self.headers {
                into.put(name, value);
            }
        });
    }
}
