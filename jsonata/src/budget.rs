//! What one evaluation may take. All but the last bound are counted, so that the same event ends
//! the same way on each machine and under each load.

use std::fmt;

use rustix::time::{ClockId, clock_gettime};

/// Nodes that are evaluated, values that are looked at, and 64 bytes of text that are read.
pub const MOST_STEPS: u64 = 1_000_000;
/// All values that one evaluation makes, whether it still has them or not; variables while they are
/// there.
pub const MOST_BYTES: usize = 32 << 20;
/// Evaluations within each other: a call takes two to four.
pub const DEEPEST: usize = 200;
/// Arrays and objects within each other.
pub const DEEPEST_VALUE: usize = 100;
/// Processor time of the thread, so that nothing is refused because the machine was busy. A
/// million steps take less than a tenth of it, in an unoptimized build as well.
pub const MOST_SECONDS: i64 = 30;

const STEPS_BETWEEN_LOOKS: u64 = 16_384;

/// Which of the bounds an evaluation has reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    Steps,
    Bytes,
    Depth,
    ValueDepth,
    Time,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps => write!(f, "takes more than {MOST_STEPS} steps"),
            Self::Bytes => write!(f, "makes more than {} MB of values", MOST_BYTES >> 20),
            Self::Depth => write!(f, "goes deeper than {DEEPEST} levels"),
            Self::ValueDepth => write!(f, "nests values deeper than {DEEPEST_VALUE} levels"),
            Self::Time => write!(f, "takes more than {MOST_SECONDS} s of processor time"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Budget {
    steps: u64,
    bytes: usize,
    look_at: u64,
    /// Of this thread, in seconds.
    started: i64,
}

impl Budget {
    pub fn new() -> Self {
        Self {
            steps: MOST_STEPS,
            bytes: MOST_BYTES,
            look_at: MOST_STEPS - STEPS_BETWEEN_LOOKS,
            started: processor_seconds(),
        }
    }

    pub fn steps(&mut self, steps: u64) -> Result<(), Bound> {
        self.steps = self.steps.checked_sub(steps).ok_or(Bound::Steps)?;
        if self.steps < self.look_at {
            self.look_at = self.steps.saturating_sub(STEPS_BETWEEN_LOOKS);
            if processor_seconds() - self.started > MOST_SECONDS {
                return Err(Bound::Time);
            }
        }
        Ok(())
    }

    pub fn bytes(&mut self, bytes: usize) -> Result<(), Bound> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Bound::Bytes)?;
        Ok(())
    }

    /// What is gone for certain.
    pub fn give_back(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// A text is read.
    pub fn read(&mut self, bytes: usize) -> Result<(), Bound> {
        self.steps(1 + bytes as u64 / 64)
    }

    /// A sort of so many items, which reads all of them at each of its levels.
    pub fn sort(&mut self, items: usize, steps: u64) -> Result<(), Bound> {
        let levels = u64::from(usize::BITS - items.leading_zeros());
        self.steps(steps.saturating_mul(levels))
    }

    pub fn spent(&self) -> (u64, usize) {
        (MOST_STEPS - self.steps, MOST_BYTES - self.bytes)
    }
}

fn processor_seconds() -> i64 {
    clock_gettime(ClockId::ThreadCPUTime).tv_sec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_too_long_ends_at_the_next_look() {
        let mut budget = Budget::new();
        budget.started -= MOST_SECONDS + 1;
        let until_the_look = budget.steps(STEPS_BETWEEN_LOOKS);
        assert_eq!(until_the_look, Ok(()));
        assert_eq!(budget.steps(1), Err(Bound::Time));
    }
}
