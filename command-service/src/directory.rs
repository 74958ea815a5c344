//! Who serves which shard at present: the newest claim of each, read from the owners topic.

use std::{convert::Infallible, time::Duration};

use event_log::{
    cluster::Cluster,
    consume::{Arrival, ConsumeError, Consumer, LogRecord, PartitionFeed},
    topics::Generation,
};
use futures::{StreamExt, stream::FuturesUnordered};
use serde::Deserialize;
use tokio::{sync::watch, time::sleep};

use crate::membership::Group;

const PAUSE: Duration = Duration::from_millis(500);

/// A shard's owner, by its claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// Its address, which others reach it at.
    pub node: String,
    pub term: u64,
}

/// The newest claims that were read. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Directory(watch::Receiver<Vec<Option<Owner>>>);

/// What fills the directory.
pub(crate) struct Claims(watch::Sender<Vec<Option<Owner>>>);

pub(crate) fn directory(shards: i32) -> (Claims, Directory) {
    let (sender, receiver) = watch::channel(vec![None; shards as usize]);
    (Claims(sender), Directory(receiver))
}

impl Directory {
    pub fn owner(&self, shard: i32) -> Option<Owner> {
        self.0.borrow()[shard as usize].clone()
    }

    /// Returns when another node than this one has claimed the shard after this term.
    pub async fn superseded(&self, shard: i32, node: &str, term: u64) {
        self.until(shard, |newest| {
            newest.is_some_and(|owner| owner.term > term && owner.node != node)
        })
        .await;
    }

    /// Returns when the shard's newest claim is of another node than this one.
    pub async fn until_claimed(&self, shard: i32, node: &str) {
        self.until(shard, |newest| {
            newest.is_some_and(|owner| owner.node != node)
        })
        .await;
    }

    /// Returns when the shard's newest claim is another one than this.
    pub async fn changed(&self, shard: i32, known: Option<&Owner>) {
        self.until(shard, |newest| newest != known).await;
    }

    /// Never, when nobody reads the claims any more.
    async fn until(&self, shard: i32, holds: impl Fn(Option<&Owner>) -> bool) {
        let mut claims = self.0.clone();
        let held = claims.wait_for(|claims| holds(claims[shard as usize].as_ref()));
        if held.await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Claims {
    /// Reads for as long as it is awaited. As long as there is one node, nobody needs it: barriers
    /// lie in the same topic, and reading them would cost the node that writes them.
    pub async fn follow(
        self,
        cluster: &Cluster,
        generation: &Generation,
        group: &Group,
    ) -> Infallible {
        let mut standing = group.standing();
        let several = standing.wait_for(|standing| standing.assignment.nodes.len() > 1);
        if several.await.is_err() {
            std::future::pending::<()>().await;
        }
        loop {
            let error = self.read(cluster, generation).await;
            tracing::warn!(%error, "the owners of the shards cannot be read; trying again");
            sleep(PAUSE).await;
        }
    }

    async fn read(&self, cluster: &Cluster, generation: &Generation) -> ConsumeError {
        let from = generation.beginnings(&generation.owners_topic());
        let (consumer, feeds) = match Consumer::open(cluster, "annals-directory", &from) {
            Ok(opened) => opened,
            Err(error) => return error,
        };
        let mut reading: FuturesUnordered<_> =
            feeds.iter().map(|feed| self.read_partition(feed)).collect();
        let error = tokio::select! {
            error = consumer.attend() => error,
            Some(error) = reading.next() => error,
        };
        drop(reading);
        drop(feeds);
        consumer.close().await;
        error
    }

    async fn read_partition(&self, feed: &PartitionFeed) -> ConsumeError {
        let mut newest = None;
        // The past is not news: it would name owners that are long gone.
        let mut at_end = false;
        loop {
            match feed.next().await {
                Ok(Arrival::Record(record)) => newest = claim(&record).or(newest),
                Ok(Arrival::End) => at_end = true,
                Err(error) => return error,
            }
            if at_end && let Some(owner) = newest.take() {
                self.note(feed.partition(), owner);
            }
        }
    }

    fn note(&self, shard: i32, owner: Owner) {
        self.0.send_if_modified(|claims| {
            let known = &mut claims[shard as usize];
            let newer = known.as_ref().is_none_or(|known| owner.term > known.term);
            if newer {
                *known = Some(owner);
            }
            newer
        });
    }
}

/// Barriers are the topic's other records.
fn claim(record: &LogRecord) -> Option<Owner> {
    #[derive(Deserialize)]
    struct Claim {
        endpoint: String,
    }
    let Claim { endpoint } = serde_json::from_slice(&record.value).ok()?;
    Some(Owner {
        node: endpoint,
        term: record.position.offset.unsigned_abs(),
    })
}
