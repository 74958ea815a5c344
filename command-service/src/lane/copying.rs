//! A lane's state on its way into a snapshot, a little at a time, and back.
//!
//! Streams go on while they are copied. That does no harm: each state comes with its version, so
//! whoever reads the log on from where the copying began passes over the events that a state
//! contains already. Only what is acknowledged is copied.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use event_log::Fingerprint;
use kernel::StreamVersion;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Lane;
use crate::{
    recorded::{CommandKey, RecordedCommand},
    streams::{SaveError, kind_named},
};

/// Which part of the log a snapshot stands for, and what else is to be known of that part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    /// Where to read on.
    pub next_offset: i64,
    /// From here on, no event is contained yet.
    pub end_offset: i64,
    /// Of whoever made the snapshot: the highest so far.
    pub term: u64,
    pub forgotten_until: Option<DateTime<Utc>>,
    /// Producers whose markers were seen.
    pub marked: BTreeSet<i64>,
}

/// How far the copying is.
pub(super) struct Copying {
    from: i64,
    kind: usize,
    index: usize,
    /// How many streams each kind had: later ones are read from the log.
    streams: Vec<usize>,
    next_command: i64,
}

/// A snapshot that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("a line is none of a snapshot")]
    Line,
    #[error("the kind of streams {0:?} is unknown")]
    Kind(String),
    #[error("failed to read what was saved")]
    Json(#[from] serde_json::Error),
}

/// A command as it is saved: key, fingerprint, version, events, offset, time in microseconds.
type SavedCommand = ([u8; 16], [u8; 16], u64, u32, i64, i64);

impl Lane {
    /// What the states depend on besides the events: only snapshots of the same edition are used.
    pub fn edition(&self) -> String {
        let mut hash = Sha256::new();
        for kind in &self.kinds {
            hash.update(kind.edition());
            hash.update("\n");
        }
        let digest = hash.finalize();
        digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// Where reading has to go on.
    pub fn next_offset(&self) -> i64 {
        self.last_record.map_or(0, |offset| offset + 1)
    }

    /// Producers whose markers a snapshot has seen.
    pub fn marked(&self) -> &BTreeSet<i64> {
        &self.marked
    }

    /// Whether enough has happened since the last snapshot: `every` so many records, and not
    /// fewer than there are streams, so that each event pays for about one state at most.
    ///
    /// Behind a record that stops a stream there is none: who can read it has to come by it.
    pub fn is_snapshot_due(&self, every: u64) -> bool {
        let streams: usize = self.kinds.iter().map(|kind| kind.len()).sum();
        let since = self.next_offset() - self.copied_from;
        every > 0 && !self.unreadable && since.unsigned_abs() >= every.max(streams as u64)
    }

    pub fn begin_copy(&mut self) {
        let from = self.next_offset();
        self.copied_from = from;
        self.copying = Some(Copying {
            from,
            kind: 0,
            index: 0,
            streams: self.kinds.iter().map(|kind| kind.len()).collect(),
            next_command: 0,
        });
    }

    /// Adds lines until there are so many bytes; answers the extent when all is copied.
    pub fn copy_some(
        &mut self,
        into: &mut Vec<u8>,
        bytes: usize,
    ) -> Result<Option<Extent>, SaveError> {
        let Some(copying) = &mut self.copying else {
            unreachable!("copying was begun");
        };
        while into.len() < bytes {
            if let Some(kind) = self.kinds.get(copying.kind) {
                if copying.index == copying.streams[copying.kind] {
                    (copying.kind, copying.index) = (copying.kind + 1, 0);
                    continue;
                }
                into.extend_from_slice(kind.name().as_bytes());
                into.push(b' ');
                if let Err(error) = kind.save(copying.index, into) {
                    self.copying = None;
                    return Err(error);
                }
                copying.index += 1;
            } else if let Some((key, command)) = (self.recorded.since_offset(copying.next_command))
                .next()
                .filter(|(_, command)| command.offset < copying.from)
            {
                let saved: SavedCommand = (
                    key.0,
                    command.fingerprint.0,
                    command.version.0,
                    command.events,
                    command.offset,
                    command.at.timestamp_micros(),
                );
                into.push(b' ');
                serde_json::to_writer(&mut *into, &saved).map_err(SaveError::Json)?;
                copying.next_command = command.offset + 1;
            } else {
                let next_offset = copying.from;
                self.copying = None;
                return Ok(Some(Extent {
                    next_offset,
                    end_offset: self.next_offset(),
                    term: self.term,
                    forgotten_until: self.recorded.forgotten_until(),
                    marked: self.marked.clone(),
                }));
            }
            into.push(b'\n');
        }
        Ok(None)
    }

    /// Takes a snapshot in, before anything was replayed.
    ///
    /// # Errors
    /// When it is not what this lane would have saved; the lane is of no use then.
    pub fn load(&mut self, extent: &Extent, lines: &[u8]) -> Result<(), LoadError> {
        let lines = lines.split(|byte| *byte == b'\n');
        for line in lines.filter(|line| !line.is_empty()) {
            let space = line.iter().position(|byte| *byte == b' ');
            let (kind, saved) = line.split_at(space.ok_or(LoadError::Line)?);
            if kind.is_empty() {
                self.load_command(serde_json::from_slice(saved)?)?;
                continue;
            }
            let name = String::from_utf8_lossy(kind);
            match kind_named(&mut self.kinds, &name) {
                Some(kind) => kind.load(saved)?,
                None => return Err(LoadError::Kind(name.into_owned())),
            }
        }
        self.last_record = extent.next_offset.checked_sub(1).filter(|last| *last >= 0);
        self.copied_from = extent.next_offset;
        self.contained_until = extent.end_offset;
        self.highest_term = extent.term;
        self.recorded.forget_until(extent.forgotten_until);
        self.marked.clone_from(&extent.marked);
        Ok(())
    }

    fn load_command(&mut self, saved: SavedCommand) -> Result<(), LoadError> {
        let (key, fingerprint, version, events, offset, micros) = saved;
        let command = RecordedCommand {
            fingerprint: Fingerprint(fingerprint),
            version: StreamVersion(version),
            events,
            offset,
            at: DateTime::from_timestamp_micros(micros).ok_or(LoadError::Line)?,
        };
        self.recorded.insert(CommandKey(key), command);
        Ok(())
    }
}
