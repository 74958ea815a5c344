//! A true story passes; each lie that is put into it is found, under the rule that it breaks.

use std::collections::BTreeMap;

use super::{
    Rule, check,
    rules::{self, Happening},
    wire,
};
use crate::chaos::{
    history::{Answer, Ask, Attempt, Operation, Place, Task},
    log::{Batch, Log, Partition, Record},
};

const STREAM: &str = "chaos/task/t";
const TOPIC: &str = "annals.tasks.events.1";

/// One stream, one owner, and clients who take turns: each step takes ten microseconds.
#[derive(Clone)]
struct Story {
    log: Log,
    history: Vec<Operation>,
    task: Task,
    version: u64,
    now: u64,
}

impl Story {
    fn begin() -> Self {
        let claim = Record {
            key: b"claim".into(),
            value: br#"{"producer_id":7,"epoch":2}"#.into(),
            ..Record::default()
        };
        let batch = Batch {
            producer_id: 7,
            epoch: 2,
            records: vec![claim],
            ..Batch::default()
        };
        let owners = Partition {
            topic: "annals.owners.1".into(),
            number: 0,
            batches: vec![batch],
        };
        let marker = Batch {
            producer_id: 7,
            epoch: 1,
            base_sequence: -1,
            control: true,
            ..Batch::default()
        };
        let events = Partition {
            topic: TOPIC.into(),
            number: 0,
            batches: vec![marker],
        };
        Self {
            log: Log {
                events: vec![events],
                owners: vec![owners],
            },
            history: Vec::new(),
            task: Task::Unknown,
            version: 0,
            now: 100,
        }
    }

    /// Every kind of answer, each as it should be.
    fn whole() -> Self {
        let mut story = Self::begin();
        let title = "x".to_owned();
        let assignee = Some("polly".to_owned());
        story.command("k1", "user:mia", Ask::Create { title, assignee }, None);
        story.command("k2", "user:mia", assign("bo"), Some(2));
        story.command("k3", "user:mia", assign("bo"), None);
        story.command("k4", "user:polly", Ask::Complete, None);
        story.command("k5", "user:bo", Ask::Complete, Some(2));
        story.command("k6", "user:bo", Ask::Complete, Some(3));
        story.command("k7", "user:mia", assign("polly"), None);
        story.command("k2", "user:mia", assign("cy"), None);
        story.ask("k6", "user:bo", Ask::Recall, accepted(4, 1, 4, true));
        story.ask("k9", "user:bo", Ask::Recall, Answer::UnknownCommand);
        let (version, task) = (4, Task::Done);
        let shown = Answer::Shown { version, task };
        story.ask("", "user:bo", Ask::StrongRead, shown.clone());
        story.ask(
            "",
            "user:bo",
            Ask::BoardRead {
                at_least: 3,
                after: None,
            },
            shown,
        );
        story
    }

    fn command(&mut self, key: &str, actor: &str, ask: Ask, expected: Option<u64>) {
        let current = self.version;
        let known = self.history.iter().any(|it| it.key == key);
        let answer = match rules::decide(&self.task, &ask, actor) {
            _ if known => Answer::KeyReused,
            _ if expected.is_some_and(|it| it != current) => Answer::Stale { current },
            Err(code) => Answer::Rejected(code.into()),
            Ok(happenings) if happenings.is_empty() => Answer::Accepted {
                version: current,
                events: 0,
                place: None,
                repeated: false,
            },
            Ok(happenings) => {
                self.append(key, actor, &happenings);
                let offset = self.log.events[0].batches.last().unwrap().last_offset;
                accepted(self.version, happenings.len() as u64, offset, false)
            }
        };
        self.ask(key, actor, ask, answer);
        self.history.last_mut().unwrap().expected = expected;
    }

    fn ask(&mut self, key: &str, actor: &str, ask: Ask, answer: Answer) {
        let attempt = Attempt {
            started: self.now,
            ended: self.now + 5,
            answer,
        };
        self.now += 10;
        self.history.push(Operation {
            stream: STREAM.into(),
            actor: actor.into(),
            key: key.into(),
            ask,
            expected: None,
            attempts: vec![attempt],
        });
    }

    fn append(&mut self, key: &str, actor: &str, happenings: &[Happening]) {
        let partition = &mut self.log.events[0];
        let base_offset = partition.batches.last().map_or(0, |it| it.last_offset + 1);
        let mut records = Vec::new();
        for (index, happening) in happenings.iter().enumerate() {
            self.version += 1;
            self.task = rules::after(happening);
            let (event_type, value) = wire::payload(happening);
            let headers = [
                ("ce_subject", STREAM.to_owned()),
                ("ce_type", event_type.to_owned()),
                ("annals_stream_version", self.version.to_string()),
                ("annals_actor", actor.to_owned()),
                ("annals_command_id", key.to_owned()),
                ("annals_index", index.to_string()),
                ("annals_count", happenings.len().to_string()),
                ("annals_term", "0".to_owned()),
            ];
            records.push(Record {
                offset: base_offset + index as i64,
                key: STREAM.into(),
                headers: headers.map(|(name, value)| (name.into(), value)).into(),
                value,
            });
        }
        partition.batches.push(Batch {
            base_offset,
            last_offset: base_offset + happenings.len() as i64 - 1,
            producer_id: 7,
            epoch: 2,
            // Everything after the marker at offset 0 is this producer's.
            base_sequence: base_offset as i32 - 1,
            control: false,
            records,
        });
    }

    /// The last attempt of the operation number `n`.
    fn answer(&mut self, n: usize) -> &mut Answer {
        &mut self.history[n].attempts.last_mut().unwrap().answer
    }

    /// The batch of the command that made this version.
    fn batch(&mut self, n: usize) -> &mut Batch {
        &mut self.log.events[0].batches[n]
    }

    fn header(&mut self, batch: usize, name: &str, value: &str) {
        let headers = &mut self.batch(batch).records[0].headers;
        assert!(headers.insert(name.into(), value.into()).is_some());
    }

    fn rules_broken(&self) -> BTreeMap<Rule, usize> {
        check(&self.log, &self.history, &[]).by_rule()
    }
}

fn assign(to: &str) -> Ask {
    Ask::Assign { to: to.into() }
}

fn accepted(version: u64, events: u64, offset: i64, repeated: bool) -> Answer {
    let place = Place {
        topic: TOPIC.into(),
        partition: 0,
        offset,
    };
    Answer::Accepted {
        version,
        events,
        place: Some(place),
        repeated,
    }
}

#[track_caller]
fn lie(rule: Rule, tell: impl FnOnce(&mut Story)) {
    let mut story = Story::whole();
    tell(&mut story);
    let findings = check(&story.log, &story.history, &[]);
    let found = findings.violations.iter().any(|it| it.rule == rule);
    assert!(found, "{:#?}", findings.violations);
}

#[test]
fn a_true_story_passes() {
    let story = Story::whole();
    let findings = check(&story.log, &story.history, &[]);
    assert_eq!(findings.violations, []);
    assert_eq!((findings.streams, findings.commands_in_log), (1, 3));
    assert_eq!(findings.answers, story.history.len());
    // Every kind of answer is in it.
    assert_eq!(findings.answers_by_kind.len(), 8);
}

#[test]
fn a_lost_command_is_found() {
    lie(Rule::NothingLost, |story| {
        story.log.events[0].batches.truncate(3);
    });
}

#[test]
fn a_command_that_is_twice_in_the_log_is_found() {
    lie(Rule::CommandsOnce, |story| {
        let again = [Happening::Assigned { to: "bo".into() }];
        story.append("k2", "user:mia", &again);
    });
}

#[test]
fn a_gap_of_versions_is_found() {
    lie(Rule::VersionsGapless, |story| {
        story.header(3, "annals_stream_version", "5");
    });
    lie(Rule::VersionsGapless, |story| {
        story.header(3, "annals_stream_version", "3");
    });
}

#[test]
fn a_stream_in_two_partitions_is_found() {
    lie(Rule::VersionsGapless, |story| {
        let mut other = story.log.events[0].clone();
        other.batches.drain(..3);
        story.log.events[0].batches.truncate(3);
        other.number = 1;
        story.log.events.push(other);
    });
}

#[test]
fn a_torn_command_is_found() {
    lie(Rule::CommandsWhole, |story| {
        story.batch(1).records.pop();
    });
    lie(Rule::CommandsWhole, |story| {
        story.header(2, "annals_count", "2");
    });
}

#[test]
fn an_event_that_nobody_sent_or_that_breaks_the_rules_is_found() {
    lie(Rule::EventsByTheRules, |story| {
        story.append(
            "nobody's",
            "user:mia",
            &[Happening::Completed { by: "x".into() }],
        );
    });
    lie(Rule::EventsByTheRules, |story| {
        let (_, value) = wire::payload(&Happening::Completed { by: "cy".into() });
        story.batch(3).records[0].value = value;
    });
    // Decided at another version than the expected one.
    lie(Rule::EventsByTheRules, |story| {
        story.history[1].expected = Some(1)
    });
}

#[test]
fn a_foreign_record_is_found_unless_it_is_expected() {
    let mut story = Story::whole();
    let last = story.log.events[0].batches.last().unwrap().clone();
    let (offset, record) = (last.last_offset + 1, Record::default());
    story.log.events[0].batches.push(Batch {
        base_offset: offset,
        last_offset: offset,
        producer_id: 9,
        records: vec![Record { offset, ..record }],
        ..Batch::default()
    });
    assert_eq!(
        story.rules_broken(),
        BTreeMap::from([(Rule::NothingForeign, 1)])
    );
    let place = Place {
        topic: TOPIC.into(),
        partition: 0,
        offset,
    };
    let findings = check(&story.log, &story.history, &[place]);
    assert_eq!((findings.violations, findings.foreign), (vec![], 1));
}

#[test]
fn a_hole_in_the_partition_is_found() {
    lie(Rule::OffsetsGapless, |story| {
        story.batch(3).base_offset += 1;
        story.batch(3).last_offset += 1;
    });
}

#[test]
fn a_producer_that_goes_back_or_repeats_itself_is_found() {
    lie(Rule::ProducersInOrder, |story| story.batch(3).epoch = 1);
    lie(Rule::ProducersInOrder, |story| {
        story.batch(3).base_sequence -= 1
    });
    lie(Rule::ProducersInOrder, |story| {
        story.batch(3).base_sequence += 1
    });
}

#[test]
fn a_term_that_goes_back_or_belongs_to_another_producer_is_found() {
    lie(Rule::TermsInOrder, |story| {
        story.header(2, "annals_term", "5")
    });
    lie(Rule::TermsInOrder, |story| story.batch(2).producer_id = 8);
}

#[test]
fn a_wrong_version_count_or_place_in_an_answer_is_found() {
    for answer in [
        accepted(4, 1, 3, false),
        accepted(3, 2, 3, false),
        accepted(3, 1, 4, false),
    ] {
        lie(Rule::AnswersAsRecorded, |story| *story.answer(1) = answer);
    }
}

#[test]
fn a_key_with_two_different_answers_is_found() {
    let another = |answer| {
        move |story: &mut Story| {
            let now = story.now;
            story.history[1].attempts.push(Attempt {
                started: now,
                ended: now + 5,
                answer,
            });
        }
    };
    lie(Rule::AnswersAsRecorded, another(accepted(2, 1, 2, true)));
    let refused = |code: &str| Answer::Rejected(code.into());
    lie(
        Rule::AnswersTrueInTime,
        another(refused("already-completed")),
    );
    lie(
        Rule::AnswersTrueInTime,
        another(Answer::Stale { current: 4 }),
    );
    lie(Rule::AnswersTrueInTime, another(Answer::KeyReused));
}

#[test]
fn a_rejection_that_no_state_explains_is_found() {
    // Polly was the assignee, but not any more when she asked.
    lie(Rule::AnswersTrueInTime, |story| {
        *story.answer(3) = Answer::Rejected("already-completed".into());
    });
    // The task was there before this was asked.
    lie(Rule::AnswersTrueInTime, |story| {
        *story.answer(3) = Answer::Rejected("no-such-task".into());
    });
}

#[test]
fn a_rejection_is_true_if_any_state_in_its_time_explains_it() {
    let mut story = Story::whole();
    story.history[3].attempts[0].ended = story.history[5].attempts[0].started + 1;
    *story.answer(3) = Answer::Rejected("already-completed".into());
    assert_eq!(story.rules_broken(), BTreeMap::new());
}

#[test]
fn what_was_shown_once_is_not_forgotten() {
    // A deposed owner that does not know it: each answer is true by itself, but for the one before.
    lie(Rule::AnswersTrueInTime, |story| {
        *story.answer(3) = Answer::Rejected("already-completed".into());
        story.history[3].attempts[0].ended = story.history[5].attempts[0].started + 1;
        let open = story.history[5].attempts[0].started + 2;
        story.history[4].attempts[0].started = open;
        story.history[4].attempts[0].ended = open + 1;
        story.history[5].attempts[0].ended = open + 2;
    });
}

#[test]
fn a_stale_version_that_was_not_there_is_found() {
    lie(Rule::AnswersTrueInTime, |story| {
        *story.answer(4) = Answer::Stale { current: 1 };
    });
    lie(Rule::AnswersTrueInTime, |story| {
        *story.answer(4) = Answer::Stale { current: 4 };
    });
    lie(Rule::AnswersTrueInTime, |story| {
        *story.answer(4) = Answer::Stale { current: 2 };
    });
}

#[test]
fn nothing_to_do_where_there_was_something_is_found() {
    lie(Rule::AnswersTrueInTime, |story| {
        story.history[2].ask = assign("cy");
    });
}

#[test]
fn an_old_or_invented_read_is_found() {
    let shown = |version, task| Answer::Shown { version, task };
    let open = |name: &str| Task::Open {
        assignee: Some(name.into()),
    };
    lie(Rule::AnswersTrueInTime, |story| {
        *story.answer(10) = shown(3, open("bo"));
    });
    lie(Rule::AnswersTrueInTime, |story| {
        *story.answer(10) = shown(4, open("bo"));
    });
    // A read model may be behind, but not behind what the reader waited for.
    let mut story = Story::whole();
    *story.answer(11) = shown(3, open("bo"));
    assert_eq!(story.rules_broken(), BTreeMap::new());
    lie(Rule::AnswersTrueInTime, |story| {
        *story.answer(11) = shown(2, open("polly"));
    });
    lie(Rule::AnswersTrueInTime, |story| {
        *story.answer(8) = Answer::UnknownCommand;
    });
}

#[test]
fn a_command_before_what_was_known_when_it_was_sent_is_found() {
    lie(Rule::AnswersTrueInTime, |story| {
        // It is sent, for the first time, after its successor was answered.
        let now = story.now;
        story.history[1].attempts[0] = Attempt {
            started: now,
            ended: now + 5,
            answer: accepted(3, 1, 3, false),
        };
    });
}

#[test]
fn a_key_used_again_for_the_same_thing_is_the_same_command() {
    let mut story = Story::whole();
    story.ask("k2", "user:mia", assign("bo"), accepted(3, 1, 3, true));
    story.history.last_mut().unwrap().expected = Some(2);
    assert_eq!(story.rules_broken(), BTreeMap::new());
    // Another expected version is another command.
    story.ask("k2", "user:mia", assign("bo"), Answer::KeyReused);
    assert_eq!(story.rules_broken(), BTreeMap::new());
    story.history.last_mut().unwrap().expected = Some(2);
    assert!(!story.rules_broken().is_empty());
}

#[test]
fn a_refused_command_that_is_in_the_log_is_found() {
    lie(Rule::RefusedIsRefused, |story| {
        *story.answer(5) = Answer::Rejected("not-the-assignee".into());
    });
    // With an attempt that nobody knows the end of, it may be.
    let mut story = Story::whole();
    let (before, after) = (story.history[4].attempts[0].ended, story.now);
    story.history[5].attempts[0] = Attempt {
        started: before,
        ended: before + 1,
        answer: Answer::Open("no answer".into()),
    };
    story.history[5].attempts.push(Attempt {
        started: before + 1,
        ended: before + 2,
        answer: Answer::Stale { current: 3 },
    });
    story.history[5].expected = Some(3);
    assert!(after > before);
    let broken = story.rules_broken();
    assert!(!broken.contains_key(&Rule::RefusedIsRefused), "{broken:?}");
}

#[test]
fn an_operation_without_an_answer_is_found() {
    lie(Rule::Progress, |story| {
        *story.answer(3) = Answer::Open("busy".into())
    });
    lie(Rule::AnswersTrueInTime, |story| {
        *story.answer(3) = Answer::Nonsense("500".into());
    });
}
