//! A broker that is killed or stands still in the middle of appends.

use dev_stack::{DevStack, Options, Source, new_temporary_folder};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    raw::batch,
    shard::{Owner, Shard, in_time},
};

/// A Kafka of this test's own, without a Postgres.
async fn private_kafka() -> DevStack {
    let mut options = Options::new(new_temporary_folder());
    options.postgres = Source::Existing("none".into());
    DevStack::start(options).await.unwrap()
}

#[tokio::test]
async fn a_killed_broker_loses_nothing_and_appends_go_on() {
    let stack = private_kafka().await;
    let shard = Shard::on(stack.kafka()).await;
    let mut appends = Appends::begin(shard.own().await.unwrap());
    for _ in 0..2 {
        appends.more(200).await;
        stack.kafka_process().kill().await;
        appends.trouble().await;
        stack.kafka_process().start().await.unwrap();
        appends.more(200).await;
        appends.no_trouble().await;
    }
    let acknowledged = appends.end().await;
    assert_eq!(shard.records(&shard.events).await, acknowledged);

    // What the broker knew of the fence is there again, too.
    let mut deposed = shard.own().await.unwrap();
    shard.own().await.unwrap();
    stack.kafka_process().kill().await;
    stack.kafka_process().start().await.unwrap();
    assert!(deposed.append(66).await.is_err());
}

#[tokio::test]
async fn a_broker_that_stood_still_has_each_batch_once() {
    let stack = private_kafka().await;
    let shard = Shard::on(stack.kafka()).await;
    let mut appends = Appends::begin(shard.own().await.unwrap());
    appends.more(200).await;
    stack.kafka_process().pause();
    let reason = appends.trouble().await;
    assert!(reason.contains("did not answer"), "{reason}");
    stack.kafka_process().resume();
    appends.more(200).await;
    appends.no_trouble().await;
    let acknowledged = appends.end().await;
    assert_eq!(shard.records(&shard.events).await, acknowledged);
}

/// An owner that appends without a pause, whatever happens.
struct Appends {
    acknowledged: Vec<(i64, u64)>,
    offsets: mpsc::UnboundedReceiver<(i64, u64)>,
    trouble: watch::Receiver<Option<String>>,
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Appends {
    fn begin(mut owner: Owner) -> Self {
        let (sender, offsets) = mpsc::unbounded_channel();
        let (end, mut ended) = oneshot::channel();
        let trouble = owner.trouble.clone();
        let task = tokio::spawn(async move {
            for value in (0_u64..).step_by(3) {
                let group = [value, value + 1, value + 2];
                let offset = owner.events.append(batch(&group)).await.unwrap();
                for record in (offset..).zip(group) {
                    sender.send(record).unwrap();
                }
                if ended.try_recv().is_ok() {
                    return;
                }
            }
        });
        Self {
            acknowledged: Vec::new(),
            offsets,
            trouble,
            end,
            task,
        }
    }

    /// Resolves when so many more records are acknowledged.
    async fn more(&mut self, records: usize) {
        for _ in 0..records {
            let record = in_time(self.offsets.recv()).await.unwrap();
            self.acknowledged.push(record);
        }
    }

    /// Resolves when the appender says what troubles it.
    async fn trouble(&mut self) -> String {
        let told = in_time(self.trouble.wait_for(Option::is_some)).await;
        told.unwrap().clone().unwrap()
    }

    /// Resolves when nothing troubles it any more: a broker that has just been started may be
    /// slow once or twice.
    async fn no_trouble(&mut self) {
        in_time(self.trouble.wait_for(Option::is_none))
            .await
            .unwrap();
    }

    /// Every record that was acknowledged.
    async fn end(mut self) -> Vec<(i64, u64)> {
        self.end.send(()).unwrap();
        in_time(self.task).await.unwrap();
        while let Some(record) = self.offsets.recv().await {
            self.acknowledged.push(record);
        }
        self.acknowledged
    }
}
