//! What events say: their fields, from the places in the log that the index of all streams tells.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use event_log::{
    cluster::Cluster,
    fetch::{FetchError, read_at},
};
use futures::future::BoxFuture;
use kernel::StreamId;
use serde_json::Value;
use service_kit::{Problem, problem::Chain};
use tokio::time::timeout;

use crate::{failure::unavailable, history::StreamEvent};

/// Kafka may be away.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Makes sense of events' bytes: who knows the contexts and their schemas does.
pub trait DecodeEvents: Send + Sync + 'static {
    /// The fields of an event of this type, of a stream of this kind, or why they cannot be told.
    fn decode<'a>(
        &'a self,
        kind: &'a str,
        event_type: &'a str,
        value: &'a [u8],
    ) -> BoxFuture<'a, Result<Value, String>>;
}

/// The log, and who can read it.
#[derive(Clone)]
pub struct EventData {
    log: Cluster,
    decoder: Arc<dyn DecodeEvents>,
}

impl EventData {
    pub fn new(log: Cluster, decoder: impl DecodeEvents) -> Self {
        Self {
            log,
            decoder: Arc::new(decoder),
        }
    }

    /// Tells each event's data, or why it has none.
    ///
    /// # Errors
    /// 503 `read-side-unavailable` when Kafka cannot be read.
    pub(crate) async fn tell(
        &self,
        events: impl IntoIterator<Item = &mut StreamEvent>,
    ) -> Result<(), Problem> {
        match timeout(ANSWER_WITHIN, self.read(events)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => {
                tracing::warn!("failed to read events: {}", Chain(&error));
                Err(unavailable("the events cannot be read from Kafka"))
            }
            Err(_elapsed) => Err(unavailable("Kafka gives no answer")),
        }
    }

    async fn read(
        &self,
        events: impl IntoIterator<Item = &mut StreamEvent>,
    ) -> Result<(), FetchError> {
        let mut by_partition: BTreeMap<(String, i32), Vec<&mut StreamEvent>> = BTreeMap::new();
        for event in events {
            let partition = (event.topic.clone(), event.partition);
            by_partition.entry(partition).or_default().push(event);
        }
        for ((topic, partition), events) in by_partition {
            let offsets = events.iter().map(|event| event.offset);
            let records = read_at(&self.log, &topic, partition, offsets).await?;
            for event in events {
                let record = records.get(&event.offset);
                // Another topic may have been made under the name.
                let own = record.filter(|it| it.key.as_deref() == Some(event.stream.as_bytes()));
                let value = own.and_then(|record| record.value.as_deref());
                match self.decode(event, value).await {
                    Ok(data) => event.data = Some(data),
                    Err(reason) => event.data_error = Some(reason),
                }
            }
        }
        Ok(())
    }

    async fn decode(&self, event: &StreamEvent, value: Option<&[u8]>) -> Result<Value, String> {
        let value = value.ok_or("it is not in the log")?;
        let stream: Result<StreamId, _> = event.stream.parse();
        let stream = stream.map_err(|malformed| malformed.to_string())?;
        let decoded = self.decoder.decode(stream.kind(), &event.event_type, value);
        decoded.await
    }
}

impl fmt::Debug for EventData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventData").finish_non_exhaustive()
    }
}
