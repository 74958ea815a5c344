//! What is to be broken: three brokers behind proxies, a few command services, and what reads from them.

use std::{
    io,
    net::SocketAddr,
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use dev_stack::{ClusterOptions, DevStack, KafkaCluster, Options, Source, new_temporary_folder};
use kernel::{Actor, Tenant};
use rustix::process::Signal;
use service_kit::{DevKey, TokenRequest};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::proxy::Proxy;
use crate::{binary::annals, choose_crypto, ports::free_port, process::Process, user::new_key};

pub const TENANT: &str = "chaos";
pub const BROKERS: usize = 3;
pub const PARTITIONS: i32 = 6;
/// Long enough for every run.
const TOKEN_TTL: Duration = Duration::from_secs(24 * 3_600);

pub struct World {
    pub cluster: KafkaCluster,
    /// One before each broker.
    pub proxies: Vec<Proxy>,
    /// The command services.
    pub nodes: Vec<Role>,
    pub queries: Role,
    pub generation: String,
    registry: Role,
    projector: Role,
    postgres: DevStack,
    settings: Vec<(&'static str, String)>,
    key: DevKey,
    data: TempDir,
}

/// A role: down, or a process.
pub struct Role {
    pub name: String,
    verb: &'static str,
    pub address: SocketAddr,
    process: Mutex<Option<Arc<Process>>>,
    /// What its earlier processes said.
    said: Mutex<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    #[error("failed to start the servers")]
    Servers(#[from] dev_stack::StackError),
    #[error("failed to start a proxy")]
    Proxy(#[from] io::Error),
    #[error("failed to make the development key")]
    Key(#[from] service_kit::dev_key::DevKeyError),
    #[error("failed to register the schemas: {0}")]
    Schemas(String),
    #[error("{name} is not ready after {after:?}: {last}")]
    NotReady {
        name: String,
        after: Duration,
        last: String,
    },
}

impl World {
    /// Everything, ready.
    pub async fn start(nodes: usize) -> Result<Self, WorldError> {
        let ports: Vec<_> = (0..BROKERS).map(|_| free_port().port()).collect();
        let mut proxies = Vec::new();
        for port in &ports {
            proxies.push(Proxy::listen(*port).await?);
        }
        let mut options = ClusterOptions::new(new_temporary_folder());
        options.advertised = ports.into_iter().map(Some).collect();
        let cluster = KafkaCluster::start(options);
        let mut options = Options::new(new_temporary_folder());
        options.kafka = Source::Existing("none".into());
        let (cluster, postgres) = tokio::join!(cluster, DevStack::start(options));
        let (cluster, postgres) = (cluster?, postgres?);
        for (proxy, broker) in proxies.iter().zip(cluster.brokers()) {
            proxy.lead_to(([127, 0, 0, 1], broker.port()).into());
        }

        let data = tempfile::tempdir()?;
        let [registry, projector, queries] =
            ["registry", "projector", "query-service"].map(|verb| Role::new(verb, verb.into()));
        let nodes: Vec<_> = (1..=nodes)
            .map(|n| Role::new("command-service", format!("node {n}")))
            .collect();
        let generation = new_key();
        let settings = vec![
            ("KAFKA", cluster.bootstrap()),
            ("POSTGRES", postgres.fresh_database().await?),
            ("REGISTRY", format!("http://{}", registry.address)),
            ("GENERATION", generation.clone()),
            ("PARTITIONS", PARTITIONS.to_string()),
            ("REPLICATION", BROKERS.to_string()),
            ("DATA", data.path().display().to_string()),
            ("LOG__FORMAT", "json".into()),
            ("COMMANDS__ANSWER_WITHIN_MS", "5000".into()),
            // Small enough that most owners go on from one.
            ("COMMANDS__SNAPSHOT_EVERY", "200".into()),
            ("SCHEMA_REGISTRY__ADDRESS", registry.address.to_string()),
            ("SCHEMA_REGISTRY__ANONYMOUS", "write".into()),
            ("PROJECTOR__ADDRESS", projector.address.to_string()),
            ("QUERIES__ADDRESS", queries.address.to_string()),
        ];
        choose_crypto();
        let world = Self {
            key: DevKey::load_or_create(&data.path().join("dev-key.pem"))?,
            cluster,
            proxies,
            nodes,
            queries,
            generation,
            registry,
            projector,
            postgres,
            settings,
            data,
        };
        world.start_roles().await?;
        Ok(world)
    }

    async fn start_roles(&self) -> Result<(), WorldError> {
        const WITHIN: Duration = Duration::from_secs(120);
        self.run(&self.registry);
        self.registry.until_ready(WITHIN).await?;
        let mut register = self.annals();
        let registered = register.args(["schema", "register"]).output()?;
        if !registered.status.success() {
            let problem = String::from_utf8_lossy(&registered.stderr);
            return Err(WorldError::Schemas(problem.into_owned()));
        }
        // The first one makes the topics.
        for role in self.nodes.iter().chain([&self.projector, &self.queries]) {
            self.run(role);
        }
        for role in self.nodes.iter().chain([&self.projector, &self.queries]) {
            role.until_ready(WITHIN).await?;
        }
        Ok(())
    }

    /// Starts a role, ready or not. One that runs goes on.
    pub fn run(&self, role: &Role) {
        if role.is_running() {
            return;
        }
        let mut command = self.annals();
        command.arg(role.verb);
        if role.verb == "command-service" {
            command.env("ANNALS_COMMANDS__ADDRESS", role.address.to_string());
        }
        role.keep_what_it_said();
        *role.process() = Some(Process::start(command).into());
    }

    pub fn events_topic(&self) -> String {
        format!("annals.tasks.events.{}", self.generation)
    }

    pub fn owners_topic(&self) -> String {
        format!("annals.owners.{}", self.generation)
    }

    /// Addresses of the brokers themselves, past the proxies.
    pub fn brokers(&self) -> String {
        let brokers = self.cluster.brokers().iter();
        let addresses: Vec<_> = brokers
            .map(|broker| format!("127.0.0.1:{}", broker.port()))
            .collect();
        addresses.join(",")
    }

    pub fn token(&self, name: &str, role: &str) -> String {
        let tenant = Tenant::parse(TENANT).expect("it is a tenant's name");
        let request = TokenRequest::new(Actor::User(name.into())).tenant(tenant);
        self.key.issue(&request.role(role), TOKEN_TTL)
    }

    pub fn roles(&self) -> impl Iterator<Item = &Role> {
        self.nodes
            .iter()
            .chain([&self.registry, &self.projector, &self.queries])
    }

    /// Ends everything and forgets the data, unless somebody wants to look at it.
    pub async fn end(self, keep: bool) {
        for role in self.roles() {
            role.kill().await;
        }
        let folders = [
            Some(self.cluster.data_dir().to_owned()),
            self.postgres.data_dir().map(Into::into),
        ];
        self.cluster.end().await;
        self.postgres.stop().await;
        if !keep {
            for folder in folders.into_iter().flatten() {
                let _ = dev_stack::wipe(&folder);
            }
        }
    }

    fn annals(&self) -> Command {
        let mut command = annals();
        command.current_dir(self.data.path());
        for (name, value) in &self.settings {
            command.env(format!("ANNALS_{name}"), value);
        }
        command
    }
}

impl Role {
    fn new(verb: &'static str, name: String) -> Self {
        Self {
            name,
            verb,
            address: free_port(),
            process: Mutex::default(),
            said: Mutex::default(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.process().as_ref().is_some_and(|it| !it.has_ended())
    }

    pub async fn kill(&self) {
        let process = self.process().clone();
        if let Some(process) = process {
            process.kill().await;
        }
    }

    /// Asks it to end in its orderly way, and kills it when that takes too long: false then.
    pub async fn stop(&self, within: Duration) -> bool {
        let Some(process) = self.process().clone() else {
            return true;
        };
        process.signal(Signal::TERM);
        let deadline = Instant::now() + within;
        while !process.has_ended() {
            if Instant::now() > deadline {
                process.kill().await;
                return false;
            }
            sleep(Duration::from_millis(10)).await;
        }
        true
    }

    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    pub async fn until_ready(&self, within: Duration) -> Result<(), WorldError> {
        let began = Instant::now();
        let http = reqwest::Client::new();
        let mut last = "no answer".to_owned();
        while began.elapsed() < within {
            let url = format!("http://{}/health/ready", self.address);
            let asked = http.get(url).timeout(Duration::from_secs(2)).send().await;
            match asked {
                Ok(answer) if answer.status() == 200 => return Ok(()),
                Ok(answer) => last = answer.text().await.unwrap_or_default(),
                Err(_) => {}
            }
            if !self.is_running() {
                last = self.said();
            }
            sleep(Duration::from_millis(50)).await;
        }
        Err(WorldError::NotReady {
            name: self.name.clone(),
            after: within,
            last,
        })
    }

    /// Everything that its processes have logged.
    pub fn said(&self) -> String {
        let mut said = lock(&self.said).clone();
        if let Some(process) = &*self.process() {
            said.push_str(&process.stderr());
        }
        said
    }

    fn keep_what_it_said(&self) {
        let said = self.said();
        *lock(&self.said) = said;
        *self.process() = None;
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &*self.process() {
            process.signal(signal);
        }
    }

    fn process(&self) -> MutexGuard<'_, Option<Arc<Process>>> {
        lock(&self.process)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it is held")
}
