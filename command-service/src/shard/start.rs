//! From nothing to an owner: take over, restore, claim.

use event_log::{
    append::Appender,
    batch::BatchBuilder,
    fence::{TakeOver, take_over},
    fetch::PartitionReader,
};
use futures::{
    StreamExt,
    stream::{self, BoxStream, FuturesUnordered, SelectAll},
};
use serde_json::json;
use tokio::{sync::watch, time::Instant};

use super::{Fence, OwnerError, Shard, ShardSettings, ShardStatus};
use crate::lane::Lane;

/// Key in the owners topic, which keeps the newest record of each.
const CLAIM: &[u8] = b"claim";

impl Shard {
    pub(super) async fn start(
        settings: &ShardSettings,
        partition: i32,
        status: &watch::Sender<ShardStatus>,
    ) -> Result<Self, OwnerError> {
        let generation = &settings.generation;
        let owners_topic = generation.owners_topic();
        let mut topics: Vec<_> = settings
            .contexts
            .iter()
            .map(|context| generation.events_topic(&context.name))
            .collect();
        topics.push(owners_topic.clone());
        let transactional_id = generation.transactional_id(partition);
        status.send_replace(ShardStatus::Starting("taking over".into()));
        let taken = take_over(&settings.cluster, &transactional_id, &topics, partition).await?;

        status.send_replace(ShardStatus::Starting("restoring from the log".into()));
        let mut shard = Self {
            fence: Some(Fence {
                cluster: settings.cluster.clone(),
                transactional_id,
                topics,
                partition,
                writer: taken.writer,
            }),
            renew_every: settings.fence_lifetime / 3,
            renew_at: Instant::now() + settings.fence_lifetime / 3,
            renewing: false,
            partition,
            term: 0,
            lanes: Vec::new(),
            appenders: Vec::new(),
            owners: None,
            want_barrier: Vec::new(),
            behind_barrier: Vec::new(),
            in_flight: FuturesUnordered::new(),
            trouble: SelectAll::new(),
            troubles: Vec::new(),
            // Two groups: while one is sent, the next is decided.
            room: settings.config.group * 2,
        };
        for context in &settings.contexts {
            let topic = generation.events_topic(&context.name);
            let mut lane = Lane::new(
                &context.name,
                topic,
                partition,
                context.kinds.iter().map(|make| make()).collect(),
                settings.config.group,
                settings.config.remembered_commands,
            );
            let mut reader = PartitionReader::new(&settings.cluster, lane.topic(), partition, 0);
            let mut replayed = Ok(());
            reader
                .read_to_marker(taken.marker, |batch| {
                    if replayed.is_ok() {
                        replayed = lane.replay(batch);
                    }
                })
                .await?;
            replayed?;
            let appender = shard.appender(settings, lane.topic(), taken, reader.next_offset());
            shard.appenders.push(Some(appender));
            shard.lanes.push(lane);
        }
        let mut reader = PartitionReader::new(&settings.cluster, &owners_topic, partition, 0);
        reader.read_to_marker(taken.marker, |_| {}).await?;
        let owners = shard.appender(settings, &owners_topic, taken, reader.next_offset());
        shard.claim(owners, taken, &settings.config.address).await?;
        Ok(shard)
    }

    fn appender(
        &mut self,
        settings: &ShardSettings,
        topic: &str,
        taken: TakeOver,
        next_offset: i64,
    ) -> Appender {
        let (trouble, watched) = watch::channel(None);
        let index = self.troubles.len();
        self.troubles.push(None);
        self.trouble.push(changes(index, watched));
        Appender::new(
            &settings.cluster,
            topic,
            self.partition,
            taken.writer,
            next_offset,
            trouble,
        )
    }

    /// The first append: it says who owns the shard now, and its offset is the term.
    async fn claim(
        &mut self,
        mut owners: Appender,
        taken: TakeOver,
        endpoint: &str,
    ) -> Result<(), OwnerError> {
        let claim = json!({
            "endpoint": endpoint,
            "producer_id": taken.writer.id,
            "epoch": taken.writer.epoch,
        });
        let mut batch = BatchBuilder::default();
        batch.push(CLAIM, Some(claim.to_string().as_bytes()), |_| {});
        let offset = owners.append(batch).await.map_err(OwnerError::Claim)?;
        self.term = offset.unsigned_abs();
        let highest = self.lanes.iter().map(Lane::highest_term).max();
        if let Some(highest) = highest.filter(|highest| *highest > self.term) {
            return Err(OwnerError::Term {
                term: self.term,
                highest,
            });
        }
        self.owners = Some(owners);
        self.lanes.iter_mut().for_each(|lane| lane.claim(self.term));
        Ok(())
    }
}

/// The values that a watched appender takes, with its index.
fn changes(
    index: usize,
    watched: watch::Receiver<Option<String>>,
) -> BoxStream<'static, (usize, Option<String>)> {
    stream::unfold(watched, move |mut watched| async move {
        watched.changed().await.ok()?;
        let trouble = watched.borrow_and_update().clone();
        Some(((index, trouble), watched))
    })
    .boxed()
}
