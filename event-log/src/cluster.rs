//! Which broker to ask: partition leaders and transaction coordinators.

mod addresses;
pub mod security;

use std::{sync::Arc, time::Duration};

use futures::{StreamExt, stream::FuturesUnordered};
use kafka_protocol::{
    ResponseError,
    messages::{
        FindCoordinatorRequest, MetadataRequest, TopicName, metadata_request::MetadataRequestTopic,
        metadata_response::MetadataResponse,
    },
    protocol::StrBytes,
};
use rdkafka::ClientConfig;
use tokio::time::{Instant, sleep};

use crate::{
    leader::{Leader, Leaders},
    wire::{Connection, WireError},
};
use addresses::Addresses;
pub use security::{Login, Mechanism, Security, SecurityError, Tls};

/// How long a broker may take for one answer. Longer than any request's own
/// `timeout_ms`, so that the broker's answer comes before our patience ends.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// Where any broker will do, the next one is tried beside one that takes so long.
const NEXT_BROKER_AFTER: Duration = Duration::from_millis(250);

/// A Kafka cluster, known by its bootstrap addresses (`host:port`, comma-separated).
///
/// Clones share what they learn: the addresses of the other brokers, and which do not answer.
#[derive(Clone, Debug)]
pub struct Cluster {
    bootstrap: Vec<String>,
    connect: Connect,
    leaders: Arc<Leaders>,
}

/// How the brokers are connected to.
#[derive(Clone, Debug)]
pub(crate) struct Connect {
    security: Security,
    addresses: Arc<Addresses>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("no broker address is configured")]
    NoAddress,
    #[error("topic {topic} partition {partition} has no leader at present: {}", name(*code))]
    NoLeader {
        topic: String,
        partition: i32,
        code: i16,
    },
    #[error("no coordinator for {transactional_id} at present: {}", name(*code))]
    NoCoordinator { transactional_id: String, code: i16 },
}

impl ClusterError {
    /// Whether trying again later may help, with nobody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Wire(error) => error.is_temporary(),
            Self::NoAddress => false,
            Self::NoLeader { .. } | Self::NoCoordinator { .. } => true,
        }
    }
}

impl Connect {
    /// A new connection to this broker. One that could not be opened a moment
    /// ago is not tried again: the same error comes at once, so that however
    /// many ask, no broker gets more than a few attempts a second.
    pub(crate) async fn open(
        &self,
        address: &str,
        answer_within: Duration,
    ) -> Result<Connection, WireError> {
        if let Some(error) = self.addresses.failed_just_now(address, Instant::now()) {
            return Err(error);
        }
        let opened = Connection::open(address, &self.security, answer_within).await;
        match &opened {
            Ok(_) => self.addresses.reached(address),
            Err(error) => self.addresses.failed(address, error, Instant::now()),
        }
        opened
    }
}

impl Cluster {
    /// In the clear and without a login: see [`secured`](Self::secured).
    pub fn new(bootstrap: &str) -> Self {
        let bootstrap: Vec<_> = bootstrap
            .split(',')
            .map(|address| address.trim().to_owned())
            .filter(|address| !address.is_empty())
            .collect();
        let connect = Connect {
            security: Security::default(),
            addresses: Arc::new(Addresses::new(&bootstrap)),
        };
        Self {
            bootstrap,
            connect,
            leaders: Arc::default(),
        }
    }

    /// The cluster, reached like this from now on.
    #[must_use]
    pub fn secured(self, security: Security) -> Self {
        Self {
            connect: Connect {
                security,
                ..self.connect
            },
            leaders: Arc::default(),
            ..self
        }
    }

    /// The addresses, as they were configured.
    pub fn bootstrap(&self) -> String {
        self.bootstrap.join(",")
    }

    /// Addresses and security as rdkafka's clients take them.
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        self.connect.security.apply(&mut config);
        config
    }

    /// A new connection to this broker: see [`Connect::open`].
    pub(crate) async fn connect(
        &self,
        address: &str,
        answer_within: Duration,
    ) -> Result<Connection, WireError> {
        self.connect.open(address, answer_within).await
    }

    /// A new connection to the broker that leads the partition now.
    pub async fn connect_leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Connection, ClusterError> {
        let address = self.leader_address(topic, partition).await?;
        Ok(self.connect(&address, ANSWER_WITHIN).await?)
    }

    /// The way to the broker that leads the partition now, which all of this cluster share.
    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<Leader, ClusterError> {
        let address = self.leader_address(topic, partition).await?;
        Ok(self.leaders.at(&address, &self.connect))
    }

    async fn leader_address(&self, topic: &str, partition: i32) -> Result<String, ClusterError> {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![
                MetadataRequestTopic::default().with_name(Some(topic_name(topic))),
            ]))
            .with_allow_auto_topic_creation(false);
        let metadata = self.metadata(&request).await?;
        leader_address(&metadata, partition).map_err(|code| ClusterError::NoLeader {
            topic: topic.into(),
            partition,
            code,
        })
    }

    /// A new connection to the broker that coordinates this transactional id now.
    pub async fn connect_coordinator(
        &self,
        transactional_id: &str,
    ) -> Result<Connection, ClusterError> {
        const TRANSACTION: i8 = 1;
        let request = FindCoordinatorRequest::default()
            .with_key_type(TRANSACTION)
            .with_coordinator_keys(vec![StrBytes::from_string(transactional_id.into())]);
        let found = self.connect_any().await?.ask(&request).await?;
        match found.coordinators.first() {
            Some(broker) if broker.error_code == 0 => {
                let address = format!("{}:{}", broker.host, broker.port);
                Ok(self.connect(&address, ANSWER_WITHIN).await?)
            }
            other => Err(ClusterError::NoCoordinator {
                transactional_id: transactional_id.into(),
                code: other.map_or(-1, |broker| broker.error_code),
            }),
        }
    }

    /// Whether a broker answers.
    pub async fn reach(&self) -> Result<(), ClusterError> {
        self.metadata(&no_topics()).await?;
        Ok(())
    }

    /// A new connection to every broker, each with its node id.
    pub(crate) async fn connect_all(&self) -> Result<Vec<(i32, Connection)>, ClusterError> {
        let metadata = self.metadata(&no_topics()).await?;
        let mut brokers = Vec::new();
        for broker in &metadata.brokers {
            let address = format!("{}:{}", broker.host, broker.port);
            let connection = self.connect(&address, ANSWER_WITHIN).await?;
            brokers.push((broker.node_id.0, connection));
        }
        Ok(brokers)
    }

    pub(crate) async fn metadata(
        &self,
        request: &MetadataRequest,
    ) -> Result<MetadataResponse, ClusterError> {
        let metadata = self.connect_any().await?.ask(request).await?;
        let brokers = metadata.brokers.iter();
        self.connect
            .addresses
            .learn(brokers.map(|broker| format!("{}:{}", broker.host, broker.port)));
        Ok(metadata)
    }

    /// A new connection to any broker: the one that answered last, or whichever
    /// answers first, where that one takes its time.
    pub(crate) async fn connect_any(&self) -> Result<Connection, ClusterError> {
        let mut waiting = self.connect.addresses.in_order().into_iter();
        let mut opening = FuturesUnordered::new();
        let mut failure = ClusterError::NoAddress;
        loop {
            if opening.is_empty() {
                let Some(address) = waiting.next() else {
                    return Err(failure);
                };
                opening.push(self.connect_owned(address));
            }
            tokio::select! {
                Some(opened) = opening.next() => match opened {
                    Ok(connection) => return Ok(connection),
                    // What may pass says more about the cluster than one broker's refusal.
                    Err(error) if error.is_temporary() || !failure.is_temporary() => {
                        failure = error.into();
                    }
                    Err(_) => {}
                },
                () = sleep(NEXT_BROKER_AFTER), if waiting.len() > 0 => {
                    opening.extend(waiting.next().map(|address| self.connect_owned(address)));
                }
            }
        }
    }

    async fn connect_owned(&self, address: String) -> Result<Connection, WireError> {
        self.connect(&address, ANSWER_WITHIN).await
    }
}

fn no_topics() -> MetadataRequest {
    MetadataRequest::default()
        .with_topics(Some(Vec::new()))
        .with_allow_auto_topic_creation(false)
}

pub(crate) fn leader_address(metadata: &MetadataResponse, partition: i32) -> Result<String, i16> {
    let topic = metadata.topics.first().ok_or(-1_i16)?;
    if topic.error_code != 0 {
        return Err(topic.error_code);
    }
    let found = topic
        .partitions
        .iter()
        .find(|candidate| candidate.partition_index == partition)
        .ok_or(ResponseError::UnknownTopicOrPartition.code())?;
    metadata
        .brokers
        .iter()
        .find(|broker| broker.node_id == found.leader_id)
        .map(|broker| format!("{}:{}", broker.host, broker.port))
        .ok_or(ResponseError::LeaderNotAvailable.code())
}

pub(crate) fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.into()))
}

/// The broker's error by name, for people.
pub(crate) fn name(code: i16) -> String {
    match ResponseError::try_from_code(code) {
        Some(error) => format!("{error:?} ({code})"),
        None => format!("error {code}"),
    }
}
