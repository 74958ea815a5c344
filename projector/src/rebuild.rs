//! Building a read model again: a new edition is fed beside the one that is read, compared with
//! it at one barrier of positions, and swapped in; and swapped back if it was wrong.
//!
//! The projectors do the feeding: they feed every edition of their code's version. Whoever
//! rebuilds only says what is to be, and may be killed and begin again at any moment.

mod barrier;
mod compare;
mod editions;
pub(crate) mod switch;

use std::{ops::RangeInclusive, time::Duration};

use sqlx::{Connection, PgConnection, PgPool};
use tokio::time::{Instant, sleep};

pub use compare::{Comparison, Expected, TableComparison};
pub use editions::{EditionStatus, drop_edition, editions};

use crate::{
    Model,
    edition::{self, EditionError},
    read_side::{Edition, active_edition},
};
use barrier::{Arrival, Barrier};
use switch::{Lag, Swap, swap};

const LOCKED_WITHIN: Duration = Duration::from_secs(2);
/// The workers of an edition that is a hundredth behind, within these bounds, come to a barrier soon.
const NEARLY_THERE: RangeInclusive<i64> = 100..=5_000;
/// A barrier may be missed when somebody else comes in between; not for ever.
const ATTEMPTS: usize = 3;

#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("failed to {what}")]
    Postgres {
        what: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("the tables of the read side are not there yet; a projector makes them")]
    NoTables,
    #[error("{0}")]
    Edition(String),
    #[error("{model} was never built: start a projector, which does it")]
    NotBuilt { model: String },
    #[error("somebody else is rebuilding {model}")]
    UnderWay { model: String },
    #[error(
        "edition {read} of {model}, which is read, was built by version {version} of the model, \
         and this program has version {ours}: rebuild with the newer one"
    )]
    OlderCode {
        model: String,
        read: i32,
        version: i32,
        ours: i32,
    },
    #[error(
        "edition {edition} of {model} does not come to the barrier, {records} records away in some partition: does \
         a projector of its version {version} run?"
    )]
    NotFed {
        model: String,
        edition: i32,
        version: i32,
        records: i64,
    },
    #[error("no snapshot of {model} could be taken while its barrier stood: Postgres is too slow")]
    NoSnapshot { model: String },
    #[error("{} of {model} is in neither edition, so it cannot be expected to differ", names.join(", "))]
    UnknownNames { model: String, names: Vec<String> },
    #[error(
        "edition {edition} of {model} is {records} records behind the one that is read: does a \
         projector of its version {version} run?"
    )]
    Behind {
        model: String,
        edition: i32,
        version: i32,
        records: i64,
    },
    #[error("somebody else has swapped or dropped an edition of {model} meanwhile")]
    Overtaken { model: String },
    #[error("{model} has no edition before the one that is read: it was dropped, or never was")]
    NoPrevious { model: String },
    #[error("{model} has no edition {edition}")]
    NoSuchEdition { model: String, edition: i32 },
    #[error("edition {edition} of {model} is read, so it cannot be dropped")]
    IsRead { model: String, edition: i32 },
}

/// A new edition beside the one that is read. Nobody else rebuilds the model until this is
/// dropped.
#[derive(Debug)]
pub struct Rebuild {
    postgres: PgPool,
    /// Has the lock.
    _alone: PgConnection,
    expected: Expected,
    /// The one that is read.
    pub old: Edition,
    /// The one that is to be read.
    pub new: Edition,
    /// Whether it was made for this, and not found as another attempt or a projector has left it.
    pub is_made: bool,
}

/// How far the new edition has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Records of which the new edition has everything.
    pub done: i64,
    /// Records of which the old one has, at least as many.
    pub goal: i64,
}

impl Progress {
    /// Whether a comparison holds nobody up for long.
    pub fn is_nearly_there(&self) -> bool {
        let is_fed = self.done > 0 || self.goal == 0;
        is_fed
            && self.goal - self.done
                <= (self.goal / 100).clamp(*NEARLY_THERE.start(), *NEARLY_THERE.end())
    }
}

impl Rebuild {
    /// Goes on with the edition that an earlier attempt, or a projector of a new version, has
    /// made, unless it was read before; otherwise makes one.
    pub async fn begin(postgres: &PgPool, model: &Model) -> Result<Self, RebuildError> {
        Self::begin_expecting(postgres, model, []).await
    }

    /// The same, [expecting](Self::expect) these to differ.
    ///
    /// # Errors
    /// `UnknownNames` when neither edition has one of them; then none was made.
    pub async fn begin_expecting(
        postgres: &PgPool,
        model: &Model,
        names: impl IntoIterator<Item = String>,
    ) -> Result<Self, RebuildError> {
        let named: Expected = names.into_iter().collect();
        let alone = alone(postgres, model.name).await?;
        let old = active_edition(postgres, model.name)
            .await
            .map_err(postgres_error("look the editions up"))?
            .ok_or_else(|| RebuildError::NotBuilt {
                model: model.name.into(),
            })?;
        if old.version > model.version {
            return Err(RebuildError::OlderCode {
                model: old.model,
                read: old.number,
                version: old.version,
                ours: model.version,
            });
        }
        let candidate = candidate(postgres, model, &old).await?;
        let is_made = candidate.is_none();
        let new = match candidate {
            Some(candidate) => {
                let mut connection = postgres.acquire().await.map_err(failed_to_compare)?;
                all_known(&mut connection, [&old, &candidate], &named).await?;
                candidate
            }
            None => make(postgres, model, &old, &named).await?,
        };
        let declared: &[&str] = match old.version == new.version {
            true => &[],
            false => model.differs,
        };
        let mut rebuild = Self {
            postgres: postgres.clone(),
            _alone: alone,
            expected: declared.iter().copied().collect(),
            old,
            new,
            is_made,
        };
        rebuild.expect(named);
        Ok(rebuild)
    }

    /// Expects these to differ, `table` or `table.column`, beside what the model declares.
    pub fn expect(&mut self, names: impl IntoIterator<Item = String>) {
        self.expected.extend(names);
    }

    pub async fn progress(&self) -> Result<Progress, RebuildError> {
        let (done, goal): (i64, i64) = sqlx::query_as(
            "select coalesce(sum(least(coalesce(ours.next_offset, 0), theirs.next_offset)), 0)::bigint,
                    coalesce(sum(theirs.next_offset), 0)::bigint
             from annals.checkpoints as theirs
             left join annals.checkpoints as ours
                 on ours.model = $1 and ours.edition = $3
                     and ours.topic = theirs.topic and ours.partition = theirs.partition
             where theirs.model = $1 and theirs.edition = $2",
        )
        .bind(&self.old.model)
        .bind(self.old.number)
        .bind(self.new.number)
        .fetch_one(&self.postgres)
        .await
        .map_err(postgres_error("read the checkpoints"))?;
        Ok(Progress { done, goal })
    }

    /// Compares the two at a barrier, which holds up the workers of both for a moment: until they
    /// have come to it and a snapshot is opened. `done` is told each table, and how many there are.
    pub async fn compare(
        &self,
        mut done: impl FnMut(&str, usize),
    ) -> Result<Comparison, RebuildError> {
        let editions = [&self.old, &self.new];
        let mut connection = self.postgres.acquire().await.map_err(failed_to_compare)?;
        all_known(&mut connection, editions, &self.expected).await?;
        for _ in 0..ATTEMPTS {
            let barrier = Barrier::set(&self.postgres, editions)
                .await
                .map_err(postgres_error("set a barrier"))?;
            let mut snapshot = connection
                .begin_with("begin isolation level repeatable read read only")
                .await
                .map_err(failed_to_compare)?;
            let seen = async {
                match barrier.wait().await? {
                    // The first look of the transaction takes the snapshot.
                    Arrival::Both => Ok((true, barrier.look(&mut snapshot).await?)),
                    missing => Ok((false, missing)),
                }
            };
            let seen = seen.await;
            let lifted = barrier.lift().await;
            let seen = seen.and_then(|seen| lifted.map(|()| seen));
            match seen.map_err(failed_to_compare)? {
                (_, Arrival::Both) => {
                    return compare::compare(&mut snapshot, editions, &self.expected, &mut done)
                        .await
                        .map_err(failed_to_compare);
                }
                (false, Arrival::Missing { edition, records }) => {
                    return Err(self.not_fed(edition, records));
                }
                // The barrier's time was over in between.
                (true, Arrival::Missing { .. }) => {}
            }
            snapshot.rollback().await.map_err(failed_to_compare)?;
        }
        Err(RebuildError::NoSnapshot {
            model: self.old.model.clone(),
        })
    }

    fn not_fed(&self, number: i32, records: i64) -> RebuildError {
        let edition = match number == self.old.number {
            true => &self.old,
            false => &self.new,
        };
        RebuildError::NotFed {
            model: edition.model.clone(),
            edition: number,
            version: edition.version,
            records,
        }
    }

    /// Lets the new edition be read. The old one stays fed, and can be [taken back](roll_back).
    /// Unless `behind` is allowed, the new one must get all that the old one has.
    pub async fn swap_in(&self, behind: bool) -> Result<(), RebuildError> {
        switch_over(&self.postgres, &self.old, &self.new, Lag::of(behind)).await
    }
}

/// Lets the edition be read again that was before this one, and answers it. Unless `behind` is
/// allowed, it must have all that the present one has.
pub async fn roll_back(
    postgres: &PgPool,
    model: &str,
    behind: bool,
) -> Result<Edition, RebuildError> {
    let _alone = alone(postgres, model).await?;
    let look_up = postgres_error("look the editions up");
    let present = active_edition(postgres, model)
        .await
        .map_err(&look_up)?
        .ok_or_else(|| RebuildError::NotBuilt {
            model: model.into(),
        })?;
    let previous: Option<Edition> = sqlx::query_as(
        "select model, e.edition, version from annals.editions as e
         join annals.active_editions as a using (model)
         where model = $1 and e.edition = a.previous",
    )
    .bind(model)
    .fetch_optional(postgres)
    .await
    .map_err(&look_up)?;
    let previous = previous.ok_or_else(|| RebuildError::NoPrevious {
        model: model.into(),
    })?;
    switch_over(postgres, &present, &previous, Lag::of(behind)).await?;
    Ok(previous)
}

async fn switch_over(
    postgres: &PgPool,
    from: &Edition,
    to: &Edition,
    lag: Lag,
) -> Result<(), RebuildError> {
    let swapped = swap(postgres, from, to, lag)
        .await
        .map_err(postgres_error("swap the editions"))?;
    match swapped {
        Swap::Done => Ok(()),
        Swap::Behind(records) => Err(RebuildError::Behind {
            model: to.model.clone(),
            edition: to.number,
            version: to.version,
            records,
        }),
        Swap::Overtaken => Err(RebuildError::Overtaken {
            model: to.model.clone(),
        }),
    }
}

/// A connection that has the model's lock until it is closed. That of somebody who was killed a
/// moment ago may not be free yet.
async fn alone(postgres: &PgPool, model: &str) -> Result<PgConnection, RebuildError> {
    let lock = postgres_error("lock the model");
    let mut connection = postgres.acquire().await.map_err(&lock)?.detach();
    let began = Instant::now();
    loop {
        let locked: bool = sqlx::query_scalar(
            "select pg_try_advisory_lock(hashtextextended('annals.rebuild ' || $1, 0))",
        )
        .bind(model)
        .fetch_one(&mut connection)
        .await
        .map_err(&lock)?;
        if locked {
            return Ok(connection);
        }
        if began.elapsed() > LOCKED_WITHIN {
            return Err(RebuildError::UnderWay {
                model: model.into(),
            });
        }
        sleep(Duration::from_millis(50)).await;
    }
}

async fn candidate(
    postgres: &PgPool,
    model: &Model,
    old: &Edition,
) -> Result<Option<Edition>, RebuildError> {
    sqlx::query_as(
        "select model, edition, version from annals.editions
         where model = $1 and version = $2 and edition > $3 and swapped_in_at is null
             and tables = $4
         order by edition desc limit 1",
    )
    .bind(model.name)
    .bind(model.version)
    .bind(old.number)
    .bind(model.tables)
    .fetch_optional(postgres)
    .await
    .map_err(postgres_error("look the editions up"))
}

async fn make(
    postgres: &PgPool,
    model: &Model,
    old: &Edition,
    expected: &Expected,
) -> Result<Edition, RebuildError> {
    let made = postgres_error("make an edition");
    let mut transaction = postgres.begin().await.map_err(&made)?;
    edition::one_at_a_time(&mut transaction, model.name)
        .await
        .map_err(&made)?;
    let edition = edition::make(&mut transaction, model).await?;
    all_known(&mut transaction, [old, &edition], expected).await?;
    transaction.commit().await.map_err(&made)?;
    Ok(edition)
}

/// Refuses names that neither edition has.
async fn all_known(
    connection: &mut PgConnection,
    editions: [&Edition; 2],
    expected: &Expected,
) -> Result<(), RebuildError> {
    let unknown = compare::unknown(connection, editions, expected);
    let unknown = unknown.await.map_err(failed_to_compare)?;
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(RebuildError::UnknownNames {
            model: editions[0].model.clone(),
            names: unknown,
        }),
    }
}

pub(crate) fn postgres_error(what: &'static str) -> impl Fn(sqlx::Error) -> RebuildError {
    move |source| {
        // undefined_table, undefined_column: of a database that a projector has not seen yet, or
        // not in this release.
        let code = source.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            Some("42P01" | "42703") => RebuildError::NoTables,
            _ => RebuildError::Postgres { what, source },
        }
    }
}

fn failed_to_compare(source: sqlx::Error) -> RebuildError {
    RebuildError::Postgres {
        what: "compare the editions",
        source,
    }
}

impl From<EditionError> for RebuildError {
    fn from(error: EditionError) -> Self {
        Self::Edition(crate::failure::chain(&error))
    }
}
