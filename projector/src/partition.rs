//! One partition of one model: gathers what has arrived and projects it, batch after batch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use event_log::{
    Envelope,
    consume::{Arrival, LogRecord, PartitionFeed},
};
use metrics::{Counter, Histogram, counter, histogram};

use crate::{
    backoff::Backoff,
    checkpoint::{self, Place, Standing, Start},
    commit::{CommitError, Outcome, commit},
    failure::chain,
    health::Source,
    worker::{Session, SessionError},
};

/// A batch has at most so many records, and is closed when it has so many bytes.
const MOST_RECORDS: usize = 1_000;
const MOST_BYTES: usize = 4 << 20;

pub(crate) struct PartitionWorker {
    session: Arc<Session>,
    /// Our index in the session's progress.
    index: usize,
    feed: PartitionFeed,
    /// Where the checkpoint stands, as far as we know.
    at: Start,
    /// Where to stop for now, when the checkpoint was last read.
    barrier: Option<i64>,
    /// Where it will stand when everything that was gathered is projected.
    gathered: Place,
    /// What was gathered and is not projected, without what is to be ignored.
    pending: Vec<LogRecord>,
    bytes: usize,
    at_end: bool,
    /// How many records the next batch may have: few after a failure, to find the one at fault.
    limit: usize,
    backoff: Backoff,
    metrics: Metrics,
}

impl PartitionWorker {
    pub(crate) fn new(session: Arc<Session>, index: usize, feed: PartitionFeed, at: Start) -> Self {
        let metrics = Metrics::new(session.model.name);
        Self {
            session,
            index,
            feed,
            gathered: at.place,
            at,
            barrier: None,
            pending: Vec::new(),
            bytes: 0,
            at_end: false,
            limit: MOST_RECORDS,
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
        while self.at.place != self.gathered {
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
        self.take(arrival);
        while self.pending.len() < MOST_RECORDS && self.bytes < MOST_BYTES {
            match self.feed.arrived()? {
                Some(arrival) => self.take(arrival),
                None => break,
            }
        }
        Ok(())
    }

    fn take(&mut self, arrival: Arrival) {
        let record = match arrival {
            Arrival::End => {
                self.at_end = true;
                return;
            }
            Arrival::Record(record) => record,
        };
        self.at_end = false;
        if record.position.offset < self.gathered.next_offset {
            // Another worker has projected it.
            return;
        }
        self.gathered.next_offset = record.position.offset + 1;
        match &record.envelope {
            Ok(envelope) if term(envelope) < self.gathered.term => self.alarm(envelope, &record),
            Ok(envelope) => {
                self.gathered.term = term(envelope);
                self.push(record);
            }
            Err(_) => self.push(record),
        }
    }

    fn push(&mut self, record: LogRecord) {
        self.bytes += record.value.len();
        self.pending.push(record);
    }

    /// The second line of defence: the fence keeps deposed owners out already.
    fn alarm(&self, envelope: &Envelope, record: &LogRecord) {
        self.metrics.deposed.increment(1);
        tracing::error!(
            model = self.session.model.name,
            topic = self.at.topic,
            partition = self.at.partition,
            offset = record.position.offset,
            term = envelope.term,
            higher_term = self.gathered.term,
            stream = %envelope.stream,
            "ignored an event that a deposed owner wrote: the fence of this partition is broken"
        );
    }

    /// One attempt at the next batch.
    async fn project(&mut self) -> Result<(), SessionError> {
        let (count, to) = self.next_batch();
        if to == self.at.place {
            return self.wait_at_the_barrier().await;
        }
        let began = Instant::now();
        let outcome = commit(
            &self.session.platform.postgres,
            &self.session.edition,
            &*self.session.projection,
            &self.at,
            &self.pending[..count],
            to,
        )
        .await;
        match outcome {
            Ok(Outcome::Committed) => {
                self.metrics.batch(count, began);
                self.move_to(to);
                self.recovered();
            }
            Ok(Outcome::Stale) => self.reload().await?,
            Err(error) => self.step_back(error, count).await,
        }
        Ok(())
    }

    /// How many records it has, and where the checkpoint stands after them.
    fn next_batch(&self) -> (usize, Place) {
        let Some(barrier) = self.barrier.filter(|it| *it < self.gathered.next_offset) else {
            let count = self.pending.len().min(self.limit);
            return (count, self.place_after(count));
        };
        let before = self
            .pending
            .partition_point(|record| record.position.offset < barrier);
        if before > self.limit {
            return (self.limit, self.place_after(self.limit));
        }
        // Everything below it was gathered, so the checkpoint comes to stand right there.
        let to = Place {
            next_offset: barrier.max(self.at.place.next_offset),
            ..self.place_after(before)
        };
        (before, to)
    }

    async fn wait_at_the_barrier(&mut self) -> Result<(), SessionError> {
        const LOOK_EVERY: Duration = Duration::from_millis(10);
        tokio::time::sleep(LOOK_EVERY).await;
        self.reload().await
    }

    /// Where the checkpoint stands when the first `count` pending records are projected.
    fn place_after(&self, count: usize) -> Place {
        if count == self.pending.len() {
            return self.gathered;
        }
        let Some(last) = count.checked_sub(1).map(|last| &self.pending[last]) else {
            return self.at.place;
        };
        Place {
            next_offset: last.position.offset + 1,
            term: match &last.envelope {
                Ok(envelope) => term(envelope),
                Err(_) => self.at.place.term,
            },
        }
    }

    fn move_to(&mut self, place: Place) {
        self.at.place = place;
        let done = self
            .pending
            .partition_point(|record| record.position.offset < place.next_offset);
        for record in self.pending.drain(..done) {
            self.bytes -= record.value.len();
        }
        self.session
            .progress
            .projected(self.index, place.next_offset);
    }

    /// The checkpoint was moved by somebody else, or by a commit of ours whose answer was lost.
    async fn reload(&mut self) -> Result<(), SessionError> {
        self.metrics.stale.increment(1);
        let Session {
            platform, edition, ..
        } = &*self.session;
        let Start {
            topic, partition, ..
        } = &self.at;
        let found = checkpoint::read(&platform.postgres, edition, topic, *partition).await;
        let place = match found {
            Ok(Some(Standing { place, barrier })) => {
                self.barrier = barrier;
                place
            }
            Ok(None) => return Err(self.session.dropped()),
            Err(source) => {
                self.step_back(CommitError::Postgres(source), 0).await;
                return Ok(());
            }
        };
        if place.next_offset < self.at.place.next_offset {
            return Err(SessionError::SetBack {
                topic: topic.clone(),
                partition: *partition,
            });
        }
        self.gathered = Place {
            next_offset: self.gathered.next_offset.max(place.next_offset),
            term: self.gathered.term.max(place.term),
        };
        self.move_to(place);
        Ok(())
    }

    /// Narrows the batch down to the record at fault, or waits: nothing is skipped.
    async fn step_back(&mut self, error: CommitError, count: usize) {
        let reason = match error {
            CommitError::Unreadable { index, .. } if index > 0 => {
                self.limit = index;
                return;
            }
            CommitError::Unfit(_) if count > 1 => {
                self.limit = count / 2;
                return;
            }
            CommitError::Unreadable { source, .. } => self.accuse("read", &source.to_string()),
            CommitError::Unfit(source) => self.accuse("projected", &chain(&source)),
            CommitError::Postgres(source) => format!(
                "failed to write {} partition {}: {}",
                self.at.topic,
                self.at.partition,
                chain(&source)
            ),
        };
        self.metrics.retries.increment(1);
        self.session.health.trouble(self.source(), reason);
        self.backoff.pause().await;
    }

    /// Says which record it is that keeps the partition from going on.
    fn accuse(&self, verb: &str, reason: &str) -> String {
        let what = match self.pending.first().map(|record| &record.envelope) {
            Some(Ok(envelope)) => format!("{} of stream {}", envelope.event_type, envelope.stream),
            Some(Err(_)) | None => "a record".into(),
        };
        format!(
            "{what} at {} partition {} offset {} cannot be {verb}: {reason}",
            self.at.topic,
            self.at.partition,
            self.pending
                .first()
                .map_or(self.at.place.next_offset, |it| it.position.offset),
        )
    }

    fn recovered(&mut self) {
        self.limit = (self.limit * 2).min(MOST_RECORDS);
        self.backoff.reset();
        self.session.health.clear(&self.source());
    }

    fn source(&self) -> Source {
        Source::Partition(self.at.topic.clone(), self.at.partition)
    }
}

/// Terms are offsets, which Kafka counts in `i64`.
fn term(envelope: &Envelope) -> i64 {
    i64::try_from(envelope.term).unwrap_or(i64::MAX)
}

struct Metrics {
    events: Counter,
    batch_size: Histogram,
    batch_seconds: Histogram,
    stale: Counter,
    retries: Counter,
    deposed: Counter,
}

impl Metrics {
    fn new(model: &'static str) -> Self {
        Self {
            events: counter!("projector_events_total", "model" => model),
            batch_size: histogram!("projector_batch_events", "model" => model),
            batch_seconds: histogram!("projector_batch_seconds", "model" => model),
            stale: counter!("projector_stale_batches_total", "model" => model),
            retries: counter!("projector_retries_total", "model" => model),
            deposed: counter!("projector_deposed_records_total", "model" => model),
        }
    }

    fn batch(&self, events: usize, began: Instant) {
        self.events.increment(events as u64);
        self.batch_size.record(events as f64);
        self.batch_seconds.record(began.elapsed());
    }
}
