//! What an operator is told about a shard, noted by its owner as it works.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::UNIX_EPOCH,
};

use crate::lane::Foreign;

/// Of one shard on this node. Each fact is true by itself; together they may be of two moments.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// 0 until this node has claimed it.
    pub term: AtomicU64,
    /// Requests that the lanes hold and have not decided.
    pub waiting: AtomicUsize,
    in_flight: AtomicBool,
    /// When an append was acknowledged, or the first one sent after a while.
    progress_ms: AtomicI64,
    last_commit_ms: AtomicI64,
    stopped: Mutex<Stopped>,
    /// Topics, and what in them is none of ours.
    foreign: Mutex<Vec<(String, Foreign)>>,
}

/// The streams that are not decided for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stopped {
    pub count: usize,
    /// Some of them, with the reasons: a schema that is gone may stop them all.
    pub some: Vec<(String, String)>,
}

impl Stopped {
    const SHOWN: usize = 1_000;
}

impl Facts {
    /// An append is in the log.
    pub fn committed(&self) {
        let now = now_ms();
        self.last_commit_ms.store(now, Relaxed);
        self.progress_ms.store(now, Relaxed);
    }

    pub fn in_flight(&self, in_flight: bool) {
        if self.in_flight.swap(in_flight, Relaxed) != in_flight && in_flight {
            self.progress_ms.store(now_ms(), Relaxed);
        }
    }

    /// Milliseconds since 1970, by this node's clock.
    pub fn last_commit_ms(&self) -> Option<i64> {
        Some(self.last_commit_ms.load(Relaxed)).filter(|ms| *ms > 0)
    }

    /// For how long what is in flight has been waiting for the log.
    pub fn lag_ms(&self) -> i64 {
        match self.in_flight.load(Relaxed) {
            true => (now_ms() - self.progress_ms.load(Relaxed)).max(0),
            false => 0,
        }
    }

    pub fn stopped(&self) -> Stopped {
        lock(&self.stopped).clone()
    }

    pub fn foreign(&self) -> Vec<(String, Foreign)> {
        lock(&self.foreign).clone()
    }

    /// A new owner has read the log: what an earlier one found counts no more.
    pub fn note_restored(&self, foreign: Vec<(String, Foreign)>) {
        *lock(&self.stopped) = Stopped::default();
        *lock(&self.foreign) = foreign;
    }

    /// Cheap as long as their number stays.
    pub fn note_stopped<'a>(
        &self,
        count: usize,
        streams: impl Iterator<Item = (&'a str, &'a str)>,
    ) {
        let mut known = lock(&self.stopped);
        if known.count != count {
            let owned = |(stream, reason): (&str, &str)| (stream.to_owned(), reason.to_owned());
            let some = streams.take(Stopped::SHOWN).map(owned).collect();
            *known = Stopped { count, some };
        }
    }
}

fn lock<T>(facts: &Mutex<T>) -> MutexGuard<'_, T> {
    facts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_ms() -> i64 {
    UNIX_EPOCH
        .elapsed()
        .map_or(0, |since| since.as_millis() as i64)
}
