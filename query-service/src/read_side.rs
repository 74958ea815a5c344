//! What is known of the read side without asking it: the active editions and how far they have
//! come. Kept up to date by [`watch`](crate::watch).

use std::{collections::HashMap, sync::Arc};

use event_log::{Position, position::PositionMark};
use projector::{
    ReadModel, STREAM_INDEX,
    read_side::{CheckpointMoved, Edition},
};
use sqlx::FromRow;

use crate::following::Place;

/// A row for each partition of each active edition; one without a partition for an edition that
/// has no checkpoints yet.
pub(crate) const ROWS: &str = "
    select model, edition, version, topic, partition, next_offset
    from annals.active_editions
    join annals.editions using (model, edition)
    left join annals.checkpoints using (model, edition)";

#[derive(FromRow)]
pub(crate) struct Row {
    #[sqlx(flatten)]
    edition: Edition,
    topic: Option<String>,
    partition: Option<i32>,
    next_offset: Option<i64>,
}

/// A read model that this process's queries read, in the version of its code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    /// Whose topics it reads; `None`: those of every context.
    pub(crate) contexts: Option<&'static [&'static str]>,
}

impl Served {
    /// The index of all streams, which the platform reads itself.
    pub(crate) const STREAM_INDEX: Self = Self {
        name: STREAM_INDEX,
        version: 1,
        contexts: None,
    };

    pub(crate) fn is_stream_index(self) -> bool {
        self.name == STREAM_INDEX
    }

    /// Whether this is a topic of its contexts, in this generation.
    pub(crate) fn reads_topic(self, topic: &str, generation: &str) -> bool {
        let context = topic
            .strip_prefix("annals.")
            .and_then(|rest| rest.strip_suffix(generation))
            .and_then(|rest| rest.strip_suffix(".events."));
        match (context, self.contexts) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(context), Some(contexts)) => contexts.contains(&context),
        }
    }
}

/// Names a read model to the service, whose readiness then says whether it can be read.
pub const fn served<M: ReadModel>() -> Served {
    Served {
        name: M::NAME,
        version: M::VERSION,
        contexts: Some(M::CONTEXTS),
    }
}

/// Names the index of all streams, from which the platform's own queries read.
pub const fn stream_index() -> Served {
    Served::STREAM_INDEX
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum NotServed {
    #[error("the read model `{model}` is not built yet; the projector does it")]
    NotBuilt { model: &'static str },
    #[error(
        "the read model `{}` is built in version {built}, and this process reads version {}",
        model.name,
        model.version
    )]
    OtherVersion { model: Served, built: i32 },
}

#[derive(Default)]
pub(crate) struct ReadSide {
    /// By model.
    active: HashMap<String, Active>,
}

struct Active {
    opening: Arc<Opening>,
    next_offsets: NextOffsets,
}

/// An edition, and the statement that opens a snapshot of it.
pub(crate) struct Opening {
    pub edition: Edition,
    pub schema: String,
    pub statement: Arc<str>,
}

impl ReadSide {
    pub fn of(rows: Vec<Row>) -> Self {
        let mut active: HashMap<String, Active> = HashMap::new();
        for row in rows {
            let Row {
                edition,
                topic,
                partition,
                next_offset,
            } = row;
            let active = active
                .entry(edition.model.clone())
                .or_insert_with(|| Active::of(edition));
            if let (Some(topic), Some(partition), Some(next)) = (topic, partition, next_offset) {
                active.next_offsets.advance(topic, partition, next);
            }
        }
        Self { active }
    }

    /// How to open the edition that this model's code reads.
    pub fn opening(&self, model: Served) -> Result<&Arc<Opening>, NotServed> {
        let active = self
            .active
            .get(model.name)
            .ok_or(NotServed::NotBuilt { model: model.name })?;
        let built = active.opening.edition.version;
        if i64::from(built) != i64::from(model.version) {
            return Err(NotServed::OtherVersion { model, built });
        }
        Ok(&active.opening)
    }

    pub fn contains(&self, model: &str, marks: &[PositionMark]) -> bool {
        self.active
            .get(model)
            .is_some_and(|active| active.next_offsets.contain(marks))
    }

    /// Where the model is in the partition of this position.
    pub fn next_offset(&self, model: &str, position: &Position) -> Option<i64> {
        self.active.get(model)?.next_offsets.get(position)
    }

    /// How many partitions of the topic the model reads; `None` when that is not known yet.
    pub fn partitions(&self, model: &str, topic: &str) -> Option<i32> {
        let partitions = self.active.get(model)?.next_offsets.0.get(topic)?;
        partitions.keys().max().map(|last| last + 1)
    }

    /// Whether the model has come beyond this place, in a partition that it names or not.
    pub fn is_beyond(&self, model: &str, place: &Place) -> bool {
        let Some(active) = self.active.get(model) else {
            return false;
        };
        active.next_offsets.0.iter().any(|(topic, partitions)| {
            partitions
                .iter()
                .any(|(partition, next)| place.get(topic, *partition).is_none_or(|it| *next > it))
        })
    }

    /// Whether this said something new. One about an edition that is not known asks for a look
    /// at the tables: see [`Told`].
    pub fn told(&mut self, moved: CheckpointMoved) -> Told {
        match self.active.get_mut(&moved.model) {
            // The tables tell of all partitions together, a notification of one: with it alone, the
            // others would be taken for ones that the topic does not have.
            Some(active)
                if active.opening.edition.number == moved.edition
                    && !active.next_offsets.knows(&moved.topic, moved.partition) =>
            {
                Told::Unknown
            }
            Some(active) if active.opening.edition.number == moved.edition => {
                let advanced =
                    active
                        .next_offsets
                        .advance(moved.topic, moved.partition, moved.next_offset);
                match advanced {
                    true => Told::News,
                    false => Told::Known,
                }
            }
            // An older one that is still fed beside the active one.
            Some(active) if active.opening.edition.number > moved.edition => Told::Known,
            Some(_) | None => Told::Unknown,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    News,
    Known,
    Unknown,
}

impl Active {
    fn of(edition: Edition) -> Self {
        // It is made of a model's name and a number: nothing to escape.
        let schema = edition.schema();
        let statement = format!(
            "begin isolation level repeatable read read only; set local search_path to {schema}"
        );
        Self {
            opening: Arc::new(Opening {
                edition,
                schema,
                statement: statement.into(),
            }),
            next_offsets: NextOffsets::default(),
        }
    }
}

/// By topic and partition, everything below which is projected.
#[derive(Default)]
pub(crate) struct NextOffsets(HashMap<String, HashMap<i32, i64>>);

impl NextOffsets {
    pub fn contain(&self, marks: &[PositionMark]) -> bool {
        marks.iter().all(|mark| {
            self.get(&mark.position)
                .is_some_and(|next| next > mark.position.offset)
        })
    }

    fn get(&self, position: &Position) -> Option<i64> {
        self.0
            .get(&position.topic)?
            .get(&position.partition)
            .copied()
    }

    fn knows(&self, topic: &str, partition: i32) -> bool {
        let partitions = self.0.get(topic);
        partitions.is_some_and(|known| known.contains_key(&partition))
    }

    /// Notifications may come late, so never back.
    pub fn advance(&mut self, topic: String, partition: i32, to: i64) -> bool {
        let next = self
            .0
            .entry(topic)
            .or_default()
            .entry(partition)
            .or_insert(-1);
        let news = to > *next;
        *next = to.max(*next);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_side(edition: i32) -> ReadSide {
        ReadSide::of(vec![Row {
            edition: Edition {
                model: "board".into(),
                number: edition,
                version: 1,
            },
            topic: Some("t".into()),
            partition: Some(0),
            next_offset: Some(5),
        }])
    }

    fn moved(edition: i32, next_offset: i64) -> CheckpointMoved {
        CheckpointMoved {
            model: "board".into(),
            edition,
            topic: "t".into(),
            partition: 0,
            next_offset,
        }
    }

    fn mark(partition: i32, offset: i64) -> PositionMark {
        let topic = "t".into();
        PositionMark {
            position: Position {
                topic,
                partition,
                offset,
            },
            stream: None,
        }
    }

    #[test]
    fn a_mark_is_seen_when_the_checkpoint_is_above_it() {
        let read_side = read_side(1);
        assert!(read_side.contains("board", &[mark(0, 4)]));
        assert!(!read_side.contains("board", &[mark(0, 5)]));
        assert!(!read_side.contains("board", &[mark(0, i64::MAX)]));
        assert!(!read_side.contains("board", &[mark(0, 4), mark(1, 0)]));
        assert!(!read_side.contains("another", &[mark(0, 4)]));
    }

    #[test]
    fn a_late_notification_does_not_take_a_checkpoint_back() {
        let mut read_side = read_side(1);
        assert_eq!(read_side.told(moved(1, 9)), Told::News);
        assert_eq!(read_side.told(moved(1, 7)), Told::Known);
        assert!(read_side.contains("board", &[mark(0, 8)]));
    }

    #[test]
    fn what_one_notification_tells_is_not_all_that_there_is() {
        let mut read_side = read_side(1);
        let of_another = CheckpointMoved {
            partition: 7,
            ..moved(1, 9)
        };
        assert_eq!(read_side.told(of_another), Told::Unknown);
        assert_eq!(read_side.partitions("board", "t"), Some(1));
    }

    #[test]
    fn only_the_active_edition_counts() {
        let mut read_side = read_side(2);
        assert_eq!(read_side.told(moved(1, 9)), Told::Known);
        assert!(!read_side.contains("board", &[mark(0, 5)]));
        assert_eq!(read_side.told(moved(3, 9)), Told::Unknown);
        assert!(!read_side.contains("board", &[mark(0, 5)]));
    }
}
