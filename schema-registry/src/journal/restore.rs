//! Brings database and topic to the same state, at each start: an empty database is filled from the
//! topic, an old one (out of a backup) is brought up to date, and a topic that is new to the
//! database gets all that is there.

use std::collections::HashMap;

use event_log::snapshots::SnapshotError;
use event_log::topics::TopicError;
use sqlx::postgres::PgPool;
use uuid::Uuid;

use super::{Journal, PARTITION, Record};
use crate::error::Error;
use crate::store::{recording, registration};

#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("the topic of schemas cannot be used")]
    Topic(#[from] TopicError),
    #[error("failed to read the topic of schemas")]
    Read(#[source] SnapshotError),
    #[error("failed to write what the topic of schemas lacks")]
    Write(#[source] Error),
    #[error("the topic of schemas has a record that is none of ours at key {key}")]
    Foreign {
        key: String,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "the topic of schemas belongs to another database than this one, which is not empty: name another topic, or another database"
    )]
    OfAnother,
    #[error("failed to compare the database with the topic of schemas")]
    Database(#[from] sqlx::Error),
}

impl Journal {
    /// Makes the topic if need be and compares it with the database, while nobody changes either.
    pub async fn restore(&self, pool: &PgPool) -> Result<(), RestoreError> {
        if self.is_restored() {
            return Ok(());
        }
        self.ensure().await?;
        let mut transaction = pool.begin().await?;
        sqlx::query("set local statement_timeout = 0")
            .execute(&mut *transaction)
            .await?;
        registration::lock_all(&mut transaction, true).await?;
        let in_topic = without_strays(self.newest().await?);
        let in_database: HashMap<String, Record> = recording::everything(&mut transaction)
            .await?
            .into_iter()
            .map(|record| (record.thing(), record))
            .collect();
        if let (Some(topic), Some(database)) = (identity(&in_topic), identity(&in_database))
            && topic != database
        {
            let is_empty = in_database.len() == 1;
            if !is_empty {
                return Err(RestoreError::OfAnother);
            }
            let adopted = Record::Registry { identity: topic };
            recording::apply(&mut transaction, &adopted).await?;
        }

        let newer = |thing: &str, than: &Record| {
            let there = in_database.get(thing);
            there.is_none_or(|there| there.change() < than.change())
        };
        let mut missing: Vec<&Record> = in_topic
            .iter()
            .filter(|(thing, record)| newer(thing, record))
            .map(|(_, record)| record)
            .collect();
        // In the order in which it happened: what is referred to comes first.
        missing.sort_by_key(|record| record.change());
        for record in &missing {
            if let Record::Version(version) = record
                && recording::contradicts(&mut transaction, version).await?
            {
                tracing::warn!(
                    subject = version.subject,
                    version = version.version,
                    id = version.id,
                    "passed over a registration that came to nothing"
                );
                continue;
            }
            recording::apply(&mut transaction, record).await?;
        }
        let highest = in_topic.values().map(Record::change).max().unwrap_or(0);
        recording::go_on_behind(&mut transaction, highest).await?;

        let unsaid: Vec<Record> = in_database
            .iter()
            .filter(|(thing, record)| {
                let said = in_topic.get(*thing);
                said.is_none_or(|said| said.change() < record.change())
            })
            .map(|(_, record)| record.clone())
            .collect();
        self.write(&unsaid).await.map_err(RestoreError::Write)?;
        transaction.commit().await?;
        self.0
            .restored
            .store(true, std::sync::atomic::Ordering::Release);
        tracing::info!(
            restored = missing.len(),
            written = unsaid.len(),
            "restored {} changes from the topic of schemas, and wrote {} to it",
            missing.len(),
            unsaid.len()
        );
        Ok(())
    }

    /// What the topic says last about each thing.
    async fn newest(&self) -> Result<HashMap<String, Record>, RestoreError> {
        let mut records = HashMap::new();
        let mut foreign = None;
        let take = |key: &[u8], value: Option<&[u8]>| {
            let Some(value) = value else { return };
            match serde_json::from_slice::<Record>(value) {
                Ok(record) => {
                    let thing = record.thing();
                    let newest = records.get(&thing).map_or(-1, Record::change);
                    if newest < record.change() {
                        records.insert(thing, record);
                    }
                }
                Err(source) => {
                    foreign
                        .get_or_insert_with(|| (String::from_utf8_lossy(key).into_owned(), source));
                }
            }
        };
        let read = self.0.topic.read(PARTITION, take);
        read.await.map_err(RestoreError::Read)?;
        match foreign {
            Some((key, source)) => Err(RestoreError::Foreign { key, source }),
            None => Ok(records),
        }
    }
}

fn identity(records: &HashMap<String, Record>) -> Option<Uuid> {
    records.values().find_map(|record| match record {
        Record::Registry { identity } => Some(*identity),
        Record::Version(_) | Record::Scope(_) | Record::Rules(_) => None,
    })
}

/// Without the registrations that were written and then not committed, where a later one shows it:
/// its content has got another id since, or its id another content.
fn without_strays(records: HashMap<String, Record>) -> HashMap<String, Record> {
    let mut newest_first: Vec<_> = records.into_iter().collect();
    newest_first.sort_by_key(|(_, record)| std::cmp::Reverse(record.change()));
    let mut contents: HashMap<i32, String> = HashMap::new();
    let mut ids: HashMap<String, i32> = HashMap::new();
    newest_first.retain(|(_, record)| {
        let Record::Version(version) = record else {
            return true;
        };
        let content = contents
            .entry(version.id)
            .or_insert_with(|| version.fingerprint.clone());
        let id = ids.entry(version.fingerprint.clone()).or_insert(version.id);
        *content == version.fingerprint && *id == version.id
    });
    newest_first.into_iter().collect()
}
