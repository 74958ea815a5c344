//! How far a follower has come: everything below the next offset of each partition.

use std::{collections::BTreeMap, sync::Arc};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use event_log::{
    Position, PositionToken,
    position::{MalformedToken, PositionMark},
};
use serde::{Deserialize, Serialize};

/// By topic, the next offset of each partition; -1 where nothing is known.
///
/// As text it is the `id` of what a follower is sent, and a position token like that of a command:
/// a follower goes on from it, and a read waits for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place(BTreeMap<Arc<str>, Vec<i64>>);

/// Longer tokens than this are refused unread.
const MAX_TOKEN_BYTES: usize = 48 * 1024;
/// More partitions a topic does not have.
const MAX_PARTITIONS: usize = 1_024;

/// The form that is written; a command's token has form 1.
const FORM: u8 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written(u8, BTreeMap<Arc<str>, Vec<i64>>);

impl Place {
    pub fn get(&self, topic: &str, partition: i32) -> Option<i64> {
        let index = usize::try_from(partition).ok()?;
        let next = self.0.get(topic)?.get(index)?;
        (*next >= 0).then_some(*next)
    }

    /// Whether nothing is known of any partition.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets the next offset of a partition, which never goes back.
    pub fn advance(&mut self, topic: &Arc<str>, partition: i32, next: i64) {
        let Ok(index) = usize::try_from(partition) else {
            return;
        };
        let partitions = match self.0.get_mut(topic) {
            Some(partitions) => partitions,
            None => self.0.entry(topic.clone()).or_default(),
        };
        if partitions.len() <= index {
            partitions.resize(index + 1, -1);
        }
        partitions[index] = partitions[index].max(next);
    }

    /// Whether everything below `other` is below this.
    pub fn covers(&self, other: &Self) -> bool {
        other
            .iter()
            .all(|(topic, partition, next)| self.get(topic, partition).unwrap_or(0) >= next)
    }

    /// The same, as far as this knows the partitions: `other` may name any.
    pub fn covers_where_known(&self, other: &Self) -> bool {
        other.iter().all(|(topic, partition, next)| {
            self.get(topic, partition)
                .is_none_or(|reached| reached >= next)
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, i32, i64)> {
        self.0.iter().flat_map(|(topic, partitions)| {
            let partitions = (0..).zip(partitions).filter(|(_, next)| **next >= 0);
            partitions.map(move |(partition, next)| (topic, partition, *next))
        })
    }

    pub fn encode(&self) -> String {
        let json = serde_json::to_vec(&Written(FORM, self.0.clone()))
            .expect("names and numbers serialize");
        BASE64_URL_SAFE_NO_PAD.encode(json)
    }

    /// Reads either form: after a command's own events, nothing else is known.
    pub fn decode(text: &str) -> Result<Self, MalformedToken> {
        if let Ok(token) = PositionToken::decode(text) {
            let mut place = Self::default();
            for PositionMark { position, .. } in token.marks {
                let Position {
                    topic,
                    partition,
                    offset,
                } = position;
                let usable = usize::try_from(partition).is_ok_and(|it| it < MAX_PARTITIONS);
                let (true, Some(next)) = (usable && offset >= 0, offset.checked_add(1)) else {
                    return Err(MalformedToken);
                };
                place.advance(&topic.into(), partition, next);
            }
            return Ok(place);
        }
        if text.len() > MAX_TOKEN_BYTES {
            return Err(MalformedToken);
        }
        let json = BASE64_URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| MalformedToken)?;
        let Written(form, topics) = serde_json::from_slice(&json).map_err(|_| MalformedToken)?;
        let possible = |next: &i64| *next >= -1;
        let possible = |partitions: &Vec<i64>| {
            partitions.len() <= MAX_PARTITIONS && partitions.iter().all(possible)
        };
        match form == FORM && topics.values().all(possible) {
            true => Ok(Self(topics)),
            false => Err(MalformedToken),
        }
    }

    /// What a read that wants to see all of it waits for.
    pub fn marks(&self) -> impl Iterator<Item = PositionMark> {
        let seen = self.iter().filter(|(_, _, next)| *next > 0);
        seen.map(|(topic, partition, next)| PositionMark {
            position: Position {
                topic: topic.to_string(),
                partition,
                offset: next - 1,
            },
            stream: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(next_offsets: &[(&str, i32, i64)]) -> Place {
        let mut place = Place::default();
        for (topic, partition, next) in next_offsets {
            place.advance(&(*topic).into(), *partition, *next);
        }
        place
    }

    #[test]
    fn a_place_is_read_back_as_it_was_given() {
        let place = place(&[("t", 3, 1 << 40), ("u", 0, 0)]);
        assert_eq!(Place::decode(&place.encode()), Ok(place.clone()));
        assert_eq!(place.get("t", 2), None);
        assert_eq!(place.marks().count(), 1);
    }

    #[test]
    fn a_commands_token_is_the_place_after_its_events() {
        let position = Position {
            topic: "t".into(),
            partition: 1,
            offset: 7,
        };
        let token = PositionToken::of(position, None).encode();
        assert_eq!(Place::decode(&token), Ok(place(&[("t", 1, 8)])));
    }

    #[test]
    fn a_forged_place_is_refused() {
        let impossible = BASE64_URL_SAFE_NO_PAD.encode(r#"[2,{"t":[-2]}]"#);
        let of_another_form = BASE64_URL_SAFE_NO_PAD.encode(r#"[3,{"t":[1]}]"#);
        for text in ["", "W10", "!!!", &impossible, &of_another_form] {
            assert_eq!(Place::decode(text), Err(MalformedToken), "{text}");
        }
    }

    #[test]
    fn a_place_covers_what_lies_below_it() {
        let reached = place(&[("t", 0, 5), ("t", 1, 5)]);
        assert!(reached.covers(&place(&[("t", 0, 5), ("u", 0, 0)])));
        assert!(!reached.covers(&place(&[("t", 0, 5), ("t", 1, 6)])));
        let of_another_topic = place(&[("t", 0, 5), ("u", 0, 9)]);
        assert!(!reached.covers(&of_another_topic));
        assert!(reached.covers_where_known(&of_another_topic));
        assert!(!reached.covers_where_known(&place(&[("t", 1, 6)])));
    }
}
