//! The topic of schemas: every change is in it before it is answered, so that an empty database can
//! be filled from it again, ids kept.
//!
//! One partition, compacted: the newest record of each key is kept. Of two records about the same
//! thing the one with the higher number of change holds, wherever it lies.

mod record;
mod restore;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use event_log::cluster::Cluster;
use event_log::snapshots::{SnapshotError, SnapshotTopic};
use event_log::topics::{Purpose, TopicError, TopicOptions, ensure_topic};
use futures::future::try_join_all;

pub(crate) use record::{Fate, Holds, Record, RulesRecord, ScopeRecord, VersionRecord};
pub(crate) use restore::RestoreError;

use crate::error::Error;

const PARTITION: i32 = 0;
/// Kafka's own limit for a record is a little higher.
const MOST_BYTES: usize = 900 * 1024;
/// Requests are given up later than this, so that clients learn that it was the topic.
const WRITTEN_WITHIN: Duration = Duration::from_secs(10);

/// Where the topic is, and what it is like if it has to be made.
#[derive(Clone, Debug)]
pub struct TopicConfig {
    pub cluster: Cluster,
    /// [`TopicConfig::DEFAULT_NAME`], unless several registries share a cluster.
    pub name: String,
    pub options: TopicOptions,
}

impl TopicConfig {
    pub const DEFAULT_NAME: &str = "annals.schemas";
}

/// Clones are the same journal.
#[derive(Clone)]
pub(crate) struct Journal(Arc<Inner>);

struct Inner {
    config: TopicConfig,
    topic: SnapshotTopic,
    restored: AtomicBool,
}

impl Journal {
    pub fn new(config: TopicConfig) -> Result<Self, SnapshotError> {
        let topic = SnapshotTopic::new(&config.cluster, config.name.clone())?;
        Ok(Self(Arc::new(Inner {
            config,
            topic,
            restored: AtomicBool::new(false),
        })))
    }

    /// Whether database and topic have been brought to the same state since this process started.
    pub fn is_restored(&self) -> bool {
        self.0.restored.load(Ordering::Acquire)
    }

    /// Writes the records and waits until they are in.
    pub async fn write(&self, records: &[Record]) -> Result<(), Error> {
        let texts = records
            .iter()
            .map(|record| Ok((record.key(), serde_json::to_vec(record)?)))
            .collect::<Result<Vec<_>, serde_json::Error>>()
            .map_err(Error::UnexpectedJson)?;
        if texts.iter().any(|(_, text)| text.len() > MOST_BYTES) {
            return Err(Error::TooLargeForTopic { most: MOST_BYTES });
        }
        let topic = &self.0.topic;
        let written = try_join_all(
            texts
                .iter()
                .map(|(key, text)| topic.put(PARTITION, key, Some(text))),
        );
        match tokio::time::timeout(WRITTEN_WITHIN, written).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(Error::Topic(error)),
            Err(_) => Err(Error::TopicSilent),
        }
    }

    async fn ensure(&self) -> Result<(), TopicError> {
        let config = &self.0.config;
        // As claims are: the newest of each key for ever.
        ensure_topic(
            &config.cluster,
            &config.name,
            Purpose::Owners,
            PARTITION + 1,
            config.options,
        )
        .await
    }
}

impl std::fmt::Debug for Journal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Journal")
            .field("topic", &self.0.config.name)
            .finish_non_exhaustive()
    }
}
