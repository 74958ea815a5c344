//! Titles of the first version become titles and trackers' ids, and come back to the letter.

use event_log::{avro::EventCodec, migration::Plan};
use proptest::prelude::*;
use tasks::{TaskEvent, TaskStatus, TypedTitle};

const TITLES: &str = include_str!("../task-titles.tsv");

/// The ways between the first version and the newest.
struct Ways {
    codec: EventCodec<TaskEvent>,
    up: Plan,
    down: Plan,
}

impl Ways {
    fn new() -> Self {
        let context = tasks::context();
        let history = context.schemas().history("TaskCreated").unwrap();
        let newest = history.newest();
        Self {
            codec: EventCodec::offline(&[context.schemas()]).unwrap(),
            up: history.plan(1, newest).unwrap(),
            down: history.plan(newest, 1).unwrap(),
        }
    }

    /// What is read today of a title that the first version recorded, after it was led back and
    /// found to be the same.
    fn read(&self, title: &str) -> TaskEvent {
        let written = datum(title);
        let mut newest = vec![0, 0, 0, 0, 1];
        self.up.migrate(&written, &mut newest).unwrap();
        let mut back = Vec::new();
        self.down.migrate(&newest[5..], &mut back).unwrap();
        assert_eq!(back, written, "{title:?} comes back otherwise");
        let read = self.codec.decode("annals.tasks.TaskCreated", &newest);
        read.unwrap().unwrap()
    }
}

/// Avro by hand: the title, an empty description, the enum's first symbol.
fn datum(title: &str) -> Vec<u8> {
    let mut datum = Vec::new();
    let mut length = title.len() * 2;
    while length > 0x7f {
        datum.push(length as u8 | 0x80);
        length >>= 7;
    }
    datum.push(length as u8);
    datum.extend(title.as_bytes());
    datum.extend([0, 0]);
    datum
}

/// The same by the rules that new titles go by.
fn typed(title: &str) -> TaskEvent {
    let TypedTitle {
        jira_id,
        title,
        typed,
    } = TypedTitle::of(title);
    TaskEvent::TaskCreated {
        title: title.into(),
        jira_id: jira_id.map(Into::into),
        typed_title: typed.map(Into::into),
        description: String::new(),
        status: TaskStatus::BirdInACage,
    }
}

#[test]
fn no_title_loses_a_character() {
    let ways = Ways::new();
    let mut with_id = 0;
    let mut kept_as_typed = 0;
    let titles: Vec<_> = TITLES
        .lines()
        .filter_map(|line| line.split_once('\t'))
        .collect();
    assert_eq!(titles.len(), 5_093);
    for (_, title) in titles {
        let read = ways.read(title);
        assert_eq!(
            read,
            typed(title),
            "{title:?} is typed otherwise than it is read"
        );
        if let TaskEvent::TaskCreated {
            jira_id,
            typed_title,
            ..
        } = read
        {
            with_id += usize::from(jira_id.is_some());
            kept_as_typed += usize::from(typed_title.is_some());
        }
    }
    // Counted once with another tool.
    assert_eq!((with_id, kept_as_typed), (2_631, 1_219));
}

#[test]
fn a_recorded_title_keeps_its_brackets() {
    let read = Ways::new().read("Sort [all] the records");
    assert!(
        matches!(read, TaskEvent::TaskCreated { title, jira_id: None, .. }
        if title == "Sort [all] the records")
    );
}

proptest! {
    #[test]
    fn any_text_is_read_as_it_would_be_typed_and_comes_back(
        title in r"(\[?[A-Zb]{0,2}[0-9]?-?[0-9]{0,2}\]?[:.—\- ]{0,4}|)(\PC|[ \[\]\n]){0,8}"
    ) {
        let ways = Ways::new();
        prop_assert_eq!(ways.read(&title), typed(&title));
    }
}
