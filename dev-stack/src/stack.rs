//! The stack as a whole: fetch what is missing, open the data folder, start both servers side by side.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::artifacts;
use crate::data_folder::DataFolder;
use crate::error::StackError;
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

enum Place {
    Private { address: String, server: Server },
    Existing(String),
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
        if let (Source::Existing(kafka), Source::Existing(postgres)) = (&kafka, &postgres) {
            let (kafka, postgres) = (
                Place::Existing(kafka.clone()),
                Place::Existing(postgres.clone()),
            );
            return Ok(DevStack {
                kafka,
                postgres,
                folder: None,
            });
        }
        let artifacts = artifacts::fetch(&on_progress).await?;
        let folder = DataFolder::open(&data_dir)?;

        let start_kafka = async {
            let port = match kafka {
                Source::Private { port } => port,
                Source::Existing(address) => return Ok(Place::Existing(address)),
            };
            let (home, log) = (folder.path().join("kafka"), folder.log("kafka.log"));
            let start = kafka::start(&artifacts, &home, log, port, &kafka_settings);
            let server = told("Kafka", &on_progress, start).await?;
            Ok(Place::Private {
                address: format!("127.0.0.1:{}", server.port()),
                server,
            })
        };
        let start_postgres = async {
            let port = match postgres {
                Source::Private { port } => port,
                Source::Existing(address) => return Ok(Place::Existing(address)),
            };
            let (home, log) = (folder.path().join("postgres"), folder.log("postgres.log"));
            let server = told(
                "Postgres",
                &on_progress,
                postgres::start(&artifacts, &home, log, port),
            )
            .await?;
            let address = format!(
                "postgres://{}@127.0.0.1:{}/postgres",
                postgres::USER,
                server.port()
            );
            Ok(Place::Private { address, server })
        };
        let (kafka, postgres) = tokio::try_join!(start_kafka, start_postgres)?;
        Ok(DevStack {
            kafka,
            postgres,
            folder: Some(folder),
        })
    }

    /// `host:port`, for `bootstrap.servers`.
    pub fn kafka(&self) -> &str {
        self.kafka.address()
    }

    /// `postgres://user@host:port/database`
    pub fn postgres(&self) -> &str {
        self.postgres.address()
    }

    /// The private Kafka, to be killed, paused and started again.
    ///
    /// # Panics
    /// When the stack uses an existing one, which is not its to kill.
    pub fn kafka_process(&self) -> &Server {
        self.kafka
            .server()
            .expect("this stack's Kafka is not its own")
    }

    /// The private Postgres. Panics like [`DevStack::kafka_process`].
    pub fn postgres_process(&self) -> &Server {
        self.postgres
            .server()
            .expect("this stack's Postgres is not its own")
    }

    /// Absolute; `None` when nothing here is private.
    pub fn data_dir(&self) -> Option<&Path> {
        self.folder.as_ref().map(DataFolder::path)
    }

    /// Resolves when a private server has ended although nobody asked it to, with what its log says.
    pub async fn failed(&self) -> StackError {
        let failed = |place: &'static str| async move {
            let server = if place == "kafka" {
                self.kafka.server()
            } else {
                self.postgres.server()
            };
            match server {
                Some(server) => server.failed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = failed("kafka") => error,
            error = failed("postgres") => error,
        }
    }

    /// Stops the private servers in their orderly way. Merely dropped, they are ended at once, and recover at the
    /// next start.
    pub async fn stop(self) {
        tokio::join!(self.kafka.stop(), self.postgres.stop());
    }
}

impl Place {
    fn address(&self) -> &str {
        match self {
            Place::Private { address, .. } | Place::Existing(address) => address,
        }
    }

    fn server(&self) -> Option<&Server> {
        match self {
            Place::Private { server, .. } => Some(server),
            Place::Existing(_) => None,
        }
    }

    async fn stop(&self) {
        if let Some(server) = self.server() {
            server.stop().await;
        }
    }
}

/// Fetches Kafka and Postgres into the cache, if they are not there, and starts nothing.
pub async fn prepare(on_progress: OnProgress) -> Result<(), StackError> {
    artifacts::fetch(&on_progress).await.map(|_| ())
}

async fn told(
    server: &'static str,
    on_progress: &OnProgress,
    start: impl Future<Output = Result<Server, StackError>>,
) -> Result<Server, StackError> {
    on_progress(Progress::Starting { server });
    let started = Instant::now();
    let result = start.await?;
    on_progress(Progress::Ready {
        server,
        took: started.elapsed(),
    });
    Ok(result)
}
