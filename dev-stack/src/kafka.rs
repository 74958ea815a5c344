//! Apache Kafka as one process: broker and controller (KRaft), on loopback, sized for a developer's machine.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::artifacts::Artifacts;
use crate::child::{Launch, last_lines};
use crate::error::{StackError, failed_to};
use crate::server::{Kind, Server};
use crate::{java, ports};

const LOG4J: &str = include_str!("log4j2.xml");

/// Starts Kafka on the data under `home`, which is formatted first when it is new.
pub(crate) async fn start(
    artifacts: &Artifacts,
    home: &Path,
    log: PathBuf,
    chosen_port: Option<u16>,
    extra_settings: &[(String, String)],
) -> Result<Server, StackError> {
    let port = ports::port("Kafka", chosen_port)?;
    let controller_port = ports::port("Kafka's controller", None)?;
    fs::create_dir_all(home).map_err(failed_to("create", home))?;
    write(&home.join("log4j2.xml"), LOG4J)?;

    let java = Java {
        program: java::find()?,
        artifacts,
        home,
        log,
    };
    let data = home.join("data");
    if !data.exists() {
        let unfinished = home.join("data.unfinished");
        remove(&unfinished)?;
        let settings = home.join("format.properties");
        write(
            &settings,
            &properties(&unfinished, port, controller_port, extra_settings),
        )?;
        java.run_to_the_end(&format_command(&settings)).await?;
        fs::rename(&unfinished, &data).map_err(failed_to("rename", &unfinished))?;
    }
    let settings = home.join("server.properties");
    write(
        &settings,
        &properties(&data, port, controller_port, extra_settings),
    )?;
    Server::launch(
        Kind::Kafka,
        port,
        java.launch(&["kafka.Kafka".into(), settings.display().to_string()]),
    )
    .await
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

struct Java<'a> {
    program: PathBuf,
    artifacts: &'a Artifacts,
    home: &'a Path,
    log: PathBuf,
}

impl Java<'_> {
    fn launch(&self, command: &[String]) -> Launch {
        let options = [
            "-Xmx512m",
            "-XX:+UseSerialGC",
            // Ready sooner and smaller; the broker is not what a developer's machine waits for.
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            "-XX:-UsePerfData",
            "-cp",
        ];
        let mut arguments = vec![format!(
            "-Dlog4j2.configurationFile={}",
            self.home.join("log4j2.xml").display()
        )];
        arguments.extend(options.map(String::from));
        arguments.push(format!("{}/*", self.artifacts.kafka.display()));
        arguments.extend_from_slice(command);
        Launch {
            name: "Kafka",
            program: self.program.clone(),
            arguments,
            environment: Vec::new(),
            run_as: None,
            log: self.log.clone(),
            // It recovers from a kill in no time, and an orderly stop may wait for what is gone too.
            on_parents_death: "KILL",
        }
    }

    async fn run_to_the_end(&self, command: &[String]) -> Result<(), StackError> {
        let child = self.launch(command).spawn()?;
        match child.exited().await {
            Some(status) if status.success() => Ok(()),
            status => Err(StackError::Ended {
                server: "Kafka's format command",
                status: status.map_or_else(|| "unknown status".into(), |status| status.to_string()),
                last_lines: last_lines(&self.log),
                log: self.log.clone(),
            }),
        }
    }
}

fn format_command(settings: &Path) -> [String; 5] {
    let (cluster, settings) = (new_cluster_id(), settings.display().to_string());
    [
        "kafka.tools.StorageTool".into(),
        "format".into(),
        format!("--cluster-id={cluster}"),
        "-c".into(),
        settings,
    ]
}

/// 22 characters, as Kafka writes its ids: base64 of 16 bytes.
fn new_cluster_id() -> String {
    let random = || RandomState::new().hash_one(0_u8);
    format!("{:016x}{:016x}", random(), random())[..21].to_owned() + "A"
}

fn properties(data: &Path, port: u16, controller_port: u16, extra: &[(String, String)]) -> String {
    let data = data.display();
    let mut properties = format!(
        "\
# Written at each start.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}

# As in production: topics are made on purpose, and time is the broker's.
auto.create.topics.enable=false
log.message.timestamp.type=LogAppendTime
log.retention.ms=-1

# One broker, quick to start: few internal partitions, none replicated, groups form at once.
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0

# Small: the cleaner's buffer alone is 128 MB otherwise.
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
"
    );
    for (name, value) in extra {
        properties.push_str(&format!("{name}={value}\n"));
    }
    properties
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
