//! One transaction that sees one moment of one read model.

use std::sync::Arc;

use kernel::Tenant;
use service_kit::Problem;
use sqlx::{
    AssertSqlSafe, Encode, FromRow, PgPool, Postgres, SqlSafeStr, Transaction, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo, types::Oid},
    query::QueryAs,
};

use crate::{
    failure::ReadFailed,
    page::{Listed, Page, PageParams},
    read_side::{NextOffsets, Opening},
};

/// REPEATABLE READ and read only, on the model's active edition: names without a schema are the
/// model's own tables, and all statements see the same rows. Ends when it is dropped.
///
/// Every statement is given the caller's tenant as `$1` and has to use it.
pub struct Snapshot {
    transaction: Transaction<'static, Postgres>,
    opening: Arc<Opening>,
    tenant: Tenant,
}

/// A statement with the tenant as `$1`, to be given `$2` and so on, and then run.
#[must_use = "a query does nothing until it is fetched"]
pub struct TenantQuery<'s, T> {
    query: QueryAs<'s, Postgres, T, PgArguments>,
    transaction: &'s mut Transaction<'static, Postgres>,
}

/// What a snapshot contains.
#[derive(Default)]
pub(crate) struct Progress {
    pub next_offsets: NextOffsets,
    pub quarantined: Vec<Quarantined>,
}

/// A stream whose events are held back from this offset on.
pub(crate) struct Quarantined {
    pub topic: String,
    pub stream: String,
    pub offset: i64,
}

/// A pool of connections may hold some that a restart of Postgres has cut: after so many new
/// attempts it is Postgres that is away.
const ATTEMPTS: usize = 4;

impl Snapshot {
    pub(crate) async fn open(
        postgres: &PgPool,
        opening: Arc<Opening>,
        tenant: &Tenant,
    ) -> Result<Self, ReadFailed> {
        let mut attempt = 1;
        loop {
            let statement = AssertSqlSafe(Arc::clone(&opening.statement));
            match postgres.begin_with(statement).await.map_err(ReadFailed) {
                Ok(transaction) => {
                    return Ok(Self {
                        transaction,
                        opening,
                        tenant: tenant.clone(),
                    });
                }
                Err(failed)
                    if attempt < ATTEMPTS
                        && failed.is_of_the_server()
                        && !matches!(failed.0, sqlx::Error::PoolTimedOut) =>
                {
                    attempt += 1;
                }
                Err(failed) => return Err(failed),
            }
        }
    }

    /// A statement over the rows of the caller's tenant, which is `$1`; [`TenantQuery::bind`]
    /// adds `$2` and so on.
    ///
    /// Postgres refuses a statement that does not use `$1` (500 `internal`; SQLSTATE 42P18, or
    /// 08P01 if it has no parameters), so that a forgotten filter shows in the first test.
    pub fn query_as<T>(&mut self, sql: impl SqlSafeStr) -> TenantQuery<'_, T>
    where
        T: for<'r> FromRow<'r, PgRow>,
    {
        // Connections remember statements by their text, with the types of the columns; the same
        // text over another model's tables, or another edition's, is another statement.
        let schema = &self.opening.schema;
        let sql = format!("/* {schema} */ {}", sql.into_sql_str().as_str());
        TenantQuery {
            query: sqlx::query_as(AssertSqlSafe(sql)).bind(TenantParameter(self.tenant.clone())),
            transaction: &mut self.transaction,
        }
    }

    /// The page of these rows, of which there were asked for [`PageParams::rows`]. It says when
    /// streams are quarantined, whose rows are old or missing.
    pub async fn page<T: Listed>(
        &mut self,
        page: &PageParams<T>,
        rows: Vec<T>,
    ) -> Result<Page<T>, Problem> {
        let (quarantined,): (i64,) = sqlx::query_as(
            "select count(*) from annals.quarantine
             where model = $1 and edition = $2 and starts_with(stream, $3)",
        )
        .bind(&self.opening.edition.model)
        .bind(self.opening.edition.number)
        .bind(format!("{}/", self.tenant))
        .fetch_one(&mut *self.transaction)
        .await
        .map_err(ReadFailed)?;
        Ok(page.of(rows, quarantined))
    }

    /// How far the model has come in this snapshot, and which of these streams are quarantined.
    pub(crate) async fn progress(&mut self, streams: &[&str]) -> Result<Progress, ReadFailed> {
        let edition = &self.opening.edition;
        let rows: Vec<(String, i32, i64, Option<String>)> = sqlx::query_as(
            r#"select topic, partition, next_offset, null from annals.checkpoints
               where model = $1 and edition = $2
               union all
               select topic, partition, "offset", stream from annals.quarantine
               where model = $1 and edition = $2 and stream = any($3)"#,
        )
        .bind(&edition.model)
        .bind(edition.number)
        .bind(streams)
        .fetch_all(&mut *self.transaction)
        .await?;
        let mut progress = Progress::default();
        for (topic, partition, offset, stream) in rows {
            match stream {
                None => {
                    progress.next_offsets.advance(topic, partition, offset);
                }
                Some(stream) => progress.quarantined.push(Quarantined {
                    topic,
                    stream,
                    offset,
                }),
            }
        }
        Ok(progress)
    }
}

impl<'s, T> TenantQuery<'s, T>
where
    T: for<'r> FromRow<'r, PgRow> + Send + Unpin,
{
    pub fn bind<V: Encode<'s, Postgres> + Type<Postgres> + 's>(mut self, value: V) -> Self {
        self.query = self.query.bind(value);
        self
    }

    /// All rows: give the statement a LIMIT, or be sure that they are few.
    pub async fn fetch_all(self) -> Result<Vec<T>, ReadFailed> {
        Ok(self.query.fetch_all(&mut **self.transaction).await?)
    }

    pub async fn fetch_optional(self) -> Result<Option<T>, ReadFailed> {
        Ok(self.query.fetch_optional(&mut **self.transaction).await?)
    }

    /// For a statement that always has a row, such as `select count(*)`.
    pub async fn fetch_one(self) -> Result<T, ReadFailed> {
        Ok(self.query.fetch_one(&mut **self.transaction).await?)
    }
}

/// A text without a declared type: Postgres infers it from where `$1` stands, and so refuses a
/// statement in which it stands nowhere. A declared but unused parameter would pass.
struct TenantParameter(Tenant);

impl Type<Postgres> for TenantParameter {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(0))
    }
}

impl Encode<'_, Postgres> for TenantParameter {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <&str as Encode<Postgres>>::encode_by_ref(&self.0.as_str(), buffer)
    }
}
