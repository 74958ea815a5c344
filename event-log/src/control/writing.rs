//! Changing which versions are written.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch, time::sleep};

use super::{
    ControlError, ControlLog, PARTITION, TOPIC,
    versions::{Active, ActiveVersions, Fold, KnownVersions, push},
};
use crate::{
    append::{AppendError, Appender},
    batch::{Batch, BatchBuilder},
    cluster::Cluster,
    ends::log_end,
    fence::{FenceError, take_over},
    fetch::{FetchError, PartitionReader},
};

const TRIES: u32 = 60;

/// The events that had no active version before.
pub type Established = Vec<(String, Active)>;

impl ControlLog {
    /// Sees to it that each event has an active version. What is there is left as it is.
    ///
    /// A context whose log is empty begins with the newest versions: nobody can have trouble with
    /// them. One that has a log but no active versions is older than the switch: it was written in
    /// version 1. An event that is new to a context that has some is not written before it is
    /// activated: there may be deciders that do not know it.
    pub async fn establish(&self, contexts: &[KnownVersions]) -> Result<Established, ControlError> {
        let known = self.catch_up().await?;
        let is_known = |it: &KnownVersions| it.versions.keys().all(|it| known.of(it).is_some());
        if contexts.iter().all(is_known) {
            return Ok(Vec::new());
        }
        let mut beginnings = Vec::new();
        for context in contexts {
            let is_empty = self.is_empty(&context.context).await?;
            beginnings.push((context, is_empty));
        }
        let missing = |known: &ActiveVersions| {
            let contexts = beginnings.iter().copied();
            let missing = contexts.flat_map(|(context, is_empty)| first(context, is_empty, known));
            missing.collect::<Vec<_>>()
        };
        self.write("the first start", missing).await
    }

    /// Has the event written in this version from now on; answers what it was.
    ///
    /// Whether everybody reads it is for the caller to know: see `annals schema activate`.
    pub async fn activate(
        &self,
        event_type: &str,
        version: u32,
        by: &str,
    ) -> Result<Option<Active>, ControlError> {
        let mut before = None;
        self.write(by, |known| {
            before = known.of(event_type);
            let highest = before.map_or(0, |it| it.highest).max(version);
            let active = Active { version, highest };
            match before == Some(active) {
                true => Vec::new(),
                false => vec![(event_type.to_owned(), active)],
            }
        })
        .await?;
        Ok(before)
    }

    /// Whether nothing was ever appended to the context's events, a take-over's marker included.
    async fn is_empty(&self, context: &str) -> Result<bool, ControlError> {
        let topic = self.0.generation.events_topic(context);
        for partition in 0..self.0.generation.partitions {
            if log_end(&self.0.cluster, &topic, partition).await? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Appends what `change` makes of everything that the topic says; answers it.
    async fn write(
        &self,
        by: &str,
        mut change: impl FnMut(&ActiveVersions) -> Vec<(String, Active)>,
    ) -> Result<Vec<(String, Active)>, ControlError> {
        for _ in 0..TRIES {
            let turn = Turn::take(&self.0.cluster, &self.0.generation.name).await;
            let appended = match turn {
                Ok((turn, known)) => turn.append(by, change(&known)).await,
                Err(error) => Err(error),
            };
            match appended {
                Ok(changed) => {
                    self.catch_up().await?;
                    return Ok(changed);
                }
                // Whether what was fenced is in the log, the log says.
                Err(
                    ControlError::TakeOver(FenceError::Lost { .. })
                    | ControlError::Append(AppendError::Fenced { .. })
                    | ControlError::Read(FetchError::NoMarker { .. }),
                ) => sleep(jitter()).await,
                Err(error) => return Err(error),
            }
        }
        Err(ControlError::Contended(TRIES))
    }
}

/// Who may write, until somebody else may.
struct Turn<'a> {
    generation: &'a str,
    appender: Appender,
}

impl<'a> Turn<'a> {
    async fn take(
        cluster: &Cluster,
        generation: &'a str,
    ) -> Result<(Self, Arc<ActiveVersions>), ControlError> {
        let taken = take_over(cluster, TOPIC, &[TOPIC.to_owned()], PARTITION).await?;
        let mut reader = PartitionReader::new(cluster, TOPIC, PARTITION, 0);
        let mut fold = Fold::of(generation);
        let mut folded = Ok(());
        let take = |batch: &Batch| {
            if folded.is_ok() {
                folded = fold.take(batch);
            }
        };
        reader.read_to_marker(taken.marker, take).await?;
        folded?;
        let (next_offset, trouble) = (reader.next_offset(), watch::Sender::default());
        let writer = taken.writer;
        let appender = Appender::new(cluster, TOPIC, PARTITION, writer, next_offset, trouble);
        let turn = Self {
            generation,
            appender,
        };
        Ok((turn, fold.active()))
    }

    async fn append(
        mut self,
        by: &str,
        changed: Vec<(String, Active)>,
    ) -> Result<Vec<(String, Active)>, ControlError> {
        let mut batch = BatchBuilder::default();
        for (event_type, active) in &changed {
            push(&mut batch, self.generation, event_type, *active, by);
        }
        if !batch.is_empty() {
            self.appender.append(batch).await?;
        }
        Ok(changed)
    }
}

/// What the events of a context begin with that have no active version yet.
fn first(
    context: &KnownVersions,
    is_empty: bool,
    known: &ActiveVersions,
) -> impl Iterator<Item = (String, Active)> {
    let knows_some = context.versions.keys().any(|it| known.of(it).is_some());
    let missing = context.versions.iter();
    let missing = missing.filter(|(event_type, _)| known.of(event_type).is_none());
    missing.map(move |(event_type, newest)| {
        let version = match (knows_some, is_empty) {
            (true, _) => 0,
            (false, true) => *newest,
            (false, false) => 1,
        };
        let highest = version;
        (event_type.clone(), Active { version, highest })
    })
}

/// Those who meet would meet again.
fn jitter() -> Duration {
    Duration::from_millis(5 + RandomState::new().hash_one(0) % 50)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schemas::ContextSchemas;

    fn context(events: &[(&str, u32)]) -> KnownVersions {
        let files: Vec<_> = events
            .iter()
            .flat_map(|(event, newest)| (1..=*newest).map(move |version| (event, version)))
            .map(|(event, version)| {
                let text = format!(
                    r#"{{"type":"record","namespace":"annals.tasks","name":"{event}","fields":[]}}"#
                );
                (format!("{event}.v{version}.avsc"), text)
            })
            .collect();
        let files = files.iter().map(|(name, text)| (&**name, &**text));
        KnownVersions::of(&ContextSchemas::load("tasks", files).unwrap())
    }

    fn begins(context: &KnownVersions, is_empty: bool, known: &ActiveVersions) -> Vec<u32> {
        let first = first(context, is_empty, known);
        first.map(|(_, active)| active.version).collect()
    }

    #[test]
    fn only_an_empty_log_begins_with_the_newest_version() {
        let tasks = context(&[("Created", 3), ("Done", 1)]);
        let nothing = ActiveVersions::default();
        assert_eq!(begins(&tasks, true, &nothing), [3, 1]);
        // Older than the switch.
        assert_eq!(begins(&tasks, false, &nothing), [1, 1]);
    }

    #[test]
    fn an_event_that_is_new_to_a_context_waits_for_its_activation() {
        let tasks = context(&[("Created", 3), ("Renamed", 2)]);
        let written = Active {
            version: 1,
            highest: 1,
        };
        let known = [("annals.tasks.Created".to_owned(), written)];
        let known: ActiveVersions = known.into_iter().collect();
        for is_empty in [true, false] {
            assert_eq!(begins(&tasks, is_empty, &known), [0]);
        }
    }
}
