//! One transaction that sees one moment of one read model.

use std::sync::Arc;

use kernel::Tenant;
use projector::read_side;
use sqlx::{
    AssertSqlSafe, Encode, FromRow, PgPool, Postgres, SqlSafeStr, Transaction, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo, types::Oid},
    query::QueryAs,
};

use crate::{
    failure::ReadFailed,
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

    /// How far the model has come in this snapshot.
    pub(crate) async fn next_offsets(&mut self) -> Result<NextOffsets, ReadFailed> {
        let edition = &self.opening.edition;
        let checkpoints = read_side::checkpoints(&mut *self.transaction, edition).await?;
        Ok(NextOffsets::of(checkpoints))
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
