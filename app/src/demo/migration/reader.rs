//! A consumer of the tasks' events that was compiled for one version of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use annals::{Demo, DemoError};
use event_log::{
    avro::EventCodec,
    consume::{Arrival, Consumer, LogRecord, PartitionFeed},
    registry::RegistryClient,
    schemas::ContextSchemas,
};
use futures::future::join_all;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::task::JoinHandle;

/// What a release knew of the event, and what it shows.
pub(super) trait Release: Send + Sync + 'static {
    /// The newest version that it knows.
    const VERSION: u32;
    type Event: Serialize + DeserializeOwned + Clone + std::fmt::Debug + PartialEq + Send + Sync;

    fn title(event: &Self::Event) -> String;
}

/// It knows version 1, and nothing of what comes after it.
pub(super) struct Old;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum OldEvent {
    TaskCreated { title: String },
}

impl Release for Old {
    const VERSION: u32 = 1;
    type Event = OldEvent;

    fn title(OldEvent::TaskCreated { title }: &OldEvent) -> String {
        title.clone()
    }
}

/// It knows versions 1 and 2.
pub(super) struct New;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum NewEvent {
    TaskCreated {
        title: String,
        jira_id: Option<String>,
    },
}

impl Release for New {
    const VERSION: u32 = 2;
    type Event = NewEvent;

    fn title(NewEvent::TaskCreated { title, jira_id }: &NewEvent) -> String {
        match jira_id {
            Some(id) => format!("{id} | {title}"),
            None => format!("- | {title}"),
        }
    }
}

/// Reads every task from the log's start on.
pub(super) struct Reader<R> {
    seen: Arc<Mutex<Seen>>,
    reading: JoinHandle<()>,
    release: std::marker::PhantomData<fn() -> R>,
}

/// What a consumer has read so far.
#[derive(Default)]
pub(super) struct Seen {
    /// By stream.
    titles: BTreeMap<String, Title>,
    events: usize,
    /// What it could not read.
    trouble: Option<String>,
}

struct Title {
    text: String,
    written_in: u32,
    /// How many were read before it.
    place: usize,
}

impl Seen {
    pub fn tasks(&self) -> usize {
        self.titles.len()
    }

    pub fn events(&self) -> usize {
        self.events
    }

    pub fn title(&self, task: &str) -> Option<&str> {
        Some(&self.titles.get(task)?.text)
    }

    /// Task, title and the version that it was written in, the newest first, those with a tracker's
    /// id alone.
    pub fn newest(&self) -> impl Iterator<Item = (&str, &str, u32)> {
        let mut titles: Vec<_> = self.titles.iter().collect();
        titles.retain(|(_, title)| !title.text.starts_with('-'));
        titles.sort_by_key(|(_, title)| std::cmp::Reverse(title.place));
        let titles = titles.into_iter();
        titles.map(|(task, title)| (&**task, &*title.text, title.written_in))
    }

    pub fn written_in(&self, version: u32) -> usize {
        let titles = self.titles.values();
        titles.filter(|title| title.written_in == version).count()
    }
}

impl<R: Release> Reader<R> {
    pub async fn begin(demo: &Demo) -> Result<Self, DemoError> {
        let registry = demo.registry()?;
        let schemas = schemas_up_to(R::VERSION)?;
        let codec = EventCodec::<R::Event>::connect(&[&schemas], &registry).await?;
        let versions = versions_by_id(&registry).await?;
        let (cluster, generation) = demo.log()?;
        let from = generation.beginnings(&generation.events_topic("tasks"));
        let name = format!("annals-demo-v{}", R::VERSION);
        let (consumer, feeds) = Consumer::open(&cluster, &name, &from)?;
        let seen = Arc::<Mutex<Seen>>::default();
        let taking = Taking {
            codec,
            versions,
            seen: seen.clone(),
        };
        let reading = tokio::spawn(async move {
            let partitions = feeds.iter().map(|feed| taking.partition::<R>(feed));
            tokio::select! {
                _ = join_all(partitions) => {}
                error = consumer.attend() => taking.trouble(error.to_string()),
            }
        });
        Ok(Self {
            seen,
            reading,
            release: std::marker::PhantomData,
        })
    }

    /// # Panics
    /// When there was something that it could not read: then the story is not true.
    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = &seen.trouble {
            panic!("the consumer of version {} stopped: {trouble}", R::VERSION);
        }
        seen
    }

    /// Answers how many tasks it has seen.
    pub async fn end(self) -> usize {
        self.reading.abort();
        self.seen().tasks()
    }
}

/// What a reader does with each record.
struct Taking<E> {
    codec: EventCodec<E>,
    /// Of `TaskCreated`, by schema id.
    versions: BTreeMap<u32, u32>,
    seen: Arc<Mutex<Seen>>,
}

impl<E: kernel::Event> Taking<E> {
    async fn partition<R: Release<Event = E>>(&self, feed: &PartitionFeed) {
        loop {
            let taken = match feed.next().await {
                Ok(Arrival::Record(record)) => self.take::<R>(record).await,
                Ok(Arrival::End) => Ok(()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(trouble) = taken {
                return self.trouble(trouble);
            }
        }
    }

    async fn take<R: Release<Event = E>>(&self, record: LogRecord) -> Result<(), String> {
        let envelope = record.envelope.map_err(|error| error.to_string())?;
        let event = self
            .codec
            .read_or_learn(&envelope.event_type, &record.value);
        let Some(event) = event.await.map_err(|error| error.to_string())? else {
            return Ok(());
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let title = Title {
            text: R::title(&event),
            written_in: self.version(&record.value),
            place: seen.events,
        };
        seen.events += 1;
        seen.titles.insert(envelope.stream.to_string(), title);
        Ok(())
    }

    /// 0 of a schema that is not the event's.
    fn version(&self, value: &[u8]) -> u32 {
        let id = value.get(1..5).and_then(|id| id.try_into().ok());
        let id = id.map(u32::from_be_bytes);
        let version = id.and_then(|id| self.versions.get(&id));
        version.copied().unwrap_or_default()
    }

    fn trouble(&self, trouble: String) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.trouble.get_or_insert(trouble);
    }
}

/// The files that a release had.
fn schemas_up_to(version: u32) -> Result<ContextSchemas, DemoError> {
    let context = tasks::context();
    let versions = context.schemas().versions("TaskCreated");
    let mut files = Vec::new();
    for file in versions.iter().filter(|file| file.version <= version) {
        let stem = format!("{}.v{}", file.event, file.version);
        files.push((format!("{stem}.avsc"), file.text.clone()));
        if let Some(migration) = &file.migration {
            files.push((format!("{stem}.migration.json"), migration.to_text()));
        }
    }
    let files = files.iter().map(|(name, text)| (&**name, &**text));
    Ok(ContextSchemas::load("tasks", files)?)
}

async fn versions_by_id(registry: &RegistryClient) -> Result<BTreeMap<u32, u32>, DemoError> {
    let versions = registry.versions("annals.tasks.TaskCreated").await?;
    let versions = versions.into_iter();
    Ok(versions.map(|it| (it.id, it.version)).collect())
}
