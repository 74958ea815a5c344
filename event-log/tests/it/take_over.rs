//! Taking a shard over: one winner, whoever else tries.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use event_log::{
    append::AppendError,
    batch::ProducerIdentity,
    cluster::Cluster,
    fence::{FenceError, StillAssigned, TakeOver, renew, take_over, take_over_while},
    fetch::{FetchError, PartitionReader},
};
use futures::future::ready;
use tokio::{sync::mpsc, time::timeout};

use crate::{
    proxy::{Fault, Kind, Proxy},
    raw::{add_partition_to_txn, batch, init_producer_id, produce, use_up_epochs, write_marker},
    shard::{Entry, PARTITION, Shard, in_time},
};

const INVALID_PRODUCER_EPOCH: i16 = 47;
const PRODUCER_FENCED: i16 = 90;

/// The requests of a take-over, in order.
const STEPS: [Kind; 4] = [
    Kind::InitProducerId,
    Kind::AddPartitionsToTxn,
    Kind::EndTxn,
    Kind::InitExpecting,
];

#[tokio::test]
async fn the_first_batch_gets_the_offset_after_the_marker() {
    let shard = Shard::shared().await;
    for round in 0..3 {
        let mut owner = shard.own().await.unwrap();
        for appender in [&mut owner.events, &mut owner.owners] {
            let expected = appender.next_offset();
            let offset = in_time(appender.append(batch(&[round]))).await.unwrap();
            assert_eq!(offset, expected);
        }
        for topic in [&shard.events, &shard.owners] {
            let log = shard.log(topic).await;
            let [.., marker, first] = &log[..] else {
                panic!("{log:?} has no marker");
            };
            assert!(marker.control);
            assert_eq!(marker.producer, owner.take_over.marker);
            assert_eq!(first.producer, owner.take_over.writer);
            assert_eq!(first.offset, marker.offset + 1);
            assert_eq!(first.values, [round]);
        }
    }
}

#[tokio::test]
async fn a_deposed_owner_can_do_nothing_any_more() {
    let shard = Shard::shared().await;
    let mut deposed = shard.own().await.unwrap();
    deposed.append(1).await.unwrap();
    let old = deposed.take_over.writer;
    let mut owner = shard.own().await.unwrap();

    let sent = |topic: &str, sequence| {
        let bytes = batch(&[66]).seal(old, sequence, 0);
        let (cluster, topic) = (shard.cluster.clone(), topic.to_owned());
        async move { produce(&cluster, &topic, PARTITION, bytes).await.0 }
    };
    let next = sent(&shard.events, 1).await;
    assert_eq!(next, INVALID_PRODUCER_EPOCH, "its next batch");
    let first = sent(&shard.events, 0).await;
    assert_eq!(first, INVALID_PRODUCER_EPOCH, "a first batch");
    let elsewhere = sent(&shard.owners, 0).await;
    assert_eq!(
        elsewhere, INVALID_PRODUCER_EPOCH,
        "a partition it never wrote"
    );
    let resent = batch(&[1]).seal(old, 0, 0);
    let (resent, _) = produce(&shard.cluster, &shard.events, PARTITION, resent).await;
    assert_eq!(
        resent, INVALID_PRODUCER_EPOCH,
        "a batch that is in the log already"
    );
    let id = &shard.transactional_id;
    let (renewed, _) = init_producer_id(&shard.cluster, Some(id), old).await;
    assert_eq!(renewed, PRODUCER_FENCED, "a new epoch");
    let added = add_partition_to_txn(&shard.cluster, id, old, &shard.events, PARTITION).await;
    assert!(
        [INVALID_PRODUCER_EPOCH, PRODUCER_FENCED].contains(&added),
        "a transaction: {added}"
    );
    assert!(matches!(
        deposed.append(2).await,
        Err(AppendError::Fenced {
            code: INVALID_PRODUCER_EPOCH
        })
    ));

    owner.append(3).await.unwrap();
    let values: Vec<_> = shard.records(&shard.events).await;
    assert_eq!(values.iter().map(|(_, v)| *v).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(shard.records(&shard.owners).await, []);
}

#[tokio::test]
async fn whoever_is_overtaken_between_two_steps_has_lost() {
    for step in &STEPS[1..] {
        let shard = Shard::shared().await;
        let proxy = Proxy::before(&shard.cluster.bootstrap()).await;
        let gate = proxy.hold(*step);
        let slow = shard.through(&proxy.address);
        let slow = tokio::spawn(async move { slow.take_over().await });
        in_time(gate.reached()).await;

        let mut owner = in_time(shard.own()).await.unwrap();
        owner.append(1).await.unwrap();
        gate.open();

        let lost = in_time(slow).await.unwrap().unwrap_err();
        assert!(
            matches!(lost, FenceError::Lost { .. }),
            "held at {step:?}: {lost}"
        );
        owner.append(2).await.unwrap();
        let records = shard.records(&shard.events).await;
        assert_eq!(records.iter().map(|(_, v)| *v).collect::<Vec<_>>(), [1, 2]);
    }
}

#[tokio::test]
async fn of_two_that_are_between_their_steps_one_wins() {
    for step in &STEPS[1..] {
        let shard = Shard::shared().await;
        let [early, late] = [
            Proxy::before(&shard.cluster.bootstrap()).await,
            Proxy::before(&shard.cluster.bootstrap()).await,
        ];
        let gates = [early.hold(*step), late.hold(*step)];
        let mut takers = Vec::new();
        for (proxy, gate) in [&early, &late].into_iter().zip(&gates) {
            let shard = shard.through(&proxy.address);
            takers.push(tokio::spawn(async move { shard.own().await }));
            in_time(gate.reached()).await;
        }
        for gate in &gates {
            gate.open();
        }
        let late = in_time(takers.pop().unwrap()).await.unwrap();
        let early = in_time(takers.pop().unwrap()).await.unwrap();
        assert!(
            matches!(early, Err(FenceError::Lost { .. })),
            "held at {step:?}"
        );
        late.unwrap().append(1).await.unwrap();
    }
}

/// Two that end each other's take-overs unasked could go on for ever.
#[tokio::test]
async fn whoever_meets_another_take_over_asks_whether_it_may_go_on() {
    for still_assigned in [false, true] {
        let shard = Shard::shared().await;
        let proxy = Proxy::before(&shard.cluster.bootstrap()).await;
        let gate = proxy.hold(Kind::EndTxn);
        let slow = shard.through(&proxy.address);
        let slow = tokio::spawn(async move { slow.take_over().await });
        in_time(gate.reached()).await;

        let asked = Arc::new(AtomicU64::new(0));
        let answer: Box<StillAssigned> = Box::new({
            let asked = asked.clone();
            move || {
                asked.fetch_add(1, Ordering::Relaxed);
                Box::pin(ready(still_assigned))
            }
        });
        let topics = [shard.events.clone(), shard.owners.clone()];
        let (cluster, id) = (&shard.cluster, &shard.transactional_id);
        let quick = take_over_while(&answer, cluster, id, &topics, PARTITION);
        let quick = in_time(quick).await;
        let asked = asked.load(Ordering::Relaxed);
        match still_assigned {
            true => assert!(quick.is_ok() && asked > 0, "{quick:?}, asked {asked} times"),
            false => assert!(
                matches!(quick, Err(FenceError::Unassigned { .. })) && asked == 1,
                "{quick:?}, asked {asked} times"
            ),
        }
        gate.open();
        // It had been ended all the same, and has to ask in its turn.
        let slow = in_time(slow).await.unwrap();
        assert!(matches!(slow, Err(FenceError::Lost { .. })), "{slow:?}");
    }
}

#[tokio::test]
async fn a_take_over_goes_on_when_an_answer_or_a_request_is_lost() {
    for fault in [Fault::LoseAnswer, Fault::LoseRequest] {
        for step in STEPS {
            let shard = Shard::shared().await;
            let mut deposed = shard.own().await.unwrap();
            let proxy = Proxy::before(&shard.cluster.bootstrap()).await;
            proxy.next(step, [fault.clone()]);
            let mut owner = in_time(shard.through(&proxy.address).own()).await.unwrap();
            assert!(proxy.is_used_up());
            owner.append(1).await.unwrap();
            assert!(matches!(
                deposed.append(2).await,
                Err(AppendError::Fenced { .. })
            ));
        }
    }
}

#[tokio::test]
async fn restoring_ends_at_ones_own_marker() {
    let shard = Shard::shared().await;
    let mut first = shard.own().await.unwrap();
    first.append(1).await.unwrap();
    let second = shard.take_over().await.unwrap();
    let mut third = shard.own().await.unwrap();
    third.append(3).await.unwrap();
    let log = shard.log(&shard.events).await;

    let mut reader = PartitionReader::new(&shard.cluster, &shard.events, PARTITION, 0);
    let mut restored = Vec::new();
    in_time(reader.read_to_marker(second.marker, |batch| restored.push(Entry::of(batch))))
        .await
        .unwrap();
    let end = log
        .iter()
        .position(|entry| entry.producer == second.marker)
        .unwrap();
    assert_eq!(restored, log[..=end]);
    assert_eq!(reader.next_offset(), log[end].offset + 1);

    // What came after is still there to be read.
    let rest = in_time(reader.next_batches()).await.unwrap();
    let rest: Vec<_> = rest.iter().map(Entry::of).collect();
    assert_eq!(rest, log[end + 1..]);
}

#[tokio::test]
async fn restoring_waits_for_ones_own_marker() {
    let shard = Shard::shared().await;
    let mut owner = shard.own().await.unwrap();
    owner.append(1).await.unwrap();
    let proxy = Proxy::before(&shard.cluster.bootstrap()).await;
    let gate = proxy.hold(Kind::EndTxn);
    let next = shard.through(&proxy.address);
    let next = tokio::spawn(async move { next.take_over().await });
    in_time(gate.reached()).await;
    let writer = owner.take_over.writer;
    let marker = ProducerIdentity {
        epoch: writer.epoch + 1,
        ..writer
    };

    let (seen, mut entries) = mpsc::unbounded_channel();
    let mut reader = PartitionReader::new(&shard.cluster, &shard.events, PARTITION, 0);
    let restored = tokio::spawn(async move {
        let take = |batch: &event_log::batch::Batch| seen.send(Entry::of(batch)).unwrap();
        reader.read_to_marker(marker, take).await.unwrap();
        reader.next_offset()
    });
    let end = in_time(entries.recv()).await.unwrap();
    assert!(end.control && end.producer != marker);
    assert_eq!(in_time(entries.recv()).await.unwrap().values, [1]);
    assert!(!restored.is_finished());

    gate.open();
    assert_eq!(in_time(next).await.unwrap().unwrap().marker, marker);
    let end = in_time(entries.recv()).await.unwrap();
    assert!(end.control && end.producer == marker);
    assert_eq!(in_time(restored).await.unwrap(), end.offset + 1);
}

/// A coordinator that is restarted at the wrong moment completes take-overs without markers.
#[tokio::test]
async fn a_marker_that_never_comes_ends_the_reading() {
    let shard = Shard::shared().await;
    let owner = shard.own().await.unwrap();
    let never = ProducerIdentity {
        epoch: owner.take_over.writer.epoch + 1,
        ..owner.take_over.writer
    };
    let mut reader = PartitionReader::new(&shard.cluster, &shard.events, PARTITION, 0);
    let error = in_time(reader.read_to_marker(never, |_| {})).await;
    let error = error.unwrap_err();
    assert!(matches!(error, FetchError::NoMarker { .. }), "{error}");
}

/// Epochs end at 32,767, and a new producer id fences nobody by itself.
#[tokio::test]
async fn a_new_producer_id_is_taken_while_the_old_one_still_fences() {
    let shard = Shard::shared().await;
    let mut first = shard.own().await.unwrap();
    first.append(1).await.unwrap();
    let id = &shard.transactional_id;
    use_up_epochs(&shard.cluster, id, first.take_over.writer, 16_001).await;

    // As many epochs again, so it may take as long as it takes.
    let mut second = shard.own().await.unwrap();
    let TakeOver { marker, writer } = second.take_over;
    assert_eq!(marker.id, first.take_over.writer.id);
    assert_ne!(writer.id, marker.id);
    second.append(2).await.unwrap();
    let refused = first.append(66).await.unwrap_err();
    assert!(matches!(refused, AppendError::Fenced { .. }), "{refused}");

    let mut third = shard.own().await.unwrap();
    assert_eq!(third.take_over.marker.id, writer.id);
    third.append(3).await.unwrap();
    let refused = second.append(66).await.unwrap_err();
    assert!(matches!(refused, AppendError::Fenced { .. }), "{refused}");
    let values = shard.records(&shard.events).await;
    assert_eq!(
        values.iter().map(|(_, v)| *v).collect::<Vec<_>>(),
        [1, 2, 3]
    );
}

/// Lost answers can use a producer id up, too; the next one fences nobody, and the coordinator
/// does not know the one before any more.
#[tokio::test]
async fn an_id_that_was_used_up_unheard_can_be_fenced_by_hand_alone() {
    const INVALID_PRODUCER_ID_MAPPING: i16 = 49;
    let shard = Shard::shared().await;
    let mut first = shard.own().await.unwrap();
    first.append(1).await.unwrap();
    let id = &shard.transactional_id;
    let before = first.take_over.writer;
    use_up_epochs(&shard.cluster, id, before, i16::MAX - 1).await;

    let topics = [shard.events.clone(), shard.owners.clone()];
    let renewal = renew(&shard.cluster, id, &topics, PARTITION, before);
    let lost = in_time(renewal).await.unwrap_err();
    assert!(
        matches!(&lost, FenceError::Lost { reason, .. } if reason.contains("UnknownServerError")),
        "{lost}"
    );

    let proxy = Proxy::before(&shard.cluster.bootstrap()).await;
    proxy.next(Kind::InitProducerId, [Fault::LoseAnswer]);
    let next = in_time(shard.through(&proxy.address).take_over()).await;
    let next = next.unwrap();
    assert_ne!(next.marker.id, before.id);
    assert!(next.marker.epoch > 0);
    // The owner before is not fenced; it only notices the marker when it is too late.
    let bytes = batch(&[2]).seal(before, 1, 0);
    let (code, _) = produce(&shard.cluster, &shard.events, PARTITION, bytes).await;
    assert_eq!(code, 0);

    let newest = ProducerIdentity {
        epoch: i16::MAX - 1,
        ..before
    };
    for known in [before, newest] {
        let added = add_partition_to_txn(&shard.cluster, id, known, &shard.events, PARTITION);
        assert_eq!(added.await, INVALID_PRODUCER_ID_MAPPING);
    }
    write_marker(&shard.cluster, newest, &shard.events, PARTITION).await;
    let refused = first.append(66).await.unwrap_err();
    assert!(matches!(refused, AppendError::Fenced { .. }), "{refused}");
}

#[tokio::test]
async fn without_a_broker_a_take_over_is_given_up() {
    let nobody = Cluster::new("127.0.0.1:1");
    let error = take_over(&nobody, "test.1.shard.0", &["t".into()], 0)
        .await
        .unwrap_err();
    assert!(matches!(&error, FenceError::Unavailable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

/// Kafka never answers a request for several markers of which it can write
/// some and one not at all, as right after its topics were made: the
/// coordinator then sends no marker for 30 s.
#[tokio::test(flavor = "multi_thread")]
async fn take_overs_do_not_stall_while_topics_are_made() {
    const STALLED: Duration = Duration::from_secs(25);
    let makers: Vec<_> = (0..6)
        .map(|_| {
            tokio::spawn(async {
                for _ in 0..8 {
                    let shard = Shard::shared().await;
                    for _ in 0..4 {
                        timeout(STALLED, shard.take_over()).await.unwrap().unwrap();
                    }
                }
            })
        })
        .collect();
    for maker in makers {
        maker.await.unwrap();
    }
}
