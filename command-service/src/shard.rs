//! A shard's owner: one task that alone touches the shard's state.
//!
//! Its life: take over, restore, claim, serve. Serving, it hands requests to
//! the lanes, sends what they have decided, and lets them answer when the
//! append is acknowledged.

use std::{sync::Arc, time::Duration};

use event_log::{
    append::{AppendError, Appender},
    batch::{BatchBuilder, ProducerIdentity},
    cluster::Cluster,
    fence::{FenceError, TakeOver, renew, take_over},
    fetch::{FetchError, PartitionReader},
    topics::Generation,
};
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered, SelectAll},
};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::yield_now,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    group::Request,
    lane::{Lane, UnknownRecord},
    outcome::CommandError,
    streams::KindFactory,
};

/// How often everybody else has a turn between the answers of one group and the next group.
///
/// Whoever has been answered tends to ask again at once, and comes along in the next group
/// instead of the one after it. With 64 clients on eight shards a group carries 6.6 commands
/// instead of 4.3; further turns add nothing, and with nobody else to run they take no time.
const TURNS_FOR_OTHERS: usize = 3;

/// How long a shutdown waits for the answer of the log.
const DRAIN: Duration = Duration::from_secs(5);
/// Keys in the owners topic, which keeps the newest record of each.
const CLAIM: &[u8] = b"claim";
const BARRIER: &[u8] = b"barrier";

/// How a shard is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardStatus {
    /// Not served yet; the reason says what it waits for.
    Starting(String),
    Serving,
    /// Served, but the log gives no answer at present.
    Troubled(String),
    /// Not served any more until somebody looks.
    Stopped(String),
}

impl ShardStatus {
    /// Why commands are not taken, if they are not.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Self::Serving => None,
            Self::Starting(reason) | Self::Troubled(reason) | Self::Stopped(reason) => Some(reason),
        }
    }
}

/// What every shard of a service shares.
pub(crate) struct ShardSettings {
    pub cluster: Cluster,
    pub generation: Generation,
    pub contexts: Vec<ContextFactory>,
    pub renew_fence_every: Duration,
    pub config: Config,
}

/// A context's name and how its streams are made.
pub(crate) struct ContextFactory {
    pub name: String,
    pub kinds: Vec<KindFactory>,
}

/// A request and the lane that it is for.
pub(crate) struct Routed {
    pub lane: usize,
    pub request: Request,
}

#[derive(Debug, thiserror::Error)]
enum OwnerError {
    #[error(transparent)]
    Fence(#[from] FenceError),
    #[error("failed to restore from the log")]
    Restore(#[from] FetchError),
    #[error("failed to restore from the log")]
    Record(#[from] UnknownRecord),
    #[error("failed to claim the shard")]
    Claim(#[source] AppendError),
    /// Readers would pass over everything that is appended from now on.
    #[error(
        "the claim got term {term}, but the log has events of term {highest}: the owners topic is \
         younger than the log; rewrite the log into a new generation"
    )]
    Term { term: u64, highest: u64 },
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Runs the shard until shutdown. Another owner ends it: who was deposed must
/// not depose in turn.
pub(crate) async fn run(
    settings: Arc<ShardSettings>,
    partition: i32,
    mut requests: mpsc::Receiver<Routed>,
    status: watch::Sender<ShardStatus>,
    shutdown: CancellationToken,
) {
    let error = loop {
        let began = Instant::now();
        let started = tokio::select! {
            () = shutdown.cancelled() => return,
            started = Shard::start(&settings, partition, &status) => started,
        };
        match started {
            Ok(shard) => {
                tracing::debug!(
                    shard = partition,
                    term = shard.term,
                    after_ms = began.elapsed().as_millis() as u64,
                    "serving shard {partition}"
                );
                status.send_replace(ShardStatus::Serving);
                match shard.serve(&mut requests, &status, &shutdown).await {
                    Ok(()) => return,
                    // The coordinator is away: who owns the shard now, a new take-over tells.
                    Err(OwnerError::Fence(error @ FenceError::Unavailable { .. })) => {
                        status.send_replace(ShardStatus::Starting(chain(&error)));
                    }
                    Err(error) => break error,
                }
            }
            Err(
                error @ (OwnerError::Restore(_)
                | OwnerError::Record(_)
                | OwnerError::Term { .. }
                | OwnerError::Append(_)),
            ) => break error,
            Err(error) => {
                // Contenders that come back at the same time would meet again.
                let jitter = u64::from(began.elapsed().subsec_nanos() % 200);
                let reason = chain(&error);
                tracing::warn!(
                    shard = partition,
                    reason,
                    "shard {partition} cannot be taken over yet"
                );
                status.send_replace(ShardStatus::Starting(reason));
                sleep(Duration::from_millis(100 + jitter)).await;
            }
        }
    };
    let reason = chain(&error);
    tracing::error!(shard = partition, reason, "stopped shard {partition}");
    status.send_replace(ShardStatus::Stopped(reason.clone()));
    let refusal = CommandError::NotServed { reason };
    loop {
        let routed = tokio::select! {
            routed = requests.recv() => routed,
            () = shutdown.cancelled() => return,
        };
        let Some(routed) = routed else { return };
        for reply in routed.request.replies {
            let _ = reply.send(Err(refusal.clone()));
        }
    }
}

/// An append that has its definite answer.
enum Done {
    Group {
        lane: usize,
        appender: Appender,
        result: Result<i64, AppendError>,
    },
    Barrier {
        appender: Appender,
        result: Result<i64, AppendError>,
    },
    Renewal {
        /// The fence, the lanes' appenders and that of the owners topic.
        result: Result<Box<(Fence, Vec<Appender>, Appender)>, OwnerError>,
    },
}

/// What this owner has taken over, and as whom.
struct Fence {
    cluster: Cluster,
    transactional_id: String,
    topics: Vec<String>,
    partition: i32,
    writer: ProducerIdentity,
}

impl Fence {
    async fn renew(&mut self) -> Result<TakeOver, FenceError> {
        let Self {
            cluster,
            transactional_id,
            topics,
            partition,
            writer,
        } = self;
        let renewed = renew(cluster, transactional_id, topics, *partition, *writer).await?;
        *writer = renewed.writer;
        Ok(renewed)
    }
}

struct Shard {
    /// `None` while it is renewed.
    fence: Option<Fence>,
    renew_every: Duration,
    renew_at: Instant,
    renewing: bool,
    partition: i32,
    term: u64,
    lanes: Vec<Lane>,
    /// `None` while an append is in flight.
    appenders: Vec<Option<Appender>>,
    owners: Option<Appender>,
    /// Lanes whose group had no events and waits for a barrier that is not sent yet.
    want_barrier: Vec<usize>,
    /// Lanes whose group waits for the barrier in flight.
    behind_barrier: Vec<usize>,
    in_flight: FuturesUnordered<BoxFuture<'static, Done>>,
    /// News of each appender: the reason while the log gives it no answer.
    trouble: SelectAll<BoxStream<'static, (usize, Option<String>)>>,
    troubles: Vec<Option<String>>,
    /// How many requests the lanes hold; more wait in the shard's queue.
    room: usize,
}

impl Shard {
    async fn start(
        settings: &ShardSettings,
        partition: i32,
        status: &watch::Sender<ShardStatus>,
    ) -> Result<Self, OwnerError> {
        let generation = &settings.generation;
        let owners_topic = generation.owners_topic();
        let mut topics: Vec<_> = settings
            .contexts
            .iter()
            .map(|context| generation.events_topic(&context.name))
            .collect();
        topics.push(owners_topic.clone());
        let transactional_id = generation.transactional_id(partition);
        status.send_replace(ShardStatus::Starting("taking over".into()));
        let taken = take_over(&settings.cluster, &transactional_id, &topics, partition).await?;

        status.send_replace(ShardStatus::Starting("restoring from the log".into()));
        let mut shard = Self {
            fence: Some(Fence {
                cluster: settings.cluster.clone(),
                transactional_id,
                topics,
                partition,
                writer: taken.writer,
            }),
            renew_every: settings.renew_fence_every,
            renew_at: Instant::now() + settings.renew_fence_every,
            renewing: false,
            partition,
            term: 0,
            lanes: Vec::new(),
            appenders: Vec::new(),
            owners: None,
            want_barrier: Vec::new(),
            behind_barrier: Vec::new(),
            in_flight: FuturesUnordered::new(),
            trouble: SelectAll::new(),
            troubles: Vec::new(),
            // Two groups: while one is sent, the next is decided.
            room: settings.config.group * 2,
        };
        for context in &settings.contexts {
            let topic = generation.events_topic(&context.name);
            let mut lane = Lane::new(
                &context.name,
                topic,
                partition,
                context.kinds.iter().map(|make| make()).collect(),
                settings.config.group,
                settings.config.remembered_commands,
            );
            let mut reader = PartitionReader::new(&settings.cluster, lane.topic(), partition, 0);
            let mut replayed = Ok(());
            reader
                .read_to_marker(taken.marker, |batch| {
                    if replayed.is_ok() {
                        replayed = lane.replay(batch);
                    }
                })
                .await?;
            replayed?;
            let appender = shard.appender(settings, lane.topic(), taken, reader.next_offset());
            shard.appenders.push(Some(appender));
            shard.lanes.push(lane);
        }
        let mut reader = PartitionReader::new(&settings.cluster, &owners_topic, partition, 0);
        reader.read_to_marker(taken.marker, |_| {}).await?;
        let owners = shard.appender(settings, &owners_topic, taken, reader.next_offset());
        shard.claim(owners, taken, &settings.config.address).await?;
        Ok(shard)
    }

    fn appender(
        &mut self,
        settings: &ShardSettings,
        topic: &str,
        taken: TakeOver,
        next_offset: i64,
    ) -> Appender {
        let (trouble, watched) = watch::channel(None);
        let index = self.troubles.len();
        self.troubles.push(None);
        self.trouble.push(changes(index, watched));
        Appender::new(
            &settings.cluster,
            topic,
            self.partition,
            taken.writer,
            next_offset,
            trouble,
        )
    }

    /// The first append: it says who owns the shard now, and its offset is the term.
    async fn claim(
        &mut self,
        mut owners: Appender,
        taken: TakeOver,
        endpoint: &str,
    ) -> Result<(), OwnerError> {
        let claim = json!({
            "endpoint": endpoint,
            "producer_id": taken.writer.id,
            "epoch": taken.writer.epoch,
        });
        let mut batch = BatchBuilder::default();
        batch.push(CLAIM, Some(claim.to_string().as_bytes()), |_| {});
        let offset = owners.append(batch).await.map_err(OwnerError::Claim)?;
        self.term = offset.unsigned_abs();
        let highest = self.lanes.iter().map(Lane::highest_term).max();
        if let Some(highest) = highest.filter(|highest| *highest > self.term) {
            return Err(OwnerError::Term {
                term: self.term,
                highest,
            });
        }
        self.owners = Some(owners);
        self.lanes.iter_mut().for_each(|lane| lane.claim(self.term));
        Ok(())
    }

    async fn serve(
        mut self,
        requests: &mut mpsc::Receiver<Routed>,
        status: &watch::Sender<ShardStatus>,
        shutdown: &CancellationToken,
    ) -> Result<(), OwnerError> {
        let mut arrived = Vec::new();
        let mut open = true;
        let mut give_up_at: Option<Instant> = None;
        loop {
            let waiting: usize = self.lanes.iter().map(Lane::waiting).sum();
            let room = open && waiting < self.room;
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if give_up_at.is_none() => {
                    // What has been taken is finished; nothing more is taken.
                    requests.close();
                    give_up_at = Some(Instant::now() + DRAIN);
                }
                () = sleep_until(give_up_at.unwrap_or_else(Instant::now)), if give_up_at.is_some() => {
                    // The log has no answer for us. It keeps what it has got: a retry learns it.
                    let reason = "shut down before the log answered".to_owned();
                    self.stop(&CommandError::NotServed { reason });
                    return Ok(());
                }
                Some((index, trouble)) = self.trouble.next() => {
                    self.troubles[index] = trouble;
                    let reason = self.troubles.iter().flatten().next();
                    status.send_replace(match reason {
                        Some(reason) => ShardStatus::Troubled(reason.clone()),
                        None => ShardStatus::Serving,
                    });
                }
                () = sleep_until(self.renew_at), if !self.renewing => {
                    // Nothing is sent until what is in flight is acknowledged.
                    self.renewing = true;
                }
                Some(done) = self.in_flight.next() => {
                    if let Err(error) = self.finish(done) {
                        let reason = chain(&error);
                        self.stop(&CommandError::NotServed { reason });
                        return Err(error);
                    }
                    for _ in 0..TURNS_FOR_OTHERS {
                        yield_now().await;
                        self.take_arrived(requests);
                    }
                }
                count = requests.recv_many(&mut arrived, 256), if room => {
                    open = count > 0;
                    for Routed { lane, request } in arrived.drain(..) {
                        self.lanes[lane].take(request);
                    }
                }
            }
            if !self.renewing {
                self.advance();
            } else if self.in_flight.is_empty() {
                self.renew();
            }
            if !open && self.in_flight.is_empty() {
                return Ok(());
            }
        }
    }

    /// What can be taken without waiting.
    fn take_arrived(&mut self, requests: &mut mpsc::Receiver<Routed>) {
        let mut waiting: usize = self.lanes.iter().map(Lane::waiting).sum();
        while waiting < self.room
            && let Ok(Routed { lane, request }) = requests.try_recv()
        {
            self.lanes[lane].take(request);
            waiting += 1;
        }
    }

    /// With nothing in flight: fences itself, and goes on behind the new markers.
    fn renew(&mut self) {
        let (Some(mut fence), Some(mut owners)) = (self.fence.take(), self.owners.take()) else {
            unreachable!("the fence is renewed with nothing in flight");
        };
        let mut lanes: Vec<_> = self.appenders.iter_mut().filter_map(Option::take).collect();
        let renewal = async move {
            let result = async {
                let renewed = fence.renew().await?;
                for appender in &mut lanes {
                    appender.resume(renewed).await?;
                }
                owners.resume(renewed).await?;
                Ok(())
            };
            let result: Result<(), OwnerError> = result.await;
            Done::Renewal {
                result: result.map(|()| Box::new((fence, lanes, owners))),
            }
        };
        self.in_flight.push(Box::pin(renewal));
    }

    fn stop(&mut self, refusal: &CommandError) {
        self.lanes.iter_mut().for_each(|lane| lane.stop(refusal));
    }

    /// Decides what waits and sends what is decided.
    fn advance(&mut self) {
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            lane.decide();
            let Some(batch) = lane.next_group() else {
                continue;
            };
            lane.decide();
            if batch.is_empty() {
                self.want_barrier.push(index);
            } else {
                self.send_group(index, batch);
            }
        }
        self.send_barrier();
    }

    fn send_group(&mut self, lane: usize, batch: BatchBuilder) {
        let Some(mut appender) = self.appenders[lane].take() else {
            unreachable!("a lane has one group in flight at most");
        };
        let append = async move {
            let began = Instant::now();
            let result = appender.append(batch).await;
            metrics::histogram!("annals_append_seconds").record(began.elapsed().as_secs_f64());
            Done::Group {
                lane,
                appender,
                result,
            }
        };
        self.in_flight.push(Box::pin(append));
    }

    /// One barrier serves every lane that waits for one: it proves that nobody
    /// had taken over when these lanes had decided.
    fn send_barrier(&mut self) {
        if self.want_barrier.is_empty() {
            return;
        }
        let Some(mut appender) = self.owners.take() else {
            return;
        };
        self.behind_barrier = std::mem::take(&mut self.want_barrier);
        let append = async move {
            let mut batch = BatchBuilder::default();
            batch.push(BARRIER, Some(b"{}"), |_| {});
            let result = appender.append(batch).await;
            Done::Barrier { appender, result }
        };
        self.in_flight.push(Box::pin(append));
    }

    fn finish(&mut self, done: Done) -> Result<(), OwnerError> {
        match done {
            Done::Group {
                lane,
                appender,
                result,
            } => {
                match result {
                    Ok(base_offset) => {
                        self.lanes[lane].acknowledge(base_offset);
                    }
                    Err(error @ AppendError::Refused { .. }) => {
                        let reason = error.to_string();
                        tracing::warn!(shard = self.partition, reason, "a group was refused");
                        self.lanes[lane].refused(&reason);
                    }
                    Err(error) => return Err(error.into()),
                }
                self.appenders[lane] = Some(appender);
            }
            Done::Renewal { result } => {
                let (fence, lanes, owners) = *result?;
                metrics::counter!("annals_fence_renewals_total").increment(1);
                self.fence = Some(fence);
                self.appenders = lanes.into_iter().map(Some).collect();
                self.owners = Some(owners);
                self.renewing = false;
                self.renew_at = Instant::now() + self.renew_every;
            }
            Done::Barrier { appender, result } => {
                let offset = result?;
                self.owners = Some(appender);
                for lane in std::mem::take(&mut self.behind_barrier) {
                    self.lanes[lane].acknowledge(offset);
                }
            }
        }
        Ok(())
    }
}

/// The values that a watched appender takes, with its index.
fn changes(
    index: usize,
    watched: watch::Receiver<Option<String>>,
) -> BoxStream<'static, (usize, Option<String>)> {
    futures::stream::unfold(watched, move |mut watched| async move {
        watched.changed().await.ok()?;
        let trouble = watched.borrow_and_update().clone();
        Some(((index, trouble), watched))
    })
    .boxed()
}

fn chain(error: &dyn std::error::Error) -> String {
    service_kit::problem::Chain(error).to_string()
}
