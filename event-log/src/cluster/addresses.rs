//! What is known about the brokers' addresses: which there are, which answered
//! last, and which are better left alone for a moment.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::wire::WireError;

/// After a failed attempt; doubled with each further one. Short, because a
/// partition without its leader stands still.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(super) struct Addresses {
    /// Where somebody else told us to begin.
    bootstrap: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the brokers say about themselves.
    learnt: Vec<String>,
    answered_last: Option<String>,
    failures: HashMap<String, Failure>,
}

#[derive(Debug)]
struct Failure {
    error: WireError,
    pause: Duration,
    until: Instant,
}

impl Addresses {
    pub(super) fn new(bootstrap: &[String]) -> Self {
        Self {
            bootstrap: bootstrap.to_vec(),
            state: Mutex::default(),
        }
    }

    /// Each address once, in the order in which they are worth trying.
    pub(super) fn in_order(&self) -> Vec<String> {
        let state = self.state();
        let all = state.answered_last.iter();
        let all = all.chain(&self.bootstrap).chain(&state.learnt);
        let mut order: Vec<String> = Vec::new();
        for address in all {
            if !order.contains(address) {
                order.push(address.clone());
            }
        }
        order.sort_by_key(|address| state.failures.contains_key(address));
        order
    }

    pub(super) fn learn(&self, brokers: impl Iterator<Item = String>) {
        let mut state = self.state();
        state.learnt = brokers.collect();
        // Brokers that are gone for good are forgotten with their failures.
        let State {
            learnt, failures, ..
        } = &mut *state;
        failures.retain(|address, _| learnt.contains(address) || self.bootstrap.contains(address));
    }

    pub(super) fn reached(&self, address: &str) {
        let mut state = self.state();
        state.failures.remove(address);
        state.answered_last = Some(address.to_owned());
    }

    pub(super) fn failed(&self, address: &str, error: &WireError, now: Instant) {
        let mut state = self.state();
        let failure = state.failures.remove(address);
        let pause = failure.map_or(FIRST_PAUSE, |failure| {
            (failure.pause * 2).min(LONGEST_PAUSE)
        });
        let failure = Failure {
            error: error.clone(),
            pause,
            until: now + pause,
        };
        state.failures.insert(address.to_owned(), failure);
    }

    pub(super) fn failed_just_now(&self, address: &str, now: Instant) -> Option<WireError> {
        let state = self.state();
        let failure = state.failures.get(address)?;
        (now < failure.until).then(|| failure.error.clone())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Addresses {
        Addresses::new(&["a:1".into(), "b:1".into()])
    }

    fn hung_up() -> WireError {
        let address = "a:1".into();
        WireError::HungUp { address }
    }

    #[test]
    fn brokers_that_were_not_configured_are_tried_too() {
        let addresses = three();
        addresses.learn(["b:1".to_owned(), "c:1".to_owned()].into_iter());
        assert_eq!(addresses.in_order(), ["a:1", "b:1", "c:1"]);
    }

    #[test]
    fn who_answered_last_is_tried_first_and_who_failed_last() {
        let addresses = three();
        addresses.reached("b:1");
        assert_eq!(addresses.in_order(), ["b:1", "a:1"]);
        addresses.failed("b:1", &hung_up(), Instant::now());
        assert_eq!(addresses.in_order(), ["a:1", "b:1"]);
        addresses.reached("b:1");
        assert_eq!(addresses.in_order(), ["b:1", "a:1"]);
    }

    #[test]
    fn a_broker_that_fails_is_tried_a_few_times_a_second() {
        let addresses = three();
        let began = Instant::now();
        let attempts = (0..10_000).filter(|ms| {
            let now = began + Duration::from_millis(*ms);
            let tried = addresses.failed_just_now("a:1", now).is_none();
            if tried {
                addresses.failed("a:1", &hung_up(), now);
            }
            tried
        });
        let attempts = attempts.count();
        assert!((40..=50).contains(&attempts), "{attempts}");
        addresses.reached("a:1");
        assert!(addresses.failed_just_now("a:1", began).is_none());
    }
}
