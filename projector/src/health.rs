//! What keeps a model from going on, told through the service's readiness.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use service_kit::readiness::Component;

/// The troubles of one model. It is ready when there are none.
#[derive(Debug)]
pub(crate) struct Health {
    component: Component,
    troubles: Mutex<BTreeMap<Source, String>>,
}

/// Where a trouble is; of several, the first in this order is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// The model as a whole has not come to read.
    Start,
    /// No broker is connected.
    Kafka,
    /// One topic's partition does not go on.
    Partition(String, i32),
}

impl Health {
    /// Not ready, until [`Source::Start`] is cleared.
    pub(crate) fn new(component: Component) -> Self {
        let starting = (Source::Start, "starting".to_owned());
        Self {
            component,
            troubles: Mutex::new(BTreeMap::from([starting])),
        }
    }

    pub(crate) fn trouble(&self, source: Source, reason: String) {
        let mut troubles = self.troubles();
        troubles.insert(source, reason);
        self.tell(&troubles);
    }

    pub(crate) fn clear(&self, source: &Source) {
        let mut troubles = self.troubles();
        if troubles.remove(source).is_some() {
            self.tell(&troubles);
        }
    }

    /// Forgets everything in favour of one trouble of the model as a whole.
    pub(crate) fn start_over(&self, reason: String) {
        let mut troubles = self.troubles();
        *troubles = BTreeMap::from([(Source::Start, reason)]);
        self.tell(&troubles);
    }

    fn tell(&self, troubles: &BTreeMap<Source, String>) {
        match troubles.values().next() {
            None => self.component.ready(),
            Some(reason) => self.component.not_ready(reason),
        }
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<Source, String>> {
        // Each change is one call, so a panic elsewhere leaves nothing half done.
        let troubles = self.troubles.lock();
        troubles.unwrap_or_else(PoisonError::into_inner)
    }
}
