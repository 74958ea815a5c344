//! What the code of each version wrote, and how it is read today.
//!
//! `golden/<Event>.v<N>.json` was written by the code of version N and never changes;
//! `golden/<Event>.read.json` has how the newest code reads each of them. After a new version,
//! `GOLDEN=write` writes what is missing, and how everything is read; look at the difference.

use std::{collections::BTreeMap, fs, path::PathBuf};

use event_log::{avro::EventCodec, schemas::ContextSchemas};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tasks::{TaskEvent, TaskStatus, UserId};

/// One event as it lay in the log, without the schema's id.
#[derive(Serialize, Deserialize)]
struct Written {
    datum: String,
    /// As the code of that version had it.
    event: serde_json::Value,
}

/// The events that a version leaves behind.
fn samples() -> Vec<TaskEvent> {
    let created = |title: &str, jira_id: Option<&str>, typed_title: Option<&str>, status| {
        TaskEvent::TaskCreated {
            title: title.into(),
            jira_id: jira_id.map(Into::into),
            typed_title: typed_title.map(Into::into),
            description: "all of them\n\ttwice".into(),
            status,
        }
    };
    let mut samples = vec![
        created("Sort the records", None, None, TaskStatus::BirdInACage),
        created(
            "Sort the records",
            Some("AVRO-12"),
            None,
            TaskStatus::BirdInACage,
        ),
        created(
            "Sort — Ä 🦜",
            Some("avro-12"),
            Some("avro-12. Sort — Ä 🦜"),
            TaskStatus::BirdInACage,
        ),
        created("Done already", None, None, TaskStatus::MilletInABowl),
    ];
    let user = |name: &str| UserId::parse(name).unwrap();
    samples.push(TaskEvent::TaskAssigned {
        assignee: user("polly"),
    });
    samples.push(TaskEvent::TaskCompleted {
        completed_by: user("polly"),
    });
    samples
}

#[test]
fn what_every_version_wrote_is_read_as_it_was_agreed() {
    let context = tasks::context();
    let schemas = context.schemas();
    let codec = EventCodec::<TaskEvent>::offline(&[schemas]).unwrap();
    let events: Vec<_> = codec.event_types().map(str::to_owned).collect();
    for event_type in &events {
        let event = event_type.rsplit('.').next().unwrap();
        let newest = schemas.current(event).unwrap().version;
        let mut read: BTreeMap<u32, Vec<TaskEvent>> = BTreeMap::new();
        for version in 1..=newest {
            let name = format!("{event}.v{version}.json");
            let written: Vec<Written> = golden(&name, || {
                assert_eq!(
                    version, newest,
                    "{name} can only be written by its own code"
                );
                write(&codec, event_type)
            });
            assert!(!written.is_empty(), "{name}");
            let read_back = written
                .iter()
                .map(|it| read_newest(&codec, schemas, event_type, version, it));
            read.insert(version, read_back.collect());
        }
        let name = format!("{event}.read.json");
        if writes() {
            fs::write(path(&name), pretty(&read)).unwrap();
        }
        let agreed: BTreeMap<u32, Vec<TaskEvent>> = golden(&name, || read.clone());
        assert_eq!(read, agreed, "{event} is read otherwise");
    }
}

#[test]
fn the_code_of_this_version_writes_what_its_golden_file_has() {
    let context = tasks::context();
    let codec = EventCodec::<TaskEvent>::offline(&[context.schemas()]).unwrap();
    for event_type in codec.event_types() {
        let event = event_type.rsplit('.').next().unwrap();
        let newest = context.schemas().current(event).unwrap().version;
        let name = format!("{event}.v{newest}.json");
        let written: Vec<Written> = golden(&name, || write(&codec, event_type));
        let datums = |written: &[Written]| -> Vec<String> {
            written.iter().map(|it| it.datum.clone()).collect()
        };
        assert_eq!(
            datums(&written),
            datums(&write(&codec, event_type)),
            "{name}"
        );
    }
}

/// Every sample of this event, as it is written now.
fn write(codec: &EventCodec<TaskEvent>, event_type: &str) -> Vec<Written> {
    let mut all = Vec::new();
    for sample in samples() {
        let mut value = Vec::new();
        if codec.encode(&sample, &mut value).unwrap() == event_type {
            all.push(Written {
                datum: value[5..]
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
                event: serde_json::to_value(&sample).unwrap(),
            });
        }
    }
    all
}

fn read_newest(
    codec: &EventCodec<TaskEvent>,
    schemas: &ContextSchemas,
    event_type: &str,
    version: u32,
    written: &Written,
) -> TaskEvent {
    let event = event_type.rsplit('.').next().unwrap();
    let history = schemas.history(event).unwrap();
    let plan = history.plan(version, history.newest()).unwrap();
    let hex = written.datum.as_bytes().chunks(2);
    let datum: Vec<u8> = hex
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect();
    // The newest versions have the ids 1, 2, … offline, in the order of the variants.
    let id = codec
        .event_types()
        .position(|known| known == event_type)
        .unwrap()
        + 1;
    let mut value = vec![0, 0, 0, 0, id as u8];
    plan.migrate(&datum, &mut value).unwrap();
    codec.decode(event_type, &value).unwrap().unwrap()
}

fn writes() -> bool {
    std::env::var("GOLDEN").is_ok_and(|wish| wish == "write")
}

/// A file's content; made first when it is missing and that is wanted.
fn golden<T: Serialize + DeserializeOwned>(name: &str, make: impl FnOnce() -> T) -> T {
    let path = path(name);
    if !path.exists() && writes() {
        fs::write(&path, pretty(&make())).unwrap();
    }
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|_| panic!("{name} is missing: write it with GOLDEN=write"));
    serde_json::from_str(&text).unwrap()
}

fn pretty(content: &impl Serialize) -> String {
    serde_json::to_string_pretty(content).unwrap() + "\n"
}

fn path(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "golden", name]
        .iter()
        .collect()
}
