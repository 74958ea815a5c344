//! Snapshots of a shard on their way to their topic and back.
//!
//! A snapshot is cut into chunks, `chunk/<id>/<n>`; its manifest, `manifest/<context>/<edition>`,
//! comes last, and only what a manifest describes byte for byte is used. Editions are kept two by
//! two, for a release and the one before.

use std::collections::HashMap;

use event_log::snapshots::{SnapshotError, SnapshotTopic};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::{sync::mpsc, task::yield_now};

use crate::lane::{Extent, Lane};

/// Records of the topic stay below a broker's default limit.
const CHUNK: usize = 512 << 10;
/// How much is copied between two groups: a fraction of a millisecond.
const SLICE: usize = 32 << 10;
const EDITIONS: usize = 2;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    id: String,
    context: String,
    edition: String,
    extent: Extent,
    chunks: usize,
    bytes: usize,
    /// SHA-256 of all chunks, one after the other.
    checksum: String,
}

impl Manifest {
    fn key(&self) -> String {
        format!("manifest/{}/{}", self.context, self.edition)
    }
}

/// A complete snapshot.
pub(crate) struct Snapshot {
    pub extent: Extent,
    pub lines: Vec<u8>,
}

/// What the topic has for one shard.
#[derive(Default)]
pub(crate) struct Shelf {
    /// The oldest first.
    manifests: Vec<Manifest>,
    chunks: HashMap<String, HashMap<usize, Vec<u8>>>,
}

impl Shelf {
    /// Without an answer it is empty: the log has everything.
    pub async fn read(topic: &SnapshotTopic, partition: i32) -> Self {
        let mut shelf = Self::default();
        let read = topic
            .read(partition, |key, value| shelf.take(key, value))
            .await;
        if let Err(error) = read {
            let reason = service_kit::problem::Chain(&error).to_string();
            tracing::warn!(shard = partition, reason, "restoring without a snapshot");
            return Self::default();
        }
        shelf
    }

    /// The newest complete snapshot of this edition. It is taken away: nobody needs it twice.
    pub fn snapshot(&mut self, context: &str, edition: &str) -> Option<Snapshot> {
        let of_it = |it: &&Manifest| it.context == context && it.edition == edition;
        let manifest = self.manifests.iter().rfind(of_it)?;
        let mut chunks = self.chunks.remove(&manifest.id)?;
        let mut lines = Vec::with_capacity(manifest.bytes.min(1 << 30));
        for number in 0..manifest.chunks {
            lines.extend(chunks.remove(&number)?);
        }
        let complete = lines.len() == manifest.bytes
            && checksum(Sha256::new_with_prefix(&lines)) == manifest.checksum;
        // What did not belong to it stays on the shelf, to be cleared away.
        self.chunks.insert(manifest.id.clone(), chunks);
        complete.then(|| Snapshot {
            extent: manifest.extent.clone(),
            lines,
        })
    }

    fn take(&mut self, key: &[u8], value: Option<&[u8]>) {
        let key = String::from_utf8_lossy(key);
        let mut parts = key.splitn(3, '/');
        match (parts.next(), parts.next(), parts.next()) {
            (Some("manifest"), Some(_), Some(_)) => {
                self.manifests.retain(|manifest| manifest.key() != key);
                let manifest = value.and_then(|value| serde_json::from_slice(value).ok());
                let manifest = manifest.filter(|manifest: &Manifest| manifest.key() == key);
                self.manifests.extend(manifest);
            }
            (Some("chunk"), Some(id), Some(number)) => {
                let Ok(number) = number.parse() else { return };
                let chunks = self.chunks.entry(id.to_owned()).or_default();
                match value {
                    Some(value) => chunks.insert(number, value.to_vec()),
                    None => chunks.remove(&number),
                };
            }
            _ => {}
        }
    }

    /// What is left after a new manifest, and what may be cleared away.
    fn put(&mut self, new: Manifest) -> Vec<String> {
        let mut gone = Vec::new();
        let mut editions = 1;
        let mut kept = Vec::new();
        for old in std::mem::take(&mut self.manifests).into_iter().rev() {
            if old.context != new.context {
                kept.push(old);
            } else if old.edition == new.edition {
                // Its key has the new manifest.
            } else if editions < EDITIONS {
                editions += 1;
                kept.push(old);
            } else {
                gone.push(old.key());
            }
        }
        kept.reverse();
        kept.push(new);
        self.manifests = kept;
        let manifests = &self.manifests;
        self.chunks.retain(|id, chunks| {
            let kept = manifests.iter().find(|manifest| manifest.id == *id);
            let stale = |number: &usize| kept.is_none_or(|kept| *number >= kept.chunks);
            let numbers = chunks.keys().copied().filter(stale);
            gone.extend(numbers.map(|number| chunk_key(id, number)));
            kept.is_some()
        });
        gone
    }

    /// Forgets the chunks' content; their keys are needed to clear them away.
    pub fn emptied(mut self) -> Self {
        let chunks = self.chunks.values_mut().flat_map(HashMap::values_mut);
        chunks.for_each(|chunk| *chunk = Vec::new());
        // Those that were loaded were taken out.
        for manifest in &self.manifests {
            let chunks = self.chunks.entry(manifest.id.clone()).or_default();
            chunks.extend((0..manifest.chunks).map(|number| (number, Vec::new())));
        }
        self
    }
}

/// What the shard hands to the task that writes.
enum Piece {
    Lines(Vec<u8>),
    End { index: usize, extent: Extent },
    Abandon,
}

/// Copies one lane after the other, when it is due, between the groups.
pub(crate) struct Copier {
    every: u64,
    pieces: mpsc::Sender<Piece>,
    lane: Option<usize>,
    lines: Vec<u8>,
    end: Option<Extent>,
}

impl Copier {
    /// Starts the task that writes. It ends with the copier.
    pub fn start(
        every: u64,
        topic: SnapshotTopic,
        partition: i32,
        term: u64,
        lanes: Vec<(String, String)>,
        shelf: Shelf,
    ) -> Self {
        let (pieces, incoming) = mpsc::channel(1);
        let writer = Writer {
            topic,
            partition,
            term,
            lanes,
            shelf,
            snapshots: 0,
        };
        tokio::spawn(writer.run(incoming));
        Self {
            every,
            pieces,
            lane: None,
            lines: Vec::new(),
            end: None,
        }
    }

    pub fn is_busy(&self) -> bool {
        self.lane.is_some()
    }

    /// Comes back when there is room for the next piece, after everybody else had a turn.
    pub fn turn(&self) -> impl Future<Output = ()> + use<> {
        let pieces = self.pieces.clone();
        async move {
            let _ = pieces.reserve().await;
            yield_now().await;
        }
    }

    /// Copies a little.
    pub fn advance(&mut self, lanes: &mut [Lane]) {
        let index = match self.lane {
            Some(index) => index,
            None => {
                let due = |lane: &Lane| lane.is_snapshot_due(self.every);
                let Some(index) = lanes.iter().position(due) else {
                    return;
                };
                lanes[index].begin_copy();
                self.lane = Some(index);
                index
            }
        };
        // Without room, the task is still writing.
        let Ok(room) = self.pieces.try_reserve() else {
            return;
        };
        if self.end.is_none() && self.lines.len() < CHUNK {
            let until = self.lines.len() + SLICE;
            match lanes[index].copy_some(&mut self.lines, until) {
                Ok(end) => self.end = end,
                Err(error) => {
                    let reason = service_kit::problem::Chain(&error).to_string();
                    tracing::error!(
                        topic = lanes[index].topic(),
                        reason,
                        "cannot make a snapshot"
                    );
                    self.lines.clear();
                    self.lane = None;
                    return room.send(Piece::Abandon);
                }
            }
        }
        if self.lines.len() >= CHUNK || (self.end.is_some() && !self.lines.is_empty()) {
            room.send(Piece::Lines(std::mem::take(&mut self.lines)));
        } else if let Some(extent) = self.end.take() {
            self.lane = None;
            room.send(Piece::End { index, extent });
        }
    }
}

/// Writes the pieces.
struct Writer {
    topic: SnapshotTopic,
    partition: i32,
    term: u64,
    /// Context and edition of each.
    lanes: Vec<(String, String)>,
    shelf: Shelf,
    snapshots: u64,
}

/// A snapshot that is being written.
struct Growing {
    id: String,
    chunks: usize,
    bytes: usize,
    hash: Sha256,
    /// A chunk is missing: there will be no manifest.
    failed: bool,
}

impl Writer {
    async fn run(mut self, mut pieces: mpsc::Receiver<Piece>) {
        let mut growing: Option<Growing> = None;
        while let Some(piece) = pieces.recv().await {
            let written = match piece {
                Piece::Lines(lines) => {
                    let growing = growing.get_or_insert_with(|| self.begin());
                    self.write(growing, &lines).await
                }
                Piece::End { index, extent } => {
                    let growing = growing.take().unwrap_or_else(|| self.begin());
                    self.end(growing, index, extent).await
                }
                Piece::Abandon => {
                    growing = None;
                    Ok(())
                }
            };
            if let Err(error) = written {
                if let Some(growing) = &mut growing {
                    growing.failed = true;
                }
                let reason = service_kit::problem::Chain(&error).to_string();
                tracing::warn!(shard = self.partition, reason, "failed to write a snapshot");
            }
        }
    }

    fn begin(&mut self) -> Growing {
        self.snapshots += 1;
        Growing {
            // No two owners have the same term.
            id: format!("{}.{}", self.term, self.snapshots),
            chunks: 0,
            bytes: 0,
            hash: Sha256::new(),
            failed: false,
        }
    }

    async fn write(&mut self, growing: &mut Growing, lines: &[u8]) -> Result<(), SnapshotError> {
        let pieces = lines.chunks(CHUNK).filter(|_| !growing.failed);
        for chunk in pieces.collect::<Vec<_>>() {
            let (id, number) = (&growing.id, growing.chunks);
            growing.chunks += 1;
            growing.bytes += chunk.len();
            growing.hash.update(chunk);
            let known = self.shelf.chunks.entry(id.clone()).or_default();
            known.insert(number, Vec::new());
            let key = chunk_key(id, number);
            self.topic.put(self.partition, &key, Some(chunk)).await?;
        }
        Ok(())
    }

    async fn end(
        &mut self,
        growing: Growing,
        index: usize,
        extent: Extent,
    ) -> Result<(), SnapshotError> {
        if growing.failed {
            return Ok(());
        }
        let (context, edition) = self.lanes[index].clone();
        let manifest = Manifest {
            id: growing.id,
            context,
            edition,
            extent,
            chunks: growing.chunks,
            bytes: growing.bytes,
            checksum: checksum(growing.hash),
        };
        let value = serde_json::json!(manifest).to_string();
        let key = manifest.key();
        let (topic, partition) = (&self.topic, self.partition);
        topic.put(partition, &key, Some(value.as_bytes())).await?;
        tracing::debug!(
            shard = partition,
            context = manifest.context,
            bytes = manifest.bytes,
            offset = manifest.extent.next_offset,
            "wrote a snapshot of shard {partition}"
        );
        metrics::counter!("annals_snapshots_total").increment(1);
        for key in self.shelf.put(manifest) {
            topic.put(partition, &key, None).await?;
        }
        Ok(())
    }
}

fn chunk_key(id: &str, number: usize) -> String {
    format!("chunk/{id}/{number}")
}

fn checksum(hash: Sha256) -> String {
    let digest = hash.finalize();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
