//! The write switch: which version of each event is written at present.
//!
//! A deployment brings code that reads a new version; that it is written is a record in the topic
//! [`TOPIC`], which owners read before each claim and follow while they serve. Whoever writes the
//! topic takes it over first and has read all of it: of two who change the same, one sees the
//! other's record (docs/adr/0021).

mod readable;
mod versions;
mod writing;

use std::{convert::Infallible, sync::Arc, time::Duration};

use kafka_protocol::ResponseError;
use tokio::{
    sync::{Mutex, watch},
    time::{error::Elapsed, sleep, timeout},
};

use self::versions::Fold;
pub use self::{
    versions::{Active, ActiveVersions, KnownVersions, RecordError, Unreadable},
    writing::Established,
};
use crate::{
    append::AppendError,
    cluster::{Cluster, ClusterError},
    ends::{EndError, log_end},
    fence::FenceError,
    fetch::{FetchError, PartitionReader},
    topics::{Generation, Purpose, TopicError, TopicOptions, ensure_topic},
};

/// Compacted, one partition, of all generations: their names are in the keys.
pub const TOPIC: &str = "annals.control";
const PARTITION: i32 = 0;
/// How soon an owner that serves learns of a record.
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How long the topic may be silent before it is taken for unreadable.
const NEXT_WITHIN: Duration = Duration::from_secs(3);

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error("failed to ask where {TOPIC} ends")]
    End(#[from] EndError),
    #[error("failed to read {TOPIC}")]
    Read(#[from] FetchError),
    #[error("{TOPIC} did not answer")]
    Silent(#[source] Elapsed),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("failed to take {TOPIC} over")]
    TakeOver(#[from] FenceError),
    #[error("others changed {TOPIC} in the same moments, {0} times in a row")]
    Contended(u32),
    #[error("failed to write to {TOPIC}")]
    Append(#[from] AppendError),
}

impl ControlError {
    /// Whether trying again later may help, with nobody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Topic(error) => error.is_temporary(),
            Self::End(error) => match error {
                EndError::Cluster(error) => error.is_temporary(),
                EndError::Wire(error) => error.is_temporary(),
                EndError::Refused { .. } => true,
            },
            Self::TakeOver(error) => !matches!(error, FenceError::Refused { .. }),
            Self::Silent(_) | Self::Contended(_) => true,
            Self::Append(error) => matches!(error, AppendError::Fenced { .. }),
            Self::Read(_) | Self::Record(_) => false,
        }
    }
}

/// The versions of one generation, as this process has read them. Cheap to clone.
#[derive(Clone)]
pub struct ControlLog(Arc<Content>);

struct Content {
    cluster: Cluster,
    generation: Generation,
    reading: Mutex<Reading>,
    active: watch::Sender<Arc<ActiveVersions>>,
}

/// How far the topic has been read, and what it says.
struct Reading {
    reader: PartitionReader,
    fold: Fold,
    /// It was read to an end once: what comes now is news. Whoever reads may be dropped before.
    whole: bool,
}

impl ControlLog {
    /// Of a topic that may not be there yet: see [`ensure`](Self::ensure).
    pub fn new(cluster: &Cluster, generation: &Generation) -> Self {
        Self(Arc::new(Content {
            cluster: cluster.clone(),
            generation: generation.clone(),
            reading: Mutex::new(Reading::begin(cluster, generation)),
            active: watch::Sender::default(),
        }))
    }

    /// Makes the topic if it is missing, and checks it.
    pub async fn ensure(&self, options: TopicOptions) -> Result<(), ControlError> {
        let purpose = Purpose::Control;
        Ok(ensure_topic(&self.0.cluster, TOPIC, purpose, 1, options).await?)
    }

    /// As it was read last; nothing before that.
    pub fn active(&self) -> Arc<ActiveVersions> {
        self.0.active.borrow().clone()
    }

    /// What is read from now on, by whomever.
    pub fn watch(&self) -> watch::Receiver<Arc<ActiveVersions>> {
        self.0.active.subscribe()
    }

    /// Reads whatever was acknowledged before this was called.
    pub async fn catch_up(&self) -> Result<Arc<ActiveVersions>, ControlError> {
        let Content {
            cluster,
            generation,
            reading,
            ..
        } = &*self.0;
        let mut reading = reading.lock().await;
        let end = timeout(NEXT_WITHIN, log_end(cluster, TOPIC, PARTITION)).await;
        let end = end.map_err(ControlError::Silent)??;
        if end < reading.reader.next_offset() {
            // Another topic than the one that was read.
            *reading = Reading::begin(cluster, generation);
        }
        if let Err(error) = reading.read_to(end).await {
            *reading = Reading::begin(cluster, generation);
            return Err(error);
        }
        Ok(self.publish(&reading))
    }

    /// The same for who only reads: without the topic, nothing was ever activated.
    pub async fn catch_up_if_there(&self) -> Result<Arc<ActiveVersions>, ControlError> {
        match self.catch_up().await {
            Err(ControlError::End(EndError::Cluster(ClusterError::NoLeader { code, .. })))
                if code == ResponseError::UnknownTopicOrPartition.code() =>
            {
                Ok(Arc::default())
            }
            read => read,
        }
    }

    /// Returns when something was activated that is not known: as soon as it is read.
    pub async fn until_unreadable(&self, contexts: &[KnownVersions]) -> Unreadable {
        loop {
            match self.look().await {
                Ok(active) => {
                    if let Some(unreadable) = active.unreadable(contexts) {
                        return unreadable;
                    }
                }
                Err(error) => not_read(&error),
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Goes on reading. While the topic cannot be read, what was read holds.
    pub async fn follow(&self) -> Infallible {
        loop {
            if let Err(error) = self.look().await {
                not_read(&error);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Reads what is new, on the connection that is there.
    async fn look(&self) -> Result<Arc<ActiveVersions>, ControlError> {
        let Content {
            cluster,
            generation,
            reading,
            ..
        } = &*self.0;
        let mut reading = reading.lock().await;
        if !reading.whole {
            drop(reading);
            return self.catch_up_if_there().await;
        }
        match reading.read_next().await {
            Ok(()) => Ok(self.publish(&reading)),
            Err(error) => {
                *reading = Reading::begin(cluster, generation);
                Err(error)
            }
        }
    }

    fn publish(&self, reading: &Reading) -> Arc<ActiveVersions> {
        let found = reading.fold.active();
        self.0.active.send_if_modified(|known| {
            let news = **known != *found;
            *known = found.clone();
            news
        });
        found
    }
}

fn not_read(error: &ControlError) {
    tracing::debug!(%error, "the active versions cannot be read; trying again");
}

impl Reading {
    fn begin(cluster: &Cluster, generation: &Generation) -> Self {
        Self {
            reader: PartitionReader::new(cluster, TOPIC, PARTITION, 0),
            fold: Fold::of(&generation.name),
            whole: false,
        }
    }

    async fn read_to(&mut self, end: i64) -> Result<(), ControlError> {
        while self.reader.next_offset() < end {
            self.read_next().await?;
        }
        self.whole = true;
        Ok(())
    }

    /// Returns after a moment when there is nothing.
    async fn read_next(&mut self) -> Result<(), ControlError> {
        let batches = timeout(NEXT_WITHIN, self.reader.next_batches()).await;
        for batch in batches.map_err(ControlError::Silent)?? {
            self.fold.take(&batch)?;
        }
        Ok(())
    }
}
