//! How a handler gets at a read model: who asks, what they want to have seen, and a snapshot.

use std::{marker::PhantomData, sync::Arc};

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use event_log::position::PositionMark;
use kernel::Tenant;
use projector::ReadModel;
use service_kit::{Identity, Problem};
use sqlx::PgPool;
use tokio::{
    sync::{Semaphore, watch},
    time::{Duration, Instant, sleep_until, timeout_at},
};

use crate::{
    config::Config,
    failure::unavailable,
    position,
    read_side::{Opening, ReadSide, served},
    snapshot::Snapshot,
};

/// The state of the routes: what is read from. Cheap to clone.
#[derive(Clone)]
pub struct Reads(Arc<Shared>);

struct Shared {
    postgres: PgPool,
    read_side: watch::Receiver<ReadSide>,
    /// Ends the topics' names: `annals.<context>.events.<generation>`.
    generation: String,
    position_wait: Duration,
    room_to_wait: Semaphore,
}

/// One request's access to the read model `M`.
///
/// As an extractor it refuses with 401 without a valid bearer token, and with 400
/// `position-malformed` for a position token that is none.
pub struct Reader<M> {
    /// Who asks: tenant, actor, roles.
    pub caller: Identity,
    reads: Reads,
    marks: Vec<PositionMark>,
    model: PhantomData<fn() -> M>,
}

/// Should Postgres show less than was told of it, which a proxy over several servers may do.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);

impl Reads {
    pub(crate) fn new(
        config: &Config,
        postgres: PgPool,
        read_side: watch::Receiver<ReadSide>,
    ) -> Self {
        Self(Arc::new(Shared {
            postgres,
            read_side,
            generation: config.generation.clone(),
            position_wait: config.position_wait(),
            room_to_wait: Semaphore::new(config.waiting_reads),
        }))
    }

    fn reads_topic<M: ReadModel>(&self, topic: &str) -> bool {
        M::CONTEXTS.iter().any(|context| {
            topic
                .strip_prefix("annals.")
                .and_then(|rest| rest.strip_prefix(context))
                .and_then(|rest| rest.strip_prefix(".events."))
                == Some(self.0.generation.as_str())
        })
    }

    fn opening<M: ReadModel>(&self) -> Result<Arc<Opening>, Problem> {
        let read_side = self.0.read_side.borrow();
        match read_side.opening(served::<M>()) {
            Ok(opening) => Ok(opening.clone()),
            Err(not_served) => Err(unavailable(not_served.to_string())),
        }
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
    /// come to, null if it does not read that partition. A token from the future or forged ends
    /// so too: how long the log is, only Kafka knows.
    pub async fn snapshot(&self) -> Result<Snapshot, Problem> {
        if self.marks.is_empty() {
            return self.open().await;
        }
        let shared = &*self.reads.0;
        let started = Instant::now();
        let deadline = started + shared.position_wait;
        loop {
            self.until_told(deadline).await?;
            let mut snapshot = self.open().await?;
            // What was told need not be what this server shows: the same snapshot decides.
            if snapshot.next_offsets().await?.contain(&self.marks) {
                metrics::histogram!("query_position_wait_seconds").record(started.elapsed());
                return Ok(snapshot);
            }
            drop(snapshot);
            sleep_until(deadline.min(Instant::now() + LOOK_AGAIN_AFTER)).await;
            if Instant::now() >= deadline {
                return Err(self.not_yet_visible());
            }
        }
    }

    async fn open(&self) -> Result<Snapshot, Problem> {
        let opening = self.reads.opening::<M>()?;
        Ok(Snapshot::open(&self.reads.0.postgres, opening, self.tenant()).await?)
    }

    async fn until_told(&self, deadline: Instant) -> Result<(), Problem> {
        let shared = &*self.reads.0;
        let told = |read_side: &ReadSide| read_side.contains(M::NAME, &self.marks);
        if told(&shared.read_side.borrow()) {
            return Ok(());
        }
        let Ok(_room) = shared.room_to_wait.try_acquire() else {
            return Err(busy());
        };
        // Having a receiver of its own tells the watcher that somebody waits.
        let mut read_side = shared.read_side.clone();
        match timeout_at(deadline, read_side.wait_for(told)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_stopping)) => Err(unavailable("the service is stopping")),
            Err(_elapsed) => Err(self.not_yet_visible()),
        }
    }

    fn not_yet_visible(&self) -> Problem {
        metrics::counter!("query_not_yet_visible_total", "model" => M::NAME).increment(1);
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
                    "next_offset": read_side.next_offset(M::NAME, position),
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
            M::NAME,
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
        let caller = match parts.extensions.get::<Identity>() {
            Some(admitted) => admitted.clone(),
            None => Identity::from_request_parts(parts, reads).await?,
        };
        let marks = position::marks_of(parts, |topic| reads.reads_topic::<M>(topic))?;
        Ok(Self {
            caller,
            reads: reads.clone(),
            marks,
            model: PhantomData,
        })
    }
}
