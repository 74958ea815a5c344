//! Every record of some partitions, all of these at the same time.

use std::{sync::Arc, time::Duration};

use event_log::{
    batch::{BatchError, Record},
    cluster::Cluster,
    consume::DescribeError,
    envelope::header,
    fetch::{FetchError, PartitionReader},
};
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::replay::{
    log::{Extent, Log, LogError},
    meter::Meter,
};

/// A broker that is there answers sooner.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);

/// A part of a partition: from an offset to the one that comes after the last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) from: i64,
    pub(super) end: i64,
}

/// What looks at the records of one partition, in their order.
pub(super) trait Look: Send + 'static {
    fn take(&mut self, record: &Record);

    /// What could not be read at all.
    fn unreadable(&mut self, offset: i64, error: &BatchError);
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("Kafka gave no answer within {ANSWER_WITHIN:?} for {topic} partition {partition}")]
    Silent { topic: String, partition: i32 },
}

/// All partitions of the contexts' events, from their beginning to where they end now. A topic
/// that is not there has no events.
pub(super) async fn parts(log: &Log, contexts: &[&str]) -> Result<Vec<Part>, ScanError> {
    log.reach().await?;
    let mut parts = Vec::new();
    for context in contexts {
        let extents = match log.extents(&[context]).await {
            Err(LogError::Describe(DescribeError::Missing { .. })) => continue,
            extents => extents?,
        };
        parts.extend(extents.into_iter().map(|extent| {
            let Extent {
                topic,
                partition,
                end,
            } = extent;
            Part {
                topic,
                partition,
                from: 0,
                end,
            }
        }));
    }
    Ok(parts)
}

/// Looks at every record, and answers who has looked at which part.
pub(super) async fn scan<L: Look>(
    cluster: &Cluster,
    parts: Vec<Part>,
    what: &str,
    look: impl Fn(&Part) -> L,
) -> Result<Vec<(Part, L)>, ScanError> {
    let goal = parts
        .iter()
        .map(|it| (it.end - it.from).max(0) as u64)
        .sum();
    let meter = Arc::new(Meter::new(what, goal));
    let mut tasks = JoinSet::new();
    for part in parts {
        let (cluster, meter, look) = (cluster.clone(), meter.clone(), look(&part));
        tasks.spawn(async move { scan_part(&cluster, part, look, &meter).await });
    }
    let mut looked = Vec::new();
    while let Some(part) = tasks.join_next().await {
        looked.push(part.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic()))?);
    }
    looked.sort_by(|(one, _), (other, _)| {
        (&one.topic, one.partition).cmp(&(&other.topic, other.partition))
    });
    Ok(looked)
}

async fn scan_part<L: Look>(
    cluster: &Cluster,
    part: Part,
    mut look: L,
    meter: &Meter,
) -> Result<(Part, L), ScanError> {
    let Part {
        topic,
        partition,
        from,
        end,
    } = &part;
    let silent = || ScanError::Silent {
        topic: topic.clone(),
        partition: *partition,
    };
    let mut reader = PartitionReader::new(cluster, topic, *partition, *from);
    let mut read = Instant::now();
    while reader.next_offset() < *end {
        let batches = timeout(ANSWER_WITHIN, reader.next_batches()).await;
        let batches = batches.map_err(|_| silent())??;
        if !batches.is_empty() {
            read = Instant::now();
        } else if read.elapsed() > ANSWER_WITHIN {
            return Err(silent());
        }
        for batch in batches {
            meter.add((batch.last_offset + 1 - batch.base_offset) as u64);
            if batch.control {
                continue;
            }
            for record in batch.records() {
                match record {
                    Ok(record) if (*from..*end).contains(&record.offset) => look.take(&record),
                    Ok(_) => {}
                    Err(error) => look.unreadable(batch.base_offset, &error),
                }
            }
        }
        // Records are looked at without waiting for anything; others want to run, too.
        tokio::task::yield_now().await;
    }
    Ok((part, look))
}

/// The event's type, as its envelope has it.
pub(super) fn event_type(record: &Record) -> Option<&str> {
    let mut headers = record.headers();
    let (_, value) = headers.find(|(name, _)| *name == header::TYPE)?;
    std::str::from_utf8(value).ok()
}

/// The id of the schema that the value was written with, and the datum.
pub(super) fn framed(value: &[u8]) -> Option<(u32, &[u8])> {
    match value {
        [0, a, b, c, d, datum @ ..] => Some((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => None,
    }
}
