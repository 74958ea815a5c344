//! Every role as a process, on a Kafka and a Postgres.

use std::{
    net::SocketAddr,
    process::{Command, Output},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use dev_stack::DevStack;
use kernel::{Actor, Tenant};
use serde_json::Value;
use service_kit::{DevKey, TokenRequest};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    answer::Answer,
    binary::Release,
    choose_crypto,
    eventually::eventually,
    ports::free_port,
    process::Process,
    user::{User, new_key},
};

const HOUR: Duration = Duration::from_secs(3_600);
/// How long a role may take to notice that something is away.
const PATIENCE: Duration = Duration::from_secs(100);

/// The roles of one installation, with a generation and a database of its own. Dropped, it kills
/// what runs.
pub struct TestApp {
    pub registry: Role,
    pub commands: Role,
    pub projector: Role,
    pub queries: Role,
    settings: Vec<(&'static str, String)>,
    key: DevKey,
    /// With the development key in it.
    data: TempDir,
}

/// A tenant of an installation, and whom it employs.
pub struct Company<'a> {
    app: &'a TestApp,
    pub tenant: String,
}

/// A role of an installation: down, or a process that serves on `address`.
pub struct Role {
    verb: &'static str,
    pub address: SocketAddr,
    process: Mutex<Option<Arc<Process>>>,
}

impl TestApp {
    /// Everything, ready, on the stack that all tests share: its servers are there all the time,
    /// so an answer comes, however busy the machine is.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with more settings, such as `COMMANDS__SESSION_MS`.
    pub async fn start_with(settings: &[(&'static str, &str)]) -> Self {
        let mut app = Self::on(dev_stack::shared().await).await;
        let patient = [("COMMANDS__ANSWER_WITHIN_MS", "60000")];
        let settings = patient.iter().chain(settings);
        let settings = settings.map(|(name, value)| (*name, (*value).to_owned()));
        app.settings.extend(settings);
        app.start_all().await;
        app
    }

    /// The same as [`on`](Self::on), with somebody else's schema registry.
    pub async fn on_registry(stack: &DevStack, base: &str) -> Self {
        let mut app = Self::on(stack).await;
        app.settings.push(("REGISTRY", base.into()));
        app
    }

    /// An installation on this stack, of which nothing runs yet.
    pub async fn on(stack: &DevStack) -> Self {
        let postgres = stack.fresh_database().await.expect("Postgres is there");
        let data = tempfile::tempdir().expect("a temporary folder can be made");
        let [registry, commands, projector, queries] =
            ["registry", "command-service", "projector", "query-service"].map(Role::new);
        let address = |role: &Role| role.address.to_string();
        let settings = vec![
            ("KAFKA", stack.kafka().to_owned()),
            ("POSTGRES", postgres),
            ("REGISTRY", format!("http://{}", registry.address)),
            ("GENERATION", new_key()),
            ("PARTITIONS", "4".into()),
            ("DATA", data.path().display().to_string()),
            ("LOG__FORMAT", "json".into()),
            ("COMMANDS__ANSWER_WITHIN_MS", "3000".into()),
            ("SCHEMA_REGISTRY__ADDRESS", address(&registry)),
            ("SCHEMA_REGISTRY__ANONYMOUS", "write".into()),
            (
                "SCHEMA_REGISTRY__TOPIC",
                format!("annals.schemas.{}", new_key()),
            ),
            ("COMMANDS__ADDRESS", address(&commands)),
            ("PROJECTOR__ADDRESS", address(&projector)),
            ("QUERIES__ADDRESS", address(&queries)),
        ];
        choose_crypto();
        let key = data.path().join("dev-key.pem");
        Self {
            registry,
            commands,
            projector,
            queries,
            settings,
            key: DevKey::load_or_create(&key).expect("the key can be written"),
            data,
        }
    }

    /// Starts what is down and returns when everything is ready.
    pub async fn start_all(&self) {
        self.run(&self.registry);
        self.registry.until_ready().await;
        let registered = self.register_schemas();
        let problem = String::from_utf8_lossy(&registered.stderr);
        assert!(registered.status.success(), "{problem}");
        for role in [&self.commands, &self.projector, &self.queries] {
            self.run(role);
        }
        self.until_ready().await;
    }

    pub async fn until_ready(&self) {
        for role in self.roles() {
            role.until_ready().await;
        }
    }

    pub fn roles(&self) -> [&Role; 4] {
        [
            &self.registry,
            &self.commands,
            &self.projector,
            &self.queries,
        ]
    }

    /// One more, at another address.
    pub fn another_command_service(&self) -> Role {
        Role::new("command-service")
    }

    /// One more, which shares the read models' partitions with the first.
    pub fn another_projector(&self) -> Role {
        Role::new("projector")
    }

    /// Starts a role, ready or not.
    pub fn run(&self, role: &Role) {
        self.run_of(Release::This, role);
    }

    /// The same, of this release.
    pub fn run_of(&self, release: Release, role: &Role) {
        let mut command = self.binary(release);
        command.arg(role.verb);
        if role.verb == self.commands.verb {
            command.env("ANNALS_COMMANDS__ADDRESS", role.address.to_string());
        }
        if role.verb == self.projector.verb {
            command.env("ANNALS_PROJECTOR__ADDRESS", role.address.to_string());
        }
        *role.process() = Some(Process::start(command).into());
    }

    /// `annals schema register`
    pub fn register_schemas(&self) -> Output {
        let mut command = self.annals();
        let output = command.args(["schema", "register"]).output();
        output.expect("setpriv (of util-linux) is there")
    }

    /// The binary, with the settings of this installation.
    pub fn annals(&self) -> Command {
        self.binary(Release::This)
    }

    /// One of the binaries, with the settings of this installation.
    pub fn binary(&self, release: Release) -> Command {
        let mut command = release.command();
        command.current_dir(self.data.path());
        for (name, value) in &self.settings {
            command.env(format!("ANNALS_{name}"), value);
        }
        command
    }

    /// Of each topic.
    pub fn partitions(&self) -> usize {
        let partitions = self.setting("PARTITIONS").parse();
        partitions.expect("it is a number")
    }

    pub fn setting(&self, name: &str) -> &str {
        let found = self.settings.iter().find(|(known, _)| *known == name);
        &found.expect("it is a setting of every installation").1
    }

    pub fn events_topic(&self, context: &str) -> String {
        format!("annals.{context}.events.{}", self.setting("GENERATION"))
    }

    /// A tenant of which nothing is in the log yet.
    pub fn new_company(&self) -> Company<'_> {
        Company {
            app: self,
            tenant: new_key(),
        }
    }

    /// A token that is valid for so long from now.
    pub fn token(&self, tenant: &str, name: &str, roles: &[&str], ttl: Duration) -> String {
        let tenant = Tenant::parse(tenant).expect("the test names a tenant");
        let request = TokenRequest::new(Actor::User(name.into())).tenant(tenant);
        let request = roles
            .iter()
            .fold(request, |request, role| request.role(*role));
        self.key.issue(&request, ttl)
    }
}

impl Company<'_> {
    pub fn admin(&self, name: &str) -> User {
        self.user(name, &["admin"])
    }

    pub fn manager(&self, name: &str) -> User {
        self.user(name, &["manager"])
    }

    pub fn worker(&self, name: &str) -> User {
        self.user(name, &["worker"])
    }

    pub fn user(&self, name: &str, roles: &[&str]) -> User {
        let Self { app, tenant } = self;
        let token = app.token(tenant, name, roles, HOUR);
        User::new(app.commands.address, app.queries.address, &token)
    }
}

impl Role {
    fn new(verb: &'static str) -> Self {
        Self {
            verb,
            address: free_port(),
            process: Mutex::default(),
        }
    }

    /// # Panics
    /// When it was not started.
    pub fn running(&self) -> Arc<Process> {
        self.process()
            .clone()
            .unwrap_or_else(|| panic!("{} is down", self.verb))
    }

    pub async fn kill(&self) {
        let process = self.process().take();
        process.expect("it was started").kill().await;
    }

    pub async fn until_ready(&self) {
        let last = Mutex::default();
        let ready = eventually("a role is ready", async || {
            let process = self.running();
            assert!(!process.has_ended(), "{}", process.stderr());
            let readiness = self.readiness().await?;
            *last.lock().expect("nothing panics while it is held") = reasons(&readiness).collect();
            (readiness.status == 200).then_some(())
        });
        self.in_time("ready", ready, &last).await;
    }

    /// Waits until it says that it is not ready, with this text among the reasons.
    pub async fn until_not_ready(&self, reason: &str) {
        let last = Mutex::default();
        let told = eventually("a role is not ready", async || {
            let readiness = self.readiness().await?;
            let reasons: Vec<_> = reasons(&readiness).collect();
            let told = reasons.iter().any(|it| it.contains(reason));
            *last.lock().expect("nothing panics while it is held") = reasons;
            (readiness.status == 503 && told).then_some(())
        });
        let what = format!("not ready because of {reason:?}");
        self.in_time(&what, told, &last).await;
    }

    /// Fails with what the role said last.
    async fn in_time(&self, what: &str, told: impl Future<Output = ()>, last: &Mutex<Vec<String>>) {
        if timeout(PATIENCE, told).await.is_err() {
            panic!("{} is not {what}; it says {last:?}", self.verb);
        }
    }

    /// `GET /health/ready`; nothing when it does not answer.
    pub async fn readiness(&self) -> Option<Answer> {
        let url = format!("http://{}/health/ready", self.address);
        Answer::of(reqwest::get(url).await.ok()?).await.ok()
    }

    fn process(&self) -> MutexGuard<'_, Option<Arc<Process>>> {
        self.process
            .lock()
            .expect("nothing panics while it is held")
    }
}

fn reasons(readiness: &Answer) -> impl Iterator<Item = String> + '_ {
    let components = readiness.body["components"]
        .as_object()
        .into_iter()
        .flatten();
    components.filter_map(|(name, state)| match &state["reason"] {
        Value::String(reason) => Some(format!("{name}: {reason}")),
        _ => None,
    })
}
