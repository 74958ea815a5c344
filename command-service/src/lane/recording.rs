//! Answers without events on their way into the log.
//!
//! They are written when the group whose state they saw is acknowledged. A group that has nothing
//! but such answers needs no barrier: their append is one.

use event_log::batch::BatchBuilder;

use super::{Lane, reply};
use crate::{
    answers::{Outcome, RecordedAnswer},
    group::{Answer, Ask, Request, Verdict},
    outcome::CommandError,
    recorded::CommandKey,
    streams::{Command, Decided, MAX_BATCH_BYTES},
};

#[derive(Default)]
pub(super) struct Recording {
    /// What they saw is acknowledged.
    waiting: Vec<Due>,
    in_flight: Vec<Due>,
    /// Whether the group in flight waits for this append instead of a barrier.
    carries_group: bool,
}

/// A command and its answer, once that is in the log.
struct Due {
    request: Request,
    answer: Answer,
    outcome: Outcome,
}

impl Recording {
    pub fn len(&self) -> usize {
        self.waiting.len() + self.in_flight.len()
    }

    /// Nothing of this will be recorded any more.
    pub fn end(&mut self) -> impl Iterator<Item = Request> + use<> {
        let Self {
            waiting, in_flight, ..
        } = std::mem::take(self);
        waiting.into_iter().chain(in_flight).map(|due| due.request)
    }
}

impl Due {
    fn command(&self) -> &Command {
        match &self.request.ask {
            Ask::Command(command) => command,
            Ask::Recall(_) | Ask::Read { .. } => unreachable!("only commands are answered so"),
        }
    }

    fn recorded(&self) -> RecordedAnswer {
        RecordedAnswer::new(self.command(), self.outcome.clone())
    }
}

/// The verdict on a command that wants its answer recorded.
pub(super) fn instead(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Rides(Ok(decided)) => Verdict::Records(Ok(decided)),
        Verdict::Rides(Err(error)) if Outcome::of(&Err(error.clone())).is_some() => {
            Verdict::Records(Err(error))
        }
        verdict => verdict,
    }
}

impl Lane {
    /// The answer that was recorded for this command.
    pub(super) fn recall_answer(&self, ask: &Ask, key: CommandKey) -> Option<Verdict> {
        let recorded = self.answers.get(key)?;
        let asked = ask.fingerprint();
        if asked.is_some_and(|asked| asked != recorded.fingerprint) {
            return Some(Verdict::Rides(Err(CommandError::KeyReused)));
        }
        let answer = (recorded.outcome).answer(ask.stream(), |offset| self.position(offset));
        Some(match answer {
            Ok(acceptance) => Verdict::Recorded(acceptance),
            Err(error) => Verdict::Rides(Err(error)),
        })
    }

    /// Takes in an answer that was read from the log.
    pub fn remember_answer(&mut self, key: CommandKey, answer: RecordedAnswer) {
        self.answers.insert(key, answer);
    }

    /// What this answer saw is acknowledged: it may be recorded.
    pub(super) fn record(&mut self, request: Request, decided: Result<Decided, CommandError>) {
        let answer = decided.map(|decided| self.nothing_to_do(&request, decided));
        let Some(outcome) = Outcome::of(&answer) else {
            return reply(request, answer);
        };
        // A rejection is given in the words that are recorded.
        let again = outcome.answer(request.ask.stream(), |offset| self.position(offset));
        self.recording.waiting.push(Due {
            answer: answer.or(again),
            request,
            outcome,
        });
    }

    /// Whether there are answers to record now.
    pub fn has_answers_due(&self) -> bool {
        !self.recording.waiting.is_empty()
    }

    /// The same, or when the group in flight is acknowledged.
    pub fn has_answers(&self) -> bool {
        let group = self.in_flight.iter().flat_map(|group| &group.entries);
        let mut verdicts = group.map(|entry| &entry.verdict);
        self.has_answers_due() || verdicts.any(|it| matches!(it, Verdict::Records(_)))
    }

    /// Adds the answers to a batch for their topic, as many as it has room for. With
    /// `carries_group`, the group in flight has no events, and is acknowledged with this batch.
    pub fn record_answers(&mut self, batch: &mut BatchBuilder, carries_group: bool) {
        self.recording.carries_group = carries_group;
        if carries_group && let Some(mut group) = self.in_flight.take() {
            for entry in std::mem::take(&mut group.entries) {
                match entry.verdict {
                    Verdict::Records(decided) => self.record(entry.request, decided),
                    _ => group.entries.push(entry),
                }
            }
            self.in_flight = Some(group);
        }
        let mut written = 0;
        for due in &self.recording.waiting {
            if batch.size() > MAX_BATCH_BYTES / 2 {
                break;
            }
            due.recorded().write(due.command(), self.term, batch);
            written += 1;
        }
        let later = self.recording.waiting.split_off(written);
        self.recording.in_flight = std::mem::replace(&mut self.recording.waiting, later);
    }

    /// The answers are in the log.
    pub fn answers_recorded(&mut self) {
        let recorded = self.recording.in_flight.len() as u64;
        metrics::counter!("annals_recorded_answers_total").increment(recorded);
        for mut due in std::mem::take(&mut self.recording.in_flight) {
            self.answers.insert(due.command().key, due.recorded());
            self.take_joined(&mut due.request);
            reply(due.request, due.answer);
        }
        if std::mem::take(&mut self.recording.carries_group) {
            self.acknowledge(0);
        }
    }
}
