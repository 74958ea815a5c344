//! A shard's owner: one task that alone touches the shard's state.
//!
//! Its life: take over, restore, claim, serve. Serving, it hands requests to
//! the lanes, sends what they have decided, and lets them answer when the
//! append is acknowledged.

mod ending;
mod facts;
mod life;
mod predecessors;
mod serve;
mod start;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use event_log::{
    append::Appender,
    awake::Awake,
    batch::ProducerIdentity,
    cluster::Cluster,
    control::ActiveVersions,
    fence::{FenceError, TakeOver, renew},
    snapshots::SnapshotTopic,
    topics::Generation,
};
use futures::{
    future::BoxFuture,
    stream::{BoxStream, FuturesUnordered, SelectAll},
};
use tokio::{sync::watch, time::Instant};

use self::{ending::OwnerError, serve::Done};
pub(crate) use self::{facts::Facts, life::run};
use crate::{
    config::Config, directory::Directory, group::Request, lane::Lane, membership::Group,
    snapshots::Copier, streams::KindFactory, switch::Switch,
};

/// How a shard is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShardStatus {
    /// Another node serves it, or is to.
    Elsewhere,
    /// Not served yet; the reason says what it waits for.
    Starting(String),
    Serving,
    /// Served, but the log gives some lanes no answer at present; by lane, the reason.
    Troubled(Vec<Option<String>>),
    /// Not served any more until somebody looks.
    Stopped(String),
}

impl ShardStatus {
    /// Why not all commands are taken, if they are not.
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Self::Serving | Self::Elsewhere => None,
            Self::Starting(reason) | Self::Stopped(reason) => Some(reason),
            Self::Troubled(lanes) => lanes.iter().flatten().map(String::as_str).next(),
        }
    }

    /// Whether requests for the shard are answered here, and be it by a refusal.
    pub(crate) fn is_here(&self) -> bool {
        match self {
            Self::Serving | Self::Troubled(_) | Self::Stopped(_) => true,
            Self::Elsewhere | Self::Starting(_) => false,
        }
    }

    /// Why the commands of this lane are not taken, if they are not.
    pub(crate) fn trouble_of(&self, lane: usize) -> Option<&str> {
        match self {
            Self::Troubled(lanes) => lanes.get(lane)?.as_deref(),
            Self::Serving | Self::Elsewhere | Self::Starting(_) | Self::Stopped(_) => {
                self.trouble()
            }
        }
    }
}

/// What every shard of a service shares.
pub(crate) struct ShardSettings {
    pub cluster: Cluster,
    pub generation: Generation,
    pub contexts: Vec<ContextFactory>,
    /// For how long a fence holds without being renewed.
    pub fence_lifetime: Duration,
    pub config: Config,
    pub group: Group,
    pub directory: Directory,
    /// By shard.
    pub facts: Vec<Arc<Facts>>,
    /// Where the next owner finds snapshots, if there are any.
    pub snapshots: Option<SnapshotTopic>,
    pub switch: Arc<Switch>,
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
    facts: Arc<Facts>,
    /// `None` while it is renewed.
    fence: Option<Fence>,
    awake: Awake,
    /// Where this owner says that it is reached.
    endpoint: String,
    renew_every: Duration,
    renew_at: Instant,
    renewing: bool,
    partition: i32,
    term: u64,
    lanes: Vec<Lane>,
    /// `None` while an append is in flight.
    appenders: Vec<Option<Appender>>,
    owners: Option<Appender>,
    /// Of answers that have no events.
    answers: Option<Appender>,
    /// Lanes that have such answers, and whether their group in flight is to be acknowledged with them.
    want_answers: BTreeMap<usize, bool>,
    /// Lanes whose answers are in flight.
    behind_answers: Vec<usize>,
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
    copier: Option<Copier>,
    switch: Arc<Switch>,
    /// What was activated, as this node has read it.
    active: watch::Receiver<Arc<ActiveVersions>>,
}

fn chain(error: &dyn std::error::Error) -> String {
    service_kit::problem::Chain(error).to_string()
}
