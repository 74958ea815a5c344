//! What a context records, and the id that every record has.

use std::fmt;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{StreamId, StreamVersion};

/// The events of one kind of stream: an enum of struct variants with serde's
/// derives, in which each variant is one recorded event type.
///
/// A variant's name is the name of its Avro record, its fields are the
/// record's fields. A projection reads with an enum of its own that names only
/// the variants and fields that it needs.
pub trait Event:
    Serialize + DeserializeOwned + Clone + fmt::Debug + PartialEq + Send + Sync + 'static
{
}

impl<T> Event for T where
    T: Serialize + DeserializeOwned + Clone + fmt::Debug + PartialEq + Send + Sync + 'static
{
}

/// Identity of an event: UUIDv5 of `<stream id>@<stream version>`, so that
/// whoever sees the event again, however it came, computes the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(pub Uuid);

/// The namespace of every UUIDv5 that Annals derives.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_5c1a_9f9b_5d0e_8f52_616e_6e61_6c73);

impl EventId {
    pub fn of(stream: &StreamId, version: StreamVersion) -> Self {
        Self(derived_id(&format!("{stream}@{version}")))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// UUIDv5 of a name that nothing else has.
pub(crate) fn derived_id(name: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_id_depends_on_stream_and_version_alone() {
        let stream: StreamId = "main/task/7".parse().unwrap();
        let id = EventId::of(&stream, StreamVersion(1));
        assert_eq!(id, EventId::of(&stream, StreamVersion(1)));
        assert_ne!(id, EventId::of(&stream, StreamVersion(2)));
        assert_eq!(id.0.get_version_num(), 5);
        // Recorded for good: this id must never come out otherwise.
        assert_eq!(id.to_string(), "0dd3ea8a-4841-52e6-9a23-86f8fc952bfc");
    }
}
