//! The stack as a whole: fetch what is missing, open the data folder, start both servers side by side.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::artifacts;
use crate::data_folder::DataFolder;
use crate::error::StackError;
use crate::ports::Port;
use crate::server::Server;
use crate::{kafka, postgres};

/// What to start, and where its data goes.
#[derive(Clone)]
pub struct Options {
    /// Made when it is not there; a second start continues on the data of the first.
    pub data_dir: PathBuf,
    pub kafka: Source,
    pub postgres: Source,
    /// More lines for Kafka's `server.properties`, as `("producer.id.expiration.ms", "10000")`.
    /// `("additional.listeners", "SASL_SSL://127.0.0.1:9094")` adds one beside the plain one.
    pub kafka_settings: Vec<(String, String)>,
    pub on_progress: OnProgress,
}

/// Where a server comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Started here, as a child process: on this port, or on any free one.
    Private { port: Option<u16> },
    /// One that runs already: `host:port` of Kafka, `postgres://user@host:port/database` of Postgres.
    Existing(String),
}

pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Steps of a start, for those who wait for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Maven fetches the servers; once per version, about 80 MB.
    Fetching,
    Starting {
        server: &'static str,
    },
    Ready {
        server: &'static str,
        took: Duration,
    },
}

/// A running Kafka and Postgres. Private ones end with it, and with this process, however that ends.
pub struct DevStack {
    kafka: Place,
    postgres: Place,
    /// Held while the servers run.
    folder: Option<DataFolder>,
}

struct Place {
    address: String,
    /// `None` for an existing one.
    server: Option<Server>,
}

impl Options {
    /// Both servers private, on free ports.
    pub fn new(data_dir: impl Into<PathBuf>) -> Options {
        Options {
            data_dir: data_dir.into(),
            kafka: Source::Private { port: None },
            postgres: Source::Private { port: None },
            kafka_settings: Vec::new(),
            on_progress: Arc::new(|_| {}),
        }
    }
}

impl DevStack {
    /// Returns when both servers answer.
    pub async fn start(options: Options) -> Result<DevStack, StackError> {
        let Options {
            data_dir,
            kafka,
            postgres,
            kafka_settings,
            on_progress,
        } = options;
        let kafka_port = port("Kafka", &kafka)?;
        let postgres_port = port("Postgres", &postgres)?;
        if kafka_port.is_none() && postgres_port.is_none() {
            let (kafka, postgres) = (kafka.place(None), postgres.place(None));
            return Ok(DevStack {
                kafka,
                postgres,
                folder: None,
            });
        }
        let artifacts = artifacts::fetch(&on_progress).await?;
        let folder = DataFolder::open(&data_dir)?;

        let start_kafka = async {
            let Some(port) = kafka_port else {
                return Ok(None);
            };
            let (home, log) = (folder.path().join("kafka"), folder.log("kafka.log"));
            told(
                "Kafka",
                &on_progress,
                kafka::start(&artifacts, &home, log, port, &kafka_settings),
            )
            .await
        };
        let start_postgres = async {
            let Some(port) = postgres_port else {
                return Ok(None);
            };
            let (home, log) = (folder.path().join("postgres"), folder.log("postgres.log"));
            told(
                "Postgres",
                &on_progress,
                postgres::start(&artifacts, &home, log, port),
            )
            .await
        };
        match tokio::join!(start_kafka, start_postgres) {
            (Ok(kafka_server), Ok(postgres_server)) => {
                let (kafka, postgres) =
                    (kafka.place(kafka_server), postgres.place(postgres_server));
                Ok(DevStack {
                    kafka,
                    postgres,
                    folder: Some(folder),
                })
            }
            // The data folder is let go only when nothing of ours writes to it any more.
            (Err(error), Ok(Some(server))) | (Ok(Some(server)), Err(error)) => {
                server.stop().await;
                Err(error)
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        }
    }

    /// `host:port`, for `bootstrap.servers`.
    pub fn kafka(&self) -> &str {
        &self.kafka.address
    }

    /// `postgres://user@host:port/database`
    pub fn postgres(&self) -> &str {
        &self.postgres.address
    }

    /// The private Kafka, to be killed, paused and started again.
    ///
    /// # Panics
    /// When the stack uses an existing one, which is not its to kill.
    pub fn kafka_process(&self) -> &Server {
        self.kafka
            .server
            .as_ref()
            .expect("this stack's Kafka is not its own")
    }

    /// The private Postgres. Panics like [`DevStack::kafka_process`].
    pub fn postgres_process(&self) -> &Server {
        self.postgres
            .server
            .as_ref()
            .expect("this stack's Postgres is not its own")
    }

    /// Absolute; `None` when nothing here is private.
    pub fn data_dir(&self) -> Option<&Path> {
        self.folder.as_ref().map(DataFolder::path)
    }

    /// Resolves when a private server has ended although nobody asked it to, with what its log says.
    pub async fn failed(&self) -> StackError {
        tokio::select! {
            error = self.kafka.failed() => error,
            error = self.postgres.failed() => error,
        }
    }

    /// Stops the private servers in their orderly way. Merely dropped, they are ended at once, and recover at the
    /// next start.
    pub async fn stop(self) {
        tokio::join!(self.kafka.stop(), self.postgres.stop());
    }
}

impl Source {
    fn place(self, server: Option<Server>) -> Place {
        let address = match (self, &server) {
            (Source::Existing(address), _) => address,
            (Source::Private { .. }, Some(server)) => server.address(),
            (Source::Private { .. }, None) => unreachable!("a private server was started"),
        };
        Place { address, server }
    }
}

impl Place {
    async fn failed(&self) -> StackError {
        match &self.server {
            Some(server) => server.failed().await,
            None => std::future::pending().await,
        }
    }

    async fn stop(&self) {
        if let Some(server) = &self.server {
            server.stop().await;
        }
    }
}

/// `None` for an existing server.
fn port(server: &'static str, source: &Source) -> Result<Option<Port>, StackError> {
    match source {
        Source::Existing(_) => Ok(None),
        Source::Private { port: None } => Port::any(server).map(Some),
        Source::Private { port: Some(port) } => Port::chosen(server, *port).map(Some),
    }
}

/// Does what a first start would have to do, once per version, and starts nothing: fetches Kafka and Postgres into the
/// cache and lets Kafka's classes be archived.
pub async fn prepare(on_progress: OnProgress) -> Result<(), StackError> {
    let artifacts = artifacts::fetch(&on_progress).await?;
    kafka::prepare(&artifacts).await
}

async fn told(
    server: &'static str,
    on_progress: &OnProgress,
    start: impl Future<Output = Result<Server, StackError>>,
) -> Result<Option<Server>, StackError> {
    on_progress(Progress::Starting { server });
    let started = Instant::now();
    let result = start.await?;
    on_progress(Progress::Ready {
        server,
        took: started.elapsed(),
    });
    Ok(Some(result))
}
