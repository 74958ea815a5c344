//! One who follows: first what lies between its position and the tail, from the table, then what
//! the tail tells. Each change once, in order for each stream.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use axum::http::StatusCode;
use kernel::Tenant;
use service_kit::Problem;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, sleep_until},
};

use super::{
    change::{Delivery, Ended},
    gap::Gap,
    interest::Interest,
    limits::Slot,
    place::Place,
    source::{self, Fact, Filter, Found, Otherwise},
    tail::{At, Join, Joined, Request},
};
use crate::{failure::ReadFailed, read_side::Served, reader::Reads};

const READ_AT_A_TIME: i64 = 200;
/// How long one waits for another try when Postgres does not answer.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// What a follower is told next.
#[derive(Debug)]
pub(crate) enum Happening {
    Change(Arc<Delivery>),
    /// Nothing for a while: everything up to here has been told.
    Quiet(Arc<str>),
    /// The last one. It goes on from this position, if it does.
    Ended(Ended, Arc<str>),
}

pub(crate) struct Follower {
    followed: Followed,
    reach: Reach,
    /// Everything up to here has been told.
    position: Arc<str>,
    /// The tail's reading that found the last change.
    reading: u64,
    quiet_since: Instant,
    expires: Instant,
    _slot: Slot,
}

/// Who follows what.
pub(crate) struct Followed {
    pub reads: Reads,
    pub model: Served,
    pub tenant: Tenant,
    pub interest: Interest,
}

enum Reach {
    /// Reads the table from here on; what was read waits to be told.
    Behind {
        place: Place,
        read: VecDeque<Arc<Delivery>>,
        /// Since when, if it was at the tail before.
        fell: Option<Instant>,
    },
    /// Hears of everything, after what lies before it.
    AtTheTail {
        gap: Option<Box<Gap>>,
        joined: Joined,
    },
    Over(Ended),
}

impl Follower {
    /// From where the tail is now.
    pub fn at_the_tail(followed: Followed, joined: Joined, slot: Slot, expires: Instant) -> Self {
        let position = joined.from.token.clone();
        let reach = Reach::AtTheTail { gap: None, joined };
        Self::of(followed, reach, position, slot, expires)
    }

    /// From this place, of which partitions may be missing: from now on in these.
    ///
    /// # Errors
    /// 410 `position-too-old`, and those of Postgres.
    pub async fn behind(
        followed: Followed,
        from: Place,
        otherwise: Otherwise,
        slot: Slot,
        expires: Instant,
    ) -> Result<Self, Problem> {
        let page = followed.page(&from, otherwise).await?;
        if page.pruned {
            return Err(too_old());
        }
        let mut from = completed(from, otherwise, &page.to);
        let position = from.encode().into();
        let read = deliveries(&mut from, page.facts);
        let reach = Reach::Behind {
            place: page.to,
            read,
            fell: None,
        };
        Ok(Self::of(followed, reach, position, slot, expires))
    }

    fn of(
        followed: Followed,
        reach: Reach,
        position: Arc<str>,
        slot: Slot,
        expires: Instant,
    ) -> Self {
        Self {
            followed,
            reach,
            position,
            reading: 0,
            quiet_since: Instant::now(),
            expires,
            _slot: slot,
        }
    }

    /// Everything up to here has been told.
    pub fn position(&self) -> &Arc<str> {
        &self.position
    }

    /// Waits for what comes next. Nothing is lost when this is dropped while it waits.
    pub async fn next(&mut self) -> Happening {
        let heartbeat = self.quiet_since + self.followed.reads.following().heartbeat();
        let happening = tokio::select! {
            biased;
            () = self.followed.reads.stopping().cancelled() => Err(Ended::Stopping),
            // Before the changes, which may never cease.
            () = sleep_until(self.expires) => Err(Ended::TokenExpired),
            change = self.reach.next(&self.followed, &self.position) => change.map(Some),
            () = sleep_until(heartbeat) => Ok(None),
        };
        self.quiet_since = Instant::now();
        match happening {
            Ok(Some(change)) => {
                self.position = change.position.clone();
                self.reading = change.reading;
                Happening::Change(change)
            }
            Ok(None) => {
                self.settle();
                Happening::Quiet(self.position.clone())
            }
            Err(why) => {
                self.reach = Reach::Over(why);
                Happening::Ended(why, self.position.clone())
            }
        }
    }

    /// Moves the position to where the tail is, when everything up to there was told.
    pub fn settle(&mut self) {
        // The tail says where it is when it has told all that a reading has found: until then, who
        // has heard of some of it is further.
        let at = self.reach.has_heard_all();
        if let Some(at) = at.filter(|at| at.reading >= self.reading) {
            self.position = at.token.clone();
        }
    }
}

impl Reach {
    /// Changes itself only when nothing is left to wait for, so that it can be dropped.
    async fn next(&mut self, followed: &Followed, position: &str) -> Result<Arc<Delivery>, Ended> {
        loop {
            match self {
                Self::Over(why) => return Err(*why),
                Self::AtTheTail { gap, joined } => {
                    if let Some(lacking) = gap {
                        if let Some(change) = lacking.next(followed, &joined.from.place).await? {
                            return Ok(change);
                        }
                        *gap = None;
                    }
                    if let Some(change) = joined.queue.recv().await {
                        return Ok(change);
                    }
                    if let Some(why) = joined.ended.get() {
                        return Err(*why);
                    }
                    // The queue was full: what did not fit into it is in the table.
                    let place = Place::decode(position).expect("it is ours");
                    *self = Self::Behind {
                        place,
                        read: VecDeque::new(),
                        fell: Some(Instant::now()),
                    };
                }
                Self::Behind { place, read, fell } => {
                    if let Some(change) = read.pop_front() {
                        return Ok(change);
                    }
                    if fell.is_some_and(|fell| fell.elapsed() > followed.patience()) {
                        return Err(Ended::TooSlow);
                    }
                    let page = followed.next_page(place).await?;
                    if page.facts.is_empty() && page.whole {
                        let joined = followed.join(page.to.clone()).await?;
                        let gap = Some(Gap::from(page.to).into());
                        *self = Self::AtTheTail { gap, joined };
                        continue;
                    }
                    *read = deliveries(place, page.facts);
                    *place = page.to;
                }
            }
        }
    }

    fn has_heard_all(&self) -> Option<Arc<At>> {
        match self {
            Self::AtTheTail { gap: None, joined } => joined.has_heard_all(),
            Self::AtTheTail { .. } | Self::Behind { .. } | Self::Over(_) => None,
        }
    }
}

impl Followed {
    fn patience(&self) -> Duration {
        Duration::from_millis(self.reads.following().catch_up_ms)
    }

    /// Hears of everything from now on, and not before the tail has come to this place.
    pub async fn join(&self, not_before: Place) -> Result<Joined, Ended> {
        let (sender, joined) = oneshot::channel();
        let join = Join {
            tenant: self.tenant.clone(),
            interest: self.interest.clone(),
            not_before,
            joined: sender,
        };
        self.reads.tail(self.model, Request::Join(join));
        joined.await.map_err(|_| Ended::Stopping)
    }

    async fn page(&self, from: &Place, otherwise: Otherwise) -> Result<Found, Problem> {
        let opening = self.reads.opening(self.model)?;
        let filter = Filter::One(&self.tenant, &self.interest);
        let (postgres, model) = (self.reads.postgres(), self.model);
        let read = source::read(
            postgres,
            model,
            &opening,
            filter,
            from,
            otherwise,
            READ_AT_A_TIME,
        );
        Ok(read.await.map_err(ReadFailed)?)
    }

    /// Tries until there is one.
    pub async fn next_page(&self, from: &Place) -> Result<Found, Ended> {
        loop {
            let turn = self.reads.turn_to_start().await;
            match self.page(from, Otherwise::AtTheStart).await {
                Ok(page) if page.pruned => return Err(Ended::Pruned),
                Ok(page) => return Ok(page),
                Err(problem) => tracing::debug!("failed to read on for a follower: {problem}"),
            }
            drop(turn);
            sleep(RETRY_AFTER).await;
        }
    }
}

/// The place with the partitions that it did not name.
fn completed(mut place: Place, otherwise: Otherwise, reached: &Place) -> Place {
    for (topic, partition, next) in reached.iter() {
        if place.get(topic, partition).is_none() {
            let begin = match otherwise {
                Otherwise::AtTheStart => 0,
                Otherwise::Now => next,
            };
            place.advance(topic, partition, begin);
        }
    }
    place
}

/// Each with the place after it; `place` is the one before the first, and is moved behind the last.
pub(crate) fn deliveries(place: &mut Place, facts: Vec<Fact>) -> VecDeque<Arc<Delivery>> {
    let delivery = |fact: Fact| {
        place.advance(&fact.topic, fact.partition, fact.next_offset);
        Arc::new(Delivery::new(&fact.change, place.encode().into(), 0))
    };
    facts.into_iter().map(delivery).collect()
}

/// 410 `position-too-old`.
pub(crate) fn too_old() -> Problem {
    Problem::new(
        StatusCode::GONE,
        Ended::Pruned.code(),
        "The position is too old",
    )
    .detail(Ended::Pruned.detail())
}
