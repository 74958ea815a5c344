//! What comes with a command besides its content.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::{EventId, Malformed, StreamId, Tenant, WrittenVersions, stream::text_value};

/// Who acts. Written `user:ada`, `service:billing`, `system:reactor`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Actor {
    User(String),
    Service(String),
    System(String),
}

impl Actor {
    /// The name without its type.
    pub fn name(&self) -> &str {
        let (Self::User(name) | Self::Service(name) | Self::System(name)) = self;
        name
    }

    /// `user`, `service` or `system`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Service(_) => "service",
            Self::System(_) => "system",
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        f.write_str(":")?;
        f.write_str(self.name())
    }
}

impl FromStr for Actor {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let malformed = Malformed(
            "is not an actor: user, service or system, ':', and a name of 1 to 128 visible ASCII characters",
        );
        let (kind, name) = text.split_once(':').ok_or_else(|| malformed.clone())?;
        if name.is_empty() || name.len() > 128 || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(malformed);
        }
        match kind {
            "user" => Ok(Self::User(name.into())),
            "service" => Ok(Self::Service(name.into())),
            "system" => Ok(Self::System(name.into())),
            _ => Err(malformed),
        }
    }
}

impl Serialize for Actor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Actor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// The client's name for one command, its `Idempotency-Key`: 1–128 visible ASCII characters.
///
/// Scoped by tenant, actor and stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CommandId(Box<str>);

impl CommandId {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if text.is_empty() || text.len() > 128 || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Malformed("is not 1 to 128 visible ASCII characters"));
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

text_value!(CommandId, CommandId::parse);

/// The circumstances of a command, given to `decide` and recorded with its events.
#[derive(Clone, Debug)]
pub struct Meta {
    /// The stream that decides.
    pub stream: StreamId,
    pub tenant: Tenant,
    pub actor: Actor,
    /// When the command was taken up, to the microsecond.
    pub at: DateTime<Utc>,
    pub command_id: CommandId,
    /// The whole request that this command belongs to.
    pub correlation_id: Uuid,
    /// The event that directly caused this command, if one did.
    pub causation_id: Option<EventId>,
    /// How the context's events are written at present. Whoever decides is told by its owner, and
    /// need not say it.
    pub written: WrittenVersions,
}

impl Meta {
    /// Whether this event is written in this version at present, or in a later one.
    ///
    /// A new version comes with a release, but is written only when it has been activated. Until
    /// then a command is to be accepted if the release before would have accepted it: a rule that
    /// comes with the version asks this first.
    pub fn writes(&self, event: &str, version: u32) -> bool {
        self.written
            .of(event)
            .is_none_or(|written| written >= version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_a_new_version_holds_once_the_version_is_written() {
        let meta = |written| Meta {
            stream: "main/task/7".parse().unwrap(),
            tenant: Tenant::default(),
            actor: Actor::User("ada".into()),
            at: DateTime::UNIX_EPOCH,
            command_id: CommandId::parse("1").unwrap(),
            correlation_id: Uuid::nil(),
            causation_id: None,
            written,
        };
        let before = meta(WrittenVersions::default().with("TaskCreated", 1));
        assert!(before.writes("TaskCreated", 1) && !before.writes("TaskCreated", 2));
        let after = meta(WrittenVersions::default());
        assert!(after.writes("TaskCreated", 2));
    }

    #[test]
    fn an_actor_is_read_back_as_it_was_written() {
        for text in ["user:ada", "service:billing", "system:reactor", "user:a:b"] {
            assert_eq!(text.parse::<Actor>().unwrap().to_string(), text);
        }
        for text in ["", "ada", "user:", "root:ada", "user:a b", "user:ü"] {
            assert!(text.parse::<Actor>().is_err(), "{text:?} was accepted");
        }
    }
}
