//! One edition of a model: finds its place, reads from there, and starts anew when that ends.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use event_log::{
    Position,
    avro::{CodecError, LearnError},
    cluster::Cluster,
    consume::{self, ConsumeError, Consumer, DescribeError, PartitionFeed, Topic},
    registry::RegistryClient,
    schemas::ContextSchemas,
    topics::Generation,
};
use futures::FutureExt;
use sqlx::PgPool;
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    Model, Tuning,
    backoff::Backoff,
    checkpoint::{self, CheckpointError, Start},
    edition::{self, EditionError},
    failure::chain,
    health::{Health, Source},
    membership::Share,
    partition::PartitionWorker,
    progress::Progress,
    projection::Project,
    quarantine,
    read_side::Edition,
    watching::{watch_checkpoints, watch_log, watch_topics},
};

/// After a session of this length the next failure is a new one.
const LASTING: Duration = Duration::from_secs(10);

/// What all models of a projector share.
pub(crate) struct Platform {
    pub(crate) cluster: Cluster,
    pub(crate) postgres: PgPool,
    pub(crate) registry: RegistryClient,
    pub(crate) generation: Generation,
    pub(crate) schemas: Vec<ContextSchemas>,
    pub(crate) swap_unasked: bool,
    pub(crate) tuning: Tuning,
    /// This process's name in the models' groups.
    pub(crate) instance: String,
}

/// A model at work, from finding its place until that turns out to be wrong.
pub(crate) struct Session {
    pub(crate) platform: Arc<Platform>,
    pub(crate) model: Model,
    pub(crate) edition: Edition,
    pub(crate) projection: Arc<dyn Project>,
    pub(crate) health: Arc<Health>,
    pub(crate) progress: Progress,
    pub(crate) topics: Vec<Topic>,
}

/// Why a session could not begin, or why it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Learn(#[from] LearnError),
    #[error(transparent)]
    Edition(#[from] EditionError),
    #[error(transparent)]
    Topics(#[from] DescribeError),
    #[error(
        "topic {topic} has {found} partitions, but this generation has {expected}: start with \
         ANNALS_PARTITIONS={found}, or rewrite the log into a new generation"
    )]
    Partitions {
        topic: String,
        found: i32,
        expected: i32,
    },
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    #[error("the checkpoint of {topic} partition {partition} was set back")]
    SetBack { topic: String, partition: i32 },
    #[error("topic {topic} was deleted and made again")]
    MadeAnew { topic: String },
    #[error("somebody else projects {topic} partition {partition}")]
    Overtaken { topic: String, partition: i32 },
    #[error("other partitions are ours")]
    Reassigned,
    #[error("a stream was let out of quarantine")]
    Released,
    #[error("failed to look up what is in quarantine")]
    Quarantine(#[source] sqlx::Error),
    #[error("edition {edition} of {model} was dropped")]
    Dropped { model: &'static str, edition: i32 },
    #[error("the code of {model} has a bug: {message}")]
    Panicked {
        model: &'static str,
        message: String,
    },
}

/// Keeps an edition up to date until `shutdown`, through whatever failures.
pub(crate) async fn keep_up(
    platform: Arc<Platform>,
    model: Model,
    edition: Edition,
    health: Arc<Health>,
    share: watch::Receiver<Share>,
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::new();
    loop {
        let began = Instant::now();
        let share = share.clone();
        let session = work(&platform, model, &edition, &health, share, &shutdown);
        let ended = AssertUnwindSafe(session).catch_unwind().await;
        let error = match ended {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panic) => SessionError::Panicked {
                model: model.name,
                message: message_of(&*panic).into(),
            },
        };
        match error {
            // What kept a partition from going on may be another process's now.
            SessionError::Reassigned => {
                health.forget();
                continue;
            }
            SessionError::Overtaken { .. } | SessionError::Released => {
                health.forget();
                tracing::debug!(model = model.name, "starting anew: {error}");
            }
            trouble => health.start_over(chain(&trouble)),
        }
        if began.elapsed() > LASTING {
            backoff.reset();
        }
        if shutdown
            .run_until_cancelled(backoff.pause())
            .await
            .is_none()
        {
            return;
        }
    }
}

/// One session. `Ok` when it ended because of `shutdown`.
async fn work(
    platform: &Arc<Platform>,
    model: Model,
    edition: &Edition,
    health: &Arc<Health>,
    mut share: watch::Receiver<Share>,
    shutdown: &CancellationToken,
) -> Result<(), SessionError> {
    let open = async {
        let mine = share_of(&mut share).await;
        open(platform, model, edition, health, &mine).await
    };
    let Some(opened) = shutdown.run_until_cancelled(open).await else {
        return Ok(());
    };
    let (session, starts) = opened?;
    if starts.is_empty() {
        // There are more processes than partitions.
        health.clear(&Source::Start);
        return match shutdown.run_until_cancelled(changed(&mut share)).await {
            Some(()) => Err(SessionError::Reassigned),
            None => Ok(()),
        };
    }
    let positions: Vec<_> = starts.iter().map(position).collect();
    let name = format!(
        "annals.{}.{}.v{}.e{}",
        platform.generation.name, model.name, model.version, edition.number
    );
    let (consumer, feeds) = Consumer::open(&platform.cluster, &name, &positions)?;
    health.clear(&Source::Start);
    tracing::info!(
        model = model.name,
        edition = session.edition.number,
        "projecting {} into edition {}",
        model.name,
        session.edition.number
    );
    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        error = project_all(&session, starts, feeds) => Err(error),
        error = consumer.attend() => Err(error.into()),
        error = watch_checkpoints(&session) => Err(error),
        error = watch_topics(&session) => Err(error),
        () = changed(&mut share) => Err(SessionError::Reassigned),
        never = watch_log(&session, consumer.view()) => match never {},
    };
    consumer.close().await;
    ended
}

/// The partitions of this process, as soon as they are known.
async fn share_of(share: &mut watch::Receiver<Share>) -> BTreeSet<i32> {
    if let Ok(share) = share.wait_for(Option::is_some).await {
        return share.clone().unwrap_or_default();
    }
    // Nobody tells any more: the process ends.
    std::future::pending().await
}

/// Returns when they are others.
async fn changed(share: &mut watch::Receiver<Share>) {
    if share.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn open(
    platform: &Arc<Platform>,
    model: Model,
    edition: &Edition,
    health: &Arc<Health>,
    mine: &BTreeSet<i32>,
) -> Result<(Arc<Session>, Vec<Start>), SessionError> {
    let Platform {
        cluster,
        postgres,
        registry,
        generation,
        ..
    } = &**platform;
    let contexts = platform.schemas_of(&model);
    let projection = model.connect(&contexts, registry).await?;
    if let Some(reading) = projection.reading() {
        edition::note_reading(postgres, &model, edition, &reading).await?;
    }
    let names: Vec<_> = contexts
        .iter()
        .map(|schemas| generation.events_topic(schemas.context()))
        .collect();
    let topics = consume::describe_topics(cluster, &names).await?;
    for topic in &topics {
        if topic.partitions != generation.partitions {
            return Err(SessionError::Partitions {
                topic: topic.name.clone(),
                found: topic.partitions,
                expected: generation.partitions,
            });
        }
    }
    let mut starts = checkpoint::open(postgres, edition, &topics).await?;
    starts.retain(|start| mine.contains(&start.partition));
    let session = Session {
        platform: platform.clone(),
        progress: Progress::new(edition, &starts),
        model,
        edition: edition.clone(),
        projection,
        health: health.clone(),
        topics,
    };
    Ok((Arc::new(session), starts))
}

/// Returns when the first partition cannot go on.
async fn project_all(
    session: &Arc<Session>,
    starts: Vec<Start>,
    feeds: Vec<PartitionFeed>,
) -> SessionError {
    // Tasks of their own: several partitions are decoded at the same time.
    let mut workers = JoinSet::new();
    for (index, (start, feed)) in starts.into_iter().zip(feeds).enumerate() {
        let Session {
            platform, edition, ..
        } = &**session;
        let quarantined = match quarantine::load(&platform.postgres, edition, &start).await {
            Ok(quarantined) => quarantined,
            Err(error) => return SessionError::Quarantine(error),
        };
        let worker = PartitionWorker::new(session.clone(), index, feed, start, quarantined);
        workers.spawn(worker.run());
    }
    match workers.join_next().await {
        Some(Ok(error)) => error,
        Some(Err(ended)) if ended.is_panic() => resume_unwind(ended.into_panic()),
        // No partition is ours.
        Some(Err(_)) | None => std::future::pending().await,
    }
}

fn position(start: &Start) -> Position {
    Position {
        topic: start.topic.clone(),
        partition: start.partition,
        offset: start.place.next_offset,
    }
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(message), _) => message,
        (_, Some(message)) => message,
        (None, None) => "it panicked",
    }
}

impl Platform {
    pub(crate) fn schemas_of(&self, model: &Model) -> Vec<&ContextSchemas> {
        let taken = |schemas: &&ContextSchemas| model.contexts.contain(schemas.context());
        self.schemas.iter().filter(taken).collect()
    }
}

impl Session {
    pub(crate) fn dropped(&self) -> SessionError {
        SessionError::Dropped {
            model: self.model.name,
            edition: self.edition.number,
        }
    }
}
