//! Making a model's edition when it has none for its version, and swapping it in.

use sqlx::{AssertSqlSafe, PgConnection, PgPool};

use crate::{
    Model, changes,
    read_side::{Edition, active_edition},
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
    #[error("failed to swap edition {edition} of {model} in")]
    Swap {
        model: &'static str,
        edition: i32,
        #[source]
        source: sqlx::Error,
    },
}

/// The newest edition of the model's version; made when there is none. The first edition of a
/// model is read from the start, a later one once it has caught up: see [`swap_in`].
pub(crate) async fn open(postgres: &PgPool, model: &Model) -> Result<Edition, EditionError> {
    let look_up = |source| EditionError::LookUp {
        model: model.name,
        source,
    };
    let mut transaction = postgres.begin().await.map_err(look_up)?;
    one_at_a_time(&mut transaction, model)
        .await
        .map_err(look_up)?;
    let found = newest(&mut transaction, model).await.map_err(look_up)?;
    if let Some((edition, tables)) = found {
        return match tables == model.tables {
            true => Ok(edition),
            false => Err(EditionError::TablesChanged {
                model: model.name,
                version: model.version,
            }),
        };
    }
    let tables = |source| EditionError::Tables {
        model: model.name,
        source,
    };
    let edition = make(&mut transaction, model).await.map_err(tables)?;
    transaction.commit().await.map_err(tables)?;
    tracing::info!(
        model = model.name,
        edition = edition.number,
        version = edition.version,
        "made edition {} of {}",
        edition.number,
        model.name
    );
    Ok(edition)
}

/// Lets this edition be the one that is read, unless a later one is already.
pub(crate) async fn swap_in(
    postgres: &PgPool,
    model: &Model,
    edition: &Edition,
) -> Result<(), EditionError> {
    let swapped = sqlx::query(
        "update annals.active_editions set edition = $2 where model = $1 and edition < $2",
    )
    .bind(&edition.model)
    .bind(edition.number)
    .execute(postgres)
    .await
    .map_err(|source| EditionError::Swap {
        model: model.name,
        edition: edition.number,
        source,
    })?;
    if swapped.rows_affected() > 0 {
        tracing::info!(
            model = model.name,
            edition = edition.number,
            "edition {} of {} has caught up and is read from now on",
            edition.number,
            model.name
        );
    }
    Ok(())
}

/// Two workers that start at once must not make two editions.
async fn one_at_a_time(transaction: &mut PgConnection, model: &Model) -> Result<(), sqlx::Error> {
    sqlx::query("select pg_advisory_xact_lock(hashtextextended('annals.editions ' || $1, 0))")
        .bind(model.name)
        .execute(transaction)
        .await?;
    Ok(())
}

async fn newest(
    transaction: &mut PgConnection,
    model: &Model,
) -> Result<Option<(Edition, String)>, sqlx::Error> {
    let row: Option<(i32, String)> = sqlx::query_as(
        "select edition, tables from annals.editions
         where model = $1 and version = $2 order by edition desc limit 1",
    )
    .bind(model.name)
    .bind(model.version)
    .fetch_optional(transaction)
    .await?;
    Ok(row.map(|(number, tables)| (named(model, number), tables)))
}

async fn make(transaction: &mut PgConnection, model: &Model) -> Result<Edition, sqlx::Error> {
    let number = sqlx::query_scalar(
        "insert into annals.editions (model, edition, version, tables)
         select $1, coalesce(max(edition), 0) + 1, $2, $3 from annals.editions where model = $1
         returning edition",
    )
    .bind(model.name)
    .bind(model.version)
    .bind(model.tables)
    .fetch_one(&mut *transaction)
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
        sqlx::query("insert into annals.active_editions (model, edition) values ($1, $2)")
            .bind(model.name)
            .bind(number)
            .execute(transaction)
            .await?;
    }
    Ok(edition)
}

fn named(model: &Model, number: i32) -> Edition {
    Edition {
        model: model.name.into(),
        number,
        version: model.version,
    }
}
