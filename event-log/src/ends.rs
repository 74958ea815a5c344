//! Where a partition of the log ends at present.

use kafka_protocol::{
    ResponseError,
    messages::{
        BrokerId, ListOffsetsRequest,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    },
};

use crate::{
    cluster::{Cluster, ClusterError, name, topic_name},
    wire::WireError,
};

const LATEST: i64 = -1;

#[derive(Debug, thiserror::Error)]
pub enum EndError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the broker does not say where {topic} partition {partition} ends: {}", name(*code))]
    Refused {
        topic: String,
        partition: i32,
        code: i16,
    },
}

/// The offset that the partition's next record will have; what was acknowledged lies below it.
///
/// One question to the leader that the cluster names: one that was deposed a moment ago may
/// answer with an older end.
pub async fn log_end(cluster: &Cluster, topic: &str, partition: i32) -> Result<i64, EndError> {
    let wanted = ListOffsetsPartition::default()
        .with_partition_index(partition)
        .with_timestamp(LATEST);
    let wanted = ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![wanted]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![wanted]);
    let mut connection = cluster.connect_leader(topic, partition).await?;
    let answer = connection.ask(&request).await?;
    let answer = answer.topics.iter().flat_map(|it| &it.partitions).next();
    let code = answer.map_or(ResponseError::UnknownServerError.code(), |it| it.error_code);
    match answer {
        Some(answer) if code == 0 => Ok(answer.offset),
        _ => Err(EndError::Refused {
            topic: topic.into(),
            partition,
            code,
        }),
    }
}
