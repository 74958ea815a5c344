//! The life of a shard on this node: served whenever the group gives it to us, and for as long as
//! nobody else has taken it over.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Routed, Shard, ShardSettings, ShardStatus, chain,
    ending::{Ending, OwnerError},
};

/// Until shutdown.
///
/// A shard that the group has given to somebody else is served on until that node has taken it
/// over: the fence tells, or its claim. What we have not answered by then it decides.
pub(crate) async fn run(
    settings: Arc<ShardSettings>,
    partition: i32,
    requests: mpsc::Receiver<Routed>,
    status: watch::Sender<ShardStatus>,
    shutdown: CancellationToken,
) {
    let mut place = Place {
        settings,
        partition,
        requests,
        status,
        shutdown,
        trespasses: Trespasses::default(),
    };
    while let Some(()) = place.until_assigned().await {
        let carries_on = match place.own().await {
            None => None,
            Some(End::Superseded) => place.deposed("another node has claimed the shard").await,
            Some(End::GivenAway) => Some(()),
            Some(End::Error(error)) => {
                let reason = chain(&error);
                match error.ending() {
                    Ending::Deposed => place.deposed(&reason).await,
                    Ending::Trespassed => place.trespassed(&reason).await,
                    Ending::Unavailable => place.unavailable(reason).await,
                    Ending::Diverged | Ending::Unclaimable => place.stopped(reason).await,
                }
            }
        };
        if carries_on.is_none() {
            return;
        }
    }
}

/// Why nobody here owns the shard any more.
enum End {
    Error(OwnerError),
    /// Another node's claim was read.
    Superseded,
    /// Before it was served.
    GivenAway,
}

/// Where the requests for one shard arrive. Every step is `None` at the shutdown.
struct Place {
    settings: Arc<ShardSettings>,
    partition: i32,
    requests: mpsc::Receiver<Routed>,
    status: watch::Sender<ShardStatus>,
    shutdown: CancellationToken,
    trespasses: Trespasses,
}

/// How often somebody wrote past this owner lately. Who does it without end must not keep the shard
/// in take-overs without end.
#[derive(Default)]
struct Trespasses {
    count: u32,
    last: Option<Instant>,
}

impl Trespasses {
    const FORGIVEN_AFTER: Duration = Duration::from_secs(60);
    const LONGEST_PAUSE: Duration = Duration::from_secs(5);

    /// One more: how long to wait before the next take-over.
    fn pause(&mut self) -> Duration {
        if self
            .last
            .is_some_and(|last| last.elapsed() > Self::FORGIVEN_AFTER)
        {
            self.count = 0;
        }
        self.last = Some(Instant::now());
        let pause = Duration::from_millis(100) * 2_u32.pow(self.count.min(6));
        self.count += 1;
        pause.min(Self::LONGEST_PAUSE)
    }
}

impl Place {
    async fn until_assigned(&mut self) -> Option<()> {
        let settings = self.settings.clone();
        let assigned = settings.group.until(self.partition, true);
        if settings.group.assigns(self.partition) {
            return Some(());
        }
        self.status.send_replace(ShardStatus::Elsewhere);
        self.meanwhile(assigned).await
    }

    /// From take-over to the end.
    async fn own(&mut self) -> Option<End> {
        let Self {
            settings,
            partition,
            requests,
            status,
            shutdown,
            trespasses: _,
        } = self;
        let (settings, partition) = (settings.clone(), *partition);
        let began = Instant::now();
        let started = tokio::select! {
            () = shutdown.cancelled() => return None,
            () = turn_away(requests) => return None,
            // Whoever is given it now would be deposed for nothing.
            () = settings.group.until(partition, false) => return Some(End::GivenAway),
            started = Shard::start(&settings, partition, status) => started,
        };
        let shard = match started {
            Ok(shard) => shard,
            Err(error) => return Some(End::Error(error)),
        };
        let term = shard.term;
        tracing::debug!(
            shard = partition,
            term,
            after_ms = began.elapsed().as_millis() as u64,
            "serving shard {partition}"
        );
        metrics::counter!("annals_take_overs_total").increment(1);
        status.send_replace(ShardStatus::Serving);
        tokio::select! {
            ended = shard.serve(requests, status, shutdown) => ended.err().map(End::Error),
            () = settings.directory.superseded(partition, settings.group.address(), term) => {
                Some(End::Superseded)
            }
        }
    }

    /// Two owners that come back whenever they are deposed would depose each other for ever: only
    /// the one that the group names may.
    async fn deposed(&mut self, reason: &str) -> Option<()> {
        let partition = self.partition;
        tracing::info!(
            shard = partition,
            reason,
            "shard {partition} was taken over"
        );
        metrics::counter!("annals_failovers_total").increment(1);
        match self.is_still_ours(reason).await? {
            true => {
                metrics::counter!("annals_recycles_total").increment(1);
                self.pause().await
            }
            false => Some(()),
        }
    }

    /// What was written stays in the log for ever. Whose stream it is, and whether the rest can be
    /// served, is told by the same rules as at any start.
    async fn trespassed(&mut self, reason: &str) -> Option<()> {
        let partition = self.partition;
        tracing::error!(
            shard = partition,
            reason,
            "somebody wrote past the owner of shard {partition}; reading it anew"
        );
        metrics::counter!("annals_trespasses_total").increment(1);
        match self.is_still_ours(reason).await? {
            true => {
                let pause = self.trespasses.pause();
                self.meanwhile(sleep(pause)).await
            }
            false => Some(()),
        }
    }

    async fn is_still_ours(&mut self, reason: &str) -> Option<bool> {
        self.status
            .send_replace(ShardStatus::Starting(reason.into()));
        let settings = self.settings.clone();
        let still = settings.group.still_assigns(self.partition);
        self.meanwhile(still).await
    }

    async fn unavailable(&mut self, reason: String) -> Option<()> {
        let partition = self.partition;
        tracing::warn!(
            shard = partition,
            reason,
            "shard {partition} cannot be taken over yet"
        );
        self.status.send_replace(ShardStatus::Starting(reason));
        self.pause().await
    }

    /// Until the shard is somebody else's, or this process is started again.
    async fn stopped(&mut self, reason: String) -> Option<()> {
        let partition = self.partition;
        tracing::error!(shard = partition, reason, "stopped shard {partition}");
        self.status.send_replace(ShardStatus::Stopped(reason));
        let settings = self.settings.clone();
        self.meanwhile(settings.group.until(partition, false)).await
    }

    /// Contenders that come back at the same time would meet again.
    async fn pause(&mut self) -> Option<()> {
        let jitter = u64::from(
            std::time::UNIX_EPOCH
                .elapsed()
                .map_or(0, |it| it.subsec_nanos()),
        );
        self.meanwhile(sleep(Duration::from_millis(100 + jitter % 200)))
            .await
    }

    /// Waits, and sends those away who come to this shard all the same.
    async fn meanwhile<T>(&mut self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.shutdown.cancelled() => None,
            () = turn_away(&mut self.requests) => None,
            result = wait => Some(result),
        }
    }
}

/// Who asks learns by the dropped reply that nobody has decided. Returns when nobody can ask.
async fn turn_away(requests: &mut mpsc::Receiver<Routed>) {
    while requests.recv().await.is_some() {}
}
