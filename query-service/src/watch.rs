//! The one task of the process that follows the checkpoints, so that requests need not ask.
//!
//! It listens to what the projector tells after each commit, and reads the tables where that is
//! not enough: at each (re)connection; while a request waits, since a notification is lost when
//! its projector dies between commit and telling; and on a standby, which cannot listen.

use std::{convert::Infallible, time::Duration};

use futures::FutureExt;
use projector::read_side::{CHANNEL, CheckpointMoved, EditionSwapped};
use service_kit::{problem::Chain, readiness::Component};
use sqlx::{
    PgPool,
    postgres::{PgListener, PgNotification},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};

use crate::read_side::{self, ReadSide, Served, Told};

/// How often at least the tables are read on a standby while a request waits.
const POLL_OF_A_STANDBY: Duration = Duration::from_millis(50);
/// How often they are read while nobody waits: to see that Postgres is there, and which edition
/// is active, which nobody tells.
const LOOK_AROUND: Duration = Duration::from_secs(1);
/// Postgres is away when it takes longer to read a few rows.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const RETRY_AFTER: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];
/// So many notifications at most are taken together before those who wait are woken.
const TAKEN_TOGETHER: usize = 256;

/// Follows the checkpoints for ever.
pub(crate) struct Watcher {
    /// Its own, so that reads which use up all connections cannot keep it from seeing.
    pub postgres: PgPool,
    pub read_side: watch::Sender<ReadSide>,
    /// How often the tables are read while a request waits, in case a notification was lost.
    pub poll: Duration,
    pub component: Component,
    pub models: Vec<(Served, Component)>,
}

#[derive(Debug, thiserror::Error)]
enum WatchError {
    #[error("failed to listen to the projector")]
    Listen(#[source] sqlx::Error),
    #[error("lost the connection to Postgres")]
    Lost(#[source] Option<sqlx::Error>),
    #[error("failed to read the checkpoints")]
    Read(#[source] sqlx::Error),
    #[error("the tables of the read side are not there yet; the projector makes them")]
    NoTables,
    #[error("Postgres does not answer")]
    NoAnswer,
}

impl Watcher {
    pub async fn run(self) {
        let mut failures = 0;
        loop {
            let started = Instant::now();
            let Err(error) = self.follow().await;
            self.component.not_ready(Chain(&error).to_string());
            if started.elapsed() > LOOK_AROUND {
                failures = 0;
            }
            sleep(RETRY_AFTER[usize::min(failures, RETRY_AFTER.len() - 1)]).await;
            failures += 1;
        }
    }

    async fn follow(&self) -> Result<Infallible, WatchError> {
        let mut listener = answer(self.listen()).await?;
        // After listening began, so that nothing between the two is missed.
        answer(self.look()).await?;
        self.component.ready();

        let mut poll = interval(match listener {
            Some(_) => self.poll,
            None => self.poll.min(POLL_OF_A_STANDBY),
        });
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = Instant::now();
        let mut look = false;
        loop {
            tokio::select! {
                told = next(&mut listener) => look |= self.take(told?, &mut listener)?,
                _ = poll.tick() => {
                    look |= self.somebody_waits() || looked.elapsed() >= LOOK_AROUND;
                    if look {
                        answer(self.look()).await?;
                        looked = Instant::now();
                        look = false;
                    }
                }
            }
        }
    }

    /// `None` on a standby.
    async fn listen(&self) -> Result<Option<PgListener>, WatchError> {
        let standby: bool = sqlx::query_scalar("select pg_is_in_recovery()")
            .fetch_one(&self.postgres)
            .await
            .map_err(WatchError::Listen)?;
        if standby {
            return Ok(None);
        }
        let mut listener = PgListener::connect_with(&self.postgres)
            .await
            .map_err(WatchError::Listen)?;
        // What is missed meanwhile has to be looked up: `follow` does both.
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await.map_err(WatchError::Listen)?;
        Ok(Some(listener))
    }

    async fn look(&self) -> Result<(), WatchError> {
        let rows = sqlx::query_as(read_side::ROWS)
            .fetch_all(&self.postgres)
            .await
            .map_err(|error| match &error {
                sqlx::Error::Database(refused) if refused.code().as_deref() == Some("42P01") => {
                    WatchError::NoTables
                }
                _ => WatchError::Read(error),
            })?;
        let read_side = ReadSide::of(rows);
        for (model, component) in &self.models {
            match read_side.opening(*model) {
                Ok(_) => component.ready(),
                Err(not_served) => component.not_ready(not_served.to_string()),
            }
        }
        self.read_side.send_replace(read_side);
        Ok(())
    }

    /// Takes what has been told by now; whether that asks for a look at the tables.
    fn take(
        &self,
        first: PgNotification,
        listener: &mut Option<PgListener>,
    ) -> Result<bool, WatchError> {
        let mut look = false;
        let mut lost = None;
        self.read_side.send_if_modified(|read_side| {
            let mut news = false;
            let mut told = Some(Ok(first));
            let mut room = TAKEN_TOGETHER;
            while let Some(Ok(notification)) = told {
                match told_by(read_side, &notification) {
                    Told::News => news = true,
                    Told::Known => {}
                    Told::Unknown => look = true,
                }
                room -= 1;
                told = match room {
                    0 => None,
                    _ => next(listener).now_or_never(),
                };
            }
            lost = told.and_then(Result::err);
            news
        });
        lost.map_or(Ok(look), Err)
    }

    /// Beside the one that new requests are given, who waits has a receiver.
    fn somebody_waits(&self) -> bool {
        self.read_side.receiver_count() > 1
    }
}

async fn next(listener: &mut Option<PgListener>) -> Result<PgNotification, WatchError> {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    match listener.try_recv().await {
        Ok(Some(told)) => Ok(told),
        Ok(None) => Err(WatchError::Lost(None)),
        Err(error) => Err(WatchError::Lost(Some(error))),
    }
}

fn told_by(read_side: &mut ReadSide, notification: &PgNotification) -> Told {
    let payload = notification.payload();
    if let Ok(moved) = serde_json::from_str::<CheckpointMoved>(payload) {
        return read_side.told(moved);
    }
    match serde_json::from_str::<EditionSwapped>(payload) {
        // Its statement and its checkpoints are in the tables.
        Ok(_swapped) => Told::Unknown,
        Err(error) => {
            tracing::warn!(payload, "somebody else tells things on {CHANNEL}: {error}");
            Told::Known
        }
    }
}

async fn answer<T>(asked: impl Future<Output = Result<T, WatchError>>) -> Result<T, WatchError> {
    timeout(ANSWER_WITHIN, asked)
        .await
        .unwrap_or(Err(WatchError::NoAnswer))
}
