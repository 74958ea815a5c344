//! One partition of one edition: gathers what has arrived and projects it, batch after batch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use event_log::{
    Envelope, Position,
    consume::{Arrival, PartitionFeed},
};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::{
    backoff::Backoff,
    batch_size::BatchSize,
    changes,
    checkpoint::{self, Place, Standing, Start},
    commit::{self, CommitError, Outcome, commit},
    failure::chain,
    gathering::{Gathering, Taken},
    health::Source,
    quarantine::{self, Quarantined},
    read_side::Edition,
    worker::{Session, SessionError},
};

pub(crate) struct PartitionWorker {
    session: Arc<Session>,
    /// Our index in the session's progress.
    index: usize,
    feed: PartitionFeed,
    /// Where the checkpoint stands, as far as we know.
    at: Start,
    /// Where to stop for now, when the checkpoint was last read.
    barrier: Option<i64>,
    gathering: Gathering,
    at_end: bool,
    size: BatchSize,
    backoff: Backoff,
    /// Below it nothing is left of the table `changes`, as far as we know.
    pruned_to: i64,
    metrics: Metrics,
}

impl PartitionWorker {
    pub(crate) fn new(
        session: Arc<Session>,
        index: usize,
        feed: PartitionFeed,
        at: Start,
        quarantined: Quarantined,
    ) -> Self {
        let metrics = Metrics::new(&session.edition, &at);
        metrics.in_quarantine.set(quarantined.streams.len() as f64);
        let events = session.projection.clone().gather();
        Self {
            session,
            index,
            feed,
            gathering: Gathering::new(events, at.place, quarantined),
            pruned_to: at.place.next_offset,
            at,
            barrier: None,
            at_end: false,
            size: BatchSize::new(),
            backoff: Backoff::new(),
            metrics,
        }
    }

    /// Goes on until the session must end. It can be dropped at any await.
    pub(crate) async fn run(mut self) -> SessionError {
        loop {
            if let Err(error) = self.step().await {
                return error;
            }
        }
    }

    async fn step(&mut self) -> Result<(), SessionError> {
        self.gather().await?;
        while self.at.place != self.gathering.end() {
            self.project().await?;
        }
        if self.at_end {
            self.session.progress.at_end(self.index);
        }
        Ok(())
    }

    /// Waits for something, then takes what else is there: no timer, so nothing waits for company.
    async fn gather(&mut self) -> Result<(), SessionError> {
        let arrival = self.feed.next().await?;
        self.take(arrival).await?;
        let mut records = 1;
        while self.size.has_room(&self.gathering, records) {
            match self.feed.arrived()? {
                Some(arrival) => self.take(arrival).await?,
                None => break,
            }
            records += 1;
        }
        Ok(())
    }

    async fn take(&mut self, arrival: Arrival) -> Result<(), SessionError> {
        let record = match arrival {
            Arrival::End => {
                self.at_end = true;
                return Ok(());
            }
            Arrival::Record(record) => record,
        };
        self.at_end = false;
        let offset = record.position.offset;
        match self.gathering.take(record).await? {
            Taken::Yes => {}
            Taken::Deposed(envelope) => self.alarm(&envelope, offset),
            Taken::Foreign => self.pass_over(offset),
        }
        Ok(())
    }

    /// The second line of defence: the fence keeps deposed owners out already.
    fn alarm(&self, envelope: &Envelope, offset: i64) {
        self.metrics.deposed.increment(1);
        tracing::error!(
            model = self.session.model.name,
            topic = self.at.topic,
            partition = self.at.partition,
            offset,
            term = envelope.term,
            higher_term = self.gathering.end().term,
            stream = %envelope.stream,
            "ignored an event that a deposed owner wrote: the fence of this partition is broken"
        );
    }

    /// Without a header of ours it is nothing of ours, and nothing takes it from the log.
    fn pass_over(&self, offset: i64) {
        self.metrics.foreign.increment(1);
        tracing::warn!(
            model = self.session.model.name,
            topic = self.at.topic,
            partition = self.at.partition,
            offset,
            "passed over a record that was not written by Annals"
        );
    }

    /// One attempt at the next batch.
    async fn project(&mut self) -> Result<(), SessionError> {
        if let Some((offset, unrecognized)) = self.gathering.nameless() {
            let reason = format!(
                "a record at {} is what is left of an event that names no stream, so that none \
                 can be held back for it: {unrecognized}; `annals quarantine skip` leaves it out",
                self.place_of(offset)
            );
            return self.wait_for_the_operator(offset, reason).await;
        }
        let (entries, to) = self.next_batch();
        if to == self.at.place {
            return self.wait_at_the_barrier().await;
        }
        let began = Instant::now();
        let Session {
            platform, edition, ..
        } = &*self.session;
        let batch = self.gathering.batch(entries);
        let per_minute = platform.tuning.quarantined_per_minute;
        let outcome = commit(
            &platform.postgres,
            edition,
            &self.at,
            &batch,
            to,
            per_minute,
        )
        .await;
        match outcome {
            Ok(Outcome::Committed) => {
                self.metrics.batch(&batch, began);
                for poison in &batch.poisoned {
                    tracing::error!(
                        model = self.session.model.name,
                        edition = edition.number,
                        stream.id = %poison.stream,
                        topic = self.at.topic,
                        partition = self.at.partition,
                        offset = poison.offset,
                        code = poison.code,
                        reason = poison.reason,
                        "quarantined stream {} of {}",
                        poison.stream,
                        self.session.model.name,
                    );
                }
                let entries = batch.entry_count;
                self.committed(entries, to, began.elapsed());
                self.prune().await;
            }
            Ok(Outcome::Stale) => self.reload().await?,
            Ok(Outcome::Released) => return Err(SessionError::Released),
            Ok(Outcome::Flood) => match self.gathering.before_poison() {
                0 => self.brake("more would be quarantined".into()).await,
                before => self.size.narrow(before),
            },
            Err(CommitError::Unfit(error)) => {
                let events = batch.event_count;
                self.search(error, entries, events).await;
            }
            Err(CommitError::Postgres(error)) => {
                self.size.failed();
                let place = format!("{} partition {}", self.at.topic, self.at.partition);
                let reason = format!("failed to write {place}: {}", chain(&error));
                self.try_again(reason).await;
            }
        }
        Ok(())
    }

    /// How many entries it has, and where the checkpoint stands after them.
    fn next_batch(&self) -> (usize, Place) {
        let entries = self.size.limit().min(self.gathering.before_nameless());
        let after = |entries| self.gathering.place_after(entries, self.at.place);
        let end = self.gathering.end().next_offset;
        let Some(barrier) = self.barrier.filter(|barrier| *barrier < end) else {
            return (entries, after(entries));
        };
        let before = self.gathering.below(barrier);
        if before > entries {
            return (entries, after(entries));
        }
        // Everything below it was gathered, so the checkpoint comes to stand right there.
        let to = Place {
            next_offset: barrier.max(self.at.place.next_offset),
            ..after(before)
        };
        (before, to)
    }

    async fn wait_at_the_barrier(&mut self) -> Result<(), SessionError> {
        const LOOK_EVERY: Duration = Duration::from_millis(10);
        tokio::time::sleep(LOOK_EVERY).await;
        self.reload().await
    }

    fn committed(&mut self, entries: usize, to: Place, took: Duration) {
        self.gathering.commit(entries);
        self.at.place = to;
        self.size.committed(entries, took);
        self.backoff.reset();
        self.metrics
            .in_quarantine
            .set(self.gathering.quarantined() as f64);
        self.session.health.clear(&self.source());
        self.session.progress.projected(self.index, to.next_offset);
    }

    /// The checkpoint was moved by somebody else, or by a commit of ours whose answer was lost, or
    /// there is a barrier before it.
    async fn reload(&mut self) -> Result<(), SessionError> {
        let Session {
            platform, edition, ..
        } = &*self.session;
        let Start {
            topic, partition, ..
        } = &self.at;
        let found = checkpoint::read(&platform.postgres, edition, topic, *partition).await;
        match found {
            Ok(Some(Standing { place, barrier })) if place == self.at.place => {
                self.barrier = barrier;
                Ok(())
            }
            Ok(Some(standing)) => {
                self.metrics.stale.increment(1);
                let (topic, partition) = (topic.clone(), *partition);
                Err(
                    match standing.place.next_offset < self.at.place.next_offset {
                        true => SessionError::SetBack { topic, partition },
                        false => SessionError::Overtaken { topic, partition },
                    },
                )
            }
            Ok(None) => Err(self.session.dropped()),
            Err(error) => {
                let reason = format!("failed to read the checkpoints: {}", chain(&error));
                self.try_again(reason).await;
                Ok(())
            }
        }
    }

    /// Narrows the batch down to the event at fault, and quarantines its stream if it alone can be.
    async fn search(&mut self, error: sqlx::Error, entries: usize, events: usize) {
        if events > 1 {
            self.size.narrow(entries.min(self.gathering.len()) / 2);
            return;
        }
        let reason = chain(&error);
        let code = commit::sqlstate(&error).filter(|code| commit::is_data_error(code));
        let Some(code) = code.filter(|_| events == 1) else {
            let place = format!("{} partition {}", self.at.topic, self.at.partition);
            return self
                .try_again(format!("failed to write {place}: {reason}"))
                .await;
        };
        let Session {
            platform, edition, ..
        } = &*self.session;
        let per_minute = platform.tuning.quarantined_per_minute;
        // Asked before the event is given up: while the brake is on, it is tried again.
        match quarantine::room(&platform.postgres, edition, per_minute).await {
            Ok(room) if room > 0 => self.gathering.poison_event(entries, &code, &reason),
            Ok(_) => self.brake(reason).await,
            Err(error) => {
                let reason = format!("failed to look at the quarantine: {}", chain(&error));
                self.try_again(reason).await;
            }
        }
    }

    /// Too much is poisoned for it to be the events' fault.
    async fn brake(&mut self, reason: String) {
        self.metrics.braked.increment(1);
        let most = self.session.platform.tuning.quarantined_per_minute;
        self.try_again(format!(
            "stopped at {}: {most} streams were quarantined within a minute, and no more may be: \
             {reason}",
            self.place_of(self.at.place.next_offset)
        ))
        .await;
    }

    async fn wait_for_the_operator(
        &mut self,
        offset: i64,
        reason: String,
    ) -> Result<(), SessionError> {
        let Session {
            platform, edition, ..
        } = &*self.session;
        let position = Position {
            topic: self.at.topic.clone(),
            partition: self.at.partition,
            offset,
        };
        match quarantine::was_skipped(&platform.postgres, edition, &position).await {
            Ok(true) => self.gathering.skip_first(),
            Ok(false) | Err(_) => self.try_again(reason).await,
        }
        Ok(())
    }

    async fn try_again(&mut self, reason: String) {
        self.metrics.retries.increment(1);
        self.session.health.trouble(self.source(), reason);
        self.backoff.pause().await;
    }

    /// Now and then, so that it costs little.
    async fn prune(&mut self) {
        let Session {
            platform, edition, ..
        } = &*self.session;
        let kept = platform.tuning.changes_kept;
        let to = self.at.place.next_offset - kept;
        if to - self.pruned_to < kept / 10 {
            return;
        }
        self.pruned_to = to;
        if let Err(error) = changes::prune(&platform.postgres, edition, &self.at, to).await {
            tracing::debug!(%error, "old changes were not removed");
        }
    }

    fn place_of(&self, offset: i64) -> String {
        let Start {
            topic, partition, ..
        } = &self.at;
        format!("{topic} partition {partition} offset {offset}")
    }

    fn source(&self) -> Source {
        Source::Partition(self.at.topic.clone(), self.at.partition)
    }
}

struct Metrics {
    events: Counter,
    batch_size: Histogram,
    batch_seconds: Histogram,
    stale: Counter,
    retries: Counter,
    deposed: Counter,
    foreign: Counter,
    quarantined: Counter,
    held: Counter,
    braked: Counter,
    in_quarantine: Gauge,
}

impl Metrics {
    fn new(edition: &Edition, at: &Start) -> Self {
        let model = edition.model.clone();
        Self {
            events: counter!("projector_events_total", "model" => model.clone()),
            batch_size: histogram!("projector_batch_events", "model" => model.clone()),
            batch_seconds: histogram!("projector_batch_seconds", "model" => model.clone()),
            stale: counter!("projector_stale_batches_total", "model" => model.clone()),
            retries: counter!("projector_retries_total", "model" => model.clone()),
            deposed: counter!("projector_deposed_records_total", "model" => model.clone()),
            foreign: counter!("projector_foreign_records_total", "model" => model.clone()),
            quarantined: counter!("projector_quarantined_total", "model" => model.clone()),
            held: counter!("projector_held_events_total", "model" => model.clone()),
            braked: counter!("projector_flood_brakes_total", "model" => model.clone()),
            in_quarantine: gauge!(
                "projector_quarantined_streams",
                "model" => model,
                "edition" => edition.number.to_string(),
                "topic" => at.topic.clone(),
                "partition" => at.partition.to_string(),
            ),
        }
    }

    fn batch(&self, batch: &crate::gathering::Batch<'_>, began: Instant) {
        self.events.increment(batch.event_count as u64);
        self.quarantined.increment(batch.poisoned.len() as u64);
        let held: i64 = batch.held.values().map(|held| held.count).sum();
        self.held.increment(held.unsigned_abs());
        self.batch_size.record(batch.event_count as f64);
        self.batch_seconds.record(began.elapsed());
    }
}
