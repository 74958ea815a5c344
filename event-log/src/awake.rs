//! Whether an owner was awake all the time.
//!
//! A process that is stopped, or whose machine sleeps, may have been deposed
//! meanwhile, and brokers may even have forgotten whom to refuse. The clock
//! here goes on while the machine sleeps; the runtime's own stands still.

use std::{sync::Arc, time::Duration};

use rustix::time::{ClockId, clock_gettime};
use tokio::{
    pin, select,
    sync::watch,
    time::{MissedTickBehavior, interval},
};

#[cfg(any(target_os = "linux", target_os = "android"))]
const CLOCK: ClockId = ClockId::Boottime;
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const CLOCK: ClockId = ClockId::Monotonic;

/// What one owner knows of the pauses of its process. Clones share it.
#[derive(Clone, Debug)]
pub struct Awake(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    doubt_after: Duration,
    overslept_after: Duration,
    state: watch::Sender<State>,
}

#[derive(Debug)]
struct State {
    last_look: Duration,
    /// How many pauses there were that somebody may have used.
    pauses: u64,
    /// After how many of them it is proved that nobody did.
    proved: u64,
    overslept: Option<Overslept>,
}

/// Brokers may have forgotten whom to refuse: what is known may be outdated,
/// and only a new take-over with a full restore mends that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stood still for {pause:?}: brokers may have forgotten whom to refuse since")]
pub struct Overslept {
    pub pause: Duration,
}

impl Awake {
    /// After a pause of more than `doubt_after` an append must prove that nobody has
    /// taken over; after one of more than `overslept_after` nothing is proved by that.
    pub fn new(doubt_after: Duration, overslept_after: Duration) -> Self {
        Self(Arc::new(Shared {
            doubt_after,
            overslept_after,
            state: watch::Sender::new(State {
                last_look: now(),
                pauses: 0,
                proved: 0,
                overslept: None,
            }),
        }))
    }

    /// How often somebody has to look, so that it is not taken for a pause.
    pub fn look_every(&self) -> Duration {
        let shortest = self.0.doubt_after.min(self.0.overslept_after);
        (shortest / 8).clamp(Duration::from_millis(1), Duration::from_secs(1))
    }

    /// Looks at the clock; answers how many pauses there were so far.
    pub fn look(&self) -> Result<u64, Overslept> {
        let mut seen = Ok(0);
        self.0.state.send_if_modified(|state| {
            let now = now();
            let pause = now.saturating_sub(state.last_look);
            state.last_look = state.last_look.max(now);
            let doubt = pause > self.0.doubt_after;
            state.pauses += u64::from(doubt);
            let overslept = pause > self.0.overslept_after && state.overslept.is_none();
            if overslept {
                state.overslept = Some(Overslept { pause });
            }
            seen = match state.overslept {
                Some(overslept) => Err(overslept),
                None => Ok(state.pauses),
            };
            doubt || overslept
        });
        seen
    }

    /// Whether nothing has proved yet that nobody used the last pause.
    pub fn is_in_doubt(&self) -> bool {
        self.0.state.borrow().is_in_doubt()
    }

    /// Resolves when there is doubt, or sleep was too long.
    pub async fn doubted(&self) {
        let mut state = self.0.state.subscribe();
        // The sender is ours: it does not go away.
        let _ = state.wait_for(State::is_alarming).await;
    }

    /// Looks often enough while `work` goes on.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut ticks = interval(self.look_every());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pin!(work);
        loop {
            select! {
                biased;
                done = &mut work => return done,
                _ = ticks.tick() => {
                    // Whoever sends next is told.
                    let _ = self.look();
                }
            }
        }
    }

    /// Waits until nobody can have used a pause.
    pub(crate) async fn until_sure(&self) -> Result<(), Overslept> {
        self.look()?;
        let mut state = self.0.state.subscribe();
        let sure = state.wait_for(|state| !state.is_in_doubt() || state.overslept.is_some());
        match sure.await.map(|state| state.overslept) {
            Ok(Some(overslept)) => Err(overslept),
            _ => Ok(()),
        }
    }

    /// An append that was sent after so many pauses is acknowledged.
    pub(crate) fn prove(&self, pauses: u64) {
        self.0.state.send_if_modified(|state| {
            let news = pauses > state.proved;
            state.proved = state.proved.max(pauses);
            news
        });
    }

    /// How long this has gone on may not be longer than brokers remember for sure.
    pub(crate) fn since(&self, began: Duration) -> Result<(), Overslept> {
        let pause = now().saturating_sub(began);
        match pause > self.0.overslept_after {
            true => Err(Overslept { pause }),
            false => Ok(()),
        }
    }
}

impl State {
    fn is_in_doubt(&self) -> bool {
        self.proved < self.pauses
    }

    fn is_alarming(&self) -> bool {
        self.is_in_doubt() || self.overslept.is_some()
    }
}

/// Time since some moment in the past, sleep included.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(CLOCK);
    Duration::new(
        now.tv_sec.unsigned_abs(),
        u32::try_from(now.tv_nsec).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn who_looks_often_enough_is_sure() {
        let awake = Awake::new(DAY, DAY);
        assert_eq!(awake.look(), Ok(0));
        assert!(!awake.is_in_doubt());
    }

    #[test]
    fn only_what_was_sent_after_a_pause_proves_anything() {
        let awake = Awake::new(Duration::from_millis(2), DAY);
        let sent_before = awake.look().unwrap();
        sleep(Duration::from_millis(20));
        let sent_after = awake.look().unwrap();
        awake.prove(sent_before);
        assert!(awake.is_in_doubt());
        awake.prove(sent_after);
        assert!(!awake.is_in_doubt());
    }

    #[test]
    fn nothing_is_proved_after_too_long_a_pause() {
        let awake = Awake::new(Duration::from_millis(1), Duration::from_millis(5));
        sleep(Duration::from_millis(20));
        let overslept = awake.look().unwrap_err();
        assert!(overslept.pause >= Duration::from_millis(20));
        awake.prove(1);
        assert_eq!(awake.look(), Err(overslept));
    }

    #[tokio::test]
    async fn work_that_takes_long_is_no_pause() {
        let awake = Awake::new(Duration::from_secs(1), DAY);
        let work = tokio::time::sleep(Duration::from_millis(1_200));
        awake.during(work).await;
        assert_eq!(awake.look(), Ok(0));
    }
}
