//! The registry as a service of its own: an address, a pool, the tables, and readiness that says
//! whether Postgres is there.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use service_kit::readiness::{Component, Readiness};
use service_kit::serve::{BindError, Server};
use service_kit::{SecretUrl, Verifier};
use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use tokio_util::sync::CancellationToken;

use crate::access::{Access, Role, User};
use crate::http;
use crate::journal::{Journal, TopicConfig};
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
    /// Who logs in with a name and a password.
    pub users: Vec<User>,
    /// What is allowed to those who say nothing about themselves: nothing, unless it is set.
    pub anonymous: Option<Role>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8403".to_owned(),
            postgres: SecretUrl::new("postgres://postgres@127.0.0.1:5432/postgres"),
            max_connections: 8,
            max_body_bytes: http::DEFAULT_MOST_BYTES,
            users: Vec::new(),
            anonymous: None,
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
    #[error("the topic of schemas cannot be used")]
    Topic(#[from] event_log::snapshots::SnapshotError),
}

/// A registry that has its address and does not serve yet.
pub struct Service {
    server: Server,
    pool: PgPool,
    config: Config,
    tokens: Option<Verifier>,
    journal: Option<Journal>,
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
            config,
            tokens: None,
            journal: None,
        })
    }

    /// Lets in who bears a token with the roles `registry-read` or `registry-write`.
    #[must_use]
    pub fn accept_tokens(self, verifier: Verifier) -> Self {
        Self {
            tokens: Some(verifier),
            ..self
        }
    }

    /// Writes every change to this topic before it is answered, and fills an empty database from
    /// it. Kafka need not be there yet.
    pub fn write_to(self, topic: TopicConfig) -> Result<Self, RunError> {
        Ok(Self {
            journal: Some(Journal::new(topic)?),
            ..self
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Serves until the token is cancelled. Postgres may come later and go in between: meanwhile
    /// the registry is not ready, requests are answered with 50001, and it goes on when Postgres
    /// is back.
    pub async fn serve(self, shutdown: CancellationToken) {
        let mut registry = Registry::new(self.pool.clone());
        if let Some(journal) = self.journal {
            registry = registry.with_journal(journal);
        }
        let readiness = Readiness::new();
        let postgres = readiness.component("postgres");
        let topic = registry.has_topic().then(|| readiness.component("topic"));
        let watching = watch(registry.clone(), postgres, topic);
        let watching = tokio::spawn(shutdown.clone().run_until_cancelled_owned(watching));
        let access = Access::new(self.config.anonymous, &self.config.users, self.tokens);
        let routes = http::routes(registry, access, self.config.max_body_bytes);
        let routes = routes.merge(readiness.routes());
        self.server.serve_with_own_fallbacks(routes, shutdown).await;
        watching.abort();
        self.pool.close().await;
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
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

/// Creates the tables as soon as Postgres lets it, compares them with the topic of schemas, and then
/// keeps an eye on Postgres.
async fn watch(registry: Registry, postgres: Component, topic: Option<Component>) {
    const PAUSE: Duration = Duration::from_millis(500);
    const PATIENCE: Duration = Duration::from_secs(3);
    while let Err(error) = registry.migrate().await {
        postgres.not_ready(reason(&error));
        tokio::time::sleep(PAUSE).await;
    }
    postgres.ready();
    if let Some(topic) = topic {
        let mut said = String::new();
        while let Err(error) = registry.restore().await {
            let reason = reason(&error);
            if said != reason {
                tracing::warn!("the topic of schemas is not read yet: {reason}");
                said.clone_from(&reason);
            }
            topic.not_ready(reason);
            tokio::time::sleep(PAUSE).await;
        }
        topic.ready();
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
