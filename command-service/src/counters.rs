//! What became of the commands, counted.

use std::sync::OnceLock;

use metrics::Counter;

use crate::{group::Answer, outcome::CommandError};

/// Counts one answer in `annals_answers_total{outcome}`.
///
/// `conflict`: a rule of the domain said no. `stale`: the expected version was not the current
/// one. `elsewhere`: another node was asked, or is going to be.
pub(crate) fn count(answer: &Answer) {
    let outcome = match answer {
        Ok(acceptance) if acceptance.repeated => Outcome::Repeated,
        Ok(_) => Outcome::Accepted,
        Err(CommandError::Rejected { .. }) => Outcome::Conflict,
        Err(CommandError::Stale { .. }) => Outcome::Stale,
        Err(CommandError::KeyReused) => Outcome::KeyReused,
        Err(CommandError::StreamStopped { .. }) => Outcome::Stopped,
        Err(CommandError::Busy) => Outcome::Busy,
        Err(CommandError::NotServed { .. }) => Outcome::NotServed,
        Err(CommandError::NoAnswerYet { .. }) => Outcome::NoAnswerYet,
        Err(_) => Outcome::Other,
    };
    counters()[outcome as usize].increment(1);
}

#[derive(Clone, Copy)]
enum Outcome {
    Accepted,
    Repeated,
    Conflict,
    Stale,
    KeyReused,
    Stopped,
    Busy,
    NotServed,
    NoAnswerYet,
    Other,
}

/// Handles: looking a counter up by its label costs more than counting.
fn counters() -> &'static [Counter; 10] {
    static COUNTERS: OnceLock<[Counter; 10]> = OnceLock::new();
    COUNTERS.get_or_init(|| {
        [
            "accepted",
            "repeated",
            "conflict",
            "stale",
            "key-reused",
            "stream-stopped",
            "busy",
            "not-served",
            "no-answer-yet",
            "other",
        ]
        .map(|outcome| metrics::counter!("annals_answers_total", "outcome" => outcome))
    })
}
