//! Many writers that depose each other: one log, as if there had been one.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use event_log::{append::AppendError, fence::FenceError};
use tokio::time::{sleep, timeout};

use crate::{raw::batch, shard::Shard};

const WRITERS: u64 = 6;
/// They go on until both are reached.
const TAKE_OVERS: u64 = 100;
const RECORDS: u64 = 1_000;
/// Each of them may wait for all the others.
const AT_MOST: Duration = Duration::from_secs(600);

/// Topic (0: events, 1: owners), offset and value.
type Acknowledged = Vec<(usize, i64, u64)>;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_in_the_log_once_at_its_offset() {
    let shard = Shard::shared().await;
    let progress = Arc::new(Progress::default());
    let writers: Vec<_> = (0..WRITERS)
        .map(|number| tokio::spawn(write(shard.clone(), number, progress.clone())))
        .collect();
    let mut acknowledged = Acknowledged::new();
    for writer in writers {
        acknowledged.extend(timeout(AT_MOST, writer).await.unwrap().unwrap());
    }
    for (number, topic) in [&shard.events, &shard.owners].into_iter().enumerate() {
        let log = shard.log(topic).await;
        let epochs: Vec<_> = log.iter().map(|entry| entry.producer).collect();
        assert!(epochs.is_sorted_by_key(|producer| (producer.id, producer.epoch)));
        let records = shard.records(topic).await;
        let values: HashSet<_> = records.iter().map(|(_, value)| value).collect();
        assert_eq!(values.len(), records.len(), "a record is in {topic} twice");
        let records: HashSet<_> = records.into_iter().collect();
        for (_, offset, value) in acknowledged.iter().filter(|(of, _, _)| *of == number) {
            assert!(
                records.contains(&(*offset, *value)),
                "{value} is not at offset {offset} of {topic}"
            );
        }
    }
}

/// Takes over and writes until it is deposed, again and again.
async fn write(shard: Shard, number: u64, progress: Arc<Progress>) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    let mut values = (number << 32)..;
    let mut chance = Chance(number + 1);
    while !progress.is_enough() {
        let mut owner = match shard.own().await {
            Ok(owner) => owner,
            Err(FenceError::Lost { .. }) => {
                sleep(Duration::from_millis(chance.below(20))).await;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        progress.take_overs.fetch_add(1, Ordering::Relaxed);
        for _ in 0..chance.below(60) {
            let topic = chance.below(2) as usize;
            let appender = match topic {
                0 => &mut owner.events,
                _ => &mut owner.owners,
            };
            let size = 1 + chance.below(4) as usize;
            let group: Vec<_> = values.by_ref().take(size).collect();
            let expected = appender.next_offset();
            match appender.append(batch(&group)).await {
                Ok(offset) => {
                    assert_eq!(offset, expected);
                    progress.records.fetch_add(size as u64, Ordering::Relaxed);
                    let group = (offset..).zip(group);
                    acknowledged.extend(group.map(|(offset, value)| (topic, offset, value)));
                }
                Err(AppendError::Fenced { .. }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        // The others get their turn.
        sleep(Duration::from_millis(chance.below(300))).await;
    }
    acknowledged
}

#[derive(Default)]
struct Progress {
    take_overs: AtomicU64,
    records: AtomicU64,
}

impl Progress {
    fn is_enough(&self) -> bool {
        self.take_overs.load(Ordering::Relaxed) >= TAKE_OVERS
            && self.records.load(Ordering::Relaxed) >= RECORDS
    }
}

/// The same numbers in each run (xorshift).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}
