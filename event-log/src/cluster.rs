//! Which broker to ask: partition leaders and transaction coordinators.

use std::time::Duration;

use kafka_protocol::{
    ResponseError,
    messages::{
        FindCoordinatorRequest, MetadataRequest, TopicName, metadata_request::MetadataRequestTopic,
        metadata_response::MetadataResponse,
    },
    protocol::StrBytes,
};

use crate::wire::{Connection, WireError};

/// How long a broker may take for one answer. Longer than any request's own
/// `timeout_ms`, so that the broker's answer comes before our patience ends.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(8);

/// A Kafka cluster, known by its bootstrap addresses (`host:port`, comma-separated).
#[derive(Clone, Debug)]
pub struct Cluster {
    bootstrap: Vec<String>,
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

impl Cluster {
    pub fn new(bootstrap: &str) -> Self {
        Self {
            bootstrap: bootstrap
                .split(',')
                .map(|address| address.trim().to_owned())
                .filter(|address| !address.is_empty())
                .collect(),
        }
    }

    /// The addresses as rdkafka takes them.
    pub fn bootstrap(&self) -> String {
        self.bootstrap.join(",")
    }

    /// A new connection to the broker that leads the partition now.
    pub async fn connect_leader(
        &self,
        topic: &str,
        partition: i32,
    ) -> Result<Connection, ClusterError> {
        let request = MetadataRequest::default()
            .with_topics(Some(vec![
                MetadataRequestTopic::default().with_name(Some(topic_name(topic))),
            ]))
            .with_allow_auto_topic_creation(false);
        let metadata = self.connect_any().await?.call(8, &request).await?;
        let address =
            leader_address(&metadata, partition).map_err(|code| ClusterError::NoLeader {
                topic: topic.into(),
                partition,
                code,
            })?;
        Ok(Connection::open(&address, ANSWER_WITHIN).await?)
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
        let found = self.connect_any().await?.call(4, &request).await?;
        match found.coordinators.first() {
            Some(broker) if broker.error_code == 0 => {
                let address = format!("{}:{}", broker.host, broker.port);
                Ok(Connection::open(&address, ANSWER_WITHIN).await?)
            }
            other => Err(ClusterError::NoCoordinator {
                transactional_id: transactional_id.into(),
                code: other.map_or(-1, |broker| broker.error_code),
            }),
        }
    }

    /// Whether a broker answers.
    pub async fn reach(&self) -> Result<(), ClusterError> {
        let request = MetadataRequest::default()
            .with_topics(Some(Vec::new()))
            .with_allow_auto_topic_creation(false);
        self.connect_any().await?.call(8, &request).await?;
        Ok(())
    }

    /// A new connection to every broker, each with its node id.
    pub(crate) async fn connect_all(&self) -> Result<Vec<(i32, Connection)>, ClusterError> {
        let request = MetadataRequest::default()
            .with_topics(Some(Vec::new()))
            .with_allow_auto_topic_creation(false);
        let metadata = self.connect_any().await?.call(8, &request).await?;
        let mut brokers = Vec::new();
        for broker in &metadata.brokers {
            let address = format!("{}:{}", broker.host, broker.port);
            let connection = Connection::open(&address, ANSWER_WITHIN).await?;
            brokers.push((broker.node_id.0, connection));
        }
        Ok(brokers)
    }

    pub(crate) async fn connect_any(&self) -> Result<Connection, ClusterError> {
        let mut last = ClusterError::NoAddress;
        for address in &self.bootstrap {
            match Connection::open(address, ANSWER_WITHIN).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error.into(),
            }
        }
        Err(last)
    }
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
