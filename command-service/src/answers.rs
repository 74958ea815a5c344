//! Answers that are recorded although nothing happened: a process that asks again, however late,
//! must not hear something else.
//!
//! An acceptance follows from its events. What has none, a rejection first of all, goes to
//! `annals.answers` before it is given, behind the same fence as the events.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, Utc};
use event_log::{
    Fingerprint, Position,
    batch::{Batch, BatchBuilder},
};
use kernel::{Actor, CommandId, Ground, StreamId, StreamVersion};
use serde::{Deserialize, Serialize};

use crate::{
    group::Answer,
    outcome::{Acceptance, CommandError},
    recorded::CommandKey,
    streams::Command,
};

/// A rejection's sentence is kept up to this, in bytes.
const MAX_DETAIL: usize = 4 << 10;

/// What was answered, without what every answer of the stream has in common.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    Rejected {
        code: String,
        ground: Ground,
        detail: String,
    },
    Stale {
        current: StreamVersion,
    },
    TooLarge {
        limit_bytes: usize,
    },
    /// Accepted, and there was nothing to do.
    Unchanged {
        version: StreamVersion,
        /// Of the last record that was there.
        offset: Option<i64>,
    },
}

impl Outcome {
    /// `None` for what is no answer of the domain's: asking again may lead to another.
    pub fn of(answer: &Answer) -> Option<Self> {
        match answer {
            Ok(acceptance) if acceptance.events == 0 => Some(Self::Unchanged {
                version: acceptance.version,
                offset: acceptance.position.as_ref().map(|it| it.offset),
            }),
            Err(CommandError::Rejected {
                code,
                ground,
                detail,
            }) => Some(Self::Rejected {
                code: (*code).to_owned(),
                ground: *ground,
                detail: detail[..detail.floor_char_boundary(MAX_DETAIL)].to_owned(),
            }),
            Err(CommandError::Stale { current }) => Some(Self::Stale { current: *current }),
            Err(CommandError::TooLarge { limit_bytes }) => Some(Self::TooLarge {
                limit_bytes: *limit_bytes,
            }),
            Ok(_) | Err(_) => None,
        }
    }

    /// The answer again, about this stream, whose events lie in this partition.
    pub fn answer(&self, stream: &StreamId, position: impl FnOnce(i64) -> Position) -> Answer {
        Err(match self {
            Self::Rejected {
                code,
                ground,
                detail,
            } => CommandError::Rejected {
                code: known_code(code),
                ground: *ground,
                detail: detail.clone(),
            },
            Self::Stale { current } => CommandError::Stale { current: *current },
            Self::TooLarge { limit_bytes } => CommandError::TooLarge {
                limit_bytes: *limit_bytes,
            },
            Self::Unchanged { version, offset } => {
                return Ok(Acceptance {
                    stream: stream.clone(),
                    version: *version,
                    events: 0,
                    position: offset.map(position),
                    repeated: true,
                });
            }
        })
    }
}

/// Rejections have a handful of codes in each context: every one that was ever read from the log
/// is kept for as long as the process runs.
fn known_code(code: &str) -> &'static str {
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(code) = known.get(code) {
        return code;
    }
    let code: &'static str = Box::leak(code.into());
    known.insert(code);
    code
}

/// An answer in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordedAnswer {
    pub fingerprint: Fingerprint,
    /// When the command was taken up.
    pub at: DateTime<Utc>,
    pub outcome: Outcome,
}

/// A record of the topic; its key is the stream.
#[derive(Serialize, Deserialize)]
struct Line {
    stream: StreamId,
    actor: Actor,
    command_id: CommandId,
    fingerprint: String,
    at: DateTime<Utc>,
    term: u64,
    answer: Outcome,
}

/// An answer that was read from the log.
pub(crate) struct Read {
    pub stream: StreamId,
    pub key: CommandKey,
    pub term: u64,
    pub answer: RecordedAnswer,
}

impl RecordedAnswer {
    pub fn new(command: &Command, outcome: Outcome) -> Self {
        Self {
            fingerprint: command.fingerprint,
            at: command.meta.at,
            outcome,
        }
    }

    pub fn write(&self, command: &Command, term: u64, batch: &mut BatchBuilder) {
        let line = Line {
            stream: command.meta.stream.clone(),
            actor: command.meta.actor.clone(),
            command_id: command.meta.command_id.clone(),
            fingerprint: self.fingerprint.to_string(),
            at: self.at,
            term,
            answer: self.outcome.clone(),
        };
        let line = serde_json::json!(line).to_string();
        let key = command.meta.stream.as_str().as_bytes();
        batch.push(key, Some(line.as_bytes()), |_| {});
    }

    /// What a batch of the topic has; what else lies there is none of ours.
    pub fn read(batch: &Batch) -> impl Iterator<Item = Read> + '_ {
        let records = (!batch.control).then(|| batch.records());
        records
            .into_iter()
            .flatten()
            .map_while(Result::ok)
            .filter_map(|record| {
                let line: Line = serde_json::from_slice(record.value.as_deref()?).ok()?;
                let answer = Self {
                    fingerprint: Fingerprint::parse(&line.fingerprint)?,
                    at: line.at,
                    outcome: line.answer,
                };
                Some(Read {
                    key: CommandKey::new(&line.stream, &line.actor, &line.command_id),
                    stream: line.stream,
                    term: line.term,
                    answer,
                })
            })
    }
}

/// The latest answers of a partition, in the order of the log.
#[derive(Debug)]
pub(crate) struct RecordedAnswers {
    window: usize,
    by_key: HashMap<CommandKey, (u64, RecordedAnswer)>,
    order: VecDeque<(CommandKey, u64)>,
    count: u64,
    forgotten_until: Option<DateTime<Utc>>,
}

impl RecordedAnswers {
    pub fn new(window: usize) -> Self {
        Self {
            window,
            by_key: HashMap::new(),
            order: VecDeque::new(),
            count: 0,
            forgotten_until: None,
        }
    }

    pub fn get(&self, key: CommandKey) -> Option<&RecordedAnswer> {
        self.by_key.get(&key).map(|(_, answer)| answer)
    }

    pub fn forgotten_until(&self) -> Option<DateTime<Utc>> {
        self.forgotten_until
    }

    /// Remembers an answer; the oldest is forgotten when the window is full.
    pub fn insert(&mut self, key: CommandKey, answer: RecordedAnswer) {
        self.count += 1;
        self.by_key.insert(key, (self.count, answer));
        self.order.push_back((key, self.count));
        while self.order.len() > self.window {
            let Some((key, number)) = self.order.pop_front() else {
                return;
            };
            // One that was decided anew, after it had been forgotten, has two places.
            if self.by_key.get(&key).is_some_and(|(at, _)| *at == number)
                && let Some((_, answer)) = self.by_key.remove(&key)
            {
                self.forgotten_until = self.forgotten_until.max(Some(answer.at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(offset: i64) -> Position {
        Position {
            topic: "t".into(),
            partition: 1,
            offset,
        }
    }

    #[test]
    fn an_answer_is_given_again_as_it_was() {
        let stream: StreamId = "main/task/7".parse().unwrap();
        let unchanged = |offset| Acceptance {
            stream: stream.clone(),
            version: StreamVersion(3),
            events: 0,
            position: offset,
            repeated: true,
        };
        for answer in [
            Err(CommandError::Rejected {
                code: "already-completed",
                ground: Ground::Rule,
                detail: "the task is completed already".into(),
            }),
            Err(CommandError::Stale {
                current: StreamVersion(4),
            }),
            Err(CommandError::TooLarge { limit_bytes: 9 }),
            Ok(unchanged(Some(position(5)))),
            Ok(unchanged(None)),
        ] {
            let outcome = Outcome::of(&answer).unwrap();
            let saved = serde_json::to_string(&outcome).unwrap();
            let outcome: Outcome = serde_json::from_str(&saved).unwrap();
            assert_eq!(outcome.answer(&stream, position), answer);
        }
    }

    #[test]
    fn what_may_pass_is_not_recorded() {
        for error in [
            CommandError::Busy,
            CommandError::NotServed { reason: "".into() },
            CommandError::KeyReused,
            CommandError::Bug { reason: "".into() },
        ] {
            assert_eq!(Outcome::of(&Err(error)), None);
        }
    }

    #[test]
    fn a_long_sentence_is_cut_between_letters() {
        let rejected = CommandError::Rejected {
            code: "long",
            ground: Ground::Rule,
            detail: "ü".repeat(MAX_DETAIL),
        };
        let Some(Outcome::Rejected { detail, .. }) = Outcome::of(&Err(rejected)) else {
            panic!("a rejection is recorded");
        };
        assert_eq!(detail.len(), MAX_DETAIL);
    }
}
