//! From nothing to an owner: take over, restore, claim.

use std::{collections::BTreeSet, sync::Arc};

use event_log::{
    append::Appender,
    awake::Awake,
    batch::Batch,
    fence::{TakeOver, take_over_while},
    fetch::PartitionReader,
};
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered, SelectAll},
};
use tokio::{sync::watch, time::Instant};

use super::{
    Fence, OwnerError, Shard, ShardSettings, ShardStatus,
    predecessors::{Claim, Predecessors},
};
use crate::{lane::Lane, membership::SESSION};

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
        let lifetime = settings.fence_lifetime;
        // Who was away for longer than a session may have lost the shard to another node.
        let awake = Awake::new(SESSION, lifetime / 2);
        status.send_replace(ShardStatus::Starting("taking over".into()));
        let group = settings.group.clone();
        let still_assigned = move || -> BoxFuture<'static, bool> {
            let group = group.clone();
            Box::pin(async move { group.still_assigns(partition).await })
        };
        let (cluster, id) = (&settings.cluster, &transactional_id);
        let taking = take_over_while(&still_assigned, cluster, id, &topics, partition);
        let taken = awake.during(taking).await?;

        let mut shard = Self {
            fence: Some(Fence {
                cluster: settings.cluster.clone(),
                transactional_id,
                topics,
                partition,
                writer: taken.writer,
            }),
            awake: awake.clone(),
            endpoint: settings.group.address().to_owned(),
            renew_every: lifetime / 3,
            renew_at: Instant::now() + lifetime / 3,
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
        status.send_replace(ShardStatus::Starting("restoring from the log".into()));
        awake.during(shard.restore(settings, taken)).await?;
        shard.claim().await?;
        Ok(shard)
    }

    /// Reads every partition up to this take-over's marker.
    async fn restore(
        &mut self,
        settings: &ShardSettings,
        taken: TakeOver,
    ) -> Result<(), OwnerError> {
        let (partition, marker) = (self.partition, taken.marker);
        let mut predecessors = Predecessors::default();
        let mut ends = Vec::new();
        for context in &settings.contexts {
            let topic = settings.generation.events_topic(&context.name);
            let mut lane = Lane::new(
                &context.name,
                topic,
                partition,
                context.kinds.iter().map(|make| make()).collect(),
                settings.config.group,
                settings.config.remembered_commands,
            );
            predecessors.read(lane.topic());
            let mut reader = PartitionReader::new(&settings.cluster, lane.topic(), partition, 0);
            let mut replayed = Ok(());
            let replay = |batch: &Batch| {
                predecessors.note(batch);
                if replayed.is_ok() {
                    replayed = lane.replay(batch);
                }
            };
            reader.read_to_marker(marker, replay).await?;
            replayed?;
            if let Some(foreign) = lane.foreign() {
                tracing::warn!(
                    topic = lane.topic(),
                    partition,
                    records = foreign.records,
                    "passed over {} records that are not ours, at offsets {} to {}",
                    foreign.records,
                    foreign.first_offset,
                    foreign.last_offset
                );
            }
            ends.push(reader.next_offset());
            self.lanes.push(lane);
        }
        let owners_topic = settings.generation.owners_topic();
        predecessors.read(&owners_topic);
        let mut reader = PartitionReader::new(&settings.cluster, &owners_topic, partition, 0);
        let note = |batch: &Batch| predecessors.note_claim(batch);
        reader.read_to_marker(marker, note).await?;
        predecessors
            .are_fenced(partition, marker, settings.fence_lifetime)
            .map_err(Box::new)?;

        let ids = Arc::new(predecessors.ids(taken));
        for (index, end) in ends.into_iter().enumerate() {
            let topic = self.lanes[index].topic().to_owned();
            let appender = self.appender(settings, &topic, taken, end, &ids);
            self.appenders
                .push(Some(appender.waits_out_pauses(&self.awake)));
        }
        let owners = self.appender(settings, &owners_topic, taken, reader.next_offset(), &ids);
        self.owners = Some(owners.proves_ownership(&self.awake));
        Ok(())
    }

    fn appender(
        &mut self,
        settings: &ShardSettings,
        topic: &str,
        taken: TakeOver,
        next_offset: i64,
        owners: &Arc<BTreeSet<i64>>,
    ) -> Appender {
        let (trouble, watched) = watch::channel(None);
        let index = self.troubles.len();
        self.troubles.push(None);
        self.trouble.push(changes(index, watched));
        let (cluster, writer) = (&settings.cluster, taken.writer);
        Appender::new(cluster, topic, self.partition, writer, next_offset, trouble)
            .after_owners(owners)
    }

    /// The first append: it says who owns the shard now, and its offset is the term.
    async fn claim(&mut self) -> Result<(), OwnerError> {
        let (Some(fence), Some(owners)) = (&self.fence, &mut self.owners) else {
            unreachable!("a shard is claimed before it is served");
        };
        let claim = Claim::new(&self.endpoint, fence.writer);
        let claiming = owners.append(claim.batch());
        let offset = self.awake.during(claiming).await;
        self.begin_term(offset.map_err(OwnerError::Claim)?)
    }

    /// From now on the events carry this claim's offset.
    pub(super) fn begin_term(&mut self, claim: i64) -> Result<(), OwnerError> {
        self.term = claim.unsigned_abs();
        let highest = self.lanes.iter().map(Lane::highest_term).max();
        if let Some(highest) = highest.filter(|highest| *highest > self.term) {
            return Err(OwnerError::Term {
                term: self.term,
                highest,
            });
        }
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
