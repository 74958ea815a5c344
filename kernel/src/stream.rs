//! Names of streams and places in them.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Actor, CommandId, Malformed, event::derived_id};

/// Whose data it is. The default is `main`.
///
/// 1–64 characters of `a–z`, `0–9` and `-`, beginning with a letter or digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tenant(Arc<str>);

impl Tenant {
    pub fn parse(text: &str) -> Result<Self, Malformed> {
        if !is_label(text) {
            return Err(Malformed(
                "is not a tenant: 1 to 64 characters of a-z, 0-9 and '-', not beginning with '-'",
            ));
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self("main".into())
    }
}

/// Name of a stream: `tenant/kind/id`, at most 258 bytes.
///
/// The id has 1–128 characters of `A–Z`, `a–z`, `0–9` and `._~:@-`. An id
/// `boundary:rest` keeps all streams of one boundary on one shard.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(Arc<str>);

impl StreamId {
    pub fn new(tenant: &Tenant, kind: &str, id: &str) -> Result<Self, Malformed> {
        if !is_label(kind) {
            return Err(Malformed("has a kind other than a-z, 0-9 and '-'"));
        }
        if id.is_empty() || id.len() > 128 || !id.bytes().all(is_id_byte) {
            return Err(Malformed(
                "is not an id: 1 to 128 characters of A-Z, a-z, 0-9 and ._~:@-",
            ));
        }
        let mut text = String::with_capacity(tenant.0.len() + kind.len() + id.len() + 2);
        for part in [tenant.as_str(), "/", kind, "/", id] {
            text.push_str(part);
        }
        Ok(Self(text.into()))
    }

    /// The id for an entity that a command creates: a retried create meets the first one.
    pub fn id_for_new(tenant: &Tenant, actor: &Actor, command: &CommandId) -> String {
        derived_id(&format!("{tenant}\n{actor}\n{command}")).to_string()
    }

    /// The id of an entity that is known by something natural, such as an address.
    pub fn id_for_name(tenant: &Tenant, kind: &str, name: &str) -> String {
        derived_id(&format!("{tenant}\n{kind}\n{name}")).to_string()
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn tenant(&self) -> &str {
        self.parts().0
    }

    pub fn kind(&self) -> &str {
        self.parts().1
    }

    pub fn id(&self) -> &str {
        self.parts().2
    }

    /// What decides the shard: `tenant/boundary` for an id `boundary:rest`, otherwise the whole name.
    pub fn with_routing_key<R>(&self, route: impl FnOnce(&[&str]) -> R) -> R {
        let (tenant, _, id) = self.parts();
        match id.split_once(':') {
            Some((boundary, _)) => route(&[tenant, "/", boundary]),
            None => route(&[self.as_str()]),
        }
    }

    fn parts(&self) -> (&str, &str, &str) {
        let mut parts = self.0.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(tenant), Some(kind), Some(id)) => (tenant, kind, id),
            _ => unreachable!("a stream id has three parts since it was parsed"),
        }
    }
}

impl FromStr for StreamId {
    type Err = Malformed;

    fn from_str(text: &str) -> Result<Self, Malformed> {
        let mut parts = text.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(tenant), Some(kind), Some(id)) => Self::new(&Tenant::parse(tenant)?, kind, id),
            _ => Err(Malformed("is not of the form tenant/kind/id")),
        }
    }
}

fn is_label(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 64
        && !text.starts_with('-')
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_id_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"._~:@-".contains(&b)
}

macro_rules! text_value {
    ($type:ty, $parse:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                $parse(&text).map_err(de::Error::custom)
            }
        }
    };
}

pub(crate) use text_value;

text_value!(Tenant, Tenant::parse);
text_value!(StreamId, str::parse);

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Place of an event in its stream: the first has 1; a stream without events is at 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct StreamVersion(pub u64);

impl StreamVersion {
    pub const NONE: Self = Self(0);

    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for StreamVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_id_is_read_back_as_it_was_made() {
        let id = StreamId::new(&Tenant::default(), "task", "a:b.c").unwrap();
        assert_eq!(id.as_str(), "main/task/a:b.c");
        assert_eq!((id.tenant(), id.kind(), id.id()), ("main", "task", "a:b.c"));
        assert_eq!(id.as_str().parse::<StreamId>().unwrap(), id);
    }

    #[test]
    fn malformed_stream_ids_are_refused() {
        for text in [
            "",
            "main",
            "main/task",
            "main/task/",
            "main//7",
            "/task/7",
            "Main/task/7",
            "main/Task/7",
            "main/task/a b",
            "main/task/a/b",
            "main/task/ä",
            "main/task/a\n",
        ] {
            assert!(text.parse::<StreamId>().is_err(), "{text:?} was accepted");
        }
        assert!(
            format!("main/task/{}", "x".repeat(129))
                .parse::<StreamId>()
                .is_err()
        );
    }

    #[test]
    fn streams_of_one_boundary_share_their_routing_key() {
        let key = |text: &str| {
            text.parse::<StreamId>()
                .unwrap()
                .with_routing_key(|k| k.concat())
        };
        assert_eq!(key("main/task/board1:a"), key("main/note/board1:b"));
        assert_ne!(key("main/task/board1:a"), key("other/task/board1:a"));
        assert_eq!(key("main/task/a"), "main/task/a");
    }
}
