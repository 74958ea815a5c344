//! The registry as a service of its own: an address, a pool, the tables, and readiness that says
//! whether Postgres is there.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use serde::Deserialize;
use service_kit::SecretUrl;
use service_kit::readiness::{Component, Readiness};
use service_kit::serve::{BindError, Server};
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use crate::http;
use crate::registry::Registry;

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where clients reach the registry. Port 0 takes a free one.
    pub address: String,
    /// `postgres://user:password@host:port/database`; the tables are in the schema `registry`.
    pub postgres: SecretUrl,
    pub max_connections: u32,
    /// Longest request that is accepted, in bytes.
    pub max_body_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8403".to_owned(),
            postgres: SecretUrl::new("postgres://postgres@127.0.0.1:5432/postgres"),
            max_connections: 8,
            max_body_bytes: http::DEFAULT_MOST_BYTES,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("`{address}` is not an address of a Postgres database: {source}")]
    PostgresAddress {
        address: SecretUrl,
        #[source]
        source: sqlx::Error,
    },
}

/// Binds and serves until the token is cancelled: see [`Service`].
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    Service::bind(config).await?.serve(shutdown).await;
    Ok(())
}

/// A registry that has its address and does not serve yet.
#[derive(Debug)]
pub struct Service {
    server: Server,
    pool: PgPool,
    most_bytes: usize,
}

impl Service {
    /// Postgres need not be there yet.
    pub async fn bind(config: Config) -> Result<Self, RunError> {
        let pool = lazy_pool(&config)?;
        let server = Server::bind(&config.address).await?;
        tracing::info!("schema registry on http://{}", server.address());
        Ok(Self {
            server,
            pool,
            most_bytes: config.max_body_bytes,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Serves until the token is cancelled. Postgres may come later and go in between: meanwhile
    /// the registry is not ready, requests are answered with 50001, and it goes on when Postgres
    /// is back.
    pub async fn serve(self, shutdown: CancellationToken) {
        let registry = Registry::new(self.pool.clone());
        let readiness = Readiness::new();
        let postgres = readiness.component("postgres");
        let watching = watch(registry.clone(), postgres);
        let watching = tokio::spawn(shutdown.clone().run_until_cancelled_owned(watching));
        let routes = http::routes(registry, self.most_bytes).merge(readiness.routes());
        self.server.serve_with_own_fallbacks(routes, shutdown).await;
        watching.abort();
        self.pool.close().await;
    }
}

/// The API, with `/health` and `/metrics`, on a database that [`Registry::migrate`] has prepared;
/// to be served with its own fallbacks.
pub fn router(pool: PgPool, readiness: &Readiness) -> Router {
    http::routes(Registry::new(pool), http::DEFAULT_MOST_BYTES).merge(readiness.routes())
}

fn lazy_pool(config: &Config) -> Result<PgPool, RunError> {
    let options: PgConnectOptions =
        config
            .postgres
            .expose()
            .parse()
            .map_err(|source| RunError::PostgresAddress {
                address: config.postgres.clone(),
                source,
            })?;
    // A statement that hangs is given up before its client gives up.
    let options = options
        .application_name("annals registry")
        .options([("statement_timeout", "10s")]);
    Ok(PgPoolOptions::new()
        .max_connections(config.max_connections)
        .acquire_timeout(Duration::from_secs(2))
        .connect_lazy_with(options))
}

/// Creates the tables as soon as Postgres lets it, and then keeps an eye on Postgres.
async fn watch(registry: Registry, postgres: Component) {
    const PAUSE: Duration = Duration::from_millis(500);
    const PATIENCE: Duration = Duration::from_secs(3);
    while let Err(error) = registry.migrate().await {
        postgres.not_ready(reason(&error));
        tokio::time::sleep(PAUSE).await;
    }
    loop {
        match tokio::time::timeout(PATIENCE, registry.ping()).await {
            Ok(Ok(())) => postgres.ready(),
            Ok(Err(error)) => postgres.not_ready(reason(&error)),
            Err(_) => postgres.not_ready("Postgres does not answer"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The error with what is behind it, and what to do where that is known.
fn reason(error: &(dyn Error + 'static)) -> String {
    type Cause<'a> = &'a (dyn Error + 'static);
    if let Some(MigrateError::VersionMissing(_) | MigrateError::VersionMismatch(_)) =
        error.downcast_ref()
    {
        return format!(
            "the tables are those of another release; run the newest one that has run here: {error}"
        );
    }
    let causes = std::iter::successors(Some(error), |error: &Cause<'_>| Error::source(*error));
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    // Some errors repeat their source in their own text.
    texts.dedup_by(|cause, whole| whole.ends_with(cause.as_str()));
    texts.join(": ")
}
