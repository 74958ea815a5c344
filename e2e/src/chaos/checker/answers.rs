//! The clients' answers against the log, in real time.
//!
//! The log gives each stream one order of states. An attempt's answer must be right for one of them that is not older
//! than what anybody was shown before the attempt began, and not newer than what had been asked for when it ended.
//! Where several are, the oldest leaves the most room to the attempts after it, so taking that one errs for nobody.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap},
};

use super::{
    Findings, Rule,
    facts::{Command, Facts, Stream},
    rules,
};
use crate::chaos::history::{Answer, Ask, Attempt, Moment, Operation, Task};

pub(super) fn check(facts: &Facts, history: &[Operation], findings: &mut Findings) {
    let mut by_stream: HashMap<&str, Vec<&Operation>> = HashMap::new();
    for operation in history {
        let operations = by_stream.entry(&operation.stream).or_default();
        operations.push(operation);
        check_progress(operation, findings);
    }
    for (name, stream) in &facts.streams {
        if !by_stream.contains_key(name.as_str()) {
            let what = format!("{name} has events, and nobody sent a command");
            findings.violated(Rule::EventsByTheRules, what);
        }
        let operations = by_stream.get(name.as_str()).map(Vec::as_slice);
        check_commands(name, stream, operations.unwrap_or_default(), findings);
    }
    let empty = Stream {
        states: vec![Task::Unknown],
        ..Stream::default()
    };
    for (name, operations) in by_stream {
        let stream = facts.streams.get(name).unwrap_or(&empty);
        StreamCheck::new(stream, &operations, findings).run();
    }
}

fn check_progress(operation: &Operation, findings: &mut Findings) {
    match operation.attempts.last().map(|it| &it.answer) {
        Some(Answer::Open(why)) => {
            let what = format!("{} has no answer: {why}", named(operation));
            findings.violated(Rule::Progress, what);
        }
        None => findings.violated(Rule::Progress, named(operation)),
        Some(_) => {}
    }
}

/// Each command was sent, is what the rules make of it, and has not been refused to everybody.
fn check_commands(name: &str, stream: &Stream, operations: &[&Operation], findings: &mut Findings) {
    let mut sent: HashMap<(&str, &str), Vec<&Operation>> = HashMap::new();
    for operation in operations.iter().filter(|it| it.ask.is_command()) {
        let id = (operation.actor.as_str(), operation.key.as_str());
        sent.entry(id).or_default().push(operation);
    }
    for command in &stream.commands {
        let (key, place) = (&command.key, &command.place);
        let id = (command.actor.as_str(), key.as_str());
        let candidates = sent.get(&id).map(Vec::as_slice).unwrap_or_default();
        let senders = candidates.iter().filter(|it| is_of(command, it, stream));
        let attempts: Vec<_> = senders.flat_map(|sender| &sender.attempts).collect();
        let refused = |attempt: &&Attempt| {
            matches!(
                attempt.answer,
                Answer::Stale { .. } | Answer::Rejected(_) | Answer::Accepted { events: 0, .. }
            )
        };
        if attempts.is_empty() {
            let what =
                format!("{place}: {key} on {name} is not what was sent, or not by the rules");
            findings.violated(Rule::EventsByTheRules, what);
        } else if attempts.iter().all(refused) {
            let answer = &attempts[0].answer;
            let what = format!("{place}: {key} on {name}, answered {answer:?}");
            findings.violated(Rule::RefusedIsRefused, what);
        } else if attempts.iter().any(refused) {
            findings.refused_and_carried_out += 1;
        }
    }
}

/// Whether the command in the log is this operation, as the rules carry it out.
fn is_of(command: &Command, operation: &Operation, stream: &Stream) -> bool {
    let before = command.first - 1;
    let expected = operation.expected.is_none_or(|it| it == before);
    let state = stream.states.get(before as usize);
    let decided = state.map(|task| rules::decide(task, &operation.ask, &operation.actor));
    expected && decided == Some(Ok(command.happenings.clone()))
}

struct StreamCheck<'a> {
    stream: &'a Stream,
    operations: &'a [&'a Operation],
    /// When each command in the log was sent first, by its index.
    sent: Vec<Moment>,
    /// The earliest moment at which each version can have been there.
    possible: Vec<Moment>,
    /// What is known once an attempt has ended: moment and version.
    to_be_known: BinaryHeap<Reverse<(Moment, u64)>>,
    /// The newest version that anybody was shown before the present attempt began.
    known: u64,
    findings: &'a mut Findings,
}

impl<'a> StreamCheck<'a> {
    fn new(
        stream: &'a Stream,
        operations: &'a [&'a Operation],
        findings: &'a mut Findings,
    ) -> Self {
        let mut sent = vec![Moment::MAX; stream.commands.len()];
        for operation in operations.iter().filter(|it| it.ask.is_command()) {
            let began = operation.attempts.iter().map(|it| it.started).min();
            if let (Some(index), Some(began)) = (index_of(stream, operation), began)
                && is_of(&stream.commands[index], operation, stream)
            {
                sent[index] = sent[index].min(began);
            }
        }
        let mut possible = vec![0; stream.states.len()];
        for (command, sent) in stream.commands.iter().zip(&sent) {
            // What nobody sent is found elsewhere.
            let sent = if *sent == Moment::MAX { 0 } else { *sent };
            for version in command.first..=command.last() {
                if let Some(possible) = possible.get_mut(version as usize) {
                    *possible = sent;
                }
            }
        }
        let mut latest = 0;
        for possible in &mut possible {
            latest = latest.max(*possible);
            *possible = latest;
        }
        Self {
            stream,
            operations,
            sent,
            possible,
            to_be_known: BinaryHeap::new(),
            known: 0,
            findings,
        }
    }

    fn run(mut self) {
        let operations = self.operations.iter();
        let mut attempts: Vec<(&Operation, &Attempt)> = operations
            .flat_map(|operation| {
                operation
                    .attempts
                    .iter()
                    .map(|attempt| (*operation, attempt))
            })
            .collect();
        attempts.sort_by_key(|(_, attempt)| attempt.started);
        for (operation, attempt) in attempts {
            while let Some(Reverse((ended, version))) = self.to_be_known.peek().copied()
                && ended < attempt.started
            {
                self.known = self.known.max(version);
                self.to_be_known.pop();
            }
            self.check_order(operation, attempt);
            if attempt.answer.is_definite() {
                self.findings.answers += 1;
                let kind = kind_of(&attempt.answer);
                *self.findings.answers_by_kind.entry(kind).or_default() += 1;
            }
            match self.explain(operation, attempt) {
                Ok(Some(version)) => self.to_be_known.push(Reverse((attempt.ended, version))),
                Ok(None) => {}
                Err((rule, why)) => {
                    let (name, known) = (named(operation), self.known);
                    let newest = self.newest_at(attempt.ended);
                    let what = format!(
                        "{name}, {}–{} µs, answered {:?}: {why}; versions {known} to {newest} \
                         were possible",
                        attempt.started, attempt.ended, attempt.answer
                    );
                    self.findings.violated(rule, what);
                }
            }
        }
    }

    /// A command comes after everything that somebody was shown before it was sent first.
    fn check_order(&mut self, operation: &Operation, attempt: &Attempt) {
        let Some(index) = index_of(self.stream, operation) else {
            return;
        };
        let first = self.stream.commands[index].first;
        if attempt.started == self.sent[index] && first <= self.known {
            let known = self.known;
            let what = format!(
                "{} made version {first}, though {known} was shown before it was sent",
                named(operation)
            );
            self.findings.violated(Rule::AnswersTrueInTime, what);
        }
    }

    /// The version that the answer shows to be there, or why no state explains it.
    fn explain(
        &self,
        operation: &Operation,
        attempt: &Attempt,
    ) -> Result<Option<u64>, (Rule, String)> {
        let untrue = |why: &str| Err((Rule::AnswersTrueInTime, why.to_owned()));
        let newest = self.newest_at(attempt.ended);
        let own = self.command_of(operation);
        let possible = self.known..=newest;
        // Once a command is in the log, its recorded answer is the only one.
        let undone = |version: u64| own.is_none_or(|own| version < own.first);
        match &attempt.answer {
            Answer::Open(_) => Ok(None),
            Answer::Nonsense(_) => untrue("no client can make sense of it"),
            Answer::Accepted {
                events: 0, version, ..
            } => {
                let state = self.state(*version);
                let nothing = state.is_some_and(|task| {
                    rules::decide(task, &operation.ask, &operation.actor) == Ok(vec![])
                });
                match possible.contains(version) && undone(*version) && operation.allows(*version) {
                    true if nothing => Ok(Some(*version)),
                    true => untrue("there was something to do"),
                    false => untrue("that version was not there"),
                }
            }
            Answer::Accepted {
                version,
                events,
                place,
                ..
            } => {
                let Some(own) = own.filter(|own| {
                    !operation.ask.is_command() || is_of(own, operation, self.stream)
                }) else {
                    return Err((Rule::NothingLost, "it is not in the log".into()));
                };
                let count = own.happenings.len() as u64;
                if (own.last(), count, Some(&own.place)) != (*version, *events, place.as_ref()) {
                    let (last, place) = (own.last(), &own.place);
                    let why = format!("the log has version {last}, {count} events, {place}");
                    return Err((Rule::AnswersAsRecorded, why));
                }
                match *version <= newest {
                    true => Ok(Some(*version)),
                    false => untrue("it follows on what was sent after the answer"),
                }
            }
            Answer::Stale { current } => {
                if operation
                    .expected
                    .is_none_or(|expected| expected == *current)
                {
                    return untrue("that is the version that was expected");
                }
                match possible.contains(current) && undone(*current) {
                    true => Ok(Some(*current)),
                    false => untrue("that version was not there"),
                }
            }
            Answer::Rejected(code) => {
                let explains = |version: &u64| {
                    let state = self.state(*version);
                    undone(*version)
                        && operation.allows(*version)
                        && state.is_some_and(|task| {
                            rules::decide(task, &operation.ask, &operation.actor)
                                == Err(code.as_str())
                        })
                };
                match possible.clone().find(explains) {
                    Some(version) => Ok(Some(version)),
                    None => untrue("no state is a reason for it"),
                }
            }
            Answer::KeyReused => match own {
                Some(own) if own.last() <= newest && self.is_anothers(own, operation) => {
                    Ok(Some(own.last()))
                }
                _ => untrue("the key belongs to no other command"),
            },
            Answer::UnknownCommand => match undone(self.known) {
                true => Ok(None),
                false => untrue("it was known that it was carried out"),
            },
            Answer::Shown { version, task } => {
                let at_least = match operation.ask {
                    Ask::BoardRead { at_least, .. } => at_least,
                    _ => self.known,
                };
                if !(at_least..=newest).contains(version) {
                    return untrue("that version was not there");
                }
                match self.state(*version) == Some(task) {
                    true => Ok(Some(*version)),
                    false => untrue("that version has another state"),
                }
            }
        }
    }

    /// The newest version that can have been there before this moment.
    fn newest_at(&self, moment: Moment) -> u64 {
        let versions = self
            .possible
            .partition_point(|possible| *possible <= moment);
        versions.saturating_sub(1) as u64
    }

    /// Whether somebody sent this command who asked for something else, or expected another version.
    fn is_anothers(&self, command: &Command, operation: &Operation) -> bool {
        let differs =
            |it: &Operation| (&it.ask, it.expected) != (&operation.ask, operation.expected);
        let same_key = |it: &Operation| (&it.actor, &it.key) == (&operation.actor, &operation.key);
        let mut others = self.operations.iter();
        others.any(|it| same_key(it) && differs(it) && is_of(command, it, self.stream))
    }

    fn state(&self, version: u64) -> Option<&Task> {
        self.stream.states.get(version as usize)
    }

    fn command_of(&self, operation: &Operation) -> Option<&'a Command> {
        index_of(self.stream, operation).map(|index| &self.stream.commands[index])
    }
}

/// Of the command with the operation's key.
fn index_of(stream: &Stream, operation: &Operation) -> Option<usize> {
    let id = (operation.actor.clone(), operation.key.clone());
    stream.by_key.get(&id).copied()
}

impl Operation {
    fn allows(&self, version: u64) -> bool {
        self.expected.is_none_or(|expected| expected == version)
    }
}

fn kind_of(answer: &Answer) -> &'static str {
    match answer {
        Answer::Accepted { events: 0, .. } => "nothing to do",
        Answer::Accepted { repeated: true, .. } => "accepted, recorded",
        Answer::Accepted { .. } => "accepted",
        Answer::Stale { .. } => "stale version",
        Answer::Rejected(_) => "rejected",
        Answer::KeyReused => "key reused",
        Answer::UnknownCommand => "unknown command",
        Answer::Shown { .. } => "shown",
        Answer::Open(_) => "open",
        Answer::Nonsense(_) => "nonsense",
    }
}

fn named(operation: &Operation) -> String {
    let Operation {
        stream,
        actor,
        key,
        ask,
        expected,
        ..
    } = operation;
    let expected = expected.map_or_else(String::new, |it| format!(" at version {it}"));
    format!("{key} of {actor} on {stream}: {ask:?}{expected}")
}
