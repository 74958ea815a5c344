//! Reading one partition from the start: what an owner does before it serves.
//!
//! Own Fetch requests rather than a consumer: only they show control batches,
//! and the marker of one's own take-over is what proves that the end was read.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use bytes::Bytes;
use kafka_protocol::{
    ResponseError,
    messages::{
        BrokerId, FetchRequest,
        fetch_request::{FetchPartition, FetchTopic},
    },
};
use tokio::time::{Instant, sleep};

use crate::{
    batch::{Batch, BatchError, ProducerIdentity, Record},
    cluster::{Cluster, name, topic_name},
    wire::Connection,
};

const FETCH_BYTES: i32 = 4 << 20;
/// How long the broker waits for news at the end of the log.
const WAIT_MS: i32 = 100;
/// Less than this in an answer: there was hardly more.
const NEARLY_NOTHING: usize = 64 << 10;
const PAUSE: Duration = Duration::from_millis(50);
/// How long the marker of a completed take-over may be missing at the end of the log. A broker
/// shows it within milliseconds of its leader, unless it never comes.
const MARKER_WITHIN: Duration = Duration::from_secs(3);

/// Why a partition cannot be read on. Connection trouble is not among them: it is waited out.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("failed to read {topic} partition {partition}")]
    Batch {
        topic: String,
        partition: i32,
        #[source]
        source: BatchError,
    },
    #[error("{topic} partition {partition} has no offset {offset}: it was truncated or made anew")]
    OutOfRange {
        topic: String,
        partition: i32,
        offset: i64,
    },
    /// Kafka may complete a transaction without writing its markers when the coordinator is
    /// restarted in between. Another take-over writes others.
    #[error("{topic} partition {partition} ends without the marker of this take-over")]
    NoMarker { topic: String, partition: i32 },
    #[error("the broker refused to read {topic} partition {partition}: {}", name(*code))]
    Refused {
        topic: String,
        partition: i32,
        code: i16,
    },
}

/// The records at these offsets of a partition, without those that are not there or cannot be
/// read. Waits for Kafka for as long as it takes.
pub async fn read_at(
    cluster: &Cluster,
    topic: &str,
    partition: i32,
    offsets: impl IntoIterator<Item = i64>,
) -> Result<BTreeMap<i64, Record>, FetchError> {
    let wanted: BTreeSet<i64> = offsets.into_iter().collect();
    let mut reader = PartitionReader::new(cluster, topic, partition, 0);
    // What is wanted may lie far apart.
    reader.bytes = NEARLY_NOTHING as i32;
    let mut found = BTreeMap::new();
    for offset in &wanted {
        if *offset < reader.next_offset {
            continue;
        }
        reader.next_offset = *offset;
        let batches = match reader.next_batches().await {
            Err(FetchError::Batch { .. } | FetchError::OutOfRange { .. }) => continue,
            batches => batches?,
        };
        let records = batches.iter().flat_map(Batch::records).flatten();
        let records = records.filter(|record| wanted.contains(&record.offset));
        found.extend(records.map(|record| (record.offset, record)));
    }
    Ok(found)
}

/// Reads a partition's batches in order, uncommitted: nothing of ours is ever aborted.
#[derive(Debug)]
pub struct PartitionReader {
    cluster: Cluster,
    topic: String,
    partition: i32,
    next_offset: i64,
    /// Offset after the batch that was found to be unreadable last.
    behind: i64,
    /// About so much in an answer; a batch at least.
    bytes: i32,
    connection: Option<Connection>,
}

impl PartitionReader {
    pub fn new(cluster: &Cluster, topic: &str, partition: i32, from_offset: i64) -> Self {
        Self {
            cluster: cluster.clone(),
            topic: topic.into(),
            partition,
            next_offset: from_offset,
            behind: from_offset,
            bytes: FETCH_BYTES,
            connection: None,
        }
    }

    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Offset after the last batch that was read.
    pub fn next_offset(&self) -> i64 {
        self.next_offset
    }

    /// After [`FetchError::Batch`]: goes on behind the batch that cannot be read.
    pub fn pass_over(&mut self) {
        self.next_offset = self.behind.max(self.next_offset + 1);
    }

    /// Hands over every batch up to and including this take-over's marker.
    ///
    /// A deposed leader may answer with an old end of the log, without an
    /// error; it does not have the marker, so only the marker ends the reading.
    ///
    /// # Errors
    /// `NoMarker` when it does not come: the take-over has to be done again.
    pub async fn read_to_marker(
        &mut self,
        marker: ProducerIdentity,
        mut take: impl FnMut(&Batch),
    ) -> Result<(), FetchError> {
        let mut at_end_since = None;
        loop {
            let batches = self.next_batches().await?;
            if !batches.is_empty() {
                at_end_since = None;
            } else if at_end_since.get_or_insert_with(Instant::now).elapsed() > MARKER_WITHIN {
                return Err(FetchError::NoMarker {
                    topic: self.topic.clone(),
                    partition: self.partition,
                });
            }
            for batch in batches {
                let is_marker = batch.control && batch.producer == marker;
                take(&batch);
                if is_marker {
                    self.next_offset = batch.last_offset + 1;
                    return Ok(());
                }
            }
        }
    }

    /// Hands over what there is, without waiting for more: what is left to read then is little.
    ///
    /// Somebody else may go on appending meanwhile; what was read stays in the log.
    pub async fn read_ahead(&mut self, mut take: impl FnMut(&Batch)) -> Result<(), FetchError> {
        loop {
            let records = self.next_records(0).await?;
            let nearly_at_the_end = records.len() < NEARLY_NOTHING;
            self.batches(records)?.iter().for_each(&mut take);
            if nearly_at_the_end {
                return Ok(());
            }
        }
    }

    /// The next batches below the high watermark, as far as they can be read; empty when there is
    /// nothing new for a while.
    pub async fn next_batches(&mut self) -> Result<Vec<Batch>, FetchError> {
        let records = self.next_records(WAIT_MS).await?;
        self.batches(records)
    }

    async fn next_records(&mut self, wait_ms: i32) -> Result<Bytes, FetchError> {
        loop {
            match self.fetch(wait_ms).await {
                Ok(records) => return records,
                Err(error) => {
                    tracing::debug!(%error, topic = self.topic, "reading again");
                    self.connection = None;
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn batches(&mut self, mut rest: Bytes) -> Result<Vec<Batch>, FetchError> {
        let mut batches = Vec::new();
        loop {
            match Batch::read(&mut rest) {
                Ok(Some(batch)) if batch.last_offset < self.next_offset => {}
                Ok(Some(batch)) => {
                    self.next_offset = batch.last_offset + 1;
                    batches.push(batch);
                }
                Ok(None) => return Ok(batches),
                // The next reading begins with it.
                Err(_) if !batches.is_empty() => return Ok(batches),
                Err(source) => {
                    self.behind = Batch::end_in_header(&rest).unwrap_or(self.next_offset);
                    return Err(FetchError::Batch {
                        topic: self.topic.clone(),
                        partition: self.partition,
                        source,
                    });
                }
            }
        }
    }

    /// One request. The outer error is worth another try, the inner one is final.
    async fn fetch(&mut self, wait_ms: i32) -> Result<Result<Bytes, FetchError>, FetchTrouble> {
        let request = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(wait_ms)
            .with_min_bytes(1)
            .with_max_bytes(self.bytes)
            .with_isolation_level(0)
            .with_session_epoch(-1)
            .with_topics(vec![
                FetchTopic::default()
                    .with_topic(topic_name(&self.topic))
                    .with_partitions(vec![
                        FetchPartition::default()
                            .with_partition(self.partition)
                            .with_fetch_offset(self.next_offset)
                            .with_partition_max_bytes(self.bytes),
                    ]),
            ]);
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(
                self.cluster
                    .connect_leader(&self.topic, self.partition)
                    .await?,
            ),
        };
        let mut answer = connection.call(11, &request).await?;
        let Some(partition) = answer
            .responses
            .first_mut()
            .and_then(|topic| topic.partitions.first_mut())
        else {
            return Err(FetchTrouble::Code(answer.error_code));
        };
        use ResponseError as E;
        let code = partition.error_code;
        match ResponseError::try_from_code(code) {
            None if code == 0 => Ok(Ok(partition.records.take().unwrap_or_default())),
            Some(E::OffsetOutOfRange) => Ok(Err(FetchError::OutOfRange {
                topic: self.topic.clone(),
                partition: self.partition,
                offset: self.next_offset,
            })),
            Some(E::TopicAuthorizationFailed) => Ok(Err(FetchError::Refused {
                topic: self.topic.clone(),
                partition: self.partition,
                code,
            })),
            _ => Err(FetchTrouble::Code(code)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum FetchTrouble {
    #[error(transparent)]
    Cluster(#[from] crate::cluster::ClusterError),
    #[error(transparent)]
    Wire(#[from] crate::wire::WireError),
    #[error("the broker answered {}", name(*.0))]
    Code(i16),
}
