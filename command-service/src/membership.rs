//! This node's place among the nodes: it joins their group, says that it is alive, and learns
//! which shards it is to serve.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use event_log::{
    cluster::Cluster,
    group::{GroupError, Heard, Member, Peer},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    assignment::{Assignment, Holding},
    config::Config,
};

/// How soon everybody learns that the shards are shared out anew.
const HEARTBEAT: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(50);
/// Without a coordinator nobody is told anything; the others learn it by the end of our session.
const LEFT_WITHIN: Duration = Duration::from_secs(1);

/// What this node was told last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// There was a first assignment.
    pub joined: bool,
    /// This node has given its shards back, or was thrown out.
    pub left: bool,
    /// Why the coordinator cannot be asked at present.
    pub trouble: Option<String>,
    pub assignment: Assignment,
    /// Those of this node.
    pub shards: BTreeSet<i32>,
}

/// What everybody in this node may know of the group. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Group {
    address: Arc<str>,
    standing: watch::Receiver<Standing>,
    /// When the last request was sent that proved the standing to be current.
    heard: watch::Receiver<Instant>,
    settled: Arc<AtomicBool>,
}

/// The part that does the work.
pub(crate) struct Membership {
    pub shards: i32,
    session: Duration,
    address: Arc<str>,
    standing: watch::Sender<Standing>,
    heard: watch::Sender<Instant>,
    settled: Arc<AtomicBool>,
}

/// The membership of the node that others reach at the address of `config`.
pub(crate) fn membership(config: &Config, shards: i32) -> (Membership, Group) {
    let address: Arc<str> = config.address.as_str().into();
    let (standing, watched) = watch::channel(Standing::default());
    let (heard, last_heard) = watch::channel(Instant::now());
    let settled = Arc::new(AtomicBool::new(false));
    let group = Group {
        address: address.clone(),
        standing: watched,
        heard: last_heard,
        settled: settled.clone(),
    };
    let membership = Membership {
        shards,
        session: config.session(),
        address,
        standing,
        heard,
        settled,
    };
    (membership, group)
}

impl Group {
    /// This node's own.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Whether every shard is served by this node. Costs next to nothing to ask.
    pub fn is_settled(&self) -> bool {
        self.settled.load(Ordering::Relaxed)
    }

    pub fn settle(&self, settled: bool) {
        self.settled.store(settled, Ordering::Relaxed);
    }

    /// Whether there is no other node.
    pub fn is_alone(&self) -> bool {
        self.standing.borrow().assignment.nodes.len() <= 1
    }

    /// Which node is to serve the shard, by the last assignment.
    pub fn node_of(&self, shard: i32) -> Option<String> {
        let standing = self.standing.borrow();
        standing.assignment.node_of(shard).map(str::to_owned)
    }

    pub fn has_joined(&self) -> bool {
        self.standing.borrow().joined
    }

    pub fn assigns(&self, shard: i32) -> bool {
        self.standing.borrow().shards.contains(&shard)
    }

    /// Returns when this node is to serve the shard, or when it is not any more.
    pub async fn until(&self, shard: i32, assigned: bool) {
        let mut standing = self.standing.clone();
        let changed = standing.wait_for(|it| it.shards.contains(&shard) == assigned);
        if changed.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the shard is this node's still, said by a coordinator that was asked after this
    /// was called. Waits for one that answers.
    pub async fn still_assigns(&self, shard: i32) -> bool {
        let now = Instant::now();
        let (mut heard, mut standing) = (self.heard.clone(), self.standing.clone());
        tokio::select! {
            heard = heard.wait_for(|asked| *asked > now) => heard.is_ok() && self.assigns(shard),
            // Nobody is asked any more.
            _ = standing.wait_for(|standing| standing.left) => false,
        }
    }
}

impl Membership {
    /// A member of the group until `leave`, or until something that waiting cannot mend.
    pub async fn run(
        &self,
        cluster: &Cluster,
        group: String,
        leave: &CancellationToken,
    ) -> Result<(), GroupError> {
        let membership = event_log::group::Membership {
            group,
            instance: self.address.to_string(),
            session: self.session,
        };
        let mut member = Member::new(cluster, membership);
        let result = tokio::select! {
            Err(error) = self.stay(&mut member) => Err(error),
            () = leave.cancelled() => Ok(()),
        };
        self.standing.send_modify(|standing| {
            standing.left = true;
            standing.shards.clear();
        });
        self.heard.send_replace(Instant::now());
        if result.is_ok() {
            let left = tokio::time::timeout(LEFT_WITHIN, async {
                // The call that was interrupted has left the connection unusable.
                while let Err(error) = member.leave().await {
                    tracing::debug!(%error, "leaving the group");
                    sleep(PAUSE).await;
                }
            });
            if left.await.is_err() {
                tracing::warn!(
                    "ended without leaving the group: others wait until the session ends"
                );
            }
        }
        result
    }

    async fn stay(&self, member: &mut Member) -> Result<(), GroupError> {
        loop {
            let joined = self.join(member).await;
            let result = match joined {
                Ok(()) => self.keep_alive(member).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(()) => {}
                Err(error) if error.is_temporary() => self.troubled(&error).await,
                Err(error) => return Err(error),
            }
        }
    }

    async fn join(&self, member: &mut Member) -> Result<(), GroupError> {
        let asked = Instant::now();
        let holding = Holding {
            shards: self.standing.borrow().shards.iter().copied().collect(),
            generation: member.generation(),
        };
        let metadata = serde_json::to_vec(&holding).unwrap_or_default().into();
        let part = member
            .join(metadata, |peers| share_out(self.shards, &peers))
            .await?;
        let assignment: Assignment = serde_json::from_slice(&part).unwrap_or_default();
        let shards = assignment.shards_of(&self.address);
        tracing::info!(
            nodes = assignment.nodes.len(),
            "{} of {} shards are for this node, one of {}",
            shards.len(),
            self.shards,
            assignment.nodes.len()
        );
        if assignment.nodes.len() > 1 {
            self.settled.store(false, Ordering::Relaxed);
        }
        self.standing.send_replace(Standing {
            joined: true,
            left: false,
            trouble: None,
            assignment,
            shards,
        });
        self.heard.send_replace(asked);
        Ok(())
    }

    /// Returns when the shards are shared out anew.
    async fn keep_alive(&self, member: &mut Member) -> Result<(), GroupError> {
        let mut beats = interval(HEARTBEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            let asked = Instant::now();
            match member.heartbeat().await {
                Ok(Heard::Steady) => {
                    self.standing
                        .send_if_modified(|standing| standing.trouble.take().is_some());
                    self.heard.send_replace(asked);
                }
                Ok(Heard::Rejoin) => return Ok(()),
                Err(error) if error.is_temporary() => self.troubled(&error).await,
                Err(error) => return Err(error),
            }
        }
    }

    /// The fence does not need the group: what is served goes on.
    async fn troubled(&self, error: &GroupError) {
        let reason = service_kit::problem::Chain(error).to_string();
        tracing::debug!(reason, "the group's coordinator gives no answer");
        self.standing.send_if_modified(|standing| {
            let changed = standing.trouble.as_ref() != Some(&reason);
            standing.trouble = Some(reason);
            changed
        });
        sleep(PAUSE).await;
    }
}

fn share_out(shards: i32, peers: &[Peer]) -> Vec<(String, Bytes)> {
    let holdings = peers
        .iter()
        .map(|peer| {
            let holding = serde_json::from_slice(&peer.metadata).unwrap_or_default();
            (peer.instance.clone(), holding)
        })
        .collect();
    let assignment = Assignment::new(shards, &holdings);
    let part = Bytes::from(serde_json::to_vec(&assignment).unwrap_or_default());
    let instances = peers.iter().map(|peer| peer.instance.clone());
    instances.map(|instance| (instance, part.clone())).collect()
}
