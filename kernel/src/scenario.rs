//! Given events, when a command, then events or a rejection: how rules are tested.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Actor, CommandId, Decider, Meta, StreamId, Tenant};

/// Begins a scenario on a stream that has these events.
pub fn given<D: Decider>(events: impl IntoIterator<Item = D::Event>) -> Given<D> {
    let mut state = D::default();
    for event in events {
        state.evolve(&event);
    }
    let tenant = Tenant::default();
    let stream = StreamId::new(&tenant, D::KIND, "scenario").unwrap_or_else(|malformed| {
        panic!("the kind {:?} of a decider {malformed}", D::KIND);
    });
    let command_id = CommandId::parse("scenario")
        .unwrap_or_else(|malformed| unreachable!("the scenario's command id {malformed}"));
    Given {
        state,
        meta: Meta {
            stream,
            tenant,
            actor: Actor::User("somebody".into()),
            at: DateTime::UNIX_EPOCH,
            command_id,
            correlation_id: Uuid::nil(),
            causation_id: None,
        },
    }
}

/// A stream's state before the command.
pub struct Given<D> {
    state: D,
    meta: Meta,
}

impl<D: Decider> Given<D> {
    /// The user who sends the command.
    pub fn by(mut self, user: &str) -> Self {
        self.meta.actor = Actor::User(user.into());
        self
    }

    /// Whoever sends the command: a service or the system, too.
    pub fn acting(mut self, actor: Actor) -> Self {
        self.meta.actor = actor;
        self
    }

    /// When the command is sent; at the beginning of 1970 unless told.
    pub fn at(mut self, time: DateTime<Utc>) -> Self {
        self.meta.at = time;
        self
    }

    /// The stream that decides; `main/<kind>/scenario` unless told.
    pub fn on(mut self, stream: StreamId) -> Self {
        self.meta.stream = stream;
        self
    }

    pub fn when(self, command: D::Command) -> When<D> {
        let outcome = self.state.decide(&command, &self.meta);
        When { outcome }
    }

    /// The state itself, to test `evolve` alone.
    pub fn state(&self) -> &D {
        &self.state
    }
}

/// What the command led to.
pub struct When<D: Decider> {
    outcome: Result<Vec<D::Event>, D::Rejection>,
}

impl<D: Decider> When<D>
where
    D::Rejection: PartialEq,
{
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = D::Event>) {
        let expected: Vec<_> = expected.into_iter().collect();
        assert_eq!(self.outcome, Ok(expected));
    }

    #[track_caller]
    pub fn then_rejected(self, expected: D::Rejection)
    where
        D::Event: Debug,
    {
        assert_eq!(self.outcome, Err(expected));
    }
}
