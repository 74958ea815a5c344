//! Renewing the fence: an owner that stays one, and never one who was deposed.

use event_log::{
    append::AppendError,
    fence::{FenceError, TakeOver, renew},
};

use crate::{
    proxy::{Fault, Kind, Proxy},
    raw::{NO_PRODUCER, batch, produce},
    shard::{Owner, PARTITION, Shard, in_time},
};

const INVALID_PRODUCER_EPOCH: i16 = 47;

async fn renewed(shard: &Shard, owner: &Owner) -> Result<TakeOver, FenceError> {
    let topics = [shard.events.clone(), shard.owners.clone()];
    let writer = owner.take_over.writer;
    let id = &shard.transactional_id;
    in_time(renew(&shard.cluster, id, &topics, PARTITION, writer)).await
}

#[tokio::test]
async fn a_renewed_owner_goes_on_behind_its_new_marker() {
    let shard = Shard::shared().await;
    let mut owner = shard.own().await.unwrap();
    let first = owner.append(1).await.unwrap();
    let before = owner.take_over.writer;
    let take_over = renewed(&shard, &owner).await.unwrap();
    for appender in [&mut owner.events, &mut owner.owners] {
        in_time(appender.resume(take_over)).await.unwrap();
    }
    assert_eq!(owner.append(2).await.unwrap(), first + 2);
    assert_eq!(owner.append(3).await.unwrap(), first + 3);
    in_time(owner.owners.append(batch(&[4]))).await.unwrap();

    let bytes = batch(&[66]).seal(before, 1, 0);
    let (code, _) = produce(&shard.cluster, &shard.events, PARTITION, bytes).await;
    assert_eq!(code, INVALID_PRODUCER_EPOCH, "its identity from before");
}

#[tokio::test]
async fn a_deposed_owner_cannot_renew() {
    let shard = Shard::shared().await;
    let deposed = shard.own().await.unwrap();
    let mut owner = shard.own().await.unwrap();
    owner.append(1).await.unwrap();
    let lost = renewed(&shard, &deposed).await.unwrap_err();
    assert!(matches!(lost, FenceError::Lost { .. }), "{lost}");
    owner.append(2).await.unwrap();
}

/// A coordinator that has forgotten a transactional id takes whoever names an identity for new.
#[tokio::test]
async fn a_renewal_that_hears_another_id_was_deposed() {
    let mut shard = Shard::shared().await;
    let owner = shard.own().await.unwrap();
    shard.transactional_id.push_str(".forgotten");
    let lost = renewed(&shard, &owner).await.unwrap_err();
    assert!(matches!(lost, FenceError::Lost { .. }), "{lost}");
    assert_eq!(shard.log(&shard.events).await.len(), 1, "it left a marker");
}

#[tokio::test]
async fn a_renewal_goes_on_when_an_answer_or_a_request_is_lost() {
    for fault in [Fault::LoseAnswer, Fault::LoseRequest] {
        for step in [Kind::InitExpecting, Kind::AddPartitionsToTxn, Kind::EndTxn] {
            let shard = Shard::shared().await;
            let mut owner = shard.own().await.unwrap();
            owner.append(1).await.unwrap();
            let proxy = Proxy::before(&shard.cluster.bootstrap()).await;
            proxy.next(step, [fault.clone()]);
            let take_over = renewed(&shard.through(&proxy.address), &owner)
                .await
                .unwrap();
            assert!(proxy.is_used_up());
            in_time(owner.events.resume(take_over)).await.unwrap();
            owner.append(2).await.unwrap();
        }
    }
}

#[tokio::test]
async fn whoever_wrote_before_the_renewal_is_noticed() {
    let shard = Shard::shared().await;
    let mut owner = shard.own().await.unwrap();
    owner.append(1).await.unwrap();
    let bytes = batch(&[66]).seal(NO_PRODUCER, -1, 0);
    let (code, _) = produce(&shard.cluster, &shard.events, PARTITION, bytes).await;
    assert_eq!(code, 0, "Kafka itself lets them");
    let take_over = renewed(&shard, &owner).await.unwrap();
    let error = in_time(owner.events.resume(take_over)).await.unwrap_err();
    assert!(matches!(error, AppendError::Trespassed { .. }), "{error}");
}
