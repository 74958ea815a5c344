//! What a reader checks before it goes on in a topic: that it is the same one,
//! and how many partitions it has.

use kafka_protocol::messages::{MetadataRequest, metadata_request::MetadataRequestTopic};
use uuid::Uuid;

use crate::{
    cluster::{Cluster, ClusterError, name, topic_name},
    wire::WireError,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub name: String,
    /// A topic that is deleted and made again under its name has another.
    pub id: Uuid,
    pub partitions: i32,
}

/// Why the topics cannot be read at present.
#[derive(Debug, thiserror::Error)]
pub enum DescribeError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("topic {topic} is not there: {reason}")]
    Missing { topic: String, reason: String },
}

/// Asks the cluster about these topics; none is made.
pub async fn describe_topics(
    cluster: &Cluster,
    topics: &[String],
) -> Result<Vec<Topic>, DescribeError> {
    let asked = topics
        .iter()
        .map(|topic| MetadataRequestTopic::default().with_name(Some(topic_name(topic))))
        .collect();
    let request = MetadataRequest::default()
        .with_topics(Some(asked))
        .with_allow_auto_topic_creation(false);
    let answer = cluster.metadata(&request).await?;
    topics
        .iter()
        .map(|topic| {
            let missing = |reason| DescribeError::Missing {
                topic: topic.clone(),
                reason,
            };
            let found = answer
                .topics
                .iter()
                .find(|found| {
                    let name = found.name.as_ref();
                    name.is_some_and(|name| name.as_str() == topic)
                })
                .ok_or_else(|| missing("the broker does not name it".into()))?;
            match found.error_code {
                0 => Ok(Topic {
                    name: topic.clone(),
                    id: found.topic_id,
                    partitions: found.partitions.len() as i32,
                }),
                code => Err(missing(name(code))),
            }
        })
        .collect()
}
