//! What the read models must show: a fold of the log by a stranger, who knows the headers, and of
//! Avro only how a string is written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Headers},
};
use sqlx::{Connection, FromRow, PgConnection};
use tokio::time::Instant;

use crate::{
    app::TestApp,
    eventually::{WITHIN, eventually},
    follower::Heard,
};

const SOON: Duration = Duration::from_secs(30);

/// Rows as they must be. Times are left to the unit tests.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    tasks: BTreeMap<String, Task>,
    history: BTreeSet<Happening>,
    index: BTreeSet<Indexed>,
    changes: BTreeSet<Change>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, FromRow)]
struct Task {
    stream: String,
    version: i64,
    title: String,
    created_by: String,
    assignee: Option<String>,
    done: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
struct Happening {
    stream: String,
    version: i64,
    event: String,
    actor: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
struct Indexed {
    topic: String,
    partition: i32,
    offset: i64,
    stream: String,
    version: i64,
    event_type: String,
    command_id: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, FromRow)]
struct Change {
    topic: String,
    partition: i32,
    offset: i64,
    key: String,
    stream: String,
    version: i64,
}

impl Expected {
    pub(super) fn events(&self) -> usize {
        self.index.len()
    }

    /// Of each stream, in order.
    pub(super) fn versions(&self) -> Heard {
        let mut versions = Heard::new();
        for Indexed {
            stream, version, ..
        } in &self.index
        {
            versions
                .entry(stream.clone())
                .or_default()
                .push(version.unsigned_abs());
        }
        versions.values_mut().for_each(|all| all.sort_unstable());
        versions
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) {
        let headers: BTreeMap<_, _> = message
            .headers()
            .into_iter()
            .flat_map(Headers::iter)
            .filter_map(|it| Some((it.key, std::str::from_utf8(it.value?).ok()?)))
            .collect();
        let (topic, partition, offset) = (
            message.topic().to_owned(),
            message.partition(),
            message.offset(),
        );
        let version = headers["annals_stream_version"]
            .parse()
            .expect("a version is a number");
        let (stream, actor) = (headers["ce_subject"].to_owned(), headers["annals_actor"]);
        let event_type = headers["ce_type"];
        self.index.insert(Indexed {
            topic: topic.clone(),
            partition,
            offset,
            stream: stream.clone(),
            version,
            event_type: event_type.into(),
            command_id: headers["annals_command_id"].into(),
        });
        let (_, event) = event_type.rsplit_once('.').unwrap_or_default();
        self.history.insert(Happening {
            stream: stream.clone(),
            version,
            event: event.into(),
            actor: actor.into(),
        });
        let (_, key) = stream.rsplit_once('/').unwrap_or_default();
        self.changes.insert(Change {
            topic,
            partition,
            offset,
            key: key.into(),
            stream: stream.clone(),
            version,
        });
        let task = self.tasks.entry(stream.clone()).or_default();
        task.stream = stream;
        task.version = version;
        let value = message.payload().unwrap_or_default();
        match event {
            "TaskCreated" => {
                task.title = first_string(value);
                task.created_by = actor.into();
            }
            "TaskAssigned" => task.assignee = Some(first_string(value)),
            "TaskCompleted" => task.done = true,
            other => panic!("nobody sends {other} here"),
        }
    }
}

/// The first field of a record: behind the schema's id, a length in zigzag, and UTF-8.
fn first_string(value: &[u8]) -> String {
    let (length, text) = match value.get(5..) {
        Some([length, text @ ..]) if length & 0x81 == 0 => (usize::from(length >> 1), text),
        _ => panic!("not a short string: {value:?}"),
    };
    String::from_utf8(text[..length].into()).expect("a string is UTF-8")
}

/// # Panics
/// When the log cannot be read to its end.
pub(super) fn of_the_log(app: &TestApp) -> Expected {
    let topic = app.events_topic("tasks");
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", app.setting("KAFKA"))
        .set("group.id", "nobody's")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_uncommitted")
        .create()
        .expect("the settings are right");
    let metadata = consumer.fetch_metadata(Some(&topic), SOON);
    let metadata = metadata.expect("the topic is there");
    let mut assignment = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        let all = assignment.add_partition_offset(&topic, partition.id(), Offset::Beginning);
        all.expect("the beginning is a place");
    }
    let partitions = metadata.topics()[0].partitions().iter();
    let mut unread: BTreeSet<_> = partitions.map(|partition| partition.id()).collect();
    consumer.assign(&assignment).expect("it has just been made");
    let mut expected = Expected::default();
    let began = Instant::now();
    while !unread.is_empty() {
        assert!(began.elapsed() < WITHIN, "the end of {topic} never came");
        match consumer.poll(SOON) {
            Some(Ok(message)) => expected.take(&message),
            // Of one that somebody appends to, more than once.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    expected
}

/// # Panics
/// When the read models have not everything in time, or something else.
pub(super) async fn assert_equal(app: &TestApp, expected: &Expected) {
    let postgres = app.setting("POSTGRES");
    let found = eventually("every event is in the read models", async || {
        let mut postgres = PgConnection::connect(postgres).await.ok()?;
        let found = read(&mut postgres).await.ok()?;
        (found.index.len() >= expected.index.len() && found.history.len() >= expected.history.len())
            .then_some(found)
    })
    .await;
    differ("stream_index", &found.index, &expected.index);
    differ("history", &found.history, &expected.history);
    differ("changes", &found.changes, &expected.changes);
    assert_eq!(found.tasks, expected.tasks);
}

/// Says what only one of them has, and not everything.
fn differ<T: Ord + fmt::Debug>(what: &str, found: &BTreeSet<T>, expected: &BTreeSet<T>) {
    let missing: Vec<_> = expected.difference(found).take(5).collect();
    let too_many: Vec<_> = found.difference(expected).take(5).collect();
    assert!(
        missing.is_empty() && too_many.is_empty(),
        "{what} lacks {missing:?} and has {too_many:?}"
    );
}

/// All at one moment: workers may be at work still.
async fn read(postgres: &mut PgConnection) -> Result<Expected, sqlx::Error> {
    sqlx::raw_sql("begin isolation level repeatable read")
        .execute(&mut *postgres)
        .await?;
    let tasks: Vec<Task> = sqlx::query_as(
        "select tenant || '/task/' || id as stream, version, title, created_by, assignee,
                completed_at is not null as done
           from rm_task_board_e1.tasks",
    )
    .fetch_all(&mut *postgres)
    .await?;
    let history: Vec<Happening> = sqlx::query_as(
        "select tenant || '/task/' || id as stream, version, event, actor
           from rm_task_board_e1.history",
    )
    .fetch_all(&mut *postgres)
    .await?;
    let index: Vec<Indexed> = sqlx::query_as("select * from rm_stream_index_e1.stream_index")
        .fetch_all(&mut *postgres)
        .await?;
    let changes: Vec<Change> = sqlx::query_as("select * from rm_task_board_e1.changes")
        .fetch_all(&mut *postgres)
        .await?;
    assert_eq!(index.len(), index.iter().collect::<BTreeSet<_>>().len());
    assert_eq!(changes.len(), changes.iter().collect::<BTreeSet<_>>().len());
    let tasks = tasks.into_iter().map(|task| (task.stream.clone(), task));
    Ok(Expected {
        tasks: tasks.collect(),
        history: history.into_iter().collect(),
        index: index.into_iter().collect(),
        changes: changes.into_iter().collect(),
    })
}
