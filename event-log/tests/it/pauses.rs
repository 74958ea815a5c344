//! A process that stood still: what it believes may be outdated.

use std::{thread, time::Duration};

use event_log::{append::AppendError, awake::Awake};

use crate::{
    proxy::{Fault, Kind, Proxy},
    raw::batch,
    shard::{Owner, Shard, in_time},
};

const DAY: Duration = Duration::from_secs(86_400);

/// The whole process, as a signal or a sleeping machine stops it.
fn stand_still(pause: Duration) {
    thread::sleep(pause);
}

#[tokio::test]
async fn after_a_pause_nothing_is_sent_before_ownership_is_proved() {
    let shard = Shard::shared().await;
    let proxy = Proxy::before(&shard.cluster.bootstrap()).await;
    let Owner { events, owners, .. } = shard.through(&proxy.address).own().await.unwrap();
    let awake = Awake::new(Duration::from_millis(100), DAY);
    let mut events = events.waits_out_pauses(&awake);
    let mut owners = owners.proves_ownership(&awake);

    stand_still(Duration::from_millis(200));
    let gate = proxy.hold(Kind::Produce);
    let append = tokio::spawn(async move { events.append(batch(&[1])).await });
    let prove = tokio::spawn(async move { owners.append(batch(&[2])).await });
    in_time(gate.reached()).await;
    // Whichever of the two is held, the other one has time to arrive.
    assert_eq!(shard.records(&shard.events).await, []);
    assert!(!append.is_finished() && !prove.is_finished());

    gate.open();
    in_time(prove).await.unwrap().unwrap();
    in_time(append).await.unwrap().unwrap();
    assert_eq!(shard.records(&shard.events).await.len(), 1);
}

#[tokio::test]
async fn a_deposed_owner_that_wakes_up_sends_nothing_but_its_proof() {
    let shard = Shard::shared().await;
    let Owner { events, owners, .. } = shard.own().await.unwrap();
    let awake = Awake::new(Duration::from_millis(100), DAY);
    let mut events = events.waits_out_pauses(&awake);
    let mut owners = owners.proves_ownership(&awake);
    shard.own().await.unwrap();
    stand_still(Duration::from_millis(200));
    let fenced = tokio::select! {
        appended = events.append(batch(&[1])) => panic!("it was sent: {appended:?}"),
        proved = in_time(owners.append(batch(&[2]))) => proved.unwrap_err(),
    };
    assert!(matches!(fenced, AppendError::Fenced { .. }), "{fenced}");
}

#[tokio::test]
async fn after_too_long_a_pause_nothing_is_sent_at_all() {
    let shard = Shard::shared().await;
    let Owner { events, owners, .. } = shard.own().await.unwrap();
    let awake = Awake::new(Duration::from_millis(50), Duration::from_millis(100));
    let mut events = events.waits_out_pauses(&awake);
    let mut owners = owners.proves_ownership(&awake);
    stand_still(Duration::from_millis(200));
    for appender in [&mut events, &mut owners] {
        let error = in_time(appender.append(batch(&[1]))).await.unwrap_err();
        assert!(matches!(error, AppendError::Overslept(_)), "{error}");
    }
    assert_eq!(shard.records(&shard.events).await, []);
    assert_eq!(shard.records(&shard.owners).await, []);
}

/// A broker that has forgotten a batch would append it once more.
#[tokio::test]
async fn a_batch_is_not_sent_again_when_brokers_may_have_forgotten_it() {
    let shard = Shard::shared().await;
    let proxy = Proxy::before(&shard.cluster.bootstrap()).await;
    let Owner { events, .. } = shard.through(&proxy.address).own().await.unwrap();
    let awake = Awake::new(DAY, Duration::from_secs(2));
    let mut events = events.waits_out_pauses(&awake);
    proxy.next(Kind::Produce, vec![Fault::LoseAnswer; 100]);
    let append = in_time(awake.during(events.append(batch(&[1]))));
    let error = append.await.unwrap_err();
    assert!(matches!(error, AppendError::Overslept(_)), "{error}");
    assert!(!proxy.is_used_up());
    assert_eq!(shard.records(&shard.events).await.len(), 1);
}
