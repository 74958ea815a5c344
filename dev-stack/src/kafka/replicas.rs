//! Brokers that replicate each other's partitions: what makes of single ones a cluster.

use std::path::Path;

use futures::future::try_join_all;

use super::{Broker, class_archive, new_cluster_id};
use crate::artifacts::Artifacts;
use crate::error::StackError;
use crate::java;
use crate::ports::Port;
use crate::server::Server;

/// Each broker gets a third of the work, and there are three Javas on one machine.
const HEAP_MB: u32 = 320;

/// Starts as many brokers as there are advertised ports, each on its folder under `data`; `None` advertises the
/// broker's own port. Every broker is a controller as well.
pub(crate) async fn start(
    artifacts: &Artifacts,
    data: &Path,
    logs: &Path,
    advertised: &[Option<u16>],
    extra_settings: &[(String, String)],
) -> Result<Vec<Server>, StackError> {
    let java = java::find()?;
    let class_archive = class_archive::make(artifacts, &java).await;
    let options: Vec<_> = class_archive
        .map(|archive| format!("-XX:SharedArchiveFile={}", archive.display()))
        .into_iter()
        .collect();
    let places = advertised
        .iter()
        .zip(1..)
        .map(|(advertised, id)| Place::new(id, *advertised))
        .collect::<Result<Vec<_>, _>>()?;
    let cluster_id = new_cluster_id();
    let starts = places.iter().map(|place| {
        let mut settings = place.settings(&places);
        settings.extend_from_slice(extra_settings);
        let name = format!("kafka-{}", place.id);
        let home = data.join(&name);
        let log = logs.join(name + ".log");
        let (options, java, cluster_id) = (options.clone(), &java, &cluster_id);
        async move {
            Broker {
                artifacts,
                java,
                options,
                home: &home,
                log,
                heap_mb: HEAP_MB,
            }
            .start_in(cluster_id, place.port, place.controller, &settings)
            .await
        }
    });
    try_join_all(starts).await
}

/// Where one broker is found, by whom.
struct Place {
    id: usize,
    /// By clients, behind what may stand in front of it.
    port: Port,
    advertised: u16,
    /// By the other brokers.
    replication: Port,
    controller: Port,
}

impl Place {
    fn new(id: usize, advertised: Option<u16>) -> Result<Self, StackError> {
        let port = Port::any("Kafka")?;
        Ok(Self {
            id,
            port,
            advertised: advertised.unwrap_or_else(|| port.number()),
            replication: Port::any("Kafka's replication")?,
            controller: Port::any("Kafka's controller")?,
        })
    }

    /// What a member has otherwise than a single broker: of several lines for one setting, the last one counts.
    fn settings(&self, all: &[Self]) -> Vec<(String, String)> {
        let voters: Vec<_> = all
            .iter()
            .map(|place| format!("{}@127.0.0.1:{}", place.id, place.controller.number()))
            .collect();
        let (replicas, in_sync) = (all.len(), all.len() / 2 + 1);
        let (port, replication) = (self.port.number(), self.replication.number());
        let (advertised, controller) = (self.advertised, self.controller.number());
        let replicated = |name: &str| [(name.to_owned(), replicas.to_string())];
        let settings = [
            ("node.id", self.id.to_string()),
            ("controller.quorum.voters", voters.join(",")),
            (
                "listeners",
                format!(
                    "PLAINTEXT://127.0.0.1:{port},REPLICATION://127.0.0.1:{replication},\
                     CONTROLLER://127.0.0.1:{controller}"
                ),
            ),
            (
                "advertised.listeners",
                format!("PLAINTEXT://127.0.0.1:{advertised},REPLICATION://127.0.0.1:{replication}"),
            ),
            (
                "listener.security.protocol.map",
                "PLAINTEXT:PLAINTEXT,REPLICATION:PLAINTEXT,CONTROLLER:PLAINTEXT".into(),
            ),
            ("inter.broker.listener.name", "REPLICATION".into()),
            ("min.insync.replicas", in_sync.to_string()),
            ("transaction.state.log.min.isr", in_sync.to_string()),
            ("share.coordinator.state.topic.min.isr", in_sync.to_string()),
            ("unclean.leader.election.enable", "false".into()),
            // Who dies or hangs is deposed within seconds, so that a test sees many elections.
            ("broker.heartbeat.interval.ms", "500".into()),
            ("broker.session.timeout.ms", "3000".into()),
            ("replica.lag.time.max.ms", "5000".into()),
        ];
        settings
            .map(|(name, value)| (name.to_owned(), value))
            .into_iter()
            .chain(replicated("default.replication.factor"))
            .chain(replicated("offsets.topic.replication.factor"))
            .chain(replicated("transaction.state.log.replication.factor"))
            .chain(replicated(
                "share.coordinator.state.topic.replication.factor",
            ))
            .collect()
    }
}
