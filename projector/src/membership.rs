//! Which partitions this process projects of a model: they are shared between all processes that
//! have the model's version.
//!
//! Kafka's group coordinator tells who is there. It keeps nobody from writing: two who believe
//! that a partition is theirs meet at its checkpoint, and one of them rolls back.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use bytes::Bytes;
use event_log::group::{GroupError, Heard, Member, Membership, Peer};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Model,
    failure::chain,
    health::{Health, Source},
    worker::Platform,
};

/// Who was not heard of for so long is taken for dead.
const SESSION: Duration = Duration::from_secs(6);
/// How soon everybody learns that the partitions are shared out anew.
const HEARTBEAT: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(100);
/// Others learn it by the end of our session otherwise.
const LEFT_WITHIN: Duration = Duration::from_secs(1);

/// The partitions of this process, of every topic; `None` before it was told for the first time.
pub(crate) type Share = Option<BTreeSet<i32>>;

/// A member of the model's group until `shutdown`.
pub(crate) async fn take_part(
    platform: &Platform,
    model: &Model,
    health: &Health,
    share: watch::Sender<Share>,
    shutdown: &CancellationToken,
) {
    let mut instance = platform.instance.clone();
    loop {
        let mut member = member(platform, model, &instance);
        let partitions = platform.generation.partitions;
        let error = tokio::select! {
            () = shutdown.cancelled() => {
                // The call that was interrupted has left the connection unusable.
                let left = timeout(LEFT_WITHIN, async {
                    while member.leave().await.is_err() {
                        sleep(PAUSE).await;
                    }
                });
                let _ = left.await;
                return;
            }
            error = stay(&mut member, partitions, health, &share) => error,
        };
        tracing::warn!(model = model.name, "{}", chain(&error));
        if matches!(error, GroupError::Replaced { .. }) {
            // Somebody else has been given our name.
            instance = new_instance();
        }
        sleep(PAUSE).await;
    }
}

/// A name that no other process has.
pub(crate) fn new_instance() -> String {
    let random = RandomState::new().hash_one(std::process::id());
    format!("{}-{random:016x}", std::process::id())
}

fn member(platform: &Platform, model: &Model, instance: &str) -> Member {
    let membership = Membership {
        group: format!(
            "annals.{}.{}.v{}",
            platform.generation.name, model.name, model.version
        ),
        instance: instance.into(),
        session: SESSION,
    };
    Member::new(&platform.cluster, membership)
}

/// Returns when waiting does not help.
async fn stay(
    member: &mut Member,
    partitions: i32,
    health: &Health,
    share: &watch::Sender<Share>,
) -> GroupError {
    loop {
        let joined = member
            .join(Bytes::new(), |peers| share_out(partitions, &peers))
            .await;
        let result = match joined {
            Ok(part) => {
                let part = serde_json::from_slice(&part).unwrap_or_default();
                share.send_if_modified(|share| {
                    let changed = share.as_ref() != Some(&part);
                    *share = Some(part);
                    changed
                });
                health.clear(&Source::Group);
                keep_alive(member).await
            }
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => {}
            // What is projected goes on without the group; who has no share yet waits.
            Err(error) if error.is_temporary() => {
                if share.borrow().is_none() {
                    health.trouble(Source::Group, chain(&error));
                }
                sleep(PAUSE).await;
            }
            Err(error) => return error,
        }
    }
}

/// Returns when the partitions are shared out anew.
async fn keep_alive(member: &mut Member) -> Result<(), GroupError> {
    let mut beats = interval(HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        match member.heartbeat().await {
            Ok(Heard::Steady) => {}
            Ok(Heard::Rejoin) => return Ok(()),
            Err(error) if error.is_temporary() => {
                tracing::debug!(%error, "the group's coordinator gives no answer");
                sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// In turn. Positions are in Postgres, so that a partition may change hands at no cost.
fn share_out(partitions: i32, peers: &[Peer]) -> Vec<(String, Bytes)> {
    let mut instances: Vec<_> = peers.iter().map(|peer| peer.instance.clone()).collect();
    instances.sort();
    let count = instances.len();
    let parts = (0..).zip(instances).map(|(place, instance)| {
        let part: BTreeSet<i32> = (place..partitions).step_by(count).collect();
        let part = serde_json::to_vec(&part).unwrap_or_default();
        (instance, part.into())
    });
    parts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_partition_is_given_to_one_of_those_who_are_there() {
        for (partitions, members) in [(8, 1), (8, 3), (2, 5), (1, 1)] {
            let peers: Vec<_> = (0..members)
                .map(|member| Peer {
                    instance: format!("m{member}"),
                    metadata: Bytes::new(),
                })
                .collect();
            let mut given: Vec<i32> = Vec::new();
            for (_, part) in share_out(partitions, &peers) {
                let part: BTreeSet<i32> = serde_json::from_slice(&part).unwrap();
                assert!(part.len() as i32 <= (partitions + members - 1) / members);
                given.extend(part);
            }
            given.sort_unstable();
            assert_eq!(given, (0..partitions).collect::<Vec<_>>());
        }
    }
}
