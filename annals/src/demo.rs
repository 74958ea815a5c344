//! What a demo story gets to play on.

use std::{net::SocketAddr, time::Duration};

use event_log::{cluster::Cluster, registry::RegistryClient, topics::Generation};
use futures::future::BoxFuture;
use kernel::Actor;
use service_kit::{DevKey, TokenRequest};
use tokio::process::Command;

use crate::Settings;

/// Where the services are, and tokens to use them with.
pub struct Demo {
    pub commands: SocketAddr,
    pub queries: SocketAddr,
    /// Whether everything goes on running after the story.
    pub stays_up: bool,
    pub(crate) key: DevKey,
    /// With what was started in them.
    pub(crate) settings: Settings,
}

/// A verb of this binary that has ended.
#[derive(Clone, Debug)]
pub struct Verb {
    pub succeeded: bool,
    /// What it printed, errors last.
    pub told: String,
}

/// The story failed; the message says at which step.
pub type DemoError = Box<dyn std::error::Error + Send + Sync>;
/// A story under way. Prints what happens to standard output.
pub type DemoFuture = BoxFuture<'static, Result<(), DemoError>>;

impl Demo {
    /// A bearer token for this user, valid for 12 hours.
    ///
    /// # Panics
    /// When `user` is not 1–128 visible ASCII characters.
    pub fn token(&self, user: &str, roles: &[&str]) -> String {
        let actor: Actor = format!("user:{user}")
            .parse()
            .unwrap_or_else(|malformed| panic!("the demo's user {user:?} {malformed}"));
        let request = roles
            .iter()
            .fold(TokenRequest::new(actor), |request, role| {
                request.role(*role)
            });
        self.key.issue(&request, Duration::from_secs(12 * 3_600))
    }

    /// Where the log is, for readers of its own.
    pub fn log(&self) -> Result<(Cluster, Generation), DemoError> {
        Ok((self.settings.kafka()?, self.settings.generation()))
    }

    pub fn registry(&self) -> Result<RegistryClient, DemoError> {
        Ok(RegistryClient::new(self.settings.registry()?)?)
    }

    /// Runs a verb of this binary on what was started, as an operator would.
    pub async fn verb(&self, arguments: &[&str]) -> Result<Verb, DemoError> {
        let Settings {
            kafka,
            postgres,
            registry,
            generation,
            partitions,
            data,
            ..
        } = &self.settings;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(arguments)
            .env("ANNALS_GENERATION", generation)
            .env("ANNALS_PARTITIONS", partitions.to_string())
            .env("ANNALS_DATA", data)
            .kill_on_drop(true);
        if let Some(kafka) = kafka {
            command.env("ANNALS_KAFKA", kafka);
        }
        if let Some(postgres) = postgres {
            command.env("ANNALS_POSTGRES", postgres.expose());
        }
        if let Some(registry) = registry {
            command.env("ANNALS_REGISTRY", registry);
        }
        let output = command.output().await?;
        let told = [output.stdout, output.stderr].concat();
        Ok(Verb {
            succeeded: output.status.success(),
            told: String::from_utf8_lossy(&told).trim_end().to_owned(),
        })
    }
}
