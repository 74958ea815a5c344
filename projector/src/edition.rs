//! Making a model's editions, and telling which are there to be fed.

use chrono::{DateTime, Utc};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::{
    Model, changes,
    read_side::{Edition, active_edition},
    rebuild::switch,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum EditionError {
    #[error(
        "the tables of {model} have changed, but its VERSION is still {version}: raise it, so that \
         a new edition is built"
    )]
    TablesChanged { model: &'static str, version: i32 },
    #[error("failed to make the tables of {model}")]
    Tables {
        model: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to look the editions of {model} up")]
    LookUp {
        model: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to note how the events of {model} are read")]
    Reading {
        model: &'static str,
        #[source]
        source: sqlx::Error,
    },
    #[error("failed to swap edition {edition} of {model} in")]
    Swap {
        model: &'static str,
        edition: i32,
        #[source]
        source: sqlx::Error,
    },
}

impl EditionError {
    /// Whether the platform's own tables are not there.
    pub(crate) fn is_about_an_empty_database(&self) -> bool {
        let (Self::LookUp { source, .. }
        | Self::Tables { source, .. }
        | Self::Reading { source, .. }
        | Self::Swap { source, .. }) = self
        else {
            return false;
        };
        // undefined_table, invalid_schema_name
        let code = source.as_database_error().and_then(|error| error.code());
        code.is_some_and(|code| code == "42P01" || code == "3F000")
    }
}

/// An edition, with the statements that made its tables.
pub(crate) struct Found {
    pub(crate) edition: Edition,
    pub(crate) tables: String,
}

/// The editions that the model's code can feed, the oldest first.
pub(crate) async fn of_version(
    postgres: &PgPool,
    model: &Model,
) -> Result<Vec<Found>, EditionError> {
    let rows: Vec<(i32, String)> = sqlx::query_as(
        "select edition, tables from annals.editions
         where model = $1 and version = $2 order by edition",
    )
    .bind(model.name)
    .bind(model.version)
    .fetch_all(postgres)
    .await
    .map_err(|source| look_up(model, source))?;
    let found = |(number, tables)| Found {
        edition: named(model, number),
        tables,
    };
    Ok(rows.into_iter().map(found).collect())
}

/// When the platform's tables were made, which tells a database from another in its place; `None`
/// while they are being made.
pub(crate) async fn database_made_at(
    postgres: &PgPool,
    model: &Model,
) -> Result<Option<DateTime<Utc>>, EditionError> {
    sqlx::query_scalar("select min(installed_on) from annals.migrations")
        .fetch_one(postgres)
        .await
        .map_err(|source| look_up(model, source))
}

/// Notes how the edition's events are read from now on. Where some were read otherwise before, that
/// is told: a rule was mended, or a schema version came, and the rows may want to be built again.
pub(crate) async fn note_reading(
    postgres: &PgPool,
    model: &Model,
    edition: &Edition,
    reading: &str,
) -> Result<(), EditionError> {
    let others: Option<i32> = sqlx::query_scalar(
        "update annals.editions
         set readings = case when $3 = any(readings) then readings else readings || $3 end
         where model = $1 and edition = $2
         returning cardinality(readings) - 1",
    )
    .bind(model.name)
    .bind(edition.number)
    .bind(reading)
    .fetch_optional(postgres)
    .await
    .map_err(|source| EditionError::Reading {
        model: model.name,
        source,
    })?;
    if others.is_some_and(|others| others > 0) {
        tracing::warn!(
            model = model.name,
            edition = edition.number,
            "events of edition {} of {} were read by other schemas or rules before: build it \
             again with `annals replay rebuild {}`",
            edition.number,
            model.name,
            model.name
        );
    }
    Ok(())
}

/// Makes an edition where the model has none, or none of a version as high as this one.
///
/// The very first is read from the start. A later one is fed beside the one that is read, until
/// it is swapped in: see [`rebuild`](crate::rebuild).
pub(crate) async fn make_if_wanted(postgres: &PgPool, model: &Model) -> Result<(), EditionError> {
    let look_up = |source| look_up(model, source);
    let mut transaction = postgres.begin().await.map_err(look_up)?;
    one_at_a_time(&mut transaction, model.name)
        .await
        .map_err(look_up)?;
    let highest: Option<i32> =
        sqlx::query_scalar("select max(version) from annals.editions where model = $1")
            .bind(model.name)
            .fetch_one(&mut *transaction)
            .await
            .map_err(look_up)?;
    if highest.is_some_and(|highest| highest >= model.version) {
        return Ok(());
    }
    make(&mut transaction, model).await?;
    transaction
        .commit()
        .await
        .map_err(|source| tables(model, source))
}

/// Makes another edition, in the transaction of somebody who is [alone](one_at_a_time).
pub(crate) async fn make(
    transaction: &mut PgConnection,
    model: &Model,
) -> Result<Edition, EditionError> {
    let edition = create(transaction, model)
        .await
        .map_err(|source| tables(model, source))?;
    tracing::info!(
        model = model.name,
        edition = edition.number,
        version = edition.version,
        "made edition {} of {}; `annals replay editions` tells which one is read",
        edition.number,
        model.name
    );
    Ok(edition)
}

async fn create(transaction: &mut PgConnection, model: &Model) -> Result<Edition, sqlx::Error> {
    let number = sqlx::query_scalar(
        "insert into annals.edition_numbers as given
         select $1, coalesce(max(edition), 0) + 1 from annals.editions where model = $1
         on conflict (model) do update set last = greatest(given.last + 1, excluded.last)
         returning last",
    )
    .bind(model.name)
    .fetch_one(&mut *transaction)
    .await?;
    sqlx::query(
        "insert into annals.editions (model, edition, version, tables) values ($1, $2, $3, $4)",
    )
    .bind(model.name)
    .bind(number)
    .bind(model.version)
    .bind(model.tables)
    .execute(&mut *transaction)
    .await?;
    let edition = named(model, number);
    // The name is checked to be harmless: see `model()`.
    let create = format!("create schema {}", edition.schema());
    sqlx::raw_sql(AssertSqlSafe(create))
        .execute(&mut *transaction)
        .await?;
    edition.enter(transaction).await?;
    for tables in [changes::TABLE, model.tables] {
        sqlx::raw_sql(tables).execute(&mut *transaction).await?;
    }
    if active_edition(&mut *transaction, model.name)
        .await?
        .is_none()
    {
        switch::read_first(transaction, &edition).await?;
    }
    Ok(edition)
}

/// Lets the newest edition of this version be the one that is read as soon as it has all that
/// the one which is read has, compared or not.
pub(crate) async fn swap_unasked(postgres: &PgPool, model: &Model) -> Result<(), EditionError> {
    let Some(newest) = of_version(postgres, model).await?.pop() else {
        return Ok(());
    };
    let active = active_edition(postgres, model.name)
        .await
        .map_err(|source| look_up(model, source))?;
    let Some(active) = active.filter(|active| active.version < newest.edition.version) else {
        return Ok(());
    };
    let to = newest.edition;
    let swapped = switch::swap_if_not_behind(postgres, &active, &to)
        .await
        .map_err(|source| EditionError::Swap {
            model: model.name,
            edition: to.number,
            source,
        })?;
    if swapped {
        tracing::info!(
            model = model.name,
            edition = to.number,
            "edition {} of {} has caught up and is read from now on",
            to.number,
            model.name
        );
    }
    Ok(())
}

/// Two who make or drop editions of a model do it one after the other.
pub(crate) async fn one_at_a_time(
    transaction: &mut PgConnection,
    model: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('annals.editions ' || $1, 0))")
        .bind(model)
        .execute(transaction)
        .await?;
    Ok(())
}

fn named(model: &Model, number: i32) -> Edition {
    Edition {
        model: model.name.into(),
        number,
        version: model.version,
    }
}

fn look_up(model: &Model, source: sqlx::Error) -> EditionError {
    EditionError::LookUp {
        model: model.name,
        source,
    }
}

fn tables(model: &Model, source: sqlx::Error) -> EditionError {
    EditionError::Tables {
        model: model.name,
        source,
    }
}
