//! Apache Kafka as one process: broker and controller (KRaft), on loopback, sized for a developer's machine.

mod class_archive;
mod replicas;
mod settings;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::artifacts::Artifacts;
use crate::child::Launch;
use crate::error::{StackError, failed_to};
use crate::java::{self, Java};
use crate::ports::Port;
use crate::server::{Kind, Server};

pub(crate) use replicas::start as start_replicas;

const LOG4J: &str = include_str!("kafka/log4j2.xml");
const HEAP_MB: u32 = 512;

/// Starts Kafka on the data under `home`, which is formatted first when it is new.
pub(crate) async fn start(
    artifacts: &Artifacts,
    home: &Path,
    log: PathBuf,
    port: Port,
    extra_settings: &[(String, String)],
) -> Result<Server, StackError> {
    let java = java::find()?;
    let class_archive = class_archive::make(artifacts, &java).await;
    let options =
        class_archive.map(|archive| format!("-XX:SharedArchiveFile={}", archive.display()));
    Broker {
        artifacts,
        java: &java,
        options: options.into_iter().collect(),
        home,
        log,
        heap_mb: HEAP_MB,
    }
    .start(port, extra_settings)
    .await
}

/// What the first start on this machine would have to do.
pub(crate) async fn prepare(artifacts: &Artifacts) -> Result<(), StackError> {
    class_archive::make(artifacts, &java::find()?).await;
    Ok(())
}

/// Whether the broker serves: it names itself when asked for the cluster's metadata.
pub(crate) async fn answers(port: u16) -> io::Result<bool> {
    // Metadata, version 1: size, api key 3, version 1, correlation id, no client id, no topics.
    const REQUEST: [u8; 18] = [0, 0, 0, 14, 0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff, 0, 0, 0, 0];
    let mut broker = TcpStream::connect(("127.0.0.1", port)).await?;
    broker.write_all(&REQUEST).await?;
    let _size = broker.read_i32().await?;
    let _correlation_id = broker.read_i32().await?;
    let brokers = broker.read_i32().await?;
    Ok(brokers >= 1)
}

struct Broker<'a> {
    artifacts: &'a Artifacts,
    java: &'a Java,
    /// Of the virtual machine, beside those that every broker gets.
    options: Vec<String>,
    home: &'a Path,
    log: PathBuf,
    heap_mb: u32,
}

impl Broker<'_> {
    async fn start(
        &self,
        port: Port,
        extra_settings: &[(String, String)],
    ) -> Result<Server, StackError> {
        let controller_port = Port::any("Kafka's controller")?;
        self.start_in(&new_cluster_id(), port, controller_port, extra_settings)
            .await
    }

    /// Starts it as a member of the cluster with this id.
    async fn start_in(
        &self,
        cluster_id: &str,
        port: Port,
        controller_port: Port,
        extra_settings: &[(String, String)],
    ) -> Result<Server, StackError> {
        fs::create_dir_all(self.home).map_err(failed_to("create", self.home))?;
        write(&self.home.join("log4j2.xml"), LOG4J)?;
        let settings = |data: &Path| {
            settings::properties(
                data,
                port.number(),
                controller_port.number(),
                extra_settings,
            )
        };

        let data = self.home.join("data");
        if !data.exists() {
            let unfinished = self.home.join("data.unfinished");
            remove(&unfinished)?;
            let file = self.home.join("format.properties");
            write(&file, &settings(&unfinished))?;
            self.launch(&format_command(cluster_id, &file))
                .run_to_the_end("Kafka's format command")
                .await?;
            fs::rename(&unfinished, &data).map_err(failed_to("rename", &unfinished))?;
        }
        let file = self.home.join("server.properties");
        write(&file, &settings(&data))?;
        let command = ["kafka.Kafka".to_owned(), file.display().to_string()];
        Server::launch(Kind::Kafka, port.number(), self.launch(&command)).await
    }

    fn launch(&self, command: &[String]) -> Launch {
        let log4j = self.home.join("log4j2.xml");
        let mut arguments = self.options.clone();
        arguments.extend([
            format!("-Xmx{}m", self.heap_mb),
            "-XX:+UseSerialGC".into(),
            // Ready sooner and smaller; the broker is not what a developer's machine waits for.
            "-XX:TieredStopAtLevel=1".into(),
            "-XX:+ExitOnOutOfMemoryError".into(),
            "-XX:-UsePerfData".into(),
            format!("-Dlog4j2.configurationFile={}", log4j.display()),
            "-cp".into(),
            format!("{}/*", self.artifacts.kafka.display()),
        ]);
        arguments.extend_from_slice(command);
        Launch {
            name: "Kafka",
            program: self.java.program.clone(),
            arguments,
            environment: Vec::new(),
            run_as: None,
            log: self.log.clone(),
            // It recovers from a kill in no time, and an orderly stop may wait for what is gone too.
            on_parents_death: "KILL",
        }
    }
}

fn format_command(cluster_id: &str, settings: &Path) -> [String; 5] {
    let settings = settings.display().to_string();
    [
        "kafka.tools.StorageTool".into(),
        "format".into(),
        format!("--cluster-id={cluster_id}"),
        "-c".into(),
        settings,
    ]
}

/// 22 characters, as Kafka writes its ids: base64 of 16 bytes.
fn new_cluster_id() -> String {
    let random = || RandomState::new().hash_one(0_u8);
    format!("{:016x}{:016x}", random(), random())[..21].to_owned() + "A"
}

fn write(path: &Path, text: &str) -> Result<(), StackError> {
    fs::write(path, text).map_err(failed_to("write", path))
}

fn remove(folder: &Path) -> Result<(), StackError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed_to("remove", folder)(error))
        }
        _ => Ok(()),
    }
}
