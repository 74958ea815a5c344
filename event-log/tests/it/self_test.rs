//! A cluster that does not fence is found out before anything is owned.

use std::{sync::atomic::Ordering::Relaxed, time::Instant};

use event_log::{
    cluster::Cluster,
    self_test::{Property, SelfTestError, self_test},
    topics::{Generation, TopicOptions},
};
use futures::future::join_all;

use crate::{
    lenient::{self, Lenient},
    shard::{in_time, new_generation},
};

async fn tested(cluster: &Cluster, generation: &Generation) -> Result<(), SelfTestError> {
    in_time(self_test(cluster, generation, &[], TopicOptions::default())).await
}

#[tokio::test]
async fn kafka_fences_as_the_log_needs() {
    let cluster = Cluster::new(dev_stack::shared().await.kafka());
    let generation = new_generation();
    tested(&cluster, &generation).await.unwrap();
    let began = Instant::now();
    tested(&cluster, &generation).await.unwrap();
    eprintln!("the self-test took {:?}", began.elapsed());
}

#[tokio::test]
async fn nodes_that_start_together_do_not_disturb_each_other() {
    let cluster = Cluster::new(dev_stack::shared().await.kafka());
    let generation = new_generation();
    // More than there are transactional ids for.
    let nodes = (0..24).map(|_| tested(&cluster, &generation));
    for outcome in join_all(nodes).await {
        outcome.unwrap();
    }
}

#[tokio::test]
async fn each_missing_property_is_noticed() {
    const OUT_OF_ORDER: i16 = 45;
    const OLD_EPOCH: i16 = 47;
    use Property as P;
    let append = |refused_with, sequence| Lenient::Append {
        refused_with,
        sequence,
    };
    let generation = new_generation();
    let kafka = dev_stack::shared().await.kafka();
    for (lenient, expected) in [
        (Lenient::ClientsTime, P::BrokersTime),
        (Lenient::Duplicate, P::DuplicateGetsFirstOffset),
        (append(OUT_OF_ORDER, 7), P::GapIsRefused),
        (append(OLD_EPOCH, 2), P::DeposedIsRefusedNext),
        (append(OLD_EPOCH, 0), P::DeposedIsRefusedAtZero),
        (append(OLD_EPOCH, 1), P::DeposedIsRefusedResend),
        (Lenient::Init, P::DeposedIsRefusedInit),
        (Lenient::AddPartitions, P::DeposedIsRefusedTransaction),
    ] {
        let (address, changed) = lenient::before(kafka, lenient).await;
        let error = tested(&Cluster::new(&address), &generation)
            .await
            .unwrap_err();
        assert!(changed.load(Relaxed), "{lenient:?} changed nothing");
        let text = error.to_string();
        assert!(!error.is_temporary(), "{lenient:?}: {text}");
        assert!(text.contains("Apache Kafka 3.0 or newer"), "{text}");
        match error {
            SelfTestError::Unfenced { property, .. } => assert_eq!(property, expected, "{text}"),
            other => panic!("{lenient:?}: {other}"),
        }
    }
}

#[tokio::test]
async fn a_broker_that_is_too_old_is_refused_by_name() {
    let kafka = dev_stack::shared().await.kafka();
    let (address, _) = lenient::before(kafka, Lenient::Produce { newest: 8 }).await;
    let error = tested(&Cluster::new(&address), &new_generation())
        .await
        .unwrap_err();
    assert!(!error.is_temporary());
    let text = error.to_string();
    assert!(text.contains("knows Produce in versions"), "{text}");
    assert!(text.contains("needs versions 9 to"), "{text}");
    assert!(text.contains(&address), "{text}");
}
