//! Somebody writes into a topic of ours what no owner has written: it costs the streams that it names, nobody else.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use e2e::{TestApp, User, eventually};
use rdkafka::{
    ClientConfig,
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use serde_json::Value;

use crate::raw_log::{self, RawEvent};

const SOON: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_foreign_record_stops_its_stream_and_operators_are_told() {
    let app = TestApp::start().await;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let mut spoilt = Vec::new();
    for (spoil, reason) in SPOILS {
        let made = mia.create_task("spoilt").send().await.succeeded();
        spoilt.push((made, spoil, *reason));
    }
    let whole = tasks_in_every_partition(&app, &mia).await;
    let mut stopped = BTreeMap::new();
    for (made, spoil, reason) in spoilt {
        let event = event_of(&app, made.text("stream"));
        write(&app, &event, &spoil(&event)).await;
        stopped.insert(made.text("stream").to_owned(), (made.id(), reason));
    }
    // Of no stream at all: nobody's, and passed over.
    let nobody = Spoilt {
        key: "somebody's".into(),
        headers: BTreeMap::new(),
        value: b"not an event".to_vec(),
    };
    let anywhere = event_of(&app, stopped.keys().next().unwrap());
    write(&app, &anywhere, &nobody).await;

    // The owners notice at their next append, and go on with everything else.
    for id in &whole {
        let assigned = mia.assign(id, "polly").until_answered().await;
        assert!(assigned.succeeded().number("version") == 2);
    }
    until_told(&app, &stopped).await;
    for (id, _) in stopped.values() {
        let refused = mia.assign(id, "polly").until_answered().await;
        refused.is_problem(409, "stream-stopped");
    }

    // And the same after a restart.
    app.commands.running().stop().await;
    app.run(&app.commands);
    app.commands.until_ready().await;
    until_told(&app, &stopped).await;
    for id in &whole {
        polly.complete(id).until_answered().await.succeeded();
    }
    let table = app.annals().arg("shards").output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    for stream in stopped.keys() {
        assert!(table.contains(&format!("stopped {stream}: ")), "{table}");
    }
    assert!(table.contains("passed over 1 records in "), "{table}");
    still_answers(&mia).await;
}

/// What is written, and what is said of its stream then.
type Spoil = (fn(&RawEvent) -> Spoilt, &'static str);

const SPOILS: &[Spoil] = &[
    (
        |event| Spoilt::next(event).value(b"{\"title\": \"typed into a console\"}"),
        "wire format",
    ),
    (
        |event| {
            let mut value = event.value.clone();
            value[1..5].copy_from_slice(&999_999_u32.to_be_bytes());
            Spoilt::next(event).value(&value)
        },
        "999999",
    ),
    (|event| Spoilt::next(event).without_headers(), "header"),
    (
        |event| Spoilt::next(event).header("annals_stream_version", "7"),
        "version 7 follows version 1",
    ),
    (
        |event| Spoilt::next(event).header("annals_count", "2"),
        "not whole",
    ),
];

/// A record that looks like an event, but for one thing.
struct Spoilt {
    key: String,
    headers: BTreeMap<String, String>,
    value: Vec<u8>,
}

impl Spoilt {
    /// What would be the next event of the stream.
    fn next(event: &RawEvent) -> Self {
        let spoilt = Self {
            key: event.key.clone(),
            headers: event.headers.clone(),
            value: event.value.clone(),
        };
        spoilt
            .header("annals_stream_version", "2")
            .header("annals_command_id", "foreign")
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        let known = self.headers.insert(name.into(), value.into());
        assert!(known.is_some(), "{name} is a header of every event");
        self
    }

    fn without_headers(mut self) -> Self {
        self.headers.clear();
        self
    }

    fn value(mut self, value: &[u8]) -> Self {
        self.value = value.to_vec();
        self
    }
}

/// An owner notices what is foreign when it appends to the same partition.
async fn tasks_in_every_partition(app: &TestApp, mia: &User) -> Vec<String> {
    let (mut ids, mut streams) = (Vec::new(), BTreeSet::new());
    loop {
        for _ in 0..12 {
            let made = mia.create_task("whole").send().await.succeeded();
            streams.insert(made.text("stream").to_owned());
            ids.push(made.id());
        }
        let events = raw_log::read(app, "tasks").into_iter();
        let ours = events.filter(|event| streams.contains(&event.key));
        let partitions: BTreeSet<_> = ours.map(|event| event.partition).collect();
        if partitions.len() == app.partitions() {
            return ids;
        }
    }
}

fn event_of(app: &TestApp, stream: &str) -> RawEvent {
    let mut events = raw_log::read(app, "tasks").into_iter();
    events.find(|event| event.key == stream).unwrap()
}

/// Into the partition of this event.
async fn write(app: &TestApp, beside: &RawEvent, spoilt: &Spoilt) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", app.setting("KAFKA"))
        .create()
        .unwrap();
    let mut headers = OwnedHeaders::new();
    for (key, value) in &spoilt.headers {
        let value = Some(value);
        headers = headers.insert(Header { key, value });
    }
    let topic = app.events_topic("tasks");
    let record = FutureRecord::to(&topic)
        .partition(beside.partition)
        .key(&spoilt.key)
        .payload(&spoilt.value)
        .headers(headers);
    producer.send(record, SOON).await.unwrap();
}

/// Every one of these streams is shown, with its reason, and no other.
async fn until_told(app: &TestApp, stopped: &BTreeMap<String, (String, &str)>) {
    eventually("operators are told what is stopped", async || {
        let output = app.annals().args(["shards", "--json"]).output().unwrap();
        let view: Value = serde_json::from_slice(&output.stdout).ok()?;
        let shards = view["shards"].as_array()?;
        let all_serve = shards.iter().all(|shard| shard["status"] == "serving");
        let lists = shards
            .iter()
            .flat_map(|shard| shard["stopped_streams"].as_array());
        let told: BTreeMap<_, _> = lists
            .flatten()
            .map(|it| {
                (
                    it["stream"].as_str().unwrap(),
                    it["reason"].as_str().unwrap(),
                )
            })
            .collect();
        let as_expected = stopped.iter().all(|(stream, (_, reason))| {
            let told = told.get(stream.as_str());
            told.is_some_and(|told| told.contains(reason))
        });
        (all_serve && as_expected && told.len() == stopped.len()).then_some(())
    })
    .await;
}

async fn still_answers(mia: &User) {
    let made = mia.create_task("after all that").until_answered().await;
    made.succeeded();
}
