//! How much goes into one transaction: as much as is quickly done.

use std::time::Duration;

use crate::gathering::Gathering;

const FIRST: usize = 1_000;
const MOST: usize = 20_000;
/// A batch is closed when it has so many bytes, or has seen so many records that mean nothing.
const MOST_BYTES: usize = 8 << 20;
const MOST_RECORDS: usize = 50_000;
/// Readers wait for the whole batch: a longer one does not get larger.
const QUICK: Duration = Duration::from_millis(200);
const SLOW: Duration = Duration::from_millis(600);

/// Grows while there is a backlog, shrinks when a transaction is slow or fails.
#[derive(Debug)]
pub(crate) struct BatchSize {
    limit: usize,
}

impl BatchSize {
    pub(crate) fn new() -> Self {
        Self { limit: FIRST }
    }

    /// How many entries the next batch may have.
    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// Whether more is to be gathered, after so many records.
    pub(crate) fn has_room(&self, gathering: &Gathering, records: usize) -> bool {
        gathering.len() < self.limit && gathering.bytes() < MOST_BYTES && records < MOST_RECORDS
    }

    pub(crate) fn committed(&mut self, entries: usize, took: Duration) {
        if took > SLOW {
            self.limit = (self.limit / 2).max(1);
        } else if entries >= self.limit && took < QUICK {
            self.limit = (self.limit * 2).min(MOST);
        }
    }

    /// Not for what was in it.
    pub(crate) fn failed(&mut self) {
        self.limit = (self.limit / 2).max(1);
    }

    /// The next batch is to have no more than this: something in the last one was at fault.
    pub(crate) fn narrow(&mut self, entries: usize) {
        self.limit = entries.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_grows_while_it_is_full_and_quick() {
        let mut size = BatchSize::new();
        size.committed(10, Duration::from_millis(1));
        assert_eq!(size.limit(), FIRST);
        for _ in 0..10 {
            size.committed(size.limit(), Duration::from_millis(100));
        }
        assert_eq!(size.limit(), MOST);
        size.committed(MOST, Duration::from_millis(400));
        assert_eq!(size.limit(), MOST);
        size.committed(MOST, Duration::from_secs(1));
        assert_eq!(size.limit(), MOST / 2);
    }

    #[test]
    fn it_never_comes_to_nothing() {
        let mut size = BatchSize::new();
        for _ in 0..20 {
            size.failed();
        }
        assert_eq!(size.limit(), 1);
        size.narrow(0);
        assert_eq!(size.limit(), 1);
    }
}
