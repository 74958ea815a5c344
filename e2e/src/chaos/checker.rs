//! Compares the log with what the clients saw.
//!
//! [`check`] first reads the log by itself (`facts`): who wrote what, in which order, and whether that order is one.
//! Then it goes through each stream's attempts in the order of real time (`answers`): each answer must be right for
//! some state of the stream between the attempt's start and its end. It knows the domain's rules (`rules`) and the
//! format of the log from their documentation, and none of the code under test.

mod answers;
mod facts;
mod rules;
mod wire;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fmt};

use super::{
    history::{Operation, Place},
    log::Log,
};

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub what: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// Offsets of a partition follow one another.
    OffsetsGapless,
    /// A producer's epochs never go back, and within one its sequence numbers have neither gap nor repeat.
    ProducersInOrder,
    /// Terms never go back, and each belongs to a claim of the producer that used it.
    TermsInOrder,
    /// Nobody but the owners writes into our topics.
    NothingForeign,
    /// A stream lies in one partition, and its versions are 1, 2, 3, …
    VersionsGapless,
    /// The events of a command lie side by side, all of them.
    CommandsWhole,
    /// A command is in the log once.
    CommandsOnce,
    /// What is in the log was sent, and is what the rules make of it.
    EventsByTheRules,
    /// An acknowledged command is in the log.
    NothingLost,
    /// An answer tells what the log has: version, number of events, position.
    AnswersAsRecorded,
    /// An answer is right for a state between the attempt's start and its end.
    AnswersTrueInTime,
    /// A command whose every attempt was refused is not in the log.
    RefusedIsRefused,
    /// Each operation has its answer in the end.
    Progress,
}

/// What the check found, and how much there was to check.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    pub violations: Vec<Violation>,
    pub streams: usize,
    pub commands_in_log: usize,
    /// Attempts with a definite answer.
    pub answers: usize,
    /// By kind: `accepted`, `rejected`, …
    pub answers_by_kind: BTreeMap<&'static str, usize>,
    /// Commands that were refused by one attempt and carried out by another, which may happen while an earlier attempt
    /// is under way.
    pub refused_and_carried_out: usize,
    /// Foreign records that were expected.
    pub foreign: usize,
}

/// Whether the log and the history can both be true. `foreign` are places where somebody else is known to have written.
pub fn check(log: &Log, history: &[Operation], foreign: &[Place]) -> Findings {
    let mut findings = Findings::default();
    let facts = facts::read(log, foreign, &mut findings);
    answers::check(&facts, history, &mut findings);
    findings
}

impl Findings {
    fn violated(&mut self, rule: Rule, what: impl fmt::Display) {
        let what = what.to_string();
        self.violations.push(Violation { rule, what });
    }

    /// How often each rule is broken.
    pub fn by_rule(&self) -> BTreeMap<Rule, usize> {
        let mut rules = BTreeMap::new();
        for violation in &self.violations {
            *rules.entry(violation.rule).or_default() += 1;
        }
        rules
    }
}
