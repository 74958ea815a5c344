//! How much work comparing may be, counted in steps and not in time: the same schemas get the same
//! answer on every machine.

/// The schemas are too deep or too intertwined to be compared in bounded time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schemas are too deep or too large to be compared")]
pub struct TooComplex;

/// Some 40 ms. Two schemas of a megabyte each stay below, unless they are made to be costly.
const MOST: usize = 400_000;
/// Of the text of an earlier version, which is read again.
const BYTES_A_STEP: usize = 8;

/// The steps that are left to one question, however many pairs of schemas it takes.
#[derive(Debug)]
pub(crate) struct Steps(usize);

impl Steps {
    pub fn new() -> Self {
        Self(MOST)
    }

    pub fn spend(&mut self, steps: usize) -> Result<(), TooComplex> {
        self.0 = self.0.checked_sub(steps).ok_or(TooComplex)?;
        Ok(())
    }

    /// Before so much text is fetched and read.
    pub fn spend_on_text(&mut self, bytes: usize) -> Result<(), TooComplex> {
        self.spend(bytes / BYTES_A_STEP)
    }
}
