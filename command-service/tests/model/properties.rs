//! What must hold, whatever happens.

use stateright::Property;

use crate::{
    clients::Answer,
    node::{Phase, Stop},
    system::{Shard, State},
};

pub const GAPLESS: &str = "versions are gapless";
pub const ONCE: &str = "no command is in the log twice";
pub const KEPT: &str = "an acknowledged command is in the log";
pub const TRUE: &str = "no answer contradicts the log";
pub const TERMS: &str = "terms never go back";
pub const NO_ALARM: &str = "there is no alarm without a cause";
pub const PEACE: &str = "deposing each other ends";
pub const PROGRESS: &str = "every command is answered in the end";
pub const ANSWERED: &str = "all commands are answered, after a take-over if there is one";

pub fn all() -> Vec<Property<Shard>> {
    vec![
        Property::<Shard>::always(GAPLESS, gapless),
        Property::<Shard>::always(ONCE, once),
        Property::<Shard>::always(KEPT, kept),
        Property::<Shard>::always(TRUE, |_, state| state.broken.is_none()),
        Property::<Shard>::always(TERMS, terms_rise),
        Property::<Shard>::always(NO_ALARM, no_alarm),
        Property::<Shard>::always(PEACE, |shard, state| {
            state.begun <= shard.scenario.most_take_overs
        }),
        Property::<Shard>::eventually(PROGRESS, all_answered),
        Property::<Shard>::sometimes(ANSWERED, |shard, state| {
            let alone = shard.scenario.budget.take_overs == 0 && !shard.scenario.assignment;
            (alone || state.begun > 0) && state.asked.iter().all(|asked| asked.answer.is_some())
        }),
    ]
}

fn gapless(_: &Shard, state: &State) -> bool {
    let mut versions = state.partitions[0].events().map(|event| event.version);
    versions
        .by_ref()
        .zip(1..)
        .all(|(version, place)| version == place)
}

fn once(shard: &Shard, state: &State) -> bool {
    let key = |command: u8| shard.scenario.commands[usize::from(command)].key;
    let keys: Vec<_> = state.partitions[0]
        .events()
        .map(|event| key(event.command))
        .collect();
    (1..keys.len()).all(|at| !keys[..at].contains(&keys[at]))
}

fn kept(shard: &Shard, state: &State) -> bool {
    let commands = &shard.scenario.commands;
    (0..)
        .zip(&state.asked)
        .all(|(command, asked): (usize, _)| match asked.answer {
            Some(Answer::Accepted { version }) => {
                let event = state.partitions[0].events().nth(usize::from(version) - 1);
                event.is_some_and(|event| commands[usize::from(event.command)] == commands[command])
            }
            Some(
                Answer::Rejected { .. }
                | Answer::Stale { .. }
                | Answer::KeyReused { .. }
                | Answer::Read { .. },
            )
            | None => true,
        })
}

fn terms_rise(_: &Shard, state: &State) -> bool {
    let terms: Vec<_> = state.partitions[0]
        .events()
        .map(|event| event.term)
        .collect();
    terms.is_sorted()
}

fn no_alarm(shard: &Shard, state: &State) -> bool {
    if state.written_past && !shard.scenario.stops.contains(&Stop::WrittenPast) {
        return false;
    }
    state.nodes.iter().all(|node| match node.phase {
        Phase::Stopped(stop) => shard.scenario.stops.contains(&stop),
        Phase::Idle | Phase::Fencing(_) | Phase::Restoring | Phase::Claiming | Phase::Serving => {
            true
        }
    })
}

/// Or somebody has stopped and said why.
fn all_answered(_: &Shard, state: &State) -> bool {
    state.asked.iter().all(|asked| asked.answer.is_some())
        || state
            .nodes
            .iter()
            .any(|node| matches!(node.phase, Phase::Stopped(_)))
}
