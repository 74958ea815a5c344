//! What the topics of a generation were at its last starts, noted down in its
//! scratch topic.
//!
//! A topic that somebody deleted is made again, empty, at the next start, and
//! nothing in it says that there was another. So each start notes down the
//! topics' ids, where they ended, and how streams find their partitions, and
//! refuses to go on where that has changed.

use std::{collections::HashMap, fmt, time::Duration};

use kafka_protocol::messages::{
    ProduceRequest,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use kernel::{StreamId, Tenant};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Generation, TopicError, making::ends};
use crate::{
    batch::{BatchBuilder, ProducerIdentity},
    cluster::{Cluster, name, topic_name},
    consume::{DescribeError, describe_topics},
    fetch::PartitionReader,
    router::partition_of,
};

/// Where the notes are, in the scratch topic.
const PARTITION: i32 = 0;
const SHAPE: &[u8] = b"generation";
/// Where the router sends these says which router it is; with another one, streams would be looked
/// for where they are not.
const PROBES: [&str; 3] = ["21", "a-little-bit-long-string", "board1:a"];
/// A deposed leader may tell an old end for a moment.
const LOOK_AGAIN_FOR: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Shape {
    partitions: i32,
    router: Vec<i32>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    id: Uuid,
    /// By partition, the offset that the next record would have had.
    ends: Vec<i64>,
}

/// Compares the topics with what was noted down, and notes down what they are now.
pub(crate) async fn compare(
    cluster: &Cluster,
    generation: &Generation,
    topics: &[String],
) -> Result<(), TopicError> {
    let book = Logbook::read(cluster, generation).await?;
    let mut batch = BatchBuilder::default();
    let shape = Shape::of(generation);
    match book.note::<Shape>(SHAPE) {
        Some(noted) if noted != shape => {
            return Err(TopicError::Reshaped {
                generation: generation.name.clone(),
                noted: noted.to_string(),
                found: shape.to_string(),
            });
        }
        Some(_) => {}
        None => push(&mut batch, SHAPE, &shape),
    }
    for topic in topics {
        let noted: Option<Note> = book.note(topic.as_bytes());
        let found = compare_topic(cluster, topic, noted.as_ref()).await?;
        if noted.as_ref() != Some(&found) {
            push(&mut batch, topic.as_bytes(), &found);
        }
    }
    match batch.is_empty() {
        true => Ok(()),
        false => book.append(cluster, batch).await,
    }
}

async fn compare_topic(
    cluster: &Cluster,
    topic: &str,
    noted: Option<&Note>,
) -> Result<Note, TopicError> {
    let deadline = Instant::now() + LOOK_AGAIN_FOR;
    loop {
        let described = describe_topics(cluster, &[topic.to_owned()]).await;
        let described = described.map_err(|error| match error {
            DescribeError::Cluster(error) => TopicError::Cluster(error),
            DescribeError::Wire(error) => TopicError::Wire(error),
            DescribeError::Missing { topic, reason } => TopicError::NotReady {
                topic,
                last: reason,
            },
        })?;
        let found = Note {
            id: described[0].id,
            ends: ends(cluster, topic)
                .await?
                .iter()
                .map(|it| it.offset)
                .collect(),
        };
        let Some(noted) = noted else {
            return Ok(found);
        };
        if noted.id != found.id {
            return Err(TopicError::Recreated {
                topic: topic.into(),
                noted: noted.id,
                found: found.id,
            });
        }
        let shorter = (0..).zip(noted.ends.iter().zip(&found.ends));
        let shorter = shorter.into_iter().find(|(_, (was, is))| is < was);
        match shorter {
            None => return Ok(found),
            Some((partition, (was, is))) if Instant::now() >= deadline => {
                return Err(TopicError::CutOff {
                    topic: topic.into(),
                    partition,
                    was: *was,
                    end: *is,
                });
            }
            Some(_) => sleep(PAUSE).await,
        }
    }
}

struct Logbook {
    topic: String,
    /// The newest value of each key.
    notes: HashMap<Vec<u8>, Vec<u8>>,
}

impl Logbook {
    async fn read(cluster: &Cluster, generation: &Generation) -> Result<Self, TopicError> {
        let topic = generation.self_test_topic();
        let end = ends(cluster, &topic).await?[PARTITION as usize].offset;
        let mut reader = PartitionReader::new(cluster, &topic, PARTITION, 0);
        let mut notes = HashMap::new();
        while reader.next_offset() < end {
            let batches = reader.next_batches().await;
            let batches = batches.map_err(|source| TopicError::Notes {
                topic: topic.clone(),
                source,
            })?;
            for batch in batches.iter().filter(|batch| !batch.control) {
                for record in batch.records().flatten() {
                    if let (Some(key), Some(value)) = (record.key, record.value) {
                        notes.insert(key.to_vec(), value.to_vec());
                    }
                }
            }
        }
        Ok(Self { topic, notes })
    }

    /// What cannot be read was not noted down by us.
    fn note<T: DeserializeOwned>(&self, key: &[u8]) -> Option<T> {
        serde_json::from_slice(self.notes.get(key)?).ok()
    }

    /// Not fenced: nodes that start at the same time note down the same.
    async fn append(&self, cluster: &Cluster, batch: BatchBuilder) -> Result<(), TopicError> {
        const NOBODY: ProducerIdentity = ProducerIdentity { id: -1, epoch: -1 };
        let data = PartitionProduceData::default()
            .with_index(PARTITION)
            .with_records(Some(batch.seal(NOBODY, -1, 0)));
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(5_000)
            .with_topic_data(vec![
                TopicProduceData::default()
                    .with_name(topic_name(&self.topic))
                    .with_partition_data(vec![data]),
            ]);
        let mut leader = cluster.connect_leader(&self.topic, PARTITION).await?;
        let answer = leader.ask(&request).await?;
        let topic = answer.responses.first();
        let partition = topic.and_then(|topic| topic.partition_responses.first());
        match partition.map_or(-1, |partition| partition.error_code) {
            0 => Ok(()),
            code => Err(TopicError::NotReady {
                topic: self.topic.clone(),
                last: name(code),
            }),
        }
    }
}

fn push(batch: &mut BatchBuilder, key: &[u8], note: &impl Serialize) {
    let note = serde_json::to_vec(note).expect("a note has nothing that JSON cannot say");
    batch.push(key, Some(&note), |_| {});
}

impl Shape {
    fn of(generation: &Generation) -> Self {
        let probe = |id| {
            let stream = StreamId::new(&Tenant::default(), "probe", id);
            let stream = stream.expect("a probe is a valid stream id");
            partition_of(&stream, i32::MAX)
        };
        Self {
            partitions: generation.partitions,
            router: PROBES.map(probe).into(),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} partitions, router {:?}",
            self.partitions, self.router
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_router_is_another_shape() {
        let generation = Generation {
            name: "1".into(),
            partitions: 8,
        };
        let shape = Shape::of(&generation);
        // As every release has written it: where this changes, no log is found any more.
        let noted = r#"{"partitions":8,"router":[974242106,457019294,2121333491]}"#;
        assert_eq!(serde_json::to_string(&shape).unwrap(), noted);
        let mut other = Shape::of(&generation);
        other.router[2] += 1;
        assert_ne!(other, shape);
    }
}
