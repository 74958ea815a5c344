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
const MOST_BYTES: u64 = 8 * 1024 * 1024;
const MOST_BYTES_OF_ALIASES: u64 = 2 * 1024 * 1024;
/// What is heavier makes room at once: the cache itself does so now and then.
const HEAVY: u32 = 64 * 1024;

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
    fn subject(&self) -> &Subject {
        match self {
            Self::Version(subject, ..) | Self::LookUp(subject, ..) => subject,
        }
    }

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
        Self {
            schemas: Cache::builder()
                .max_capacity(MOST_BYTES)
                .weigher(|_, (_, schema): &(Instant, Arc<StoredSchema>)| weigh(schema))
                .build(),
            answers: Cache::builder()
                .max_capacity(MOST_BYTES)
                .weigher(|question: &Question, answer: &Arc<SubjectVersion>| {
                    weigh(&answer.stored).saturating_add(text_weight(question.subject().as_str()))
                })
                .build(),
            aliases: Cache::builder()
                .max_capacity(MOST_BYTES_OF_ALIASES)
                .weigher(
                    |subject: &Subject, (_, alias): &(Instant, Option<String>)| {
                        let alias = alias.as_deref().map_or(0, text_weight);
                        text_weight(subject.as_str()).saturating_add(alias)
                    },
                )
                .build(),
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
                if weigh(&schema) > HEAVY {
                    self.schemas.run_pending_tasks();
                }
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
                if weigh(&answer.stored) > HEAVY {
                    self.answers.run_pending_tasks();
                }
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

/// Bytes that it takes, more or less.
fn weigh(schema: &StoredSchema) -> u32 {
    /// A list or a map takes more than its text.
    const SPACIOUS: usize = 4;
    let contract = [
        schema.metadata.as_ref().map(json_bytes),
        schema.rule_set.as_ref().map(json_bytes),
        (!schema.references.is_empty()).then(|| json_bytes(&schema.references)),
    ];
    let contract: usize = contract.into_iter().flatten().sum();
    let bytes = schema.schema.len() + contract * SPACIOUS + 1024;
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn json_bytes(part: &impl serde::Serialize) -> usize {
    serde_json::to_vec(part).map_or(0, |json| json.len())
}

fn text_weight(text: &str) -> u32 {
    u32::try_from(text.len() + 128).unwrap_or(u32::MAX)
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
