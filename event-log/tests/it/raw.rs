//! Single requests, as somebody sends them who does not keep to the rules.

use bytes::Bytes;
use event_log::{
    batch::{BatchBuilder, ProducerIdentity},
    cluster::Cluster,
    wire::Connection,
};
use kafka_protocol::{
    messages::{
        AddPartitionsToTxnRequest, InitProducerIdRequest, ProduceRequest, ProducerId, TopicName,
        TransactionalId, WriteTxnMarkersRequest,
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        produce_request::{PartitionProduceData, TopicProduceData},
        write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic},
    },
    protocol::StrBytes,
};

pub const NO_PRODUCER: ProducerIdentity = ProducerIdentity { id: -1, epoch: -1 };

/// A batch with one record per value.
pub fn batch(values: &[u64]) -> BatchBuilder {
    let mut batch = BatchBuilder::default();
    for value in values {
        batch.push(b"main/task/7", Some(&value.to_be_bytes()), |headers| {
            headers.put("ce_type", b"annals.tasks.TaskCreated");
        });
    }
    batch
}

/// The error code and the base offset that the broker answers.
pub async fn produce(cluster: &Cluster, topic: &str, partition: i32, bytes: Bytes) -> (i16, i64) {
    let request = ProduceRequest::default()
        .with_acks(-1)
        .with_timeout_ms(5_000)
        .with_topic_data(vec![
            TopicProduceData::default()
                .with_name(topic_name(topic))
                .with_partition_data(vec![
                    PartitionProduceData::default()
                        .with_index(partition)
                        .with_records(Some(bytes)),
                ]),
        ]);
    let mut leader = cluster.connect_leader(topic, partition).await.unwrap();
    let answer = leader.call(9, &request).await.unwrap();
    let partition = &answer.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

/// The error code and the identity that the coordinator answers; waits out an unfinished
/// transaction, and a broker that has no identities yet.
pub async fn init_producer_id(
    cluster: &Cluster,
    transactional_id: Option<&str>,
    expected: ProducerIdentity,
) -> (i16, ProducerIdentity) {
    // A new cluster has none at first.
    let mut coordinator = loop {
        let id = transactional_id.unwrap_or("any");
        if let Ok(coordinator) = cluster.connect_coordinator(id).await {
            break coordinator;
        }
    };
    ask_for_identity(&mut coordinator, transactional_id, expected).await
}

/// Uses up a producer's epochs, one by one, as years of take-overs would.
pub async fn use_up_epochs(
    cluster: &Cluster,
    transactional_id: &str,
    mut producer: ProducerIdentity,
    until: i16,
) {
    let mut coordinator = cluster.connect_coordinator(transactional_id).await.unwrap();
    while producer.epoch < until {
        let (code, next) =
            ask_for_identity(&mut coordinator, Some(transactional_id), producer).await;
        assert_eq!(code, 0);
        producer = next;
    }
}

async fn ask_for_identity(
    coordinator: &mut Connection,
    transactional_id: Option<&str>,
    expected: ProducerIdentity,
) -> (i16, ProducerIdentity) {
    const LOAD_IN_PROGRESS: i16 = 14;
    const CONCURRENT_TRANSACTIONS: i16 = 51;
    let request = InitProducerIdRequest::default()
        .with_transactional_id(transactional_id.map(transactional))
        .with_transaction_timeout_ms(10_000)
        .with_producer_id(ProducerId(expected.id))
        .with_producer_epoch(expected.epoch);
    loop {
        let answer = coordinator.call(4, &request).await.unwrap();
        if ![LOAD_IN_PROGRESS, CONCURRENT_TRANSACTIONS].contains(&answer.error_code) {
            let given = ProducerIdentity {
                id: answer.producer_id.0,
                epoch: answer.producer_epoch,
            };
            return (answer.error_code, given);
        }
    }
}

/// The error code that the coordinator answers.
pub async fn add_partition_to_txn(
    cluster: &Cluster,
    transactional_id: &str,
    producer: ProducerIdentity,
    topic: &str,
    partition: i32,
) -> i16 {
    let request = AddPartitionsToTxnRequest::default()
        .with_v3_and_below_transactional_id(transactional(transactional_id))
        .with_v3_and_below_producer_id(ProducerId(producer.id))
        .with_v3_and_below_producer_epoch(producer.epoch)
        .with_v3_and_below_topics(vec![
            AddPartitionsToTxnTopic::default()
                .with_name(topic_name(topic))
                .with_partitions(vec![partition]),
        ]);
    let mut coordinator = cluster.connect_coordinator(transactional_id).await.unwrap();
    let answer = coordinator.call(3, &request).await.unwrap();
    answer.results_by_topic_v3_and_below[0].results_by_partition[0].partition_error_code
}

/// Writes an abort marker, as a coordinator does that repeats itself.
pub async fn write_marker(
    cluster: &Cluster,
    producer: ProducerIdentity,
    topic: &str,
    partition: i32,
) {
    let request = WriteTxnMarkersRequest::default().with_markers(vec![
        WritableTxnMarker::default()
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_transaction_result(false)
            .with_coordinator_epoch(0)
            .with_topics(vec![
                WritableTxnMarkerTopic::default()
                    .with_name(topic_name(topic))
                    .with_partition_indexes(vec![partition]),
            ]),
    ]);
    let mut leader = cluster.connect_leader(topic, partition).await.unwrap();
    let answer = leader.call(1, &request).await.unwrap();
    assert_eq!(answer.markers[0].topics[0].partitions[0].error_code, 0);
}

fn transactional(id: &str) -> TransactionalId {
    TransactionalId(StrBytes::from_string(id.into()))
}

fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.into()))
}
