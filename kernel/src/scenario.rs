//! Given events, when a command, then events or a rejection: how rules are tested.

use std::fmt::Debug;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::{Actor, CommandId, Decider, Meta, Rejection, StreamId, Tenant, WrittenVersions};

/// Begins a scenario on a stream that has these events.
///
/// # Panics
/// When the state does not survive a snapshot.
pub fn given<D: Decider>(events: impl IntoIterator<Item = D::Event>) -> Given<D> {
    let mut state = D::default();
    for event in events {
        state.evolve(&event);
    }
    let restored = through_snapshot(&state);
    let tenant = Tenant::default();
    let stream = StreamId::new(&tenant, D::KIND, "scenario").unwrap_or_else(|malformed| {
        panic!("the kind {:?} of a decider {malformed}", D::KIND);
    });
    let command_id = CommandId::parse("scenario")
        .unwrap_or_else(|malformed| unreachable!("the scenario's command id {malformed}"));
    Given {
        state,
        restored,
        meta: Meta {
            stream,
            tenant,
            actor: Actor::User("somebody".into()),
            at: DateTime::UNIX_EPOCH,
            command_id,
            correlation_id: Uuid::nil(),
            causation_id: None,
            written: WrittenVersions::default(),
        },
    }
}

fn through_snapshot<D: Decider>(state: &D) -> D {
    let snapshot = serde_json::to_vec(state);
    snapshot
        .and_then(|snapshot| serde_json::from_slice(&snapshot))
        .unwrap_or_else(|error| panic!("a state of {} is not kept by snapshots: {error}", D::KIND))
}

/// A stream's state before the command.
pub struct Given<D> {
    state: D,
    /// The same, as it comes out of a snapshot.
    restored: D,
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

    /// In which version an event is written; in its newest unless told.
    pub fn writing(mut self, event: &str, version: u32) -> Self {
        self.meta.written = self.meta.written.with(event, version);
        self
    }

    /// The stream that decides; `main/<kind>/scenario` unless told.
    pub fn on(mut self, stream: StreamId) -> Self {
        self.meta.stream = stream;
        self
    }

    /// # Panics
    /// When the state decides otherwise after it was in a snapshot.
    pub fn when(self, command: D::Command) -> When<D> {
        let outcome = self.state.decide(&command, &self.meta);
        let restored = self.restored.decide(&command, &self.meta);
        let code = |rejection: &D::Rejection| rejection.code();
        assert_eq!(
            restored.as_ref().map_err(code),
            outcome.as_ref().map_err(code),
            "a state of {} decides otherwise after it was in a snapshot: does it serialize all \
             that it has?",
            D::KIND
        );
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
