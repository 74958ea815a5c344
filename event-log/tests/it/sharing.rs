//! Batches of several partitions in one request: what it spares, and that none waits for another.

use std::time::Duration;

use event_log::{append::Appender, cluster::Cluster};
use futures::future::{join_all, select_all};
use tokio::time::sleep;

use crate::{
    proxy::{Fault, Kind, Proxy},
    raw::batch,
    shard::{Shard, in_time},
};

/// Longer than what counts as slow.
const SLOWLY: Duration = Duration::from_millis(10);

/// Owners of shards of one cluster, whose requests go through a proxy.
struct Owners {
    proxy: Proxy,
    shards: Vec<Shard>,
    appenders: Vec<Appender>,
    /// How often each of them has appended its next number.
    appended: u64,
}

impl Owners {
    async fn of(shards: usize) -> Self {
        let kafka = Shard::shared().await.cluster.bootstrap();
        let proxy = Proxy::before(&kafka).await;
        let cluster = Cluster::new(&proxy.address);
        let mut owners = Self {
            proxy,
            shards: Vec::new(),
            appenders: Vec::new(),
            appended: 0,
        };
        for _ in 0..shards {
            let mut shard = Shard::on(&kafka).await;
            shard.cluster = cluster.clone();
            owners.appenders.push(shard.own().await.unwrap().events);
            owners.shards.push(shard);
        }
        owners
    }

    /// Each appends at the same time; answers the number of requests that it took.
    async fn append(&mut self) -> usize {
        let before = self.proxy.count(Kind::Produce);
        let value = self.appended;
        let appends = self.appenders.iter_mut();
        let appends = appends.map(|it| async move { it.append(batch(&[value])).await });
        for answer in in_time(join_all(appends)).await {
            answer.unwrap();
        }
        self.appended += 1;
        self.proxy.count(Kind::Produce) - before
    }

    /// Resolves when all have been in one request that was slow.
    async fn share_slowly(&mut self) {
        loop {
            self.share().await;
            let gate = self.proxy.hold(Kind::Produce);
            let opened = async {
                gate.reached().await;
                sleep(SLOWLY).await;
                gate.open();
            };
            if let (1, ()) = tokio::join!(self.append(), opened) {
                return;
            }
        }
    }

    /// The first request waits until somebody else's batch is in the log.
    async fn append_while_one_is_held(&mut self) {
        let before = self.proxy.count(Kind::Produce);
        let gate = self.proxy.hold(Kind::Produce);
        let value = self.appended;
        let appends = self.appenders.iter_mut();
        let appends = appends.map(|it| Box::pin(async move { it.append(batch(&[value])).await }));
        let (answer, _, held) = in_time(select_all(appends)).await;
        answer.unwrap();
        in_time(gate.reached()).await;
        gate.open();
        for answer in in_time(join_all(held)).await {
            answer.unwrap();
        }
        self.appended += 1;
        // More, if the one waited with the held one until that was given up.
        assert_eq!(self.proxy.count(Kind::Produce) - before, 2);
    }

    /// Resolves when one request was enough for all: on a busy machine, the first may be slow.
    async fn share(&mut self) {
        in_time(async { while self.append().await > 1 {} }).await;
    }

    async fn expect_each_number_once(&self) {
        for shard in &self.shards {
            let records = shard.records(&shard.events).await;
            let values: Vec<_> = records.into_iter().map(|(_, value)| value).collect();
            assert_eq!(values, (0..self.appended).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn batches_that_are_ready_together_share_a_request() {
    let mut owners = Owners::of(4).await;
    owners.share().await;
    owners.expect_each_number_once().await;
}

#[tokio::test]
async fn a_lost_request_loses_none_of_its_batches() {
    for fault in [Fault::LoseRequest, Fault::LoseAnswer] {
        let mut owners = Owners::of(3).await;
        owners.share().await;
        owners.proxy.next(Kind::Produce, [fault]);
        assert!(owners.append().await > 1);
        assert!(owners.proxy.is_used_up());
        owners.share().await;
        owners.expect_each_number_once().await;
    }
}

#[tokio::test]
async fn who_was_slow_shares_with_nobody_until_it_was_fast() {
    let mut owners = Owners::of(2).await;
    in_time(owners.share_slowly()).await;

    // The next time the one does not wait for the other.
    owners.append_while_one_is_held().await;
    owners.share().await;
    owners.expect_each_number_once().await;
}
