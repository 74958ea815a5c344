//! How far the partitions of a model have come, told as lag, and when all have once been at
//! their end.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering::Relaxed};

use event_log::consume::LogView;
use metrics::{Gauge, gauge};

use crate::checkpoint::Start;

#[derive(Debug)]
pub(crate) struct Progress {
    partitions: Vec<PartitionProgress>,
    behind: AtomicUsize,
}

#[derive(Debug)]
struct PartitionProgress {
    key: (String, i32),
    next_offset: AtomicI64,
    at_end: AtomicBool,
    caught_up: AtomicBool,
    lag: Gauge,
}

impl Progress {
    /// One entry for each start, under its index.
    pub(crate) fn new(model: &'static str, starts: &[Start]) -> Self {
        let partitions = starts
            .iter()
            .map(|start| PartitionProgress {
                key: (start.topic.clone(), start.partition),
                next_offset: AtomicI64::new(start.place.next_offset),
                at_end: AtomicBool::new(false),
                caught_up: AtomicBool::new(false),
                lag: gauge!(
                    "projector_lag_records",
                    "model" => model,
                    "topic" => start.topic.clone(),
                    "partition" => start.partition.to_string(),
                ),
            })
            .collect();
        Self {
            partitions,
            behind: AtomicUsize::new(starts.len()),
        }
    }

    pub(crate) fn projected(&self, index: usize, next_offset: i64) {
        self.partitions[index]
            .next_offset
            .store(next_offset, Relaxed);
        self.partitions[index].at_end.store(false, Relaxed);
    }

    /// Answers whether with this partition all have come to their end for the first time.
    pub(crate) fn at_end(&self, index: usize) -> bool {
        self.partitions[index].at_end.store(true, Relaxed);
        let first_time = !self.partitions[index].caught_up.swap(true, Relaxed);
        first_time && self.behind.fetch_sub(1, Relaxed) == 1
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
