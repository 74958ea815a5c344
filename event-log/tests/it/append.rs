//! Appending: each batch once, at the offset that was answered.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use event_log::{
    append::AppendError,
    batch::{BatchBuilder, ProducerIdentity},
    cluster::Cluster,
    wire::WireError,
};
use kafka_protocol::messages::MetadataRequest;

use crate::{
    proxy::{Fault, Kind, Proxy},
    raw::{NO_PRODUCER, batch, init_producer_id, produce, write_marker},
    shard::{Owner, PARTITION, Shard, in_time},
};

const MESSAGE_TOO_LARGE: i16 = 10;
const OUT_OF_ORDER_SEQUENCE: i16 = 45;

/// A record above what the topic takes.
fn too_large() -> BatchBuilder {
    let mut batch = BatchBuilder::default();
    batch.push(b"main/task/7", Some(&vec![b'x'; 2 << 20]), |_| {});
    batch
}

/// An owner whose requests go through a proxy.
async fn owner_behind_proxy() -> (Shard, Proxy, Owner) {
    let shard = Shard::shared().await;
    let proxy = Proxy::before(&shard.cluster.bootstrap()).await;
    let owner = shard.through(&proxy.address).own().await.unwrap();
    (shard, proxy, owner)
}

#[tokio::test]
async fn a_resent_batch_gets_its_first_offset_and_is_in_the_log_once() {
    for fault in [Fault::LoseAnswer, Fault::LoseRequest] {
        let (shard, proxy, mut owner) = owner_behind_proxy().await;
        let first = owner.append(1).await.unwrap();
        proxy.next(Kind::Produce, [fault.clone(), fault.clone(), fault]);
        let offset = in_time(owner.events.append(batch(&[2, 3]))).await.unwrap();
        assert!(proxy.is_used_up());
        assert_eq!(offset, first + 1);
        assert_eq!(owner.append(4).await.unwrap(), first + 3);
        assert_eq!(
            shard.records(&shard.events).await,
            [(first, 1), (first + 1, 2), (first + 2, 3), (first + 3, 4)]
        );
    }
}

#[tokio::test]
async fn the_same_bytes_are_answered_with_the_same_offset() {
    let shard = Shard::shared().await;
    let writer = shard.take_over().await.unwrap().writer;
    let bytes = batch(&[1, 2]).seal(writer, 0, 0);
    let first = produce(&shard.cluster, &shard.events, PARTITION, bytes.clone()).await;
    let again = produce(&shard.cluster, &shard.events, PARTITION, bytes).await;
    assert_eq!(first.0, 0);
    assert_eq!(again, first);
    assert_eq!(shard.records(&shard.events).await.len(), 2);
}

#[tokio::test]
async fn a_gap_is_refused() {
    let shard = Shard::shared().await;
    let writer = shard.take_over().await.unwrap().writer;
    let mut codes = Vec::new();
    for sequence in [1, 0, 2] {
        let bytes = batch(&[1]).seal(writer, sequence, 0);
        let (code, _) = produce(&shard.cluster, &shard.events, PARTITION, bytes).await;
        codes.push(code);
    }
    assert_eq!(codes, [OUT_OF_ORDER_SEQUENCE, 0, OUT_OF_ORDER_SEQUENCE]);
}

#[tokio::test]
async fn what_troubles_an_append_is_told_until_the_log_answers_again() {
    let (_, proxy, mut owner) = owner_behind_proxy().await;
    owner.append(1).await.unwrap();
    assert_eq!(*owner.trouble.borrow(), None);
    proxy.next(Kind::Produce, [Fault::LoseRequest]);
    let gate = proxy.hold(Kind::Produce);
    let mut trouble = owner.trouble.clone();
    let append = tokio::spawn(async move { owner.append(2).await });
    let told = in_time(trouble.wait_for(Option::is_some)).await.unwrap();
    assert!(told.as_ref().unwrap().contains("lost the connection"));
    drop(told);
    in_time(gate.reached()).await;
    gate.open();
    in_time(append).await.unwrap().unwrap();
    assert_eq!(*trouble.borrow(), None);
}

#[tokio::test]
async fn a_hiccup_is_no_trouble() {
    let (_, proxy, mut owner) = owner_behind_proxy().await;
    let mut trouble = owner.trouble.clone();
    for fault in [Fault::LoseRequest, Fault::LoseAnswer] {
        until_quick(async || {
            trouble.mark_unchanged();
            proxy.next(Kind::Produce, [fault.clone(), fault.clone()]);
            let began = Instant::now();
            owner.append(1).await.unwrap();
            let took = began.elapsed();
            assert!(proxy.is_used_up());
            (took, !trouble.has_changed().unwrap())
        })
        .await;
    }
}

#[tokio::test]
async fn a_broker_that_hung_up_meanwhile_is_no_trouble() {
    let (shard, proxy, mut owner) = owner_behind_proxy().await;
    let mut last = owner.append(1).await.unwrap();
    let through_proxy = Cluster::new(&proxy.address);
    let mut trouble = owner.trouble.clone();
    until_quick(async || {
        let mut idle = through_proxy
            .connect_leader(&shard.events, PARTITION)
            .await
            .unwrap();
        idle.call(8, &MetadataRequest::default()).await.unwrap();
        assert!(idle.is_open());
        proxy.hang_up();
        in_time(async {
            while idle.is_open() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        trouble.mark_unchanged();
        let began = Instant::now();
        let offset = owner.append(2).await.unwrap();
        let took = began.elapsed();
        assert_eq!(offset, last + 1);
        last = offset;
        (
            took,
            !trouble.has_changed().unwrap() && trouble.borrow().is_none(),
        )
    })
    .await;
}

/// Tries until one took less than the second after which it is told that no answer comes: then
/// nothing may have been told. On a busy machine any of them may take longer.
async fn until_quick(mut tries: impl AsyncFnMut() -> (Duration, bool)) {
    const TOLD_AFTER: Duration = Duration::from_secs(1);
    in_time(async {
        loop {
            let (took, nothing_told) = tries().await;
            if took < TOLD_AFTER {
                return assert!(nothing_told, "told after {took:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_batch_that_is_refused_for_itself_leaves_the_way_free() {
    let (shard, proxy, mut owner) = owner_behind_proxy().await;
    let first = owner.append(1).await.unwrap();
    // The second time the leader is looked for in vain at first: nothing was
    // sent, so the outcome was not unknown.
    for faults in [vec![], vec![Fault::LoseRequest]] {
        proxy.next(Kind::Metadata, faults);
        let refused = in_time(owner.events.append(too_large())).await.unwrap_err();
        assert!(
            matches!(
                refused,
                AppendError::Refused {
                    code: MESSAGE_TOO_LARGE
                }
            ),
            "{refused}"
        );
        assert!(proxy.is_used_up());
    }
    assert_eq!(owner.append(2).await.unwrap(), first + 1);
    assert_eq!(
        shard.records(&shard.events).await,
        [(first, 1), (first + 1, 2)]
    );
}

#[tokio::test]
async fn a_refusal_after_an_unknown_outcome_is_no_answer() {
    let (_, proxy, mut owner) = owner_behind_proxy().await;
    proxy.next(Kind::Produce, [Fault::LoseAnswer]);
    let error = in_time(owner.events.append(too_large())).await.unwrap_err();
    assert!(matches!(error, AppendError::Diverged { .. }), "{error}");
}

#[tokio::test]
async fn after_an_append_was_given_up_halfway_nothing_more_is_appended() {
    let (shard, proxy, mut owner) = owner_behind_proxy().await;
    let first = owner.append(1).await.unwrap();
    let gate = proxy.hold(Kind::Produce);
    tokio::select! {
        _ = owner.events.append(batch(&[2])) => panic!("it was held back"),
        () = gate.reached() => {}
    }
    gate.open();
    // It has the same sequence number, and the broker would take it for the one before.
    let error = owner.append(3).await.unwrap_err();
    assert!(matches!(error, AppendError::Unfinished { .. }), "{error}");
    let mut successor = shard.own().await.unwrap();
    successor.append(4).await.unwrap();
    let values = shard.records(&shard.events).await;
    assert_eq!(values[0], (first, 1));
    assert!(!values.iter().any(|(_, value)| *value == 3));
}

#[tokio::test]
async fn after_a_call_was_given_up_halfway_its_connection_answers_nothing_else() {
    let (shard, proxy, _) = owner_behind_proxy().await;
    let through_proxy = Cluster::new(&proxy.address);
    let mut connection = through_proxy
        .connect_leader(&shard.events, PARTITION)
        .await
        .unwrap();
    let request = MetadataRequest::default();
    connection.call(8, &request).await.unwrap();
    let gate = proxy.hold(Kind::Metadata);
    tokio::select! {
        _ = connection.call(8, &request) => panic!("it was held back"),
        () = gate.reached() => {}
    }
    gate.open();
    let error = connection.call(8, &request).await.unwrap_err();
    assert!(matches!(error, WireError::Lost { .. }), "{error}");
}

#[tokio::test]
async fn whoever_writes_between_our_batches_is_noticed() {
    let shard = Shard::shared().await;
    let foreign_writer = init_producer_id(&shard.cluster, None, NO_PRODUCER).await.1;
    for (foreign, sequence) in [(NO_PRODUCER, -1), (foreign_writer, 0)] {
        let mut owner = shard.own().await.unwrap();
        owner.append(1).await.unwrap();
        let bytes = batch(&[66]).seal(foreign, sequence, 0);
        let (code, offset) = produce(&shard.cluster, &shard.events, PARTITION, bytes).await;
        assert_eq!(code, 0, "Kafka itself lets them");
        let error = owner.append(2).await.unwrap_err();
        let AppendError::Trespassed { what, .. } = &error else {
            panic!("{error}");
        };
        let who = format!(
            "offset {offset} has records of producer {} epoch {}",
            foreign.id, foreign.epoch
        );
        assert!(what.starts_with(&who), "{what}");
    }
}

#[tokio::test]
async fn a_foreign_marker_between_our_batches_is_noticed() {
    let shard = Shard::shared().await;
    let mut owner = shard.own().await.unwrap();
    let other = init_producer_id(&shard.cluster, None, NO_PRODUCER).await.1;
    write_marker(&shard.cluster, other, &shard.events, PARTITION).await;
    let error = owner.append(1).await.unwrap_err();
    let AppendError::Trespassed { what, .. } = &error else {
        panic!("{error}");
    };
    let who = format!(
        "a transaction marker of producer {} epoch {}",
        other.id, other.epoch
    );
    assert!(what.contains(&who), "{what}");
}

/// Where a producer id was used up, its markers may come late.
#[tokio::test]
async fn a_repeated_marker_of_an_owner_before_is_passed_over() {
    let shard = Shard::shared().await;
    let Owner { events, .. } = shard.own().await.unwrap();
    let (code, before) = init_producer_id(&shard.cluster, None, NO_PRODUCER).await;
    assert_eq!(code, 0);
    let mut events = events.after_owners(&Arc::new(BTreeSet::from([before.id])));
    let expected = events.next_offset();
    write_marker(&shard.cluster, before, &shard.events, PARTITION).await;
    let offset = in_time(events.append(batch(&[1]))).await.unwrap();
    assert_eq!(offset, expected + 1);
}

#[tokio::test]
async fn ones_own_marker_repeated_is_passed_over() {
    let shard = Shard::shared().await;
    let mut owner = shard.own().await.unwrap();
    let expected = owner.events.next_offset();
    let marker = owner.take_over.marker;
    for _ in 0..2 {
        write_marker(&shard.cluster, marker, &shard.events, PARTITION).await;
    }
    assert_eq!(owner.append(1).await.unwrap(), expected + 2);
    assert_eq!(owner.append(2).await.unwrap(), expected + 3);
}

#[tokio::test]
async fn whoever_writes_as_ourselves_is_noticed() {
    let shard = Shard::shared().await;
    let mut owner = shard.own().await.unwrap();
    let bytes = batch(&[66, 67]).seal(owner.take_over.writer, 0, 0);
    let (code, _) = produce(&shard.cluster, &shard.events, PARTITION, bytes).await;
    assert_eq!(code, 0);
    let error = owner.append(1).await.unwrap_err();
    assert!(
        matches!(&error, AppendError::Diverged { what, .. } if what.contains("OutOfOrder")),
        "{error}"
    );
}

/// A partition lets a producer that it does not know begin with any sequence
/// number, which spares 2^31 records to get to the end.
#[tokio::test]
async fn sequence_numbers_go_on_from_zero_after_the_last() {
    let shard = Shard::shared().await;
    let writer = init_producer_id(&shard.cluster, None, NO_PRODUCER).await.1;
    let mut log = Sequence {
        cluster: &shard.cluster,
        topic: &shard.events,
        writer,
        next: i32::MAX - 3,
    };
    assert_eq!(log.append(&[1, 2]).await, (0, 0));
    // Two of these three are after the wrap.
    assert_eq!(log.append(&[3, 4, 5]).await, (0, 2));
    assert_eq!(log.next, 1);
    assert_eq!(log.append(&[6]).await, (0, 5));
    assert_eq!(log.resend(&[6]).await, (0, 5));
    assert_eq!(shard.records(&shard.events).await.len(), 6);

    // Exactly at the end.
    log.writer = init_producer_id(&shard.cluster, None, NO_PRODUCER).await.1;
    log.next = i32::MAX;
    assert_eq!(log.append(&[7]).await, (0, 6));
    assert_eq!(log.next, 0);
    assert_eq!(log.append(&[8]).await, (0, 7));
}

struct Sequence<'a> {
    cluster: &'a Cluster,
    topic: &'a str,
    writer: ProducerIdentity,
    next: i32,
}

impl Sequence<'_> {
    async fn append(&mut self, values: &[u64]) -> (i16, i64) {
        let at = self.next;
        self.next = event_log::batch::sequence_after(at, values.len() as i32);
        self.send(values, at).await
    }

    /// The newest batch again.
    async fn resend(&self, values: &[u64]) -> (i16, i64) {
        self.send(values, self.next - values.len() as i32).await
    }

    async fn send(&self, values: &[u64], sequence: i32) -> (i16, i64) {
        let bytes = batch(values).seal(self.writer, sequence, 0);
        produce(self.cluster, self.topic, PARTITION, bytes).await
    }
}
