//! Commands that are being prepared: whoever sends one again waits for the first.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::OwnedMutexGuard;

use crate::recorded::CommandKey;

/// How many may wait for one preparation.
const MAX_WAITING: usize = 64;

type Lock = Arc<tokio::sync::Mutex<()>>;

/// The commands that are being prepared in this process. Cheap to clone.
///
/// A command is prepared where its shard is: who owns another shard sends it there.
#[derive(Clone, Default)]
pub(crate) struct Preparing(Arc<Mutex<HashMap<CommandKey, Lock>>>);

/// The right to prepare a command, until it is dropped.
pub(crate) struct Turn {
    _held: OwnedMutexGuard<()>,
    _ticket: Ticket,
}

/// Somebody prepares, or waits for it.
struct Ticket {
    preparing: Preparing,
    key: CommandKey,
    lock: Option<Lock>,
}

impl Preparing {
    /// Waits until nobody else prepares this command; `None` when too many wait.
    pub async fn turn(&self, key: CommandKey) -> Option<Turn> {
        let ticket = self.ticket(key)?;
        let lock = ticket.lock.clone()?;
        Some(Turn {
            _held: lock.lock_owned().await,
            _ticket: ticket,
        })
    }

    fn ticket(&self, key: CommandKey) -> Option<Ticket> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let lock = locks.entry(key).or_default();
        // Each has it twice.
        let has_room = Arc::strong_count(lock) <= 2 * MAX_WAITING;
        has_room.then(|| Ticket {
            preparing: self.clone(),
            key,
            lock: Some(lock.clone()),
        })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let locks = &self.preparing.0;
        let mut locks = locks.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock = None;
        let unused = |lock: &Lock| Arc::strong_count(lock) == 1;
        if locks.get(&self.key).is_some_and(unused) {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_prepares_and_the_others_wait() {
        let preparing = Preparing::default();
        let key = CommandKey([1; 16]);
        let first = preparing.turn(key).await;
        let second = preparing.turn(key);
        tokio::pin!(second);
        assert!(second.as_mut().now_or_never().is_none());
        assert!(preparing.turn(CommandKey([2; 16])).now_or_never().is_some());
        drop(first);
        drop(second.await);
        assert!(preparing.0.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_bounded_number_waits() {
        let preparing = Preparing::default();
        let key = CommandKey([1; 16]);
        let first = preparing.turn(key).await;
        let mut others: Vec<_> = (0..MAX_WAITING + 9)
            .map(|_| Box::pin(preparing.turn(key)))
            .collect();
        let answered = others.iter_mut().filter_map(FutureExt::now_or_never);
        let refused = answered.filter(Option::is_none);
        assert_eq!(refused.count(), 10, "the first is one of them");
        drop(others);
        drop(first);
        assert!(
            preparing.0.lock().unwrap().is_empty(),
            "who went away leaves nothing"
        );
    }
}
