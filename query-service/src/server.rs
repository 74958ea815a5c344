//! The process: connects, follows, listens, serves.

use std::{net::SocketAddr, str::FromStr, time::Duration};

use axum::{Extension, Json, Router, middleware, routing::get};
use service_kit::{Readiness, Server, Verifier, serve::BindError};
use sqlx::{
    Connection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    admission::{Declared, admit},
    config::Config,
    openapi,
    read_side::{ReadSide, Served},
    reader::Reads,
    watch::Watcher,
};

/// How long a request may wait for a connection before it is answered with 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(1);
/// A connection that has been idle for longer is tried before it is used.
const TRIED_WHEN_IDLE_FOR: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the address of Postgres is not valid")]
    Postgres(#[source] sqlx::Error),
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Serves these queries until shutdown; see [`QueryService::bind`].
pub async fn run(
    config: Config,
    models: Vec<Served>,
    queries: Vec<OpenApiRouter<Reads>>,
    verifier: Verifier,
    readiness: Readiness,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let service = QueryService::bind(config, models, queries, verifier, readiness).await?;
    service.serve(shutdown).await;
    Ok(())
}

/// A query service that is about to serve.
pub struct QueryService {
    server: Server,
    router: Router,
    watcher: Watcher,
    reads: Reads,
}

/// How long followers on WebSockets, which the server does not know of, may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

impl QueryService {
    /// Listens, and is about to serve. Postgres need not be there yet: the component `postgres`
    /// of the readiness says whether it is, and one `read-model:<name>` for each of the models
    /// whether it can be read. Until then reads are answered with 503.
    ///
    /// `/openapi.json`, `/health/live`, `/health/ready` and `/metrics` are open to everybody;
    /// the queries want a bearer token.
    ///
    /// # Panics
    /// If two contexts have the same route.
    pub async fn bind(
        config: Config,
        models: Vec<Served>,
        queries: Vec<OpenApiRouter<Reads>>,
        verifier: Verifier,
        readiness: Readiness,
    ) -> Result<Self, RunError> {
        let options = PgConnectOptions::from_str(config.postgres.expose())
            .map_err(RunError::Postgres)?
            .application_name("annals query-service")
            .options([("statement_timeout", config.statement_timeout_ms)]);
        let server = Server::bind(&config.address).await?;
        let unread = Duration::from_millis(config.unread_ms);
        let server = server.limits(config.limits()).unread(unread);

        let (told, read_side) = watch::channel(ReadSide::default());
        let watcher = Watcher {
            postgres: PgPoolOptions::new()
                .max_connections(3)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_lazy_with(options.clone()),
            read_side: told,
            poll: config.poll(),
            component: readiness.component("postgres"),
            models: models
                .into_iter()
                .map(|model| {
                    (
                        model,
                        readiness.component(&format!("read-model:{}", model.name)),
                    )
                })
                .collect(),
        };
        let tails = PgPoolOptions::new()
            .max_connections(2)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options.clone());
        let postgres = read_pool(&config, options);
        let reads = Reads::new(&config, postgres, tails, read_side);
        let router = router(queries, reads.clone(), verifier).merge(readiness.routes());
        Ok(Self {
            server,
            router,
            watcher,
            reads,
        })
    }

    /// The address that clients reach it at.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Until the token is cancelled, the requests under way are answered, and those who follow
    /// have been told from where to go on.
    pub async fn serve(self, shutdown: CancellationToken) {
        let stopping = self.reads.stopping().clone();
        let serving = async {
            self.server.serve(self.router, shutdown.clone()).await;
            self.reads.limits().until_all_left(GOODBYE).await;
        };
        let end_followers = async {
            shutdown.cancelled().await;
            stopping.cancel();
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = serving => {}
            () = end_followers => {}
            () = self.watcher.run() => {}
        }
    }
}

fn router(queries: Vec<OpenApiRouter<Reads>>, reads: Reads, verifier: Verifier) -> Router {
    let (queries, openapi) = openapi::merge(queries).split_for_parts();
    let declared = Declared::by(&openapi);
    let queries = match openapi.paths.paths.is_empty() {
        // axum does not put a layer around nothing.
        true => queries,
        false => queries.route_layer(middleware::from_fn_with_state(declared, admit)),
    };
    queries
        .with_state(reads.clone())
        .layer((Extension(verifier), Extension(reads)))
        .route("/openapi.json", get(async move || Json(openapi)))
}

fn read_pool(config: &Config, options: PgConnectOptions) -> PgPool {
    PgPoolOptions::new()
        .max_connections(config.connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Trying each connection before each use would be one more way to Postgres and back.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > TRIED_WHEN_IDLE_FOR {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options)
}
