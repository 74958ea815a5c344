//! What can be wrong with a log.

use std::collections::BTreeMap;

use serde::Serialize;

/// Kinds of damage, by the words that JSON has for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Damage {
    /// Records are gone, from the beginning or the middle of a partition.
    MissingOffsets,
    /// Bytes of a batch that are not a record.
    UnreadableBatch,
    /// A record with headers of ours that are not an envelope.
    UnreadableEnvelope,
    /// A deposed owner wrote it; readers pass over it.
    LowerTerm,
    /// A version of a stream was left out.
    VersionGap,
    /// A version of a stream came again.
    RepeatedVersion,
    /// An event that the contexts of this binary cannot decode.
    Undecodable,
    /// A command whose events are not all there, one after the other in one batch.
    TornCommand,
    /// The record's key is not its stream.
    WrongKey,
    /// The stream belongs into another partition.
    WrongPartition,
    /// The event's id is not that of its stream and version.
    WrongId,
}

/// One place at which the log is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) damage: Damage,
    pub(crate) topic: String,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) stream: Option<String>,
    pub(crate) detail: String,
}

/// All that was found: every one is counted, and the first of a partition are listed.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    pub(super) listed: Vec<Finding>,
    pub(super) counts: BTreeMap<Damage, u64>,
}

/// So many of a partition are listed.
const LISTED: usize = 1_000;

impl Damage {
    pub(super) fn is_of_versions(self) -> bool {
        matches!(self, Self::VersionGap | Self::RepeatedVersion)
    }
}

impl Findings {
    pub(super) fn push(&mut self, finding: Finding) {
        *self.counts.entry(finding.damage).or_default() += 1;
        if self.listed.len() < LISTED {
            self.listed.push(finding);
        }
    }

    pub(super) fn append(&mut self, others: Self) {
        for (damage, count) in others.counts {
            *self.counts.entry(damage).or_default() += count;
        }
        self.listed.extend(others.listed);
    }
}
