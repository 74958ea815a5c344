//! The log as an operator reads it: partition by partition up to where it ends now.

use std::time::Duration;

use event_log::{
    batch::Batch,
    cluster::{Cluster, ClusterError},
    consume::{DescribeError, describe_topics},
    ends::{EndError, log_end},
    fetch::{FetchError, PartitionReader},
    topics::Generation,
};
use tokio::time::{Instant, timeout};

/// A broker that is there answers sooner.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// The topics of a generation.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) cluster: Cluster,
    pub(crate) generation: Generation,
}

/// One partition of a topic, up to where it ended when it was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) topic: String,
    pub(crate) partition: i32,
    /// Offset of the record that is appended next.
    pub(crate) end: i64,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("Kafka cannot be reached at {bootstrap}")]
    Unreachable {
        bootstrap: String,
        #[source]
        source: ClusterError,
    },
    #[error("Kafka at {bootstrap} gave no answer within {ANSWER_WITHIN:?}")]
    Silent { bootstrap: String },
    #[error("failed to look at the topics")]
    Describe(#[source] DescribeError),
    #[error("failed to ask where the log ends")]
    End(#[from] EndError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
}

impl Log {
    /// Whether Kafka is there.
    pub(crate) async fn reach(&self) -> Result<(), LogError> {
        let reached = self.answer(self.cluster.reach()).await?;
        reached.map_err(|source| LogError::Unreachable {
            bootstrap: self.cluster.bootstrap(),
            source,
        })
    }

    /// The partitions of these contexts' events.
    pub(crate) async fn extents(&self, contexts: &[&str]) -> Result<Vec<Extent>, LogError> {
        let topics: Vec<_> = contexts
            .iter()
            .map(|context| self.generation.events_topic(context))
            .collect();
        let described = self.answer(describe_topics(&self.cluster, &topics)).await?;
        let mut extents = Vec::new();
        for topic in described.map_err(LogError::Describe)? {
            for partition in 0..topic.partitions {
                extents.push(self.extent(&topic.name, partition).await?);
            }
        }
        Ok(extents)
    }

    pub(crate) async fn extent(&self, topic: &str, partition: i32) -> Result<Extent, LogError> {
        let end = self.answer(log_end(&self.cluster, topic, partition));
        Ok(Extent {
            topic: topic.into(),
            partition,
            end: end.await??,
        })
    }

    /// How many partitions the context's topic has.
    pub(crate) async fn partitions(&self, context: &str) -> Result<i32, LogError> {
        let topic = self.generation.events_topic(context);
        let described = self
            .answer(describe_topics(&self.cluster, &[topic]))
            .await?;
        let described = described.map_err(LogError::Describe)?;
        Ok(described.first().map_or(0, |topic| topic.partitions))
    }

    /// Hands over every batch of the partition that lies before its end.
    pub(crate) async fn read(
        &self,
        extent: &Extent,
        mut take: impl FnMut(&Batch),
    ) -> Result<(), LogError> {
        let take = |batch: Result<&Batch, FetchError>| {
            take(batch?);
            Ok(())
        };
        self.read_through(extent, take).await
    }

    /// The same, and tells of each batch that cannot be read, instead of ending at it.
    pub(crate) async fn read_through(
        &self,
        extent: &Extent,
        mut take: impl FnMut(Result<&Batch, FetchError>) -> Result<(), FetchError>,
    ) -> Result<(), LogError> {
        let Extent {
            topic,
            partition,
            end,
        } = extent;
        let mut reader = PartitionReader::new(&self.cluster, topic, *partition, 0);
        let mut read = Instant::now();
        while reader.next_offset() < *end {
            let batches = match self.answer(reader.next_batches()).await? {
                Err(error @ FetchError::Batch { .. }) => {
                    take(Err(error))?;
                    reader.pass_over();
                    continue;
                }
                batches => batches?,
            };
            if !batches.is_empty() {
                read = Instant::now();
            } else if read.elapsed() > ANSWER_WITHIN {
                return Err(self.silent());
            }
            for batch in &batches {
                take(Ok(batch))?;
            }
        }
        Ok(())
    }

    async fn answer<T>(&self, asked: impl Future<Output = T>) -> Result<T, LogError> {
        let answered = timeout(ANSWER_WITHIN, asked).await;
        answered.map_err(|_| self.silent())
    }

    fn silent(&self) -> LogError {
        LogError::Silent {
            bootstrap: self.cluster.bootstrap(),
        }
    }
}
