//! Breaks one thing after the other, and mends it again. Which, when and for how long, the seed decides.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::{Instant, sleep, timeout};

use super::{
    history::{Clock, Moment},
    proxy::Way,
    seed::Dice,
    world::{BROKERS, PARTITIONS, Role, World},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    NodeKilled,
    /// For less than the session time-out.
    NodePausedShortly,
    /// For longer: somebody else takes over, and the owner wakes up deposed.
    NodePausedLong,
    /// Killed; another one kills it again while it takes over.
    NodeKilledInTakeOver,
    NodesRolled,
    SnapshotsWiped,
    LeaderKilled,
    LeaderPaused,
    /// Of the shard's transactions, by which it is taken over.
    CoordinatorKilled,
    CoordinatorPaused,
    /// The leader is stopped, a shard is taken over meanwhile, the leader is deposed, and wakes up.
    LeaderDeposedInTakeOver,
    /// No partition has enough replicas in sync, and the controllers have no majority.
    TwoBrokersKilled,
    BrokersRolled,
    ConnectionsCut,
    ConnectionsSlow,
    ConnectionsHalfOpen,
    /// Requests arrive, and the answers do not.
    AnswersLost,
    /// To everybody who connects.
    ConnectionsRefused,
}

pub const FAULTS: [Fault; 18] = [
    Fault::NodeKilled,
    Fault::LeaderKilled,
    Fault::ConnectionsCut,
    Fault::NodePausedLong,
    Fault::SnapshotsWiped,
    Fault::ConnectionsHalfOpen,
    Fault::LeaderDeposedInTakeOver,
    Fault::AnswersLost,
    Fault::CoordinatorKilled,
    Fault::ConnectionsSlow,
    Fault::NodesRolled,
    Fault::LeaderPaused,
    Fault::NodePausedShortly,
    Fault::ConnectionsRefused,
    Fault::NodeKilledInTakeOver,
    Fault::CoordinatorPaused,
    Fault::BrokersRolled,
    Fault::TwoBrokersKilled,
];

impl Fault {
    /// Whether it takes its time: the whole installation is gone through.
    pub fn is_long(self) -> bool {
        matches!(
            self,
            Self::NodesRolled | Self::BrokersRolled | Self::TwoBrokersKilled
        )
    }

    fn is_of_brokers(self) -> bool {
        matches!(
            self,
            Self::LeaderKilled
                | Self::LeaderPaused
                | Self::CoordinatorKilled
                | Self::CoordinatorPaused
                | Self::LeaderDeposedInTakeOver
                | Self::TwoBrokersKilled
                | Self::BrokersRolled
        )
    }
}

/// A fault that happened.
#[derive(Clone, Debug)]
pub struct Happened {
    pub fault: Fault,
    pub began: Moment,
    /// When it was mended.
    pub ended: Moment,
}

/// What did not go as it should while things were broken; nobody's answer is at stake.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub faults: Vec<Happened>,
    pub oddities: Vec<String>,
}

pub struct Nemesis<'a> {
    world: &'a World,
    clock: Clock,
    dice: Dice,
    record: Record,
}

impl<'a> Nemesis<'a> {
    pub fn new(world: &'a World, clock: Clock, dice: Dice) -> Self {
        Self {
            world,
            clock,
            dice,
            record: Record::default(),
        }
    }

    /// Goes on until this moment, and leaves everything whole. All faults happen before one happens again. With
    /// `overlap`, what happens to brokers and what happens to everything else happen at the same time.
    pub async fn rage(mut self, until: Instant, faults: &[Fault], overlap: bool) -> Record {
        if overlap {
            let (brokers, others): (Vec<_>, Vec<_>) =
                faults.iter().partition(|fault| fault.is_of_brokers());
            let mut other = Self::new(self.world, self.clock, self.dice.split());
            tokio::join!(self.rage_on(until, &brokers), other.rage_on(until, &others));
            self.record.faults.append(&mut other.record.faults);
            self.record.oddities.append(&mut other.record.oddities);
        } else {
            self.rage_on(until, faults).await;
        }
        self.mend().await;
        self.record
    }

    async fn rage_on(&mut self, until: Instant, faults: &[Fault]) {
        let mut bag = Vec::new();
        while Instant::now() < until {
            if bag.is_empty() {
                bag = faults.to_vec();
                self.dice.shuffle(&mut bag);
            }
            let Some(fault) = bag.pop() else { break };
            let calm = self.dice.millis(200, 2_000);
            sleep(calm).await;
            let began = self.clock.now();
            eprintln!("{:7.1} s  {fault:?}", began as f64 / 1e6);
            self.commit(fault).await;
            let ended = self.clock.now();
            let happened = Happened {
                fault,
                began,
                ended,
            };
            self.record.faults.push(happened);
        }
    }

    async fn commit(&mut self, fault: Fault) {
        let world = self.world;
        match fault {
            Fault::NodeKilled => {
                let node = self.node();
                node.kill().await;
                sleep(self.dice.millis(0, 3_000)).await;
                world.run(node);
            }
            Fault::NodePausedShortly => self.pause_node(500, 4_000).await,
            Fault::NodePausedLong => self.pause_node(7_000, 10_000).await,
            Fault::NodeKilledInTakeOver => {
                let node = self.node();
                for _ in 0..3 {
                    node.kill().await;
                    world.run(node);
                    sleep(self.dice.millis(50, 900)).await;
                }
            }
            Fault::NodesRolled => self.roll_nodes().await,
            Fault::SnapshotsWiped => {
                if let Err(error) = world.wipe_snapshots().await {
                    self.odd(format!("the snapshots were not wiped: {error}"));
                }
                let node = self.node();
                node.kill().await;
                world.run(node);
            }
            Fault::LeaderKilled => {
                let broker = self.leader().await;
                self.kill_brokers(&[broker]).await;
            }
            Fault::CoordinatorKilled => {
                let broker = self.coordinator().await;
                self.kill_brokers(&[broker]).await;
            }
            Fault::TwoBrokersKilled => {
                let spared = self.dice.below(BROKERS);
                let others: Vec<_> = (0..BROKERS).filter(|broker| *broker != spared).collect();
                self.kill_brokers(&others).await;
            }
            Fault::LeaderPaused => {
                let broker = self.leader().await;
                self.pause_broker(broker).await;
            }
            Fault::CoordinatorPaused => {
                let broker = self.coordinator().await;
                self.pause_broker(broker).await;
            }
            Fault::LeaderDeposedInTakeOver => self.depose_leader_in_take_over().await,
            Fault::BrokersRolled => {
                for broker in world.cluster.brokers() {
                    broker.stop().await;
                    self.start_broker(broker).await;
                    self.until_in_sync().await;
                }
            }
            Fault::ConnectionsCut => {
                for _ in 0..=self.dice.below(5) {
                    let broker = self.dice.below(BROKERS);
                    world.proxies[broker].cut();
                    sleep(self.dice.millis(20, 600)).await;
                }
            }
            Fault::ConnectionsSlow => {
                let slow = Way::Slow(self.dice.millis(20, 400));
                self.block(slow, 2_000, 6_000).await;
            }
            Fault::ConnectionsHalfOpen => self.block(Way::HalfOpen, 1_000, 9_000).await,
            Fault::AnswersLost => self.block(Way::Mute, 1_000, 9_000).await,
            Fault::ConnectionsRefused => self.block(Way::Shut, 1_000, 6_000).await,
        }
    }

    async fn pause_node(&mut self, from_ms: u64, to_ms: u64) {
        let node = self.node();
        node.pause();
        sleep(self.dice.millis(from_ms, to_ms)).await;
        node.resume();
    }

    /// One after the other, each in its orderly way, the next one when it is ready again.
    async fn roll_nodes(&mut self) {
        const ORDERLY_WITHIN: Duration = Duration::from_secs(20);
        const READY_WITHIN: Duration = Duration::from_secs(60);
        for node in &self.world.nodes {
            if !node.stop(ORDERLY_WITHIN).await {
                self.odd(format!("{} did not end when it was asked to", node.name));
            }
            self.world.run(node);
            if let Err(error) = node.until_ready(READY_WITHIN).await {
                self.odd(error.to_string());
            }
        }
    }

    async fn kill_brokers(&mut self, brokers: &[usize]) {
        let all = self.world.cluster.brokers();
        for broker in brokers {
            all[*broker].kill().await;
        }
        sleep(self.dice.millis(500, 6_000)).await;
        let starts = brokers.iter().map(|broker| all[*broker].start());
        for started in futures::future::join_all(starts).await {
            if let Err(error) = started {
                self.odd(error.to_string());
            }
        }
        self.until_in_sync().await;
    }

    async fn pause_broker(&mut self, broker: usize) {
        let broker = &self.world.cluster.brokers()[broker];
        broker.pause();
        // Its session lasts three seconds: sometimes it is deposed, sometimes not.
        sleep(self.dice.millis(500, 8_000)).await;
        broker.resume();
        self.until_in_sync().await;
    }

    async fn depose_leader_in_take_over(&mut self) {
        let topic = self.world.events_topic();
        let shard = self.shard();
        let Some(leader) = self.world.leader(&topic, shard).await else {
            return self.odd("a partition has no leader".into());
        };
        let broker = &self.world.cluster.brokers()[leader];
        broker.pause();
        // The shard is somebody's: whoever it is, it is taken over now, by the same node or by another.
        for node in &self.world.nodes {
            node.kill().await;
            self.world.run(node);
        }
        let deposed = async {
            while self.world.leader(&topic, shard).await == Some(leader) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        if timeout(Duration::from_secs(20), deposed).await.is_err() {
            self.odd(format!("broker {} was not deposed", leader + 1));
        }
        sleep(self.dice.millis(0, 500)).await;
        broker.resume();
        self.until_in_sync().await;
    }

    /// One broker's way, or every broker's; afterwards, what is stuck goes on, or is cut off.
    async fn block(&mut self, way: Way, from_ms: u64, to_ms: u64) {
        let all = self.dice.percent(25);
        let chosen = self.dice.below(BROKERS);
        let proxies = self.world.proxies.iter().enumerate();
        let proxies: Vec<_> = proxies
            .filter(|(broker, _)| all || *broker == chosen)
            .map(|(_, proxy)| proxy)
            .collect();
        for proxy in &proxies {
            proxy.set(way);
            if way == Way::Shut {
                proxy.cut();
            }
        }
        sleep(self.dice.millis(from_ms, to_ms)).await;
        let cut = self.dice.percent(50);
        for proxy in proxies {
            if cut {
                proxy.cut();
            }
            proxy.set(Way::Open);
        }
    }

    /// Whatever was broken is whole again.
    async fn mend(&mut self) {
        let world = self.world;
        for proxy in &world.proxies {
            proxy.set(Way::Open);
        }
        for broker in world.cluster.brokers() {
            broker.resume();
            self.start_broker(broker).await;
        }
        for role in world.roles() {
            role.resume();
            world.run(role);
        }
        self.until_in_sync().await;
    }

    async fn start_broker(&mut self, broker: &dev_stack::Server) {
        if let Err(error) = broker.start().await {
            self.odd(error.to_string());
        }
    }

    async fn until_in_sync(&mut self) {
        if !self.world.until_in_sync(Duration::from_secs(60)).await {
            self.odd("the replicas are not in sync after a minute".into());
        }
    }

    fn node(&mut self) -> &'a Role {
        let node = self.dice.below(self.world.nodes.len());
        &self.world.nodes[node]
    }

    fn shard(&mut self) -> i32 {
        self.dice.below(PARTITIONS as usize) as i32
    }

    /// Of some shard's events.
    async fn leader(&mut self) -> usize {
        let shard = self.shard();
        let leader = self.world.leader(&self.world.events_topic(), shard).await;
        leader.unwrap_or_else(|| self.dice.below(BROKERS))
    }

    async fn coordinator(&mut self) -> usize {
        let shard = self.shard();
        let coordinator = self.world.coordinator(shard).await;
        coordinator.unwrap_or_else(|| self.dice.below(BROKERS))
    }

    fn odd(&mut self, what: String) {
        eprintln!("          {what}");
        self.record.oddities.push(what);
    }
}

impl Record {
    pub fn by_fault(&self) -> BTreeMap<Fault, usize> {
        let mut counts = BTreeMap::new();
        for happened in &self.faults {
            *counts.entry(happened.fault).or_default() += 1;
        }
        counts
    }
}
