//! What clients ask, what a decider says to it, and what an answer promises.

use crate::broker::Event;

/// A command, with the key that a retry uses again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    pub key: char,
    pub body: Body,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Body {
    /// Always accepted.
    Add,
    /// Accepted once in the life of the stream.
    Once,
    /// Accepted when the stream is at this version.
    At(u8),
    /// A strong read.
    Read,
}

/// Every answer says which state it is about: the stream's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    Accepted { version: u8 },
    Rejected { seen: u8 },
    Stale { seen: u8 },
    KeyReused { seen: u8 },
    Read { seen: u8, last: Option<u8> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Append,
    Answer(Answer),
}

/// Key first, then expected version, then the rule: a function of the events alone.
pub fn decide(seen: &[Event], commands: &[Command], index: u8) -> Decision {
    let command = commands[usize::from(index)];
    let of = |event: &Event| commands[usize::from(event.command)];
    let version = seen.len() as u8;
    if command.body == Body::Read {
        let last = seen.last().map(|event| event.command);
        return Decision::Answer(Answer::Read {
            seen: version,
            last,
        });
    }
    if let Some(at) = seen.iter().position(|event| of(event).key == command.key) {
        return Decision::Answer(if of(&seen[at]).body == command.body {
            Answer::Accepted {
                version: at as u8 + 1,
            }
        } else {
            Answer::KeyReused { seen: version }
        });
    }
    match command.body {
        Body::Once if seen.iter().any(|event| of(event).body == Body::Once) => {
            Decision::Answer(Answer::Rejected { seen: version })
        }
        Body::At(expected) if expected != version => {
            Decision::Answer(Answer::Stale { seen: version })
        }
        Body::Add | Body::Once | Body::At(_) | Body::Read => Decision::Append,
    }
}

/// How an answer was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Broken {
    /// The log says otherwise.
    Contradicted,
    /// It does not know what had been answered before it was asked.
    Outdated,
}

impl Answer {
    /// The version that who hears this knows to be in the log.
    pub fn knows(self) -> u8 {
        match self {
            Self::Accepted { version } => version,
            Self::Rejected { seen }
            | Self::Stale { seen }
            | Self::KeyReused { seen }
            | Self::Read { seen, .. } => seen,
        }
    }

    /// Whether the log bears the answer out. `floor` is what clients knew when this was asked.
    pub fn judge(
        self,
        log: &[Event],
        commands: &[Command],
        index: u8,
        floor: u8,
    ) -> Option<Broken> {
        let known = usize::from(self.knows());
        if known > log.len() {
            return Some(Broken::Contradicted);
        }
        if decide(&log[..known], commands, index) != Decision::Answer(self) {
            return Some(Broken::Contradicted);
        }
        let about_the_past = matches!(self, Self::Accepted { .. });
        (!about_the_past && self.knows() < floor).then_some(Broken::Outdated)
    }
}
