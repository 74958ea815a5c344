//! From nothing to an owner: read ahead, take over, restore, claim.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use event_log::{
    append::Appender,
    awake::Awake,
    batch::{Batch, ProducerIdentity},
    fence::{TakeOver, take_over_while},
    fetch::{FetchError, PartitionReader},
};
use futures::{
    StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream, FuturesUnordered, SelectAll},
};
use tokio::{sync::watch, time::Instant};

use super::{
    ContextFactory, Fence, OwnerError, Shard, ShardSettings, ShardStatus, chain,
    predecessors::{Claim, Predecessors},
};
use crate::{
    answers::RecordedAnswer,
    lane::{Lane, UnknownRecord},
    snapshots::{Copier, Shelf},
};

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
        topics.extend([generation.answers_topic(), owners_topic]);
        let transactional_id = generation.transactional_id(partition);
        let lifetime = settings.fence_lifetime;
        status.send_replace(ShardStatus::Starting("reading ahead".into()));
        let group = settings.group.clone();
        let still_assigned = move || -> BoxFuture<'static, bool> {
            let group = group.clone();
            Box::pin(async move { group.still_assigns(partition).await })
        };
        let mut shelf = match &settings.snapshots {
            Some(topic) => Shelf::read(topic, partition).await,
            None => Shelf::default(),
        };
        let mut restoring = Restoring::new(settings, partition, &mut shelf);
        restoring.read_ahead().await?;
        let active = settings.switch.watch();
        settings.switch.before_claim().await?;

        // Who was away for longer than a session may have lost the shard to another node.
        let awake = Awake::new(settings.config.session(), lifetime / 2);
        status.send_replace(ShardStatus::Starting("taking over".into()));
        let (cluster, id) = (&settings.cluster, &transactional_id);
        let taking = take_over_while(&still_assigned, cluster, id, &topics, partition);
        let taken = awake.during(taking).await?;

        let mut shard = Self {
            facts: settings.facts[partition as usize].clone(),
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
            answers: None,
            want_answers: BTreeMap::new(),
            behind_answers: Vec::new(),
            want_barrier: Vec::new(),
            behind_barrier: Vec::new(),
            in_flight: FuturesUnordered::new(),
            trouble: SelectAll::new(),
            troubles: Vec::new(),
            // Two groups: while one is sent, the next is decided.
            room: settings.config.group * 2,
            copier: None,
            switch: settings.switch.clone(),
            active,
        };
        status.send_replace(ShardStatus::Starting("restoring from the log".into()));
        awake
            .during(shard.restore(settings, restoring, taken))
            .await?;
        shard.claim().await?;
        shard.write_active();
        shard.copier = settings.snapshots.as_ref().map(|topic| {
            let names = settings.contexts.iter().map(|context| context.name.clone());
            let editions = shard.lanes.iter().map(Lane::edition);
            let (every, term) = (settings.config.snapshot_every, shard.term);
            let lanes = names.zip(editions).collect();
            Copier::start(
                every,
                topic.clone(),
                partition,
                term,
                lanes,
                shelf.emptied(),
            )
        });
        Ok(shard)
    }

    /// Reads every partition up to this take-over's marker.
    async fn restore(
        &mut self,
        settings: &ShardSettings,
        mut restoring: Restoring,
        taken: TakeOver,
    ) -> Result<(), OwnerError> {
        let partition = self.partition;
        restoring.read_to_marker(taken.marker).await?;
        let Restoring {
            lanes,
            answers,
            owners,
            predecessors,
            ..
        } = restoring;
        predecessors
            .are_fenced(partition, taken.marker, settings.fence_lifetime)
            .map_err(Box::new)?;
        let ids = Arc::new(predecessors.ids(taken));
        let foreign = lanes.iter().filter_map(|(lane, _)| {
            let found = lane.foreign()?.clone();
            Some((lane.topic().to_owned(), found))
        });
        self.facts.note_restored(foreign.collect());
        for (lane, reader) in lanes {
            warn_of_foreign(&lane, partition);
            let end = reader.next_offset();
            let appender = self.appender(settings, lane.topic(), taken, end, &ids);
            self.appenders
                .push(Some(appender.waits_out_pauses(&self.awake)));
            self.lanes.push(lane);
        }
        let topic = settings.generation.answers_topic();
        let answers = self.appender(settings, &topic, taken, answers.next_offset(), &ids);
        self.answers = Some(answers.waits_out_pauses(&self.awake));
        // The last one: see `status`.
        let topic = settings.generation.owners_topic();
        let owners = self.appender(settings, &topic, taken, owners.next_offset(), &ids);
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
        self.facts.term.store(self.term, Relaxed);
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

/// The shard's state in the making, from its log.
struct Restoring {
    lanes: Vec<(Lane, PartitionReader)>,
    /// Of the topic of answers.
    answers: PartitionReader,
    /// Highest term of an answer that was read.
    answers_term: u64,
    /// Of the owners topic.
    owners: PartitionReader,
    predecessors: Predecessors,
}

/// How far a partition is read.
#[derive(Clone, Copy)]
enum Until {
    NearlyTheEnd,
    Marker(ProducerIdentity),
}

impl Until {
    async fn read(
        self,
        reader: &mut PartitionReader,
        take: impl FnMut(&Batch),
    ) -> Result<(), FetchError> {
        match self {
            Self::NearlyTheEnd => reader.read_ahead(take).await,
            Self::Marker(marker) => reader.read_to_marker(marker, take).await,
        }
    }
}

impl Restoring {
    fn new(settings: &ShardSettings, partition: i32, shelf: &mut Shelf) -> Self {
        let reader =
            |topic: &str, from| PartitionReader::new(&settings.cluster, topic, partition, from);
        let mut predecessors = Predecessors::default();
        let lanes = settings.contexts.iter().map(|context| {
            let lane = from_snapshot(settings, context, partition, shelf);
            let reader = reader(lane.topic(), lane.next_offset());
            predecessors.read(lane.topic());
            predecessors.note_marked(lane.marked());
            (lane, reader)
        });
        let lanes = lanes.collect();
        let answers_topic = settings.generation.answers_topic();
        predecessors.read(&answers_topic);
        let owners_topic = settings.generation.owners_topic();
        predecessors.read(&owners_topic);
        Self {
            lanes,
            answers: reader(&answers_topic, 0),
            answers_term: 0,
            owners: reader(&owners_topic, 0),
            predecessors,
        }
    }

    /// While another owner may still serve: the longer part of restoring, so that the shard is
    /// without an owner only for the shorter one.
    async fn read_ahead(&mut self) -> Result<(), OwnerError> {
        self.read_states(Until::NearlyTheEnd).await
    }

    async fn read_to_marker(&mut self, marker: ProducerIdentity) -> Result<(), OwnerError> {
        self.read_states(Until::Marker(marker)).await?;
        self.predecessors.read(self.owners.topic());
        let note = |batch: &Batch| self.predecessors.note_claim(batch);
        self.owners.read_to_marker(marker, note).await?;
        Ok(())
    }

    /// What the lanes are folded from, and the answers that they remember.
    async fn read_states(&mut self, until: Until) -> Result<(), OwnerError> {
        for (lane, reader) in &mut self.lanes {
            self.predecessors.read(lane.topic());
            let mut replayed = Ok(());
            let take = |batch: &Batch| replay(lane, &mut self.predecessors, &mut replayed, batch);
            until.read(reader, take).await?;
            replayed?;
        }
        let Self {
            lanes,
            answers,
            answers_term,
            predecessors,
            ..
        } = self;
        predecessors.read(answers.topic());
        let take = |batch: &Batch| take_answers(lanes, predecessors, answers_term, batch);
        until.read(answers, take).await?;
        Ok(())
    }
}

fn replay(
    lane: &mut Lane,
    predecessors: &mut Predecessors,
    replayed: &mut Result<(), UnknownRecord>,
    batch: &Batch,
) {
    predecessors.note(batch);
    if replayed.is_ok() {
        *replayed = lane.replay(batch);
    }
}

/// Each goes to the lane of its stream; what a deposed owner wrote does not count.
fn take_answers(
    lanes: &mut [(Lane, PartitionReader)],
    predecessors: &mut Predecessors,
    highest_term: &mut u64,
    batch: &Batch,
) {
    predecessors.note(batch);
    for read in RecordedAnswer::read(batch) {
        if read.term < *highest_term {
            continue;
        }
        *highest_term = read.term;
        let mut lanes = lanes.iter_mut().map(|(lane, _)| lane);
        if let Some(lane) = lanes.find(|lane| lane.has(&read.stream)) {
            lane.remember_answer(read.key, read.answer);
        }
    }
}

fn warn_of_foreign(lane: &Lane, partition: i32) {
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
}

/// A context's partition as a snapshot has it; without one, empty.
fn from_snapshot(
    settings: &ShardSettings,
    context: &ContextFactory,
    partition: i32,
    shelf: &mut Shelf,
) -> Lane {
    let empty = || {
        Lane::new(
            &context.name,
            settings.generation.events_topic(&context.name),
            partition,
            context.kinds.iter().map(|make| make()).collect(),
            settings.config.group,
            settings.config.remembered_commands,
        )
    };
    let mut lane = empty();
    let Some(snapshot) = shelf.snapshot(&context.name, &lane.edition()) else {
        return lane;
    };
    match lane.load(&snapshot.extent, &snapshot.lines) {
        Ok(()) => lane,
        Err(error) => {
            let reason = chain(&error);
            tracing::warn!(
                topic = lane.topic(),
                partition,
                reason,
                "passed over a snapshot"
            );
            empty()
        }
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
