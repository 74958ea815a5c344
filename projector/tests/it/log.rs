//! Writing the log as a command-service does: behind a fence.

use event_log::{
    Fingerprint, append::Appender, avro::EventCodec, batch::BatchBuilder, cluster::Cluster,
    envelope::CommandHeaders, fence::take_over, fetch::PartitionReader, router::partition_of,
    topics::Generation,
};
use kernel::{Actor, CommandId, Meta, StreamId, StreamVersion, Tenant};
use tokio::sync::watch;
use uuid::Uuid;

use crate::models::Note;

/// The owner of every shard of a generation with one context, `notes`.
pub struct Log {
    cluster: Cluster,
    generation: Generation,
    codec: EventCodec<Note>,
    shards: Vec<Shard>,
}

/// What lies in the log for a stream.
#[derive(Clone, Debug)]
pub enum Piece {
    Event(Note),
    /// Of this type, and with a value of any bytes.
    Raw(&'static str, Vec<u8>),
    /// Its headers are gone but for one, and the key.
    Damaged,
}

struct Shard {
    appender: Appender,
    /// Offset after the last event.
    end: Option<i64>,
    /// Claims are offsets of the owners topic; here they are counted.
    term: u64,
}

impl Log {
    pub async fn own(cluster: &Cluster, generation: &Generation, codec: EventCodec<Note>) -> Self {
        let mut log = Self {
            cluster: cluster.clone(),
            generation: generation.clone(),
            codec,
            shards: Vec::new(),
        };
        for partition in 0..generation.partitions {
            let appender = log.take_over(partition).await;
            log.shards.push(Shard {
                appender,
                end: None,
                term: 1,
            });
        }
        log
    }

    /// Takes every shard over anew: markers lie between what was written and what will be.
    pub async fn own_again(&mut self) {
        for partition in 0..self.generation.partitions {
            let appender = self.take_over(partition).await;
            let shard = &mut self.shards[partition as usize];
            shard.appender = appender;
            shard.term += 1;
        }
    }

    async fn take_over(&self, partition: i32) -> Appender {
        let topic = self.topic();
        let id = self.generation.transactional_id(partition);
        let owned = take_over(&self.cluster, &id, std::slice::from_ref(&topic), partition)
            .await
            .unwrap();
        let mut reader = PartitionReader::new(&self.cluster, &topic, partition, 0);
        reader.read_to_marker(owned.marker, |_| {}).await.unwrap();
        let trouble = watch::Sender::new(None);
        Appender::new(
            &self.cluster,
            &topic,
            partition,
            owned.writer,
            reader.next_offset(),
            trouble,
        )
    }

    pub fn topic(&self) -> String {
        self.generation.events_topic("notes")
    }

    pub fn partition_of(&self, stream: &str) -> i32 {
        partition_of(&id(stream), self.generation.partitions)
    }

    /// Offset after the last event of a partition, if it has any. Markers may follow.
    pub fn end_of(&self, partition: i32) -> Option<i64> {
        self.shards[partition as usize].end
    }

    /// Appends a batch of events of one stream, and answers the offset of the first.
    pub async fn append(&mut self, stream: &str, events: &[Note]) -> i64 {
        let term = self.shards[self.partition_of(stream) as usize].term;
        self.append_under(term, stream, events).await
    }

    /// As an owner with this term.
    pub async fn append_under(&mut self, term: u64, stream: &str, events: &[Note]) -> i64 {
        let mut values = Vec::new();
        for event in events {
            let mut value = Vec::new();
            let event_type = self.codec.encode(event, &mut value).unwrap().to_owned();
            values.push((event_type, value));
        }
        self.append_values(term, stream, &values).await
    }

    /// An event of this type whose bytes are anything.
    pub async fn append_raw(&mut self, stream: &str, event_type: &str, value: &[u8]) -> i64 {
        let term = self.shards[self.partition_of(stream) as usize].term;
        let values = [(event_type.to_owned(), value.to_vec())];
        self.append_values(term, stream, &values).await
    }

    /// One batch of events of several streams, all of one partition; answers the first's offset.
    pub async fn append_mixed(&mut self, events: &[(String, Piece)]) -> i64 {
        let partition = self.partition_of(&events[0].0);
        let term = self.shards[partition as usize].term;
        let mut batch = BatchBuilder::default();
        for (stream, piece) in events {
            assert_eq!(self.partition_of(stream), partition);
            let stream = id(stream);
            let meta = meta(&stream);
            let key = stream.as_str().as_bytes();
            let headers =
                CommandHeaders::new(&meta, "/annals/notes", Fingerprint([0; 16]), None, 1, term);
            let mut value = Vec::new();
            let event_type = match piece {
                Piece::Event(event) => self.codec.encode(event, &mut value).unwrap().to_owned(),
                Piece::Raw(event_type, raw) => {
                    value.extend_from_slice(raw);
                    (*event_type).to_owned()
                }
                Piece::Damaged => {
                    batch.push(key, Some(b"?"), |headers| headers.put("annals_term", b"1"));
                    continue;
                }
            };
            batch.push(key, Some(&value), |writer| {
                headers.write(writer, &event_type, StreamVersion(1), 0);
            });
        }
        self.shards[partition as usize].append(batch).await
    }

    /// What is left of an event that names no stream.
    pub async fn append_nameless(&mut self, partition: i32) -> i64 {
        let mut batch = BatchBuilder::default();
        batch.push(b"?", Some(b"?"), |headers| {
            headers.put("annals_term", b"1");
        });
        self.shards[partition as usize].append(batch).await
    }

    /// A record that is not ours.
    pub async fn append_foreign(&mut self, partition: i32) -> i64 {
        let mut batch = BatchBuilder::default();
        batch.push(b"key", Some(b"value"), |headers| headers.put("x", b"y"));
        self.shards[partition as usize].append(batch).await
    }

    async fn append_values(
        &mut self,
        term: u64,
        stream: &str,
        values: &[(String, Vec<u8>)],
    ) -> i64 {
        let stream = id(stream);
        let meta = meta(&stream);
        let fingerprint = Fingerprint([0; 16]);
        let headers = CommandHeaders::new(
            &meta,
            "/annals/notes",
            fingerprint,
            None,
            values.len(),
            term,
        );
        let mut batch = BatchBuilder::default();
        for (index, (event_type, value)) in values.iter().enumerate() {
            batch.push(stream.as_str().as_bytes(), Some(value), |writer| {
                // No reader here looks at versions.
                headers.write(writer, event_type, StreamVersion(1), index);
            });
        }
        let partition = partition_of(&stream, self.generation.partitions);
        self.shards[partition as usize].append(batch).await
    }
}

impl Shard {
    async fn append(&mut self, batch: BatchBuilder) -> i64 {
        let base_offset = self.appender.append(batch).await.unwrap();
        self.end = Some(self.appender.next_offset());
        base_offset
    }
}

fn meta(stream: &StreamId) -> Meta {
    Meta {
        stream: stream.clone(),
        tenant: Tenant::default(),
        actor: Actor::User("ada".into()),
        at: "2026-11-21T10:00:00Z".parse().unwrap(),
        command_id: CommandId::parse("key").unwrap(),
        correlation_id: Uuid::nil(),
        causation_id: None,
        written: Default::default(),
    }
}

fn id(stream: &str) -> StreamId {
    StreamId::new(&Tenant::default(), "note", stream).unwrap()
}
