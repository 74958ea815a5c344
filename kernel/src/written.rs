//! Which version of each event is written at present.

use std::{collections::BTreeMap, sync::Arc};

/// The events of a context, by name such as `TaskCreated`, and the schema version that each is
/// written in; 0 of one that is not written yet. Cheap to clone.
///
/// Of an event that is not named, the newest is written that there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WrittenVersions(Arc<BTreeMap<String, u32>>);

impl WrittenVersions {
    /// `None` for the newest.
    pub fn of(&self, event: &str) -> Option<u32> {
        self.0.get(event).copied()
    }

    /// The same, but for this event.
    #[must_use]
    pub fn with(mut self, event: &str, version: u32) -> Self {
        Arc::make_mut(&mut self.0).insert(event.into(), version);
        self
    }
}

impl FromIterator<(String, u32)> for WrittenVersions {
    fn from_iter<T: IntoIterator<Item = (String, u32)>>(versions: T) -> Self {
        Self(Arc::new(versions.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_written_in_its_newest_version() {
        let written = WrittenVersions::default().with("Created", 2);
        assert_eq!(written.of("Created"), Some(2));
        assert_eq!(written.of("Done"), None);
    }
}
