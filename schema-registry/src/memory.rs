//! What the registry remembers of what it has answered: schemas of ids, so that most consumers cost
//! the database nothing, and everything else for when the database is away. Errors are not
//! remembered.
//!
//! Bounded in bytes, whatever is asked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache;
use sha2::{Digest, Sha256};

use crate::content::Submitted;
use crate::error::Error;
use crate::store::{Deleted, StoredSchema, SubjectVersion};
use crate::subject::{Subject, VersionNumber};

/// How long a schema is answered without asking the database: for so long another instance may have
/// removed it for good.
const FRESH: Duration = Duration::from_secs(2);
/// How long the database may take to answer what is remembered as well.
const PATIENCE: Duration = Duration::from_secs(1);
const MOST_BYTES: u64 = 12 * 1024 * 1024;
const MOST_ALIASES: u64 = 10_000;

/// Clones share what they remember.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    schemas: Cache<i32, (Instant, Arc<StoredSchema>)>,
    answers: Cache<Question, Arc<SubjectVersion>>,
    aliases: Cache<Subject, (Instant, Option<String>)>,
}

/// What is answered by a version of a subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Question {
    Version(Subject, VersionNumber, Deleted),
    LookUp(Subject, [u8; 32], Deleted),
}

impl Question {
    pub fn look_up(subject: &Subject, submitted: &Submitted, deleted: Deleted) -> Self {
        let mut hash = Sha256::new();
        for text in [&submitted.schema, &submitted.schema_type] {
            hash.update(text.as_deref().unwrap_or_default());
            hash.update([0]);
        }
        for part in [
            &submitted.references,
            &submitted.metadata,
            &submitted.rule_set,
        ] {
            hash.update(part.as_ref().map(ToString::to_string).unwrap_or_default());
            hash.update([0]);
        }
        Self::LookUp(subject.clone(), hash.finalize().into(), deleted)
    }
}

impl Memory {
    pub fn new() -> Self {
        let weigh = |schema: &StoredSchema| {
            let contract = [schema.metadata.is_some(), schema.rule_set.is_some()];
            let contract = contract.into_iter().filter(|there| *there).count() * 4096;
            u32::try_from(schema.schema.len() + contract + 1024).unwrap_or(u32::MAX)
        };
        Self {
            schemas: Cache::builder()
                .max_capacity(MOST_BYTES)
                .weigher(move |_, (_, schema): &(Instant, Arc<StoredSchema>)| weigh(schema))
                .build(),
            answers: Cache::builder()
                .max_capacity(MOST_BYTES)
                .weigher(move |_, answer: &Arc<SubjectVersion>| weigh(&answer.stored))
                .build(),
            aliases: Cache::new(MOST_ALIASES),
        }
    }

    pub fn fresh_schema(&self, id: i32) -> Option<Arc<StoredSchema>> {
        let (since, schema) = self.schemas.get(&id)?;
        (since.elapsed() < FRESH).then_some(schema)
    }

    pub async fn schema_or_remembered(
        &self,
        id: i32,
        found: impl Future<Output = Result<StoredSchema, Error>>,
    ) -> Result<Arc<StoredSchema>, Error> {
        let known = self.schemas.get(&id).map(|(_, schema)| schema);
        match either(known, async { found.await.map(Arc::new) }).await {
            Found::New(schema) => {
                self.schemas.insert(id, (Instant::now(), schema.clone()));
                Ok(schema)
            }
            Found::Remembered(schema) => Ok(schema),
            Found::Nothing(error) => {
                if !error.is_store_away() {
                    self.schemas.invalidate(&id);
                }
                Err(error)
            }
        }
    }

    pub async fn or_remembered(
        &self,
        question: Question,
        found: impl Future<Output = Result<SubjectVersion, Error>>,
    ) -> Result<SubjectVersion, Error> {
        let known = self.answers.get(&question);
        match either(known, async { found.await.map(Arc::new) }).await {
            Found::New(answer) => {
                self.answers.insert(question, answer.clone());
                Ok(Arc::unwrap_or_clone(answer))
            }
            Found::Remembered(answer) => Ok(Arc::unwrap_or_clone(answer)),
            Found::Nothing(error) => {
                if !error.is_store_away() {
                    self.answers.invalidate(&question);
                }
                Err(error)
            }
        }
    }

    /// The outer option is whether it is known.
    pub fn fresh_alias(&self, subject: &Subject) -> Option<Option<String>> {
        let (since, alias) = self.aliases.get(subject)?;
        (since.elapsed() < FRESH).then_some(alias)
    }

    pub async fn alias_or_remembered(
        &self,
        subject: &Subject,
        found: impl Future<Output = Result<Option<String>, Error>>,
    ) -> Result<Option<String>, Error> {
        let known = self.aliases.get(subject).map(|(_, alias)| alias);
        match either(known, found).await {
            Found::New(alias) => {
                let entry = (Instant::now(), alias.clone());
                self.aliases.insert(subject.clone(), entry);
                Ok(alias)
            }
            Found::Remembered(alias) => Ok(alias),
            Found::Nothing(error) => Err(error),
        }
    }

    /// Something has changed through this instance: it answers by that at once.
    pub fn forget(&self, ids: &[i32]) {
        for id in ids {
            self.schemas.invalidate(id);
        }
        self.aliases.invalidate_all();
    }
}

enum Found<T> {
    New(T),
    Remembered(T),
    Nothing(Error),
}

/// What is found, or else what is known, if the store is away or takes its time.
async fn either<T>(known: Option<T>, found: impl Future<Output = Result<T, Error>>) -> Found<T> {
    let Some(known) = known else {
        return match found.await {
            Ok(found) => Found::New(found),
            Err(error) => Found::Nothing(error),
        };
    };
    match tokio::time::timeout(PATIENCE, found).await {
        Ok(Ok(found)) => Found::New(found),
        Ok(Err(error)) if !error.is_store_away() => Found::Nothing(error),
        Ok(Err(_)) | Err(_) => {
            metrics::counter!("registry_answers_from_memory_total").increment(1);
            Found::Remembered(known)
        }
    }
}
