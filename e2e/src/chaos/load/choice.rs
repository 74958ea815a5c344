//! What a client does next: mostly sensible work on tasks that all clients share, and some of everything that goes
//! wrong in life: stale versions, other people's tasks, finished ones, unknown ones, keys used twice.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use kernel::{Actor, CommandId, StreamId, Tenant};

use super::{Client, MANAGER, WORKERS, stream_of};
use crate::chaos::{
    history::{Answer, Ask, Operation, Place},
    world::TENANT,
};

/// Few enough that clients meet on them.
const OPEN_TASKS: usize = 40;
const DONE_TASKS: usize = 20;

pub(super) enum Chosen {
    New(Operation),
    /// Something that was answered before, sent again; its index among what is done.
    Again(usize),
}

/// What the clients tell each other about the tasks; none of it needs to be so any more.
#[derive(Default)]
pub(super) struct Board(Mutex<Known>);

#[derive(Default)]
struct Known {
    tasks: HashMap<String, Seen>,
    open: Vec<String>,
    done: Vec<String>,
}

#[derive(Clone, Default)]
struct Seen {
    version: u64,
    assignee: Option<String>,
    place: Option<Place>,
}

impl Board {
    pub fn learn(&self, operation: &Operation) {
        let Some(attempt) = operation.attempts.last() else {
            return;
        };
        let Answer::Accepted {
            version,
            events: 1..,
            place: Some(place),
            ..
        } = &attempt.answer
        else {
            return;
        };
        let mut known = self.known();
        let stream = &operation.stream;
        if *version <= known.seen(stream).version {
            return;
        }
        let assignee = match &operation.ask {
            Ask::Create { assignee, .. } => assignee.clone(),
            Ask::Assign { to } => Some(to.clone()),
            Ask::Complete | Ask::Recall | Ask::StrongRead | Ask::BoardRead { .. } => None,
        };
        if matches!(operation.ask, Ask::Create { .. }) {
            known.open.push(stream.clone());
        }
        if operation.ask == Ask::Complete {
            known.open.retain(|open| open != stream);
            known.done.push(stream.clone());
            if known.done.len() > DONE_TASKS {
                let forgotten = known.done.remove(0);
                known.tasks.remove(&forgotten);
            }
        }
        let seen = Seen {
            version: *version,
            assignee,
            place: Some(place.clone()),
        };
        known.tasks.insert(stream.clone(), seen);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().expect("nothing panics while it is held")
    }
}

impl Known {
    fn seen(&self, stream: &str) -> Seen {
        self.tasks.get(stream).cloned().unwrap_or_default()
    }
}

impl Client {
    pub(super) fn choose(&mut self) -> Chosen {
        let roll = self.dice.below(100);
        let shared = self.shared.clone();
        let known = shared.board.known();
        let (open, done) = (known.open.len(), known.done.len());
        if open < OPEN_TASKS / 2 || (roll < 10 && open < OPEN_TASKS) {
            drop(known);
            return self.create();
        }
        let stream = known.open[self.dice.below(open)].clone();
        let seen = known.seen(&stream);
        let finished = (done > 0).then(|| known.done[self.dice.below(done)].clone());
        drop(known);
        match roll {
            0..45 => self.assign(stream, &seen),
            45..60 => {
                let by = seen.assignee.clone();
                self.complete(stream, &seen, by)
            }
            60..66 => self.complete(stream, &seen, None),
            66..70 => match finished {
                Some(finished) => self.assign(finished, &Seen::default()),
                None => self.create(),
            },
            70..73 => {
                let nobodys = stream_of(&self.new_key());
                self.assign(nobodys, &Seen::default())
            }
            73..78 => self.again(),
            78..81 => self.reuse_key(),
            81..84 => self.recall_earlier(),
            84..86 => {
                let key = self.new_key();
                self.ask(stream, MANAGER, key, Ask::Recall)
            }
            86..93 => self.ask(stream, MANAGER, String::new(), Ask::StrongRead),
            _ => {
                let board = Ask::BoardRead {
                    at_least: seen.version,
                    after: seen.place,
                };
                self.ask(stream, MANAGER, String::new(), board)
            }
        }
    }

    /// Its stream follows from the key.
    fn create(&mut self) -> Chosen {
        let key = self.new_key();
        let tenant = Tenant::parse(TENANT).expect("it is a tenant's name");
        let command = CommandId::parse(&key).expect("it is a key");
        let id = StreamId::id_for_new(&tenant, &Actor::User(MANAGER.into()), &command);
        let assignee = self.dice.percent(50).then(|| self.worker());
        let title = format!("task {key}");
        let create = Ask::Create { title, assignee };
        self.ask(stream_of(&id), MANAGER, key, create)
    }

    fn assign(&mut self, stream: String, seen: &Seen) -> Chosen {
        let (key, to) = (self.new_key(), self.worker());
        let expected = self.expected(seen);
        self.command(stream, MANAGER, key, Ask::Assign { to }, expected)
    }

    /// By this worker, or by any.
    fn complete(&mut self, stream: String, seen: &Seen, by: Option<String>) -> Chosen {
        let by = by.unwrap_or_else(|| self.worker());
        let (key, expected) = (self.new_key(), self.expected(seen));
        self.command(stream, &by, key, Ask::Complete, expected)
    }

    fn again(&mut self) -> Chosen {
        let recent = self.recent();
        match recent.filter(|index| !self.done[*index].key.is_empty()) {
            Some(index) => Chosen::Again(index),
            None => self.create(),
        }
    }

    /// For something else than the first time.
    fn reuse_key(&mut self) -> Chosen {
        let earlier = self.recent().map(|index| self.done[index].clone());
        match earlier {
            Some(Operation {
                stream,
                key,
                ask: Ask::Assign { to },
                ..
            }) => {
                let other = WORKERS.iter().find(|name| **name != to);
                let to = other.expect("there are several").to_string();
                self.command(stream, MANAGER, key, Ask::Assign { to }, None)
            }
            _ => self.create(),
        }
    }

    fn recall_earlier(&mut self) -> Chosen {
        let earlier = self.recent().map(|index| &self.done[index]);
        match earlier.filter(|it| it.ask.is_command()) {
            Some(earlier) => {
                let (stream, key) = (earlier.stream.clone(), earlier.key.clone());
                let actor = earlier.actor.trim_start_matches("user:").to_owned();
                self.ask(stream, &actor, key, Ask::Recall)
            }
            None => self.create(),
        }
    }

    /// Index of something that was done not long ago.
    fn recent(&mut self) -> Option<usize> {
        let back = self.dice.below(20) + 1;
        self.done.len().checked_sub(back)
    }

    fn expected(&mut self, seen: &Seen) -> Option<u64> {
        match self.dice.below(10) {
            _ if seen.version == 0 => None,
            0..5 => Some(seen.version),
            5 => Some(seen.version - 1),
            _ => None,
        }
    }

    fn worker(&mut self) -> String {
        let worker = self.dice.one_of(&WORKERS);
        worker.copied().unwrap_or_default().into()
    }

    fn ask(&self, stream: String, actor: &str, key: String, ask: Ask) -> Chosen {
        self.command(stream, actor, key, ask, None)
    }

    fn command(
        &self,
        stream: String,
        actor: &str,
        key: String,
        ask: Ask,
        expected: Option<u64>,
    ) -> Chosen {
        Chosen::New(Operation {
            stream,
            actor: format!("user:{actor}"),
            key,
            ask,
            expected,
            attempts: Vec::new(),
        })
    }
}
