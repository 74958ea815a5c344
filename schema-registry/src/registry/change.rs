//! The way that every change takes: one transaction, whose records are in the topic before it is
//! committed. So whatever can be seen in the database is in the topic, and what was answered is in
//! both. A record of a change that was not committed does no harm: nobody was told of it, and what
//! comes after it has a higher number.

use sqlx::{PgConnection, Postgres, Transaction};
use tokio::sync::OwnedSemaphorePermit;

use super::Registry;
use crate::error::Error;
use crate::journal::{Fate, Journal, Record};
use crate::memory::Memory;
use crate::store::{recording, registration};
use crate::subject::Subject;

pub(super) struct Change {
    transaction: Transaction<'static, Postgres>,
    journal: Option<Journal>,
    records: Vec<Record>,
    /// Ids whose schemas may be gone.
    forgotten: Vec<i32>,
    memory: Memory,
    _turn: OwnedSemaphorePermit,
}

impl Change {
    /// Begins a change of what is kept under `key`; others that change the same wait.
    pub async fn begin(registry: &Registry, key: &str) -> Result<Self, Error> {
        Self::start(registry, Some(key)).await
    }

    /// Begins a change of several things; all others wait.
    pub async fn begin_alone(registry: &Registry) -> Result<Self, Error> {
        Self::start(registry, None).await
    }

    async fn start(registry: &Registry, key: Option<&str>) -> Result<Self, Error> {
        let turn = registry.turns.clone().acquire_owned().await;
        let turn = turn.expect("nobody closes the semaphore");
        if let Some(journal) = &registry.journal
            && !journal.is_restored()
        {
            return Err(Error::NotRestored);
        }
        let mut transaction = registry.pool.begin().await?;
        registration::lock_all(&mut transaction, key.is_none()).await?;
        if let Some(key) = key {
            registration::lock_subject(&mut transaction, key).await?;
        }
        Ok(Self {
            transaction,
            journal: registry.journal.clone(),
            records: Vec::new(),
            forgotten: Vec::new(),
            memory: registry.memory.clone(),
            _turn: turn,
        })
    }

    pub fn connection(&mut self) -> &mut PgConnection {
        &mut self.transaction
    }

    /// A number higher than that of any change before.
    pub async fn number(&mut self) -> Result<i64, Error> {
        let number = sqlx::query_scalar("select nextval('registry.changes')")
            .fetch_one(&mut *self.transaction)
            .await?;
        Ok(number)
    }

    /// What the topic is to say of the change.
    pub fn record(&mut self, record: impl Into<Record>) {
        if self.journal.is_some() {
            self.records.push(record.into());
        }
    }

    /// Lets the topic say how the version is now.
    pub async fn record_version(
        &mut self,
        subject: &Subject,
        version: i32,
        number: i64,
    ) -> Result<(), Error> {
        if self.journal.is_some() {
            let one = Some((subject, version));
            for mut record in recording::versions(&mut *self.transaction, one).await? {
                record.change = number;
                self.records.push(record.into());
            }
        }
        Ok(())
    }

    /// The same for a version that is about to be removed.
    pub async fn record_removal(
        &mut self,
        subject: &Subject,
        version: i32,
        number: i64,
    ) -> Result<(), Error> {
        self.record_version(subject, version, number).await?;
        if let Some(Record::Version(record)) = self.records.last_mut() {
            record.fate = Fate::Removed;
        }
        Ok(())
    }

    /// A schema that may be gone when this is done.
    pub fn forget(&mut self, id: i32) {
        self.forgotten.push(id);
    }

    pub async fn commit(self) -> Result<(), Error> {
        if let Some(journal) = &self.journal {
            journal.write(&self.records).await?;
        }
        self.transaction.commit().await?;
        self.memory.forget(&self.forgotten);
        Ok(())
    }
}
