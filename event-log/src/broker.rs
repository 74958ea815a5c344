//! What the brokers are set to, as far as the log protocol relies on it.

use std::time::Duration;

use kafka_protocol::{
    messages::{DescribeConfigsRequest, describe_configs_request::DescribeConfigsResource},
    protocol::StrBytes,
};

use crate::{
    cluster::{Cluster, ClusterError, name},
    wire::WireError,
};

/// After these a broker or coordinator forgets which epochs it has to refuse.
const FORGETTING: [&str; 2] = [
    "producer.id.expiration.ms",
    "transactional.id.expiration.ms",
];

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("broker {broker} does not tell its settings: {}", name(*code))]
    Refused { broker: i32, code: i16 },
    #[error("broker {broker} does not tell its {setting}")]
    Untold { broker: i32, setting: &'static str },
    #[error(
        "broker {broker} forgets after {found:?} whom it has to refuse ({setting}={}); it has to \
         remember for {at_least:?} at least, longer than any outage: set {setting} in the \
         configuration of every broker",
        found.as_millis()
    )]
    Forgets {
        broker: i32,
        setting: &'static str,
        found: Duration,
        at_least: Duration,
    },
}

impl BrokerError {
    /// Whether trying again later may help, with nobody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Cluster(error) => error.is_temporary(),
            Self::Wire(error) => error.is_temporary(),
            Self::Refused { .. } | Self::Untold { .. } | Self::Forgets { .. } => false,
        }
    }
}

/// For how long a fence holds without being renewed: the shortest that any broker is set to.
///
/// # Errors
/// `Forgets` where that is less than `at_least`.
pub async fn fence_lifetime(
    cluster: &Cluster,
    at_least: Duration,
) -> Result<Duration, BrokerError> {
    const BROKER: i8 = 4;
    let mut shortest = Duration::MAX;
    for (broker, mut connection) in cluster.connect_all().await? {
        let request = DescribeConfigsRequest::default().with_resources(vec![
            DescribeConfigsResource::default()
                .with_resource_type(BROKER)
                .with_resource_name(StrBytes::from_string(broker.to_string()))
                .with_configuration_keys(Some(FORGETTING.map(StrBytes::from_static_str).into())),
        ]);
        let answer = connection.ask(&request).await?;
        let configs = match answer.results.first() {
            Some(result) if result.error_code == 0 => &result.configs,
            other => {
                let code = other.map_or(-1, |result| result.error_code);
                return Err(BrokerError::Refused { broker, code });
            }
        };
        for setting in FORGETTING {
            let lifetime_ms = configs
                .iter()
                .find(|config| config.name.as_str() == setting)
                .and_then(|config| config.value.as_deref()?.parse().ok())
                .ok_or(BrokerError::Untold { broker, setting })?;
            let found = Duration::from_millis(lifetime_ms);
            if found < at_least {
                return Err(BrokerError::Forgets {
                    broker,
                    setting,
                    found,
                    at_least,
                });
            }
            shortest = shortest.min(found);
        }
    }
    Ok(shortest)
}
