//! What lies between a follower and the place at which it has joined the tail.
//!
//! Mostly little or nothing. Where Postgres was set back, or another server answers than the tail's,
//! the table may not have it yet: it is told as it comes, a page at a time.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    change::{Delivery, Ended},
    follower::{Followed, deliveries},
    place::Place,
};

const LOOKS_AGAIN_AFTER: Duration = Duration::from_millis(50);

pub(crate) struct Gap {
    /// How far the table was read.
    read: Place,
    /// How far the follower is when it has been told what was found. Some partitions are read
    /// beyond the tail's place before others have come to it: what is found there is left to the
    /// tail, and who is cut off meanwhile must not pass over it.
    told: Place,
    found: VecDeque<Arc<Delivery>>,
}

impl Gap {
    pub fn from(place: Place) -> Self {
        Self {
            told: place.clone(),
            read: place,
            found: VecDeque::new(),
        }
    }

    /// The next change that the tail will not tell; `None` when there is none left. Can be dropped
    /// while it waits.
    pub async fn next(
        &mut self,
        followed: &Followed,
        tail: &Place,
    ) -> Result<Option<Arc<Delivery>>, Ended> {
        loop {
            if let Some(change) = self.found.pop_front() {
                return Ok(Some(change));
            }
            if self.read.covers(tail) {
                return Ok(None);
            }
            let mut page = followed.next_page(&self.read).await?;
            let waits = page.whole && !page.to.covers(tail);
            page.facts.retain(|fact| {
                let end = tail.get(&fact.topic, fact.partition);
                end.is_some_and(|end| fact.offset < end)
            });
            self.read = page.to;
            self.found = deliveries(&mut self.told, page.facts);
            if waits && self.found.is_empty() {
                sleep(LOOKS_AGAIN_AFTER).await;
            }
        }
    }
}
