//! What keeps a model from going on, told through the service's readiness.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use service_kit::readiness::Component;

/// The troubles of a model, or those of one of its editions. The model is ready when no edition
/// has any.
#[derive(Debug)]
pub(crate) struct Health {
    /// 0 for the model as a whole.
    edition: i32,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    component: Component,
    troubles: Mutex<Troubles>,
}

type Troubles = BTreeMap<(i32, Source), String>;

/// Where a trouble is; of several, the first in this order is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// It has not come to read.
    Start,
    /// Nobody has told which partitions are this process's.
    Group,
    /// No broker is connected.
    Kafka,
    /// One topic's partition does not go on.
    Partition(String, i32),
}

impl Health {
    /// Of a model. Not ready, until [`Source::Start`] is cleared.
    pub(crate) fn new(component: Component) -> Self {
        let starting = ((0, Source::Start), "starting".to_owned());
        Self {
            edition: 0,
            shared: Arc::new(Shared {
                component,
                troubles: Mutex::new(BTreeMap::from([starting])),
            }),
        }
    }

    /// Of one edition of the model, which has not come to read yet either.
    pub(crate) fn of_edition(&self, number: i32) -> Self {
        let health = Self {
            edition: number,
            shared: self.shared.clone(),
        };
        health.trouble(Source::Start, "starting".into());
        health
    }

    pub(crate) fn trouble(&self, source: Source, reason: String) {
        let mut troubles = self.troubles();
        troubles.insert((self.edition, source), reason);
        self.tell(&troubles);
    }

    pub(crate) fn clear(&self, source: &Source) {
        let mut troubles = self.troubles();
        if troubles.remove(&(self.edition, source.clone())).is_some() {
            self.tell(&troubles);
        }
    }

    /// Forgets everything in favour of one trouble as a whole.
    pub(crate) fn start_over(&self, reason: String) {
        let mut troubles = self.troubles();
        troubles.retain(|(edition, _), _| *edition != self.edition);
        troubles.insert((self.edition, Source::Start), reason);
        self.tell(&troubles);
    }

    /// Nobody is to be kept waiting for it any longer.
    pub(crate) fn forget(&self) {
        let mut troubles = self.troubles();
        troubles.retain(|(edition, _), _| *edition != self.edition);
        self.tell(&troubles);
    }

    fn tell(&self, troubles: &Troubles) {
        match troubles.values().next() {
            None => self.shared.component.ready(),
            Some(reason) => self.shared.component.not_ready(reason),
        }
    }

    fn troubles(&self) -> MutexGuard<'_, Troubles> {
        // Each change is one call, so a panic elsewhere leaves nothing half done.
        let troubles = self.shared.troubles.lock();
        troubles.unwrap_or_else(PoisonError::into_inner)
    }
}
