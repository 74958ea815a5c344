//! `annals replay`: an operator looks at the log, and builds a read model from it again.

use std::time::Duration;

use e2e::{Process, TestApp, User, eventually};
use event_log::router::partition_of;
use kernel::{EventId, StreamId, StreamVersion};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    app,
    load::{Load, assert_all_on_board},
    raw_log::{self, RawEvent},
};

const PARTITIONS: i32 = 4;
const SOON: Duration = Duration::from_secs(30);

fn replay(app: &TestApp, arguments: &[&str]) -> Process {
    replay_with(app, arguments, &[])
}

fn replay_with(app: &TestApp, arguments: &[&str], settings: &[(&str, &str)]) -> Process {
    let mut command = app.annals();
    command.arg("replay").args(arguments);
    command.envs(settings.iter().copied());
    Process::start(command)
}

/// What it prints, when it ends well.
async fn told(app: &TestApp, arguments: &[&str]) -> Value {
    let process = replay(app, arguments);
    let status = process.ended().await;
    assert!(status.success(), "{}{}", process.stdout(), process.stderr());
    let text = process.stdout();
    serde_json::from_str(&text).unwrap_or(Value::String(text))
}

/// The line with which it ends badly.
async fn refused(app: &TestApp, arguments: &[&str]) -> String {
    refused_with(app, arguments, &[]).await
}

async fn refused_with(app: &TestApp, arguments: &[&str], settings: &[(&str, &str)]) -> String {
    let process = replay_with(app, arguments, settings);
    assert!(!process.ended().await.success(), "{}", process.stdout());
    let said = process.stderr();
    let last = said.lines().last().unwrap_or_default();
    last.to_owned()
}

/// A task that was created, assigned and completed; its id.
async fn done_task(mia: &User, polly: &User) -> String {
    let created = mia.create_task("AVRO-12: Sort the records").send().await;
    let id = created.succeeded().id();
    mia.assign(&id, "polly").send().await.succeeded();
    polly.complete(&id).send().await.succeeded();
    id
}

#[tokio::test]
async fn a_stream_is_shown_with_its_state_at_any_version_and_time() {
    let app = app().await;
    let company = app.new_company();
    let id = done_task(&company.manager("mia"), &company.worker("polly")).await;
    let stream = format!("{}/task/{id}", company.tenant);

    let shown = told(&app, &["show", &stream, "--json"]).await;
    assert_eq!(shown["version"], 3);
    assert_eq!(shown["state"], "Done");
    let events = shown["events"].as_array().unwrap();
    let types: Vec<_> = events
        .iter()
        .map(|it| it["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        ["TaskCreated", "TaskAssigned", "TaskCompleted"].map(|it| format!("annals.tasks.{it}"))
    );
    assert_eq!(events[1]["event"], json!({ "assignee": "polly" }));
    assert_eq!(events[1]["actor"], "user:mia");
    let raw = events[1]["raw"].as_str().unwrap();
    assert!(
        raw.starts_with("00") && raw.ends_with("706f6c6c79"),
        "{raw}"
    );

    let open = json!({ "Open": { "assignee": "polly" } });
    let shown = told(&app, &["show", &stream, "--at", "2", "--json"]).await;
    assert_eq!((&shown["version"], &shown["state"]), (&json!(2), &open));
    let time = events[1]["time"].as_str().unwrap();
    let shown = told(&app, &["show", &stream, "--at", time, "--json"]).await;
    assert_eq!((&shown["version"], &shown["state"]), (&json!(2), &open));
    let long_ago = ["show", &stream, "--at", "2000-01-01T00:00:00Z", "--json"];
    let shown = told(&app, &long_ago).await;
    assert_eq!(
        (&shown["version"], &shown["state"]),
        (&json!(0), &json!("Unknown"))
    );

    let text = told(&app, &["show", &stream]).await;
    let text = text.as_str().unwrap();
    assert!(
        text.contains("annals.tasks.TaskCompleted  user:polly"),
        "{text}"
    );
    assert!(text.contains(r#"{"completed_by":"polly"}"#), "{text}");
    assert!(text.contains(r#"state at version 3: "Done""#), "{text}");
}

#[tokio::test]
async fn what_cannot_be_shown_is_said_in_a_line() {
    let app = app().await;
    for (arguments, expected) in [
        (
            &["show", "task/nobody"][..],
            "there is no stream main/task/nobody in the log",
        ),
        (
            &["show", "main/horse/1"],
            "no context of this program has streams of the kind horse",
        ),
        (
            &["show", "task"],
            "`task` is not of the form tenant/kind/id",
        ),
        (
            &["show", "task/1", "--at", "noon"],
            "`noon` is neither a version nor a time",
        ),
        (&["tail", "--from", "noon"], "`noon` is none of start, end"),
        (
            &["tail", "--from", "elsewhere:1@7"],
            "names elsewhere partition 1, which is not read",
        ),
        (
            &["tail", "--context", "horses"],
            "no context horses in this program, but accounts, tasks",
        ),
        (
            &["tail", "--type", "TaskCompleted", "--type", "Nope"],
            "no context that is read has an event Nope; there are TaskAssigned, TaskCompleted",
        ),
        (
            &["tail", "--context", "accounts", "--type", "TaskCreated"],
            "has an event TaskCreated; there are UserRegistered",
        ),
        (
            &["tail", "--stream", "horse/1"],
            "no context of this program has streams of the kind horse",
        ),
        (
            &["tail", "--context", "accounts", "--stream", "task/1"],
            "`main/task/1` is of the context tasks, which is not read",
        ),
        (&["verify", "--context", "horses"], "no context horses"),
        (
            &["rebuild", "horses"],
            "no read model horses, but stream-index",
        ),
        (
            &["drop", "task-board", "77"],
            "task-board has no edition 77",
        ),
        (
            &["drop", "task-board", "1"],
            "edition 1 of task-board is read",
        ),
        (
            &["rebuild", "task-board", "--rollback"],
            "task-board has no edition before",
        ),
        (
            &["rebuild", "task-board", "--expect", "horses", "--no-swap"],
            "horses of task-board is in neither edition",
        ),
        // None was made for it.
        (&["drop", "task-board", "2"], "task-board has no edition 2"),
    ] {
        let said = refused(&app, arguments).await;
        assert!(
            said.starts_with("annals: ") && said.contains(expected),
            "{arguments:?}: {said}"
        );
    }

    let nowhere = [("ANNALS_KAFKA", "127.0.0.1:1")];
    for arguments in [&["show", "task/1"][..], &["tail"], &["verify"]] {
        let said = refused_with(&app, arguments, &nowhere).await;
        assert!(
            said.contains("Kafka cannot be reached at 127.0.0.1:1"),
            "{said}"
        );
    }
    let nowhere = [("ANNALS_POSTGRES", "postgres://nobody@127.0.0.1:1/x")];
    let said = refused_with(&app, &["editions"], &nowhere).await;
    assert!(
        said.starts_with(
            "annals: Postgres at 127.0.0.1:1 cannot be reached: failed to look the editions up: "
        ),
        "{said}"
    );
}

#[tokio::test]
async fn events_are_printed_as_they_are_appended() {
    let app = app().await;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let id = done_task(&mia, &polly).await;
    let stream = format!("{}/task/{id}", company.tenant);

    let from_start = [
        "tail", "--from", "start", "--stream", &stream, "--json", "--count", "3",
    ];
    let all = replay(&app, &from_start);
    assert!(all.ended().await.success(), "{}", all.stderr());
    let lines: Vec<Value> = all
        .stdout()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[2]["event"], json!({ "completed_by": "polly" }));
    let second = lines[1]["position"].as_str().unwrap();

    let created = mia
        .create_task("AVRO-13: Merge them")
        .send()
        .await
        .succeeded();
    let other = created.id();
    let mut arguments = vec!["tail", "--from", second, "--type", "TaskAssigned"];
    let token = created.position();
    arguments.extend(["--from", &token, "--context", "tasks"]);
    let live = replay(&app, &arguments);
    let said = async |text: &str| {
        eventually(&format!("{text:?} is printed"), async || {
            assert!(!live.has_ended(), "{}", live.stderr());
            live.stdout().contains(text).then_some(())
        })
        .await;
    };
    // The other partition may be the same one; then the token is what counts.
    if raw_log::read(&app, "tasks").iter().any(|it| {
        it.stream() == stream
            && it.partition != partition(&format!("{}/task/{other}", company.tenant))
    }) {
        said(&format!(
            "{stream} v2  TaskAssigned  user:mia  {{\"assignee\":\"polly\"}}"
        ))
        .await;
    }
    mia.assign(&other, "rio").send().await.succeeded();
    said(&format!("{}/task/{other} v2  TaskAssigned", company.tenant)).await;
    assert!(!live.stdout().contains("TaskCreated"), "{}", live.stdout());
    live.signal(Signal::INT);
    assert!(live.ended().await.success(), "{}", live.stderr());
}

#[tokio::test]
async fn each_kind_of_damage_is_found() {
    let app = TestApp::start().await;
    let company = app.new_company();
    done_task(&company.manager("mia"), &company.worker("polly")).await;
    let sound = told(&app, &["verify", "--json"]).await;
    assert_eq!(sound["sound"], true, "{sound:#}");
    let sum = |report: &Value, what: &str| -> u64 {
        let partitions = report["partitions"].as_array().unwrap();
        partitions.iter().map(|it| it[what].as_u64().unwrap()).sum()
    };
    assert_eq!((sum(&sound, "events"), sum(&sound, "streams")), (3, 1));
    assert!(sum(&sound, "markers") > 0);

    let events = raw_log::read(&app, "tasks");
    let created = &events[0];
    let writer = Writer::new(&app);
    let version_two = Forged::of(created, "gap").version(2);
    writer.write(&version_two).await;
    writer.write(&Forged::of(created, "twice")).await;
    writer.write(&Forged::of(created, "twice")).await;
    writer
        .write(&Forged::of(created, "bytes").value(b"\0\0\0\0\x01\xff"))
        .await;
    writer
        .write(&Forged::of(created, "torn").header("annals_count", "2"))
        .await;
    writer
        .write(&Forged::of(created, "headless").without("annals_actor"))
        .await;
    writer
        .write(&Forged::of(created, "id").header("ce_id", &created.headers["ce_id"]))
        .await;
    let mut elsewhere = Forged::of(created, "elsewhere");
    elsewhere.partition = (elsewhere.partition + 1) % PARTITIONS;
    writer.write(&elsewhere).await;
    writer
        .write(&Forged {
            headers: vec![("x".into(), "y".into())],
            ..Forged::of(created, "foreign")
        })
        .await;
    // It ends nothing: what lies behind it in its partition is found too.
    let mut compressed = Forged::of(created, "compressed");
    compressed.partition = version_two.partition;
    Writer::compressing(&app).write(&compressed).await;
    let mut behind = Forged::of(created, "behind").header("annals_index", "x");
    behind.partition = compressed.partition;
    writer.write(&behind).await;
    // What comes after a higher term is looked at no further, so these come last.
    let late: u64 = created.headers["annals_term"].parse().unwrap();
    writer
        .write(&Forged::of(created, "deposed").term(late + 1))
        .await;
    writer
        .write(&Forged::of(created, "deposed").version(2).term(late))
        .await;

    // With room for one stream in a partition, the log is read again and again.
    for remember in ["4000000", "4"] {
        let process = replay(&app, &["verify", "--json", "--remember", remember]);
        assert!(!process.ended().await.success());
        assert_eq!(
            process.stderr().lines().last(),
            Some("annals: the log is damaged")
        );
        let report: Value = serde_json::from_str(&process.stdout()).unwrap();
        assert_eq!(
            report["damage"],
            json!({
                "version-gap": 1,
                "repeated-version": 1,
                "lower-term": 1,
                "undecodable": 1,
                "torn-command": 1,
                "unreadable-batch": 1,
                "unreadable-envelope": 2,
                "wrong-id": 1,
                "wrong-partition": 1,
            }),
            "{report:#}"
        );
        assert_eq!(sum(&report, "foreign"), 1);
        let findings = report["findings"].as_array().unwrap();
        let gap = findings
            .iter()
            .find(|it| it["damage"] == "version-gap")
            .unwrap();
        assert_eq!(gap["stream"], "forged/task/gap");
        assert_eq!(gap["partition"], version_two.partition);
        assert_eq!(gap["detail"], "version 2 after version 0");
    }
}

#[tokio::test]
async fn a_read_model_is_rebuilt_under_load_whoever_is_killed() {
    let app = TestApp::start().await;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let load = Load::begin(&mia, &polly, 25);
    load.until_answered(150).await;

    // Nobody feeds the new edition, and who has begun is killed.
    app.projector.kill().await;
    let killed = replay(&app, &["rebuild", "task-board"]);
    killed
        .said("building edition 2 of task-board beside edition 1")
        .await;
    killed.kill().await;
    app.run(&app.projector);
    load.until_answered(300).await;
    app.projector.kill().await;
    app.run(&app.projector);
    let process = replay(&app, &["rebuild", "task-board", "--json"]);
    process.said("going on with edition 2 of task-board").await;
    assert!(process.ended().await.success(), "{}", process.stderr());
    let rebuilt: Value = serde_json::from_str(&process.stdout()).unwrap();
    assert_eq!(
        (&rebuilt["equal"], &rebuilt["swapped"]),
        (&json!(true), &json!(true))
    );
    let tables = rebuilt["comparison"]["tables"].as_array().unwrap();
    assert!(!tables.is_empty());
    for table in tables {
        assert_eq!(table["rows"][0], table["rows"][1], "{table}");
    }
    let listed = told(&app, &["editions", "task-board", "--json"]).await;
    assert_eq!(
        (&listed[0]["is_previous"], &listed[1]["is_read"]),
        (&json!(true), &json!(true))
    );

    // Every answer is read from the new edition, and from the old one when it is taken back.
    let commands = load.end().await;
    app.until_ready().await;
    assert_all_on_board(&mia, &commands).await;
    let back = told(&app, &["rebuild", "task-board", "--rollback"]).await;
    assert_eq!(back, "edition 1 of task-board is read again\n");
    assert_all_on_board(&mia, &commands[..30]).await;
    let dropped = told(&app, &["drop", "task-board", "2"]).await;
    assert_eq!(dropped, "edition 2 of task-board is dropped\n");
    mia.create_task("AVRO-14: Go on").send().await.succeeded();
    app.until_ready().await;
}

fn partition(stream: &str) -> i32 {
    partition_of(&stream.parse().unwrap(), PARTITIONS)
}

/// An event like another, of a stream of its own.
#[derive(Clone)]
struct Forged {
    stream: StreamId,
    partition: i32,
    headers: Vec<(String, String)>,
    value: Vec<u8>,
}

impl Forged {
    fn of(event: &RawEvent, id: &str) -> Self {
        let stream: StreamId = format!("forged/task/{id}").parse().unwrap();
        let headers = event.headers.clone().into_iter().collect();
        Self {
            partition: partition(stream.as_str()),
            headers,
            value: event.value.clone(),
            stream: stream.clone(),
        }
        .header("ce_subject", stream.as_str())
        .header("annals_tenant", "forged")
        .version(1)
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self = self.without(name);
        self.headers.push((name.into(), value.into()));
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    fn version(self, version: u64) -> Self {
        let id = EventId::of(&self.stream, StreamVersion(version)).to_string();
        self.header("annals_stream_version", &version.to_string())
            .header("ce_id", &id)
    }

    fn term(self, term: u64) -> Self {
        self.header("annals_term", &term.to_string())
    }

    fn value(self, value: &[u8]) -> Self {
        Self {
            value: value.into(),
            ..self
        }
    }
}

/// Somebody who is not kept from writing into our topics.
struct Writer {
    producer: FutureProducer,
    topic: String,
}

impl Writer {
    fn new(app: &TestApp) -> Self {
        Self::with_compression(app, "none")
    }

    /// One who writes batches that Annals does not read.
    fn compressing(app: &TestApp) -> Self {
        Self::with_compression(app, "lz4")
    }

    fn with_compression(app: &TestApp, compression: &str) -> Self {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", app.setting("KAFKA"))
            .set("compression.type", compression)
            .create()
            .unwrap();
        Self {
            producer,
            topic: app.events_topic("tasks"),
        }
    }

    async fn write(&self, forged: &Forged) {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &forged.headers {
            headers = headers.insert(Header {
                key,
                value: Some(value),
            });
        }
        let record = FutureRecord::to(&self.topic)
            .key(forged.stream.as_str())
            .payload(&forged.value)
            .partition(forged.partition)
            .headers(headers);
        self.producer.send(record, SOON).await.unwrap();
    }
}
