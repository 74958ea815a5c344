//! Whether a position can be there at all: nobody was told an offset beyond the log's end.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use event_log::{Position, cluster::Cluster, ends::log_end};
use tokio::time::{Instant, timeout};

const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// The ends of the partitions, as Kafka has told them last.
pub(crate) struct LogEnds {
    log: Cluster,
    told: Mutex<HashMap<(String, i32), (Instant, i64)>>,
}

impl LogEnds {
    pub fn new(log: Cluster) -> Self {
        Self {
            log,
            told: Mutex::default(),
        }
    }

    /// Whether the log ended before the position when somebody came with it, at `then`; no when
    /// Kafka does not say. It only grows: who was told of an end since has been told enough.
    pub async fn were_before(&self, position: &Position, then: Instant) -> bool {
        let Position {
            topic,
            partition,
            offset,
        } = position;
        let key = (topic.clone(), *partition);
        let told = self.lock().get(&key).copied();
        let end = match told {
            Some((asked, end)) if asked >= then => Some(end),
            _ => self.ask(key).await,
        };
        end.is_some_and(|end| *offset >= end)
    }

    async fn ask(&self, key: (String, i32)) -> Option<i64> {
        let asked = Instant::now();
        let asking = timeout(ANSWER_WITHIN, log_end(&self.log, &key.0, key.1));
        match asking.await.ok()? {
            Ok(end) => {
                self.lock().insert(key, (asked, end));
                Some(end)
            }
            Err(error) => {
                tracing::debug!("failed to ask for the end of the log: {error}");
                None
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<(String, i32), (Instant, i64)>> {
        // Nothing in between can panic.
        let told = self.told.lock();
        told.unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
