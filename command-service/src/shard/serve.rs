//! An owner at work: requests into the lanes, groups into the log, answers out.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use event_log::{
    append::{AppendError, Appender},
    batch::BatchBuilder,
};
use futures::{FutureExt, StreamExt};
use tokio::{
    sync::{mpsc, watch},
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Fence, OwnerError, Routed, Shard, ShardStatus, chain, ending::Ending, predecessors::Claim,
};
use crate::{lane::Lane, outcome::CommandError, snapshots::Copier};

/// How often everybody else has a turn between the answers of one group and the next group.
///
/// Whoever has been answered tends to ask again at once, and comes along in the next group
/// instead of the one after it. With 64 clients on eight shards a group carries 6.6 commands
/// instead of 4.3; further turns add nothing, and with nobody else to run they take no time.
const TURNS_FOR_OTHERS: usize = 3;

/// How long a shutdown waits for the answer of the log.
const DRAIN: Duration = Duration::from_secs(5);
/// Key in the owners topic, which keeps the newest record of each.
const BARRIER: &[u8] = b"barrier";

async fn next_copy(copier: &Option<Copier>) {
    if let Some(copier) = copier {
        copier.turn().await;
    }
}

/// An append that has its definite answer.
pub(super) enum Done {
    Group {
        lane: usize,
        appender: Appender,
        result: Result<i64, AppendError>,
    },
    Barrier {
        appender: Appender,
        result: Result<i64, AppendError>,
    },
    Answers {
        appender: Appender,
        result: Result<i64, AppendError>,
    },
    Renewal {
        result: Result<Box<Renewed>, OwnerError>,
    },
}

/// What goes on behind the new markers.
pub(super) struct Renewed {
    fence: Fence,
    lanes: Vec<Appender>,
    answers: Appender,
    owners: Appender,
    /// Offset of the new claim.
    claim: i64,
}

impl Shard {
    pub(super) async fn serve(
        mut self,
        requests: &mut mpsc::Receiver<Routed>,
        status: &watch::Sender<ShardStatus>,
        shutdown: &CancellationToken,
    ) -> Result<(), OwnerError> {
        let mut arrived = Vec::new();
        let mut open = true;
        let mut give_up_at: Option<Instant> = None;
        let awake = self.awake.clone();
        let mut looks = interval(awake.look_every());
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let room = open && self.has_room();
            tokio::select! {
                biased;
                () = shutdown.cancelled(), if give_up_at.is_none() => {
                    // What has been taken is finished; nothing more is taken.
                    requests.close();
                    give_up_at = Some(Instant::now() + DRAIN);
                }
                () = sleep_until(give_up_at.unwrap_or_else(Instant::now)), if give_up_at.is_some() => {
                    // The log has no answer for us. It keeps what it has got: a retry learns it.
                    let reason = "shut down before the log answered".to_owned();
                    self.stop(&CommandError::NotServed { reason });
                    return Ok(());
                }
                Ok(()) = self.active.changed() => self.write_active(),
                Some(news) = self.trouble.next() => self.take_trouble(news, status),
                () = sleep_until(self.renew_at), if !self.renewing => {
                    // Nothing is sent until what is in flight is acknowledged.
                    self.renewing = true;
                }
                Some(done) = self.in_flight.next() => {
                    // Who is answered may ask again at once: what kept the answer is over.
                    self.hear_troubles(status);
                    if let Err(error) = self.finish(done) {
                        return self.end(error);
                    }
                    for _ in 0..TURNS_FOR_OTHERS {
                        yield_now().await;
                        self.take_arrived(requests);
                    }
                }
                count = requests.recv_many(&mut arrived, 256), if room => {
                    open = count > 0;
                    for routed in arrived.drain(..) {
                        self.take(routed);
                    }
                }
                // After a pause, a barrier before anything else: see `advance`.
                () = awake.doubted(), if self.owners.is_some() => {}
                _ = looks.tick() => {}
                // A snapshot grows between the groups, and while there are none.
                () = next_copy(&self.copier), if self.is_copying() => {}
            }
            if let Err(overslept) = awake.look() {
                return self.end(AppendError::from(overslept).into());
            }
            if !self.renewing {
                self.advance();
            } else if self.in_flight.is_empty() {
                self.renew();
            } else if awake.is_in_doubt() {
                // What is in flight waits for it.
                self.send_barrier();
            }
            self.note();
            if !open && self.in_flight.is_empty() {
                return Ok(());
            }
            if let Some(copier) = self.copier.as_mut().filter(|_| !self.renewing) {
                copier.advance(&mut self.lanes);
            }
        }
    }

    /// The lanes write what is active from the next command on.
    pub(super) fn write_active(&mut self) {
        let active = self.active.borrow_and_update().clone();
        for (context, lane) in self.lanes.iter_mut().enumerate() {
            lane.write_as(self.switch.written(&active, context));
        }
    }

    fn is_copying(&self) -> bool {
        self.copier.as_ref().is_some_and(Copier::is_busy)
    }

    /// What the appenders have told by now.
    fn hear_troubles(&mut self, status: &watch::Sender<ShardStatus>) {
        if self.troubles.iter().all(Option::is_none) {
            return;
        }
        while let Some(Some(news)) = self.trouble.next().now_or_never() {
            self.take_trouble(news, status);
        }
    }

    fn take_trouble(
        &mut self,
        (index, trouble): (usize, Option<String>),
        status: &watch::Sender<ShardStatus>,
    ) {
        self.troubles[index] = trouble;
        status.send_replace(self.status());
    }

    fn status(&self) -> ShardStatus {
        if self.troubles.iter().all(Option::is_none) {
            return ShardStatus::Serving;
        }
        // The last one is the owners topic's: without it, no lane can prove that it still owns.
        let (owners, lanes) = self.troubles.split_last().unwrap_or((&None, &[]));
        let reasons = lanes
            .iter()
            .map(|lane| lane.clone().or_else(|| owners.clone()));
        ShardStatus::Troubled(reasons.collect())
    }

    /// For the operators' view.
    fn note(&self) {
        let waiting = self.lanes.iter().map(Lane::waiting).sum();
        self.facts.waiting.store(waiting, Relaxed);
        self.facts.in_flight(!self.in_flight.is_empty());
        let count = self.lanes.iter().map(|lane| lane.stopped().len()).sum();
        let stopped = self.lanes.iter().flat_map(Lane::stopped);
        let stopped = stopped.map(|(stream, reason)| (stream.as_str(), reason));
        self.facts.note_stopped(count, stopped);
    }

    /// What can be taken without waiting.
    fn take_arrived(&mut self, requests: &mut mpsc::Receiver<Routed>) {
        while self.has_room()
            && let Ok(routed) = requests.try_recv()
        {
            self.take(routed);
        }
    }

    /// Lanes that get no answers do not keep the others from theirs.
    fn has_room(&self) -> bool {
        let lanes = self.lanes.iter().zip(&self.troubles);
        let flowing = lanes.filter(|(_, trouble)| trouble.is_none());
        flowing.map(|(lane, _)| lane.waiting()).sum::<usize>() < self.room
    }

    fn take(&mut self, Routed { lane, request }: Routed) {
        // Behind those of the lanes comes that of the answers.
        let trouble = match request.ask.records_answer() {
            true => self.troubles[lane]
                .as_ref()
                .or(self.troubles[self.lanes.len()].as_ref()),
            false => self.troubles[lane].as_ref(),
        };
        match trouble {
            Some(trouble) if self.lanes[lane].waiting() >= self.room => {
                let reason = trouble.clone();
                let refusal = CommandError::NotServed { reason };
                for reply in request.replies {
                    let _ = reply.send(Err(refusal.clone()));
                }
            }
            _ => self.lanes[lane].take(request),
        }
    }

    /// With nothing in flight: fences itself, and goes on behind the new markers.
    fn renew(&mut self) {
        let (fence, answers, owners) = (self.fence.take(), self.answers.take(), self.owners.take());
        let (Some(mut fence), Some(mut answers), Some(mut owners)) = (fence, answers, owners)
        else {
            unreachable!("the fence is renewed with nothing in flight");
        };
        let mut lanes: Vec<_> = self.appenders.iter_mut().filter_map(Option::take).collect();
        let endpoint = self.endpoint.clone();
        let renewal = async move {
            let result = async {
                let renewed = fence.renew().await?;
                for appender in &mut lanes {
                    appender.resume(renewed).await?;
                }
                answers.resume(renewed).await?;
                owners.resume(renewed).await?;
                // The identity is a new one, and the newest claim has to name it.
                let claim = owners.append(Claim::new(&endpoint, renewed.writer).batch());
                claim.await.map_err(OwnerError::Claim)
            };
            let result = result.await.map(|claim| {
                Box::new(Renewed {
                    fence,
                    lanes,
                    answers,
                    owners,
                    claim,
                })
            });
            Done::Renewal { result }
        };
        self.in_flight.push(Box::pin(renewal));
    }

    /// What the next owner can decide is left to it, whoever that is: nobody is answered then.
    fn end(&mut self, error: OwnerError) -> Result<(), OwnerError> {
        if matches!(error.ending(), Ending::Diverged | Ending::Unclaimable) {
            let reason = chain(&error);
            self.stop(&CommandError::NotServed { reason });
        }
        Err(error)
    }

    fn stop(&mut self, refusal: &CommandError) {
        self.lanes.iter_mut().for_each(|lane| lane.stop(refusal));
    }

    /// Decides what waits and sends what is decided.
    fn advance(&mut self) {
        for index in 0..self.lanes.len() {
            let lane = &mut self.lanes[index];
            lane.decide();
            let Some(batch) = lane.next_group() else {
                continue;
            };
            lane.decide();
            if !batch.is_empty() {
                self.send_group(index, batch);
            } else if lane.has_answers() {
                // They prove as much as a barrier.
                self.want_answers.insert(index, true);
            } else {
                self.want_barrier.push(index);
            }
        }
        self.send_answers();
        self.send_barrier();
    }

    fn send_answers(&mut self) {
        if self.want_answers.is_empty() {
            return;
        }
        let Some(mut appender) = self.answers.take() else {
            return;
        };
        let mut batch = BatchBuilder::default();
        let wanted = std::mem::take(&mut self.want_answers);
        for (index, carries_group) in &wanted {
            self.lanes[*index].record_answers(&mut batch, *carries_group);
        }
        self.behind_answers = wanted.into_keys().collect();
        let append = async move {
            let result = appender.append(batch).await;
            Done::Answers { appender, result }
        };
        self.in_flight.push(Box::pin(append));
    }

    /// Acknowledged groups may have left answers that are to be recorded.
    fn note_answers(&mut self, lane: usize) {
        if self.lanes[lane].has_answers_due() {
            self.want_answers.entry(lane).or_insert(false);
        }
    }

    fn send_group(&mut self, lane: usize, batch: BatchBuilder) {
        let Some(mut appender) = self.appenders[lane].take() else {
            unreachable!("a lane has one group in flight at most");
        };
        let append = async move {
            let began = Instant::now();
            let result = appender.append(batch).await;
            metrics::histogram!("annals_append_seconds").record(began.elapsed().as_secs_f64());
            Done::Group {
                lane,
                appender,
                result,
            }
        };
        self.in_flight.push(Box::pin(append));
    }

    /// One barrier serves every lane that waits for one: it proves that nobody
    /// had taken over when these lanes had decided. After a pause it is sent
    /// unasked, and the other appends wait for it.
    fn send_barrier(&mut self) {
        if self.want_barrier.is_empty() && !self.awake.is_in_doubt() {
            return;
        }
        let Some(mut appender) = self.owners.take() else {
            return;
        };
        self.behind_barrier = std::mem::take(&mut self.want_barrier);
        let append = async move {
            let mut batch = BatchBuilder::default();
            batch.push(BARRIER, Some(b"{}"), |_| {});
            let result = appender.append(batch).await;
            Done::Barrier { appender, result }
        };
        self.in_flight.push(Box::pin(append));
    }

    fn finish(&mut self, done: Done) -> Result<(), OwnerError> {
        match done {
            Done::Group {
                lane,
                appender,
                result,
            } => {
                match result {
                    Ok(base_offset) => {
                        self.lanes[lane].acknowledge(base_offset);
                        self.note_answers(lane);
                        self.facts.committed();
                    }
                    Err(error @ AppendError::Refused { .. }) => {
                        let reason = error.to_string();
                        tracing::warn!(shard = self.partition, reason, "a group was refused");
                        self.lanes[lane].refused(&reason);
                    }
                    Err(error) => return Err(error.into()),
                }
                self.appenders[lane] = Some(appender);
            }
            Done::Renewal { result } => {
                let renewed = *result?;
                metrics::counter!("annals_fence_renewals_total").increment(1);
                self.fence = Some(renewed.fence);
                self.appenders = renewed.lanes.into_iter().map(Some).collect();
                self.answers = Some(renewed.answers);
                self.owners = Some(renewed.owners);
                self.begin_term(renewed.claim)?;
                self.renewing = false;
                self.renew_at = Instant::now() + self.renew_every;
            }
            Done::Answers { appender, result } => {
                result?;
                self.facts.committed();
                self.answers = Some(appender);
                for lane in std::mem::take(&mut self.behind_answers) {
                    self.lanes[lane].answers_recorded();
                    self.note_answers(lane);
                }
            }
            Done::Barrier { appender, result } => {
                let offset = result?;
                self.facts.committed();
                self.owners = Some(appender);
                for lane in std::mem::take(&mut self.behind_barrier) {
                    self.lanes[lane].acknowledge(offset);
                }
            }
        }
        Ok(())
    }
}
