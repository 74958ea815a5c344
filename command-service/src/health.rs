//! Whether this node does its part: what readiness says about shards and Kafka.

use std::time::Duration;

use event_log::cluster::Cluster;
use futures::{StreamExt, stream::FuturesUnordered};
use service_kit::{problem::Chain, readiness::Component};
use tokio::{sync::watch, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{membership::Group, shard::ShardStatus};

/// Keeps readiness true to the shards: ready when this node is one of the group, and serves
/// every shard that it is given. A node without shards is ready: it forwards.
pub(crate) async fn report(
    mut statuses: Vec<watch::Receiver<ShardStatus>>,
    group: &Group,
    ready: Component,
    ended: &CancellationToken,
) {
    let mut standing = group.standing();
    loop {
        let waits = {
            let standing = standing.borrow_and_update();
            match (standing.joined, standing.left, &standing.trouble) {
                (_, true, _) => Some("handing the shards over".into()),
                (false, false, None) => Some("joining the other nodes".into()),
                (false, false, Some(reason)) => Some(format!("joining the other nodes: {reason}")),
                (true, false, _) => None,
            }
        };
        let trouble = statuses.iter_mut().enumerate().find_map(|(shard, status)| {
            let status = status.borrow_and_update();
            if *status == ShardStatus::Elsewhere && group.assigns(shard as i32) {
                return Some(format!("shard {shard}: about to be taken over"));
            }
            Some(format!("shard {shard}: {}", status.trouble()?))
        });
        let here = |status: &watch::Receiver<ShardStatus>| status.borrow().is_here();
        group.settle(group.is_alone() && statuses.iter().all(here));
        match waits.or(trouble) {
            None => ready.ready(),
            Some(reason) => ready.not_ready(reason),
        }
        // A sender that is gone is a shard that has panicked: its last status would stay.
        let gone = statuses
            .iter()
            .position(|status| status.has_changed().is_err());
        if let Some(shard) = gone.filter(|_| !ended.is_cancelled()) {
            ready.not_ready(format!(
                "shard {shard} ended with a bug; restart this process"
            ));
            ended.cancelled().await;
            return;
        }
        let mut changes: FuturesUnordered<_> = statuses
            .iter_mut()
            .map(|status| Box::pin(status.changed()))
            .collect();
        tokio::select! {
            () = ended.cancelled() => return,
            _ = changes.next() => {}
            _ = standing.changed() => {}
        }
    }
}

/// An idle shard does not notice that Kafka is away.
pub(crate) async fn watch(cluster: &Cluster, ready: Component, ended: &CancellationToken) {
    const EVERY: Duration = Duration::from_secs(1);
    loop {
        let reached = tokio::select! {
            () = ended.cancelled() => return,
            reached = cluster.reach() => reached,
        };
        match reached {
            Ok(()) => ready.ready(),
            Err(error) => ready.not_ready(Chain(&error).to_string()),
        }
        tokio::select! {
            () = ended.cancelled() => return,
            () = sleep(EVERY) => {}
        }
    }
}
