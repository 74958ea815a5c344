//! How a handler gets at a read model: who asks, what they want to have seen, and a snapshot.

use std::{
    marker::PhantomData,
    sync::{Arc, PoisonError},
};

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use event_log::{position::PositionMark, router::partition_of};
use futures::future::join_all;
use kernel::Tenant;
use projector::ReadModel;
use service_kit::{Identity, Problem};
use sqlx::PgPool;
use tokio::{
    sync::{Semaphore, SemaphorePermit, watch},
    time::{Duration, Instant, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    event_data::EventData,
    failure::unavailable,
    following::{Following, FollowingConfig, Limits, Request, Tail},
    log_end::LogEnds,
    position,
    read_side::{Opening, ReadSide, Served, served},
    snapshot::{Progress, Snapshot},
};

/// The state of the routes: what is read from. Cheap to clone.
#[derive(Clone)]
pub struct Reads(Arc<Shared>);

struct Shared {
    postgres: PgPool,
    /// For the tails, which requests must not keep from reading.
    tails: PgPool,
    read_side: watch::Receiver<ReadSide>,
    /// Ends the topics' names: `annals.<context>.events.<generation>`.
    generation: String,
    position_wait: Duration,
    room_to_wait: Semaphore,
    ends: Option<LogEnds>,
    history_roles: Vec<String>,
    event_data: Option<EventData>,
    following: Following,
    stopping: CancellationToken,
}

/// One request's access to the read model `M`.
///
/// As an extractor it refuses with 401 without a valid bearer token, with 400
/// `position-malformed` for a position token that is none, and with 400 `position-impossible` for
/// one that nobody can have been given.
pub struct Reader<M> {
    /// Who asks: tenant, actor, roles.
    pub caller: Identity,
    access: Access,
    model: PhantomData<fn() -> M>,
}

/// The same for any model.
pub(crate) struct Access {
    reads: Reads,
    model: Served,
    tenant: Tenant,
    marks: Vec<PositionMark>,
}

/// Should Postgres show less than was told of it, which a proxy over several servers may do.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

impl Reads {
    pub(crate) fn new(
        config: &Config,
        postgres: PgPool,
        tails: PgPool,
        read_side: watch::Receiver<ReadSide>,
    ) -> Self {
        Self(Arc::new(Shared {
            postgres,
            tails,
            read_side,
            generation: config.generation.clone(),
            position_wait: config.position_wait(),
            room_to_wait: Semaphore::new(config.waiting_reads),
            ends: config.log.clone().map(LogEnds::new),
            history_roles: config.history_roles.clone(),
            event_data: config.event_data.clone(),
            following: Following::new(&config.following, config.connections as usize),
            stopping: CancellationToken::new(),
        }))
    }

    pub(crate) fn postgres(&self) -> &PgPool {
        &self.0.postgres
    }

    pub(crate) fn history_roles(&self) -> &[String] {
        &self.0.history_roles
    }

    /// # Errors
    /// 503 when this service was not given the log.
    pub(crate) fn event_data(&self) -> Result<&EventData, Problem> {
        let event_data = self.0.event_data.as_ref();
        event_data.ok_or_else(|| unavailable("this service has no Kafka to read events from"))
    }

    pub(crate) fn following(&self) -> &FollowingConfig {
        &self.0.following.config
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.0.following.limits
    }

    /// Cancelled when followers are to end.
    pub(crate) fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// To begin to follow, or to read what was missed.
    pub(crate) async fn turn_to_start(&self) -> SemaphorePermit<'_> {
        let turn = self.0.following.starts.acquire().await;
        turn.expect("nobody closes the semaphore")
    }

    /// Asks the model's tail, which is started by the first who asks.
    pub(crate) fn tail(&self, model: Served, request: Request) {
        let shared = &*self.0;
        let tails = shared.following.tails.lock();
        let mut tails = tails.unwrap_or_else(PoisonError::into_inner);
        let tail = tails.entry(model.name).or_insert_with(|| {
            Tail::start(
                model,
                shared.tails.clone(),
                shared.read_side.clone(),
                shared.following.config.queue,
                shared.stopping.clone(),
            )
        });
        // One that has ended drops it, and who waits for its answer hears that.
        let _ = tail.send(request);
    }

    pub(crate) fn opening(&self, model: Served) -> Result<Arc<Opening>, Problem> {
        let read_side = self.0.read_side.borrow();
        match read_side.opening(model) {
            Ok(opening) => Ok(opening.clone()),
            Err(not_served) => Err(unavailable(not_served.to_string())),
        }
    }

    /// Those of the marks that concern the model.
    ///
    /// Marks of other topics are passed over: a token of a command to another context has nothing
    /// to say about this model, and a client need not know which is which.
    pub(crate) fn check(
        &self,
        model: Served,
        tenant: &Tenant,
        marks: &[PositionMark],
    ) -> Result<Vec<PositionMark>, Problem> {
        let read_side = self.0.read_side.borrow();
        let mut concerning = Vec::new();
        for mark in marks {
            let PositionMark { position, stream } = mark;
            if !model.reads_topic(&position.topic, &self.0.generation) {
                continue;
            }
            let impossible = |why| Err(position::impossible(position, why));
            let partitions = read_side.partitions(model.name, &position.topic);
            if let Some(partitions) = partitions
                && position.partition >= partitions
            {
                return impossible("is in a partition that the topic does not have");
            }
            if let (Some(stream), Some(partitions)) = (stream, partitions)
                && partition_of(stream, partitions) != position.partition
            {
                return impossible("is not in the partition of its stream");
            }
            let mut mark = mark.clone();
            // Of another tenant's stream it tells no more than that it has been projected.
            mark.stream = mark.stream.filter(|it| it.tenant() == tenant.as_str());
            concerning.push(mark);
        }
        Ok(concerning)
    }

    /// Refuses marks that lay beyond the end of the log, as far as that is known, when somebody came
    /// with them, at `then`.
    pub(crate) async fn refuse_beyond(
        &self,
        model: Served,
        marks: &[PositionMark],
        then: Instant,
    ) -> Result<(), Problem> {
        let Some(ends) = &self.0.ends else {
            return Ok(());
        };
        let unseen = marks.iter().filter(|it| !self.has_come_to(model, it));
        let asking = unseen.map(async |it| {
            let beyond = ends.were_before(&it.position, then).await;
            beyond.then_some(&it.position)
        });
        let beyond = join_all(asking).await;
        match beyond.into_iter().flatten().next() {
            None => Ok(()),
            Some(position) => Err(position::impossible(
                position,
                "is beyond the end of the log",
            )),
        }
    }

    fn has_come_to(&self, model: Served, mark: &PositionMark) -> bool {
        let read_side = self.0.read_side.borrow();
        let next = read_side.next_offset(model.name, &mark.position);
        next.is_some_and(|next| next > mark.position.offset)
    }
}

impl<M: ReadModel> Reader<M> {
    pub fn tenant(&self) -> &Tenant {
        &self.caller.tenant
    }

    /// A snapshot that contains the positions which the client has named.
    ///
    /// Waits for them, for a bounded time; then, 503 `not-yet-visible` with `Retry-After` and
    /// the member `positions`: what is waited for, and the `next_offset` that the model has
    /// come to; or 400 `position-impossible`, where the log is known and ends before the position.
    /// 409 `stream-quarantined` when it is visible that the position's event, or an earlier one of
    /// its stream, could not be projected.
    pub async fn snapshot(&self) -> Result<Snapshot, Problem> {
        self.access.snapshot().await
    }
}

impl Access {
    pub async fn of(
        parts: &mut Parts,
        reads: &Reads,
        model: Served,
    ) -> Result<(Identity, Self), Problem> {
        let caller = match parts.extensions.get::<Identity>() {
            Some(admitted) => admitted.clone(),
            None => Identity::from_request_parts(parts, reads).await?,
        };
        let marks = position::marks_of(parts)?;
        let access = Self {
            marks: reads.check(model, &caller.tenant, &marks)?,
            reads: reads.clone(),
            model,
            tenant: caller.tenant.clone(),
        };
        Ok((caller, access))
    }

    /// As [`Reader::snapshot`] says.
    pub async fn snapshot(&self) -> Result<Snapshot, Problem> {
        if self.marks.is_empty() {
            return self.open().await;
        }
        let shared = &*self.reads.0;
        let streams: Vec<_> = self
            .marks
            .iter()
            .filter_map(|it| it.stream.as_ref())
            .collect();
        let streams: Vec<_> = streams.into_iter().map(|it| it.as_str()).collect();
        let started = Instant::now();
        let deadline = started + shared.position_wait;
        loop {
            self.until_told(started, deadline).await?;
            let mut snapshot = self.open().await?;
            // What was told need not be what this server shows: the same snapshot decides.
            let progress = snapshot.progress(&streams).await?;
            if progress.next_offsets.contain(&self.marks) {
                metrics::histogram!("query_position_wait_seconds").record(started.elapsed());
                self.refuse_quarantined(&progress)?;
                return Ok(snapshot);
            }
            drop(snapshot);
            sleep_until(deadline.min(Instant::now() + LOOK_AGAIN_AFTER)).await;
            if Instant::now() >= deadline {
                return Err(self.not_visible(started).await);
            }
        }
    }

    async fn open(&self) -> Result<Snapshot, Problem> {
        let opening = self.reads.opening(self.model)?;
        Ok(Snapshot::open(&self.reads.0.postgres, opening, &self.tenant).await?)
    }

    async fn until_told(&self, started: Instant, deadline: Instant) -> Result<(), Problem> {
        let shared = &*self.reads.0;
        let told = |read_side: &ReadSide| read_side.contains(self.model.name, &self.marks);
        if told(&shared.read_side.borrow()) {
            return Ok(());
        }
        let Ok(_room) = shared.room_to_wait.try_acquire() else {
            return Err(busy());
        };
        // Having a receiver of its own tells the watcher that somebody waits.
        let mut read_side = shared.read_side.clone();
        let waiting = async { read_side.wait_for(told).await.map(drop) };
        match timeout_at(deadline, waiting).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_stopping)) => Err(unavailable("the service is stopping")),
            Err(_elapsed) => Err(self.not_visible(started).await),
        }
    }

    fn refuse_quarantined(&self, progress: &Progress) -> Result<(), Problem> {
        for PositionMark { position, stream } in &self.marks {
            let Some(stream) = stream else { continue };
            let held = progress.quarantined.iter().any(|quarantined| {
                (&*quarantined.topic, &*quarantined.stream) == (&*position.topic, stream.as_str())
                    && quarantined.offset <= position.offset
            });
            if held {
                return Err(Problem::new(
                    StatusCode::CONFLICT,
                    "stream-quarantined",
                    "An event of the stream could not be projected",
                )
                .detail(format!(
                    "`{}` holds back the events of {stream} until an operator has seen to it",
                    self.model.name
                ))
                .with("stream", stream.as_str()));
            }
        }
        Ok(())
    }

    /// Why not, to who has waited since `started`.
    async fn not_visible(&self, started: Instant) -> Problem {
        metrics::counter!("query_not_yet_visible_total", "model" => self.model.name).increment(1);
        let beyond = self.reads.refuse_beyond(self.model, &self.marks, started);
        match beyond.await {
            Err(impossible) => impossible,
            Ok(()) => self.not_yet_visible(),
        }
    }

    fn not_yet_visible(&self) -> Problem {
        let read_side = self.reads.0.read_side.borrow();
        let positions: Vec<_> = self
            .marks
            .iter()
            .map(|mark| {
                let position = &mark.position;
                serde_json::json!({
                    "topic": position.topic,
                    "partition": position.partition,
                    "offset": position.offset,
                    "next_offset": read_side.next_offset(self.model.name, position),
                })
            })
            .collect();
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "not-yet-visible",
            "The position is not visible yet",
        )
        .detail(format!(
            "the read model `{}` has not come to the position within {} ms",
            self.model.name,
            self.reads.0.position_wait.as_millis()
        ))
        .with("positions", positions)
        .retry_after(1)
    }
}

fn busy() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "busy",
        "Too many requests are waiting",
    )
    .retry_after(1)
}

impl<M: ReadModel> FromRequestParts<Reads> for Reader<M> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, reads: &Reads) -> Result<Self, Problem> {
        let (caller, access) = Access::of(parts, reads, served::<M>()).await?;
        Ok(Self {
            caller,
            access,
            model: PhantomData,
        })
    }
}
