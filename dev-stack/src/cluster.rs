//! A private cluster of several brokers, for tests of what happens when some of them die, hang or cannot be reached.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use futures::future::{join_all, select_all};

use crate::artifacts;
use crate::data_folder::DataFolder;
use crate::error::StackError;
use crate::kafka;
use crate::server::Server;
use crate::stack::{OnProgress, Progress};

/// What to start, and where its data goes.
#[derive(Clone)]
pub struct ClusterOptions {
    /// Must be new: a cluster does not continue on the data of an earlier one.
    pub data_dir: PathBuf,
    /// One entry for each broker: the port on loopback by which clients are told to find it, such as a proxy's; `None`
    /// is its own. Brokers talk to each other past it.
    pub advertised: Vec<Option<u16>>,
    /// More lines for every broker's `server.properties`.
    pub settings: Vec<(String, String)>,
    pub on_progress: OnProgress,
}

/// Running brokers, each of them a controller too. Topics have as many replicas as there are brokers, and a majority of
/// them must be in sync. They end with it, and with this process, however that ends.
pub struct KafkaCluster {
    brokers: Vec<Server>,
    advertised: Vec<u16>,
    folder: DataFolder,
}

impl ClusterOptions {
    /// Three brokers at their own ports.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            advertised: vec![None; 3],
            settings: Vec::new(),
            on_progress: Arc::new(|_| {}),
        }
    }
}

impl KafkaCluster {
    /// Returns when every broker answers.
    pub async fn start(options: ClusterOptions) -> Result<Self, StackError> {
        let ClusterOptions {
            data_dir,
            advertised,
            settings,
            on_progress,
        } = options;
        let artifacts = artifacts::fetch(&on_progress).await?;
        let folder = DataFolder::open(&data_dir)?;
        let logs = folder.path().join("logs");
        let server = "Kafka's cluster";
        on_progress(Progress::Starting { server });
        let started = Instant::now();
        let brokers =
            kafka::start_replicas(&artifacts, folder.path(), &logs, &advertised, &settings).await?;
        let took = started.elapsed();
        on_progress(Progress::Ready { server, took });
        let advertised = advertised.iter().zip(&brokers);
        Ok(Self {
            advertised: advertised
                .map(|(port, broker)| port.unwrap_or(broker.port()))
                .collect(),
            brokers,
            folder,
        })
    }

    /// The brokers, to be killed, paused and started again; the one at index `i` has the node id `i + 1`.
    pub fn brokers(&self) -> &[Server] {
        &self.brokers
    }

    /// The advertised addresses, `host:port,host:port,…`, for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        let addresses = self.advertised.iter();
        let addresses: Vec<_> = addresses.map(|port| format!("127.0.0.1:{port}")).collect();
        addresses.join(",")
    }

    /// Absolute.
    pub fn data_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Resolves when a broker has ended although nobody asked it to.
    pub async fn failed(&self) -> StackError {
        let failures = self.brokers.iter().map(|broker| Box::pin(broker.failed()));
        select_all(failures).await.0
    }

    /// Kills all brokers: in an orderly stop of all, the last ones would wait in vain for the others. The data folder
    /// is left behind; [`wipe`](crate::wipe) removes it.
    pub async fn end(self) {
        join_all(self.brokers.iter().map(Server::kill)).await;
    }
}
