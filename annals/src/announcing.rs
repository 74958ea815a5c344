//! Who decides and who projects, and which versions of each event they read: every such process
//! says so in Postgres, again and again.
//!
//! `annals schema activate` waits for them. Nothing else rests on it: what a process may decide it
//! learns from `annals.control` itself.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use event_log::{
    control::{ActiveVersions, ControlLog, KnownVersions},
    registry::RegistryClient,
};
use serde::Serialize;
use sqlx::PgPool;
use tokio::time::{sleep, timeout};

/// For how long an announcement holds.
const HOLDS: Duration = Duration::from_secs(20);
const RENEWED_EVERY: Duration = Duration::from_secs(4);
/// After the first failures, sooner.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long Kafka may take to say what is active.
const ASKED_FOR: Duration = Duration::from_secs(2);
const WITHDRAWN_WITHIN: Duration = Duration::from_secs(1);
/// Rows of processes that had names of their own, which nobody takes again.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3_600);

/// What a process does with events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    CommandService,
    Projector,
}

impl Part {
    pub fn name(self) -> &'static str {
        match self {
            Self::CommandService => "command-service",
            Self::Projector => "projector",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let parts = [Self::CommandService, Self::Projector];
        parts.into_iter().find(|part| part.name() == name)
    }
}

/// A process, and what it says about one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Announcement {
    pub role: Part,
    /// Its name in Kafka's groups.
    pub member: String,
    pub event_type: String,
    pub reads_up_to: u32,
    /// `None` of one that only reads, or could not ask.
    pub writes: Option<u32>,
    pub release: String,
    pub announced_at: DateTime<Utc>,
    /// It was not renewed in time.
    pub expired: bool,
}

/// What was announced of the generation, also by those who have not been heard of lately.
pub(crate) async fn announcements(
    postgres: &PgPool,
    generation: &str,
) -> Result<Vec<Announcement>, sqlx::Error> {
    type Row = (
        String,
        String,
        String,
        i32,
        Option<i32>,
        String,
        DateTime<Utc>,
        bool,
    );
    let rows: Vec<Row> = sqlx::query_as(
        "select role, member, event_type, reads_up_to, writes, release, announced_at,
                expires_at < now()
           from annals.announcements where generation = $1 order by role, member, event_type",
    )
    .bind(generation)
    .fetch_all(postgres)
    .await?;
    let announcements = rows.into_iter().filter_map(|row| {
        let (role, member, event_type, reads_up_to, writes, release, announced_at, expired) = row;
        Some(Announcement {
            role: Part::parse(&role)?,
            member,
            event_type,
            reads_up_to: reads_up_to.unsigned_abs(),
            writes: writes.map(i32::unsigned_abs),
            release,
            announced_at,
            expired,
        })
    });
    Ok(announcements.collect())
}

/// Announces one process.
pub(crate) struct Announcer {
    pub postgres: PgPool,
    pub control: ControlLog,
    pub generation: String,
    pub role: Part,
    pub member: String,
    /// By context.
    pub known: Vec<KnownVersions>,
    pub registry: RegistryClient,
}

impl Announcer {
    /// Renews it for as long as `work` takes, and takes it back then.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        let result = tokio::select! {
            result = work => result,
            never = self.keep() => match never {},
        };
        let _ = timeout(WITHDRAWN_WITHIN, self.withdraw()).await;
        result
    }

    async fn keep(&self) -> Infallible {
        let mut failed = 0;
        loop {
            match self.announce().await {
                Ok(()) => {
                    failed = 0;
                    sleep(RENEWED_EVERY).await;
                }
                Err(error) => {
                    failed += 1;
                    // The first time, the table may only have to be made.
                    if failed == 2 {
                        tracing::warn!(
                            %error,
                            "cannot announce which versions this process reads: no version is \
                             activated meanwhile"
                        );
                    }
                    if error.as_database_error().is_some() {
                        let _ = projector::read_side::migrate(&self.postgres).await;
                    }
                    sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn announce(&self) -> Result<(), sqlx::Error> {
        let active = match self.role {
            Part::CommandService => timeout(ASKED_FOR, self.control.catch_up()).await,
            Part::Projector => Ok(Ok(Arc::default())),
        };
        let active = active.ok().and_then(Result::ok).unwrap_or_default();
        let reads = self.reads().await;
        let event_types: Vec<_> = reads.keys().cloned().collect();
        let writes: Vec<_> = reads
            .iter()
            .map(|(event_type, reads)| self.writes(&active, event_type, *reads))
            .collect();
        let reads: Vec<_> = reads.into_values().map(|it| it as i32).collect();
        let mut transaction = self.postgres.begin().await?;
        // What the release before knew, and this one does not, is not announced any more.
        sqlx::query(
            "delete from annals.announcements
              where generation = $1 and role = $2 and member = $3 and event_type <> all ($4)
                 or expires_at < now() - $5 * interval '1 second'",
        )
        .bind(&self.generation)
        .bind(self.role.name())
        .bind(&self.member)
        .bind(&event_types)
        .bind(FORGOTTEN_AFTER.as_secs() as f64)
        .execute(&mut *transaction)
        .await?;
        sqlx::query(
            "insert into annals.announcements
                    (generation, role, member, event_type, reads_up_to, writes, release, expires_at)
             select $1, $2, $3, event_type, reads_up_to, writes, $4,
                    now() + $5 * interval '1 second'
               from unnest($6::text[], $7::integer[], $8::integer[])
                    as announced (event_type, reads_up_to, writes)
             on conflict (generation, role, member, event_type) do update set
                reads_up_to = excluded.reads_up_to, writes = excluded.writes,
                release = excluded.release, announced_at = now(),
                expires_at = excluded.expires_at",
        )
        .bind(&self.generation)
        .bind(self.role.name())
        .bind(&self.member)
        .bind(env!("CARGO_PKG_VERSION"))
        .bind(HOLDS.as_secs() as f64)
        .bind(event_types)
        .bind(reads)
        .bind(writes)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// Who decides reads what it was compiled with; who projects, what rules lead to as well.
    async fn reads(&self) -> BTreeMap<String, u32> {
        let mut reads = BTreeMap::new();
        for known in &self.known {
            let readable = match self.role {
                Part::CommandService => None,
                Part::Projector => known.through(&self.registry).await.ok(),
            };
            reads.extend(readable.unwrap_or_else(|| known.clone()).versions);
        }
        reads
    }

    fn writes(&self, active: &ActiveVersions, event_type: &str, newest: u32) -> Option<i32> {
        let active = active.of(event_type)?;
        Some(active.version.min(newest) as i32)
    }

    /// Nobody needs to wait for a process that has ended in its orderly way.
    async fn withdraw(&self) -> Result<(), sqlx::Error> {
        sqlx::query(
            "delete from annals.announcements
              where generation = $1 and role = $2 and member = $3",
        )
        .bind(&self.generation)
        .bind(self.role.name())
        .bind(&self.member)
        .execute(&self.postgres)
        .await?;
        Ok(())
    }
}
