//! How far the partitions of an edition have come, told as lag.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use event_log::consume::LogView;
use metrics::{Gauge, gauge};

use crate::{checkpoint::Start, read_side::Edition};

#[derive(Debug)]
pub(crate) struct Progress {
    partitions: Vec<PartitionProgress>,
}

#[derive(Debug)]
struct PartitionProgress {
    key: (String, i32),
    next_offset: AtomicI64,
    at_end: AtomicBool,
    lag: Gauge,
}

impl Progress {
    /// One entry for each start, under its index.
    pub(crate) fn new(edition: &Edition, starts: &[Start]) -> Self {
        let partitions = starts
            .iter()
            .map(|start| PartitionProgress {
                key: (start.topic.clone(), start.partition),
                next_offset: AtomicI64::new(start.place.next_offset),
                at_end: AtomicBool::new(false),
                lag: gauge!(
                    "projector_lag_records",
                    "model" => edition.model.clone(),
                    "edition" => edition.number.to_string(),
                    "topic" => start.topic.clone(),
                    "partition" => start.partition.to_string(),
                ),
            })
            .collect();
        Self { partitions }
    }

    pub(crate) fn projected(&self, index: usize, next_offset: i64) {
        self.partitions[index]
            .next_offset
            .store(next_offset, Relaxed);
        self.partitions[index].at_end.store(false, Relaxed);
    }

    pub(crate) fn at_end(&self, index: usize) {
        self.partitions[index].at_end.store(true, Relaxed);
    }

    /// The next offset of each topic and partition.
    pub(crate) fn reached(&self) -> Vec<((String, i32), i64)> {
        let reached = |it: &PartitionProgress| (it.key.clone(), it.next_offset.load(Relaxed));
        self.partitions.iter().map(reached).collect()
    }

    /// Renews the gauges. The markers behind the last record count for nothing.
    pub(crate) fn tell(&self, view: &LogView) {
        for partition in &self.partitions {
            let lag = match view.ends.get(&partition.key) {
                _ if partition.at_end.load(Relaxed) => 0,
                Some(end) => (end - partition.next_offset.load(Relaxed)).max(0),
                None => continue,
            };
            partition.lag.set(lag as f64);
        }
    }
}
