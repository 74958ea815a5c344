//! Roles of Annals as processes of their own, as in production: this binary again.

use std::{
    fs::File,
    net::{SocketAddr, TcpListener},
    process::Stdio,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::{
    Result,
    http::{Connection, get},
    world::World,
};

/// Roles that this binary plays when it is started with their name.
pub const NAMES: [&str; 3] = ["command-service", "projector", "query-service"];

/// Where every role says whether it is ready.
pub const READY: &str = "/health/ready";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A process that serves on `address` and ends with this one.
pub struct Role {
    pub address: SocketAddr,
    process: Child,
}

impl Role {
    /// Plays this role on a generation of the world's log, and waits until it is ready.
    pub async fn start(world: &World, name: &str, generation: &str) -> Result<Self> {
        Self::start_with(world, name, generation, &[]).await
    }

    /// The same with more settings, each a variable of the environment and its value.
    pub async fn start_with(
        world: &World,
        name: &str,
        generation: &str,
        more: &[(&str, String)],
    ) -> Result<Self> {
        let table = match name {
            "command-service" => "COMMANDS",
            "projector" => "PROJECTOR",
            _ => "QUERIES",
        };
        let address = free_address()?;
        let settings = [
            (format!("ANNALS_{table}__ADDRESS"), address.to_string()),
            ("ANNALS_KAFKA".into(), world.kafka.clone()),
            ("ANNALS_POSTGRES".into(), world.postgres.clone()),
            ("ANNALS_REGISTRY".into(), world.registry.clone()),
            ("ANNALS_GENERATION".into(), generation.into()),
            ("ANNALS_PARTITIONS".into(), world.shards.to_string()),
            ("ANNALS_DATA".into(), world.folder.display().to_string()),
            (
                "ANNALS_SYNC_EACH_APPEND".into(),
                world.topics.sync_each_append.to_string(),
            ),
        ];
        let more = more.iter().cloned();
        let more = more.map(|(name, value)| (name.to_owned(), value));
        let settings = settings.into_iter().chain(more).collect();
        spawn(world, address, &[name], settings).await
    }

    pub async fn bare_handler(world: &World) -> Result<Self> {
        let address = free_address()?;
        spawn(
            world,
            address,
            &["bare-handler", &address.to_string()],
            Vec::new(),
        )
        .await
    }

    /// A hidden verb of this binary, which takes its address and these arguments.
    pub async fn of_verb(world: &World, verb: &str, arguments: &[&str]) -> Result<Self> {
        let address = free_address()?;
        let own = address.to_string();
        let arguments: Vec<&str> = [verb, &own]
            .into_iter()
            .chain(arguments.iter().copied())
            .collect();
        spawn(world, address, &arguments, Vec::new()).await
    }

    /// The HTTP side of a command without the command.
    pub async fn stack(world: &World) -> Result<Self> {
        let address = free_address()?;
        let key = world.key_file().display().to_string();
        spawn(
            world,
            address,
            &["stack", &address.to_string(), &key],
            Vec::new(),
        )
        .await
    }

    /// Memory that the process has at this moment.
    pub fn resident_bytes(&self) -> Result<f64> {
        let id = self.process.id().ok_or("the process has ended")?;
        let status = std::fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .ok_or("the kernel does not tell the resident memory")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024.0)
    }

    pub async fn stop(mut self) -> Result<()> {
        Ok(self.process.kill().await?)
    }
}

async fn spawn(
    world: &World,
    address: SocketAddr,
    arguments: &[&str],
    settings: Vec<(String, String)>,
) -> Result<Role> {
    let name = arguments[0];
    let log = world.folder.join(format!("{name}.log"));
    // What this process was configured with is not meant for the measured ones.
    let foreign = std::env::vars().filter(|(name, _)| name.starts_with("ANNALS_"));
    // `setpriv` lets the process end with this one, even when this one is killed.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(std::env::current_exe()?)
        .args(arguments)
        .current_dir(&world.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .kill_on_drop(true);
    for (name, _) in foreign {
        command.env_remove(name);
    }
    let mut process = command.envs(settings).spawn()?;
    let deadline = Instant::now() + READY_WITHIN;
    while !is_ready(address).await {
        let ended = process.try_wait()?.is_some();
        if ended || Instant::now() > deadline {
            let said = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("{name} is not ready: {said}").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(Role { address, process })
}

async fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut connection) = Connection::open(address).await else {
        return false;
    };
    matches!(connection.ask(&get(READY, &[])).await, Ok(200))
}

fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
