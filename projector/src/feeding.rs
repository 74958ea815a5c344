//! Which editions of a model this process feeds: all that are of its code's version, each by a
//! worker of its own, from the moment at which they are made until they are dropped.
//!
//! Editions of another version are left to processes with that code. So the worker of an old
//! version stays for as long as its edition may be taken back.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::{
    Model,
    backoff::Backoff,
    edition::{self, EditionError, Found},
    failure::chain,
    health::{Health, Source},
    membership::{self, Share},
    read_side::{self, Edition},
    worker::{Platform, keep_up},
};

/// How soon a new edition is fed, and a dropped one left.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Feeds the model's editions until `shutdown`, through whatever failures.
pub(crate) async fn feed(
    platform: Arc<Platform>,
    model: Model,
    health: Arc<Health>,
    shutdown: CancellationToken,
) {
    let (told, share) = watch::channel(None);
    tokio::join!(
        membership::take_part(&platform, &model, &health, told, &shutdown),
        feed_shared(
            platform.clone(),
            model,
            health.clone(),
            share,
            shutdown.clone()
        ),
    );
}

/// Feeds, of each edition, this process's share.
async fn feed_shared(
    platform: Arc<Platform>,
    model: Model,
    health: Arc<Health>,
    share: watch::Receiver<Share>,
    shutdown: CancellationToken,
) {
    let mut feeding = Feeding {
        platform,
        model,
        health,
        share,
        shutdown,
        fed: BTreeMap::new(),
        made_in: None,
    };
    let mut backoff = Backoff::new();
    let shutdown = feeding.shutdown.clone();
    loop {
        let pause = async {
            match feeding.look().await {
                Ok(()) => {
                    backoff.reset();
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => {
                    feeding.health.start_over(chain(&error));
                    if error.is_about_an_empty_database() {
                        feeding.make_tables().await;
                    }
                    backoff.pause().await;
                }
            }
        };
        if shutdown.run_until_cancelled(pause).await.is_none() {
            break;
        }
    }
    feeding.leave_all().await;
}

struct Feeding {
    platform: Arc<Platform>,
    model: Model,
    health: Arc<Health>,
    share: watch::Receiver<Share>,
    shutdown: CancellationToken,
    /// By number.
    fed: BTreeMap<i32, Fed>,
    /// The database in which it has been seen to that there is an edition of our version, by when
    /// its tables were made. Once is enough: one that is dropped while we run is not wanted.
    made_in: Option<DateTime<Utc>>,
}

/// An edition at work, or one that this code does not fit.
struct Fed {
    health: Arc<Health>,
    stop: CancellationToken,
    worker: Option<JoinHandle<()>>,
}

impl Feeding {
    async fn look(&mut self) -> Result<(), EditionError> {
        let platform = self.platform.clone();
        let postgres = &platform.postgres;
        let database = edition::database_made_at(postgres, &self.model).await?;
        if self.made_in.is_none() || self.made_in != database {
            // Postgres was lost, and there is another, which whoever noticed first has prepared:
            // an edition with the number of one that we feed is not the same.
            self.leave_all().await;
            edition::make_if_wanted(postgres, &self.model).await?;
            self.made_in = database;
        }
        let found = edition::of_version(postgres, &self.model).await?;
        let numbers: Vec<_> = found.iter().map(|it| it.edition.number).collect();
        for found in found {
            if !self.fed.contains_key(&found.edition.number) {
                self.begin(found);
            }
        }
        let dropped: Vec<_> = self.fed.keys().copied().collect();
        for number in dropped.iter().filter(|it| !numbers.contains(it)) {
            if let Some(fed) = self.fed.remove(number) {
                tracing::info!(
                    model = self.model.name,
                    edition = number,
                    "edition {number} of {} was dropped",
                    self.model.name
                );
                fed.end().await;
            }
        }
        self.health.clear(&Source::Start);
        if self.platform.swap_unasked {
            edition::swap_unasked(postgres, &self.model).await?;
        }
        Ok(())
    }

    /// Postgres was lost, and there is a new one: everything is built from the log again.
    async fn make_tables(&self) {
        if let Err(error) = read_side::migrate(&self.platform.postgres).await {
            tracing::debug!(%error, "the tables cannot be made anew");
        }
    }

    async fn leave_all(&mut self) {
        for fed in std::mem::take(&mut self.fed).into_values() {
            fed.end().await;
        }
    }

    fn begin(&mut self, found: Found) {
        let Found { edition, tables } = found;
        let number = edition.number;
        let health = Arc::new(self.health.of_edition(number));
        let stop = self.shutdown.child_token();
        let worker = match tables == self.model.tables {
            true => Some(self.worker(edition, health.clone(), stop.clone())),
            false => {
                let changed = EditionError::TablesChanged {
                    model: self.model.name,
                    version: self.model.version,
                };
                health.start_over(changed.to_string());
                None
            }
        };
        let fed = Fed {
            health,
            stop,
            worker,
        };
        self.fed.insert(number, fed);
    }

    fn worker(
        &self,
        edition: Edition,
        health: Arc<Health>,
        stop: CancellationToken,
    ) -> JoinHandle<()> {
        tokio::spawn(keep_up(
            self.platform.clone(),
            self.model,
            edition,
            health,
            self.share.clone(),
            stop,
        ))
    }
}

impl Fed {
    async fn end(mut self) {
        self.stop.cancel();
        if let Some(worker) = self.worker.take() {
            // It contains panics itself.
            let _ = worker.await;
        }
        self.health.forget();
    }
}

impl Drop for Fed {
    /// A projector that is not ended but dropped, as by a crash, leaves nobody at work.
    fn drop(&mut self) {
        if let Some(worker) = &self.worker {
            worker.abort();
        }
    }
}
