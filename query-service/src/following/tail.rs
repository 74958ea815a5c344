//! The end of a model's changes, read once for all who follow the model in this process.
//!
//! One task for each model, awake only while somebody follows. It reads what lies between its
//! place and the checkpoints, hands it to whom it concerns, and moves on. Who joins is told the
//! place from which it will hear everything; joins are taken between two reads, so that there is
//! neither a gap nor anything twice.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use kernel::Tenant;
use service_kit::problem::Chain;
use sqlx::PgPool;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    change::{Delivery, Ended},
    interest::Interest,
    place::Place,
    source::{self, Fact, Filter, Found, Otherwise},
};
use crate::read_side::{ReadSide, Served};

/// How long a burst waits for those who do not read as fast as it comes.
const PATIENCE: Duration = Duration::from_millis(50);
const LOOKS_AGAIN_AFTER: Duration = Duration::from_millis(1);
/// So many changes of a partition are read at a time.
const READ_AT_A_TIME: i64 = 500;
/// With more tenants than this among the followers, everybody's changes are read.
const MOST_TENANTS: usize = 64;
const RETRY_AFTER: [Duration; 3] = [
    Duration::from_millis(50),
    Duration::from_millis(250),
    Duration::from_secs(1),
];

/// How far the tail has come.
#[derive(Debug, Default)]
pub(crate) struct At {
    pub place: Place,
    pub token: Arc<str>,
    /// Everything that was found up to this reading has been told.
    pub reading: u64,
}

/// Asks to hear of changes from now on.
pub(crate) struct Join {
    pub tenant: Tenant,
    pub interest: Interest,
    /// The follower has heard of everything below this already: it joins when the tail has, too.
    pub not_before: Place,
    pub joined: oneshot::Sender<Joined>,
}

/// One who hears. Leaves when it is dropped.
#[derive(Debug)]
pub(crate) struct Joined {
    /// From here on everything comes.
    pub from: Arc<At>,
    pub queue: mpsc::Receiver<Arc<Delivery>>,
    /// Why the queue has ended; unset if it was full.
    pub ended: Arc<OnceLock<Ended>>,
    /// How far the tail is now. What lies below has been put into the queue.
    pub at: watch::Receiver<Arc<At>>,
    _leave: Leave,
}

pub(crate) enum Request {
    Join(Join),
    Leave(u64),
}

#[derive(Debug)]
struct Leave {
    id: u64,
    requests: mpsc::UnboundedSender<Request>,
}

impl Drop for Leave {
    fn drop(&mut self) {
        // A tail that has ended has forgotten all.
        let _ = self.requests.send(Request::Leave(self.id));
    }
}

impl Joined {
    /// Whether the tail has told all up to its place, and the follower has taken it.
    pub fn has_heard_all(&self) -> Option<Arc<At>> {
        // In this order: what comes between the two is in the queue.
        let at = self.at.borrow().clone();
        // A queue that was full lacks what came after.
        (self.queue.is_empty() && !self.queue.is_closed()).then_some(at)
    }
}

pub(crate) struct Tail {
    pub model: Served,
    pub postgres: PgPool,
    pub read_side: watch::Receiver<ReadSide>,
    pub requests: mpsc::UnboundedReceiver<Request>,
    pub requested: mpsc::WeakUnboundedSender<Request>,
    /// How many changes may wait for a follower before it falls behind.
    pub room: usize,
    /// Unknown while nobody follows.
    pub place: Option<Place>,
    /// How often it has read.
    pub reading: u64,
    pub at: watch::Sender<Arc<At>>,
    pub followers: Followers,
    pub joining: Vec<Join>,
}

impl Tail {
    /// Starts the task, which ends with the process.
    pub fn start(
        model: Served,
        postgres: PgPool,
        read_side: watch::Receiver<ReadSide>,
        room: usize,
        stopping: CancellationToken,
    ) -> mpsc::UnboundedSender<Request> {
        let (sender, requests) = mpsc::unbounded_channel();
        let tail = Self {
            model,
            postgres,
            read_side,
            requests,
            requested: sender.downgrade(),
            room: room.max(2),
            place: None,
            reading: 0,
            at: watch::Sender::default(),
            followers: Followers::default(),
            joining: Vec::new(),
        };
        tokio::spawn(async move {
            tokio::select! {
                () = tail.run() => {}
                () = stopping.cancelled() => {}
            }
        });
        sender
    }

    async fn run(mut self) {
        while let Some(request) = self.requests.recv().await {
            self.take(request);
            // Having a receiver of its own tells the watcher that somebody waits.
            let read_side = self.read_side.clone();
            if self.follow(read_side).await.is_none() {
                return;
            }
            self.place = None;
        }
    }

    /// As long as there are followers; `None` when the process ends.
    async fn follow(&mut self, mut read_side: watch::Receiver<ReadSide>) -> Option<()> {
        let mut failures = 0;
        while !(self.followers.is_empty() && self.joining.is_empty()) {
            let behind = self.is_behind(&read_side.borrow_and_update());
            let more = match behind {
                false => false,
                true => match self.read_on(&read_side).await {
                    Ok(more) => {
                        failures = 0;
                        more
                    }
                    Err(error) => {
                        let model = self.model.name;
                        tracing::debug!(model, "failed to read changes: {}", Chain(&error));
                        failures += 1;
                        false
                    }
                },
            };
            self.admit();
            while let Ok(request) = self.requests.try_recv() {
                self.take(request);
            }
            if more {
                continue;
            }
            let retry = RETRY_AFTER[usize::min(failures, RETRY_AFTER.len()).saturating_sub(1)];
            tokio::select! {
                request = self.requests.recv() => self.take(request?),
                told = read_side.changed() => told.ok()?,
                () = sleep(retry), if failures > 0 => {}
            }
        }
        Some(())
    }

    /// Whether the checkpoints may be beyond the place.
    fn is_behind(&self, read_side: &ReadSide) -> bool {
        match &self.place {
            None => true,
            Some(place) => read_side.is_beyond(self.model.name, place),
        }
    }

    /// Reads and tells once; whether there is more.
    async fn read_on(
        &mut self,
        read_side: &watch::Receiver<ReadSide>,
    ) -> Result<bool, sqlx::Error> {
        let opening = match read_side.borrow().opening(self.model) {
            Ok(opening) => opening.clone(),
            // Not built, or in another version: it is told when that changes.
            Err(_) => return Ok(false),
        };
        let tenants = self.followers.tenants();
        let filter = match tenants.len() {
            0..=MOST_TENANTS => Filter::Tenants(&tenants),
            _ => Filter::Everybody,
        };
        let (from, otherwise) = match self.place.clone() {
            Some(place) => (place, Otherwise::AtTheStart),
            None => (Place::default(), Otherwise::Now),
        };
        let (postgres, model) = (&self.postgres, self.model);
        let read = source::read(
            postgres,
            model,
            &opening,
            filter,
            &from,
            otherwise,
            READ_AT_A_TIME,
        );
        let Found {
            facts,
            to,
            whole,
            pruned,
        } = read.await?;
        if pruned {
            // A swap to an edition that has not kept as much.
            self.followers.end_all(Ended::Pruned);
            self.place = None;
            return Ok(true);
        }
        if to.is_empty() {
            // Who came with a position would hear everything from the start.
            return Ok(false);
        }
        self.reading += 1;
        let mut place = from;
        for (told, fact) in (1..).zip(facts) {
            place.advance(&fact.topic, fact.partition, fact.next_offset);
            self.followers.tell(&fact, &place, self.reading);
            if told % (self.room / 2) == 0 {
                self.pace().await;
            }
        }
        if self.place.as_ref() != Some(&to) {
            let token = to.encode().into();
            let at = At {
                place: to.clone(),
                token,
                reading: self.reading,
            };
            self.at.send_replace(at.into());
            self.place = Some(to);
        }
        Ok(!whole)
    }

    /// Lets the followers take what waits for them, so that a burst does not leave those behind
    /// who read; for the others nobody waits long.
    async fn pace(&self) {
        let until = Instant::now() + PATIENCE;
        while !self.followers.have_room(self.room / 2) && Instant::now() < until {
            sleep(LOOKS_AGAIN_AFTER).await;
        }
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Join(join) => {
                self.joining.push(join);
                self.admit();
            }
            Request::Leave(id) => self.followers.remove(id),
        }
    }

    /// Lets those join who have heard no more than the tail has told.
    fn admit(&mut self) {
        self.joining.retain(|join| !join.joined.is_closed());
        let (Some(place), Some(requests)) = (&self.place, self.requested.upgrade()) else {
            return;
        };
        let ready = |join: &mut Join| place.covers_where_known(&join.not_before);
        let ready: Vec<_> = self.joining.extract_if(.., ready).collect();
        for join in ready {
            let (queue, receiver) = mpsc::channel(self.room);
            let ended = Arc::default();
            let outlet = Outlet {
                queue,
                ended: Arc::clone(&ended),
            };
            let id = self.followers.add(join.tenant, &join.interest, outlet);
            let joined = Joined {
                from: self.at.borrow().clone(),
                queue: receiver,
                ended,
                at: self.at.subscribe(),
                _leave: Leave {
                    id,
                    requests: requests.clone(),
                },
            };
            // Who has gone meanwhile leaves again by itself.
            let _ = join.joined.send(joined);
        }
    }
}

/// Who hears of what.
#[derive(Default)]
pub(crate) struct Followers {
    last_id: u64,
    by_id: HashMap<u64, (Tenant, Option<String>)>,
    by_tenant: HashMap<String, OfTenant>,
}

#[derive(Default)]
struct OfTenant {
    of_all: HashMap<u64, Outlet>,
    by_key: HashMap<String, HashMap<u64, Outlet>>,
}

struct Outlet {
    queue: mpsc::Sender<Arc<Delivery>>,
    ended: Arc<OnceLock<Ended>>,
}

impl Outlet {
    /// Whether there was room.
    fn send(&self, delivery: &Arc<Delivery>) -> bool {
        use mpsc::error::TrySendError;
        let sent = self.queue.try_send(delivery.clone());
        !matches!(sent, Err(TrySendError::Full(_)))
    }
}

impl Followers {
    fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    fn tenants(&self) -> Vec<String> {
        self.by_tenant.keys().cloned().collect()
    }

    fn add(&mut self, tenant: Tenant, interest: &Interest, outlet: Outlet) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let key = interest.key();
        let of_tenant = self
            .by_tenant
            .entry(tenant.as_str().to_owned())
            .or_default();
        match &key {
            None => of_tenant.of_all.insert(id, outlet),
            Some(key) => of_tenant
                .by_key
                .entry(key.clone())
                .or_default()
                .insert(id, outlet),
        };
        self.by_id.insert(id, (tenant, key));
        id
    }

    fn remove(&mut self, id: u64) {
        let Some((tenant, key)) = self.by_id.remove(&id) else {
            return;
        };
        let Some(of_tenant) = self.by_tenant.get_mut(tenant.as_str()) else {
            return;
        };
        match key {
            None => drop(of_tenant.of_all.remove(&id)),
            Some(key) => {
                if let Some(outlets) = of_tenant.by_key.get_mut(&key) {
                    outlets.remove(&id);
                    if outlets.is_empty() {
                        of_tenant.by_key.remove(&key);
                    }
                }
            }
        }
        if of_tenant.of_all.is_empty() && of_tenant.by_key.is_empty() {
            self.by_tenant.remove(tenant.as_str());
        }
    }

    fn have_room(&self, room: usize) -> bool {
        self.by_tenant.values().all(|of_tenant| {
            let by_key = of_tenant.by_key.values().flatten();
            let mut outlets = by_key.chain(&of_tenant.of_all);
            outlets.all(|(_, outlet)| outlet.queue.capacity() >= room || outlet.queue.is_closed())
        })
    }

    /// Puts it into the queues of those whom it concerns. Who has no room falls behind: it hears
    /// no more, and reads on from the table.
    fn tell(&mut self, fact: &Fact, place: &Place, reading: u64) {
        let Some(of_tenant) = self.by_tenant.get(&fact.tenant) else {
            return;
        };
        let by_key = fact.keys.iter().filter_map(|key| of_tenant.by_key.get(key));
        let outlets = by_key.chain([&of_tenant.of_all]).flatten();
        let mut delivery = None;
        let mut too_slow = Vec::new();
        for (id, outlet) in outlets {
            let delivery = delivery.get_or_insert_with(|| {
                let position = place.encode().into();
                Arc::new(Delivery::new(&fact.change, position, reading))
            });
            if !outlet.send(delivery) {
                too_slow.push(*id);
            }
        }
        for id in too_slow {
            metrics::counter!("query_followers_fell_behind_total").increment(1);
            self.remove(id);
        }
    }

    fn end_all(&mut self, why: Ended) {
        for of_tenant in self.by_tenant.values() {
            let by_key = of_tenant.by_key.values().flatten();
            for (_, outlet) in by_key.chain(&of_tenant.of_all) {
                let _ = outlet.ended.set(why);
            }
        }
        *self = Self {
            last_id: self.last_id,
            ..Self::default()
        };
    }
}
