//! What an operator may set: defaults → `annals.toml` → environment (`ANNALS_…`).

use std::path::{Path, PathBuf};

use event_log::{
    cluster::{Cluster, Login, Mechanism, Security, SecurityError, Tls},
    topics::{DEFAULT_PARTITIONS, Generation, TopicOptions},
};
use serde::Deserialize;
use service_kit::{
    DevKey, Secret, SecretUrl, Verifier, config::ConfigError, dev_key::DevKeyError,
    telemetry::LogConfig,
};

/// The settings of every role. Nested ones are set as `ANNALS_COMMANDS__ADDRESS`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Kafka's bootstrap addresses, `host:port`, comma-separated. `annals up`
    /// starts a private one when this is not set.
    pub kafka: Option<String>,
    pub kafka_security: KafkaSecurity,
    /// `postgres://user@host:port/database`; `annals up` starts a private one
    /// when this is not set.
    pub postgres: Option<SecretUrl>,
    /// Address of a schema registry, `http://host:port`; `annals up` starts one
    /// when this is not set.
    pub registry: Option<String>,
    /// Which generation of the log is written and read; it is in the topics' names.
    pub generation: String,
    /// How many partitions each topic of the generation has.
    pub partitions: i32,
    /// Replicas of each partition, for topics that are made: 3 in production.
    pub replication: i16,
    /// Sync to disk at each append, for topics that are made: to compare with databases that do.
    pub sync_each_append: bool,
    /// Where the development stack keeps its data and the development key is.
    pub data: PathBuf,
    pub log: LogConfig,
    pub auth: AuthSettings,
    pub commands: command_service::Config,
    pub projector: ProjectorSettings,
    pub queries: QuerySettings,
    pub schema_registry: RegistrySettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kafka: None,
            kafka_security: KafkaSecurity::default(),
            postgres: None,
            registry: None,
            generation: "1".into(),
            partitions: DEFAULT_PARTITIONS,
            replication: 1,
            sync_each_append: false,
            data: ".annals".into(),
            log: LogConfig::default(),
            auth: AuthSettings::default(),
            commands: command_service::Config::default(),
            projector: ProjectorSettings::default(),
            queries: QuerySettings::default(),
            schema_registry: RegistrySettings::default(),
        }
    }
}

/// How Kafka is reached: by default in the clear and without a login.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct KafkaSecurity {
    /// Speak TLS, with brokers whose certificates name the hosts that they are reached at.
    pub tls: bool,
    /// PEM file of the authorities to trust; unless it is set, those of the system.
    pub ca_file: Option<PathBuf>,
    /// Log in (SASL) as this user.
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// `plain`, `scram-sha-256` or `scram-sha-512`, which it is unless set.
    pub mechanism: Option<String>,
}

/// Whose tokens are accepted: by default those of the development key.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AuthSettings {
    /// PEM files of the sign-on's public keys (P-256).
    pub public_keys: Vec<PathBuf>,
    /// The `iss` that tokens must have.
    pub issuer: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct ProjectorSettings {
    /// Where health and metrics are served.
    pub address: String,
    pub connections: u32,
    /// Let a read model's new version be read as soon as it has caught up, instead of when
    /// `annals replay rebuild` has compared it with the version before; `annals up` does.
    pub swap_unasked: bool,
    /// Only these read models, by name; all of them unless set. So a heavy one can have processes of
    /// its own.
    pub models: Vec<String>,
    /// How many streams of a read model may be quarantined within a minute; when there would be
    /// more, it stops.
    pub quarantined_per_minute: u32,
    /// For how many records of each partition it is kept which keys they changed: who follows a
    /// read model can go on from there.
    pub changes_kept: i64,
}

impl Default for ProjectorSettings {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8404".into(),
            connections: 8,
            swap_unasked: false,
            models: Vec::new(),
            quarantined_per_minute: projector::Tuning::default().quarantined_per_minute,
            changes_kept: projector::Tuning::default().changes_kept,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct QuerySettings {
    pub address: String,
    pub connections: u32,
    /// How long a read waits for its position.
    pub position_wait_ms: u64,
    /// How many may follow, all together and of one tenant or address.
    pub following: query_service::FollowingConfig,
    /// How many connections clients may have, those of followers included.
    pub client_connections: usize,
    pub client_connections_of_one_address: usize,
    /// Whoever has one of these roles may see the events of any stream of their tenant.
    pub history_roles: Vec<String>,
}

impl Default for QuerySettings {
    fn default() -> Self {
        let defaults = query_service::Config::new(SecretUrl::new(""));
        Self {
            address: defaults.address,
            connections: defaults.connections,
            position_wait_ms: defaults.position_wait_ms,
            following: defaults.following,
            client_connections: defaults.client_connections,
            client_connections_of_one_address: defaults.client_connections_of_one_address,
            history_roles: defaults.history_roles,
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct RegistrySettings {
    pub address: String,
    pub connections: u32,
    /// Longest request that is accepted, in bytes.
    pub max_body_bytes: usize,
    /// Who logs in with a name and a password, and may `read` or `write`. Tokens are accepted as
    /// everywhere, with the roles `registry-read` and `registry-write`.
    pub users: Vec<schema_registry::User>,
    /// What is allowed to those who say nothing about themselves, `read` or `write`: nothing,
    /// unless it is set. `annals up` lets everybody on this machine write.
    pub anonymous: Option<schema_registry::Role>,
    /// Where each change is written to, when Kafka is configured, before it is answered.
    pub topic: String,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        let defaults = schema_registry::Config::default();
        Self {
            address: defaults.address,
            connections: defaults.max_connections,
            max_body_bytes: defaults.max_body_bytes,
            users: defaults.users,
            anonymous: defaults.anonymous,
            topic: schema_registry::TopicConfig::DEFAULT_NAME.into(),
        }
    }
}

/// What a role needs and nobody has set.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(
        "no {what} is configured: set {variable}, or start everything with `annals up` in this folder"
    )]
    Missing {
        what: &'static str,
        variable: &'static str,
    },
    #[error(transparent)]
    DevKey(#[from] DevKeyError),
    #[error("failed to read the public key {path}: {source}")]
    PublicKey {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the public keys are not usable: {0}")]
    Verifier(String),
    #[error("auth.public_keys is set, but auth.issuer is not")]
    NoIssuer,
    #[error("auth.issuer is set, but auth.public_keys is not")]
    NoKeys,
    #[error(transparent)]
    KafkaSecurity(#[from] SecurityError),
    #[error("the setting {name} is not valid: {reason}")]
    Invalid { name: &'static str, reason: String },
}

impl KafkaSecurity {
    fn security(&self) -> Result<Security, SettingsError> {
        let incomplete = |reason: &str| SettingsError::Invalid {
            name: "kafka_security",
            reason: reason.into(),
        };
        let tls = match (self.tls, &self.ca_file) {
            (true, ca_file) => Some(Tls::new(ca_file.as_deref())?),
            (false, None) => None,
            (false, Some(_)) => return Err(incomplete("ca_file is set, but tls is not")),
        };
        let mechanism = match &self.mechanism {
            Some(mechanism) => mechanism.parse()?,
            None => Mechanism::ScramSha512,
        };
        let login = match (&self.user, &self.password) {
            (Some(user), Some(password)) => Some(Login::new(mechanism, user, password.expose())),
            (None, None) if self.mechanism.is_none() => None,
            _ => return Err(incomplete("a login takes both user and password")),
        };
        if login.is_some() && mechanism == Mechanism::Plain && tls.is_none() {
            tracing::warn!("Kafka's password goes over the network in the clear: set tls as well");
        }
        Ok(Security { tls, login })
    }
}

impl Settings {
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        let settings: Self = service_kit::config::load(file)?;
        settings.check()?;
        Ok(settings)
    }

    fn check(&self) -> Result<(), SettingsError> {
        let invalid = |name, reason: &str| {
            Err(SettingsError::Invalid {
                name,
                reason: reason.into(),
            })
        };
        let is_label = |text: &str| {
            !text.is_empty()
                && text.len() <= 32
                && text
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        if !is_label(&self.generation) {
            return invalid("generation", "1 to 32 letters, digits, - and _");
        }
        if !(1..=1_024).contains(&self.partitions) {
            return invalid("partitions", "1 to 1,024");
        }
        if self.commands.queue == 0 || self.commands.group == 0 {
            return invalid("commands", "queue and group must be at least 1");
        }
        Ok(())
    }

    pub(crate) fn kafka(&self) -> Result<Cluster, SettingsError> {
        let addresses = self.kafka.as_deref().ok_or(SettingsError::Missing {
            what: "Kafka",
            variable: "ANNALS_KAFKA",
        })?;
        Ok(Cluster::new(addresses).secured(self.kafka_security.security()?))
    }

    pub(crate) fn postgres(&self) -> Result<&SecretUrl, SettingsError> {
        self.postgres.as_ref().ok_or(SettingsError::Missing {
            what: "Postgres",
            variable: "ANNALS_POSTGRES",
        })
    }

    pub(crate) fn registry(&self) -> Result<&str, SettingsError> {
        self.registry.as_deref().ok_or(SettingsError::Missing {
            what: "schema registry",
            variable: "ANNALS_REGISTRY",
        })
    }

    pub(crate) fn generation(&self) -> Generation {
        Generation {
            name: self.generation.clone(),
            partitions: self.partitions,
        }
    }

    pub(crate) fn topics(&self) -> TopicOptions {
        TopicOptions {
            replication: self.replication,
            sync_each_append: self.sync_each_append,
        }
    }

    pub(crate) fn dev_key(&self) -> Result<DevKey, SettingsError> {
        Ok(DevKey::load_or_create(&self.data.join("dev-key.pem"))?)
    }

    pub(crate) fn verifier(&self) -> Result<Verifier, SettingsError> {
        let AuthSettings {
            public_keys,
            issuer,
        } = &self.auth;
        if public_keys.is_empty() {
            if issuer.is_some() {
                return Err(SettingsError::NoKeys);
            }
            return Ok(self.dev_key()?.verifier());
        }
        let issuer = issuer.as_deref().ok_or(SettingsError::NoIssuer)?;
        let mut keys = Vec::new();
        for path in public_keys {
            let key = std::fs::read_to_string(path).map_err(|source| SettingsError::PublicKey {
                path: path.clone(),
                source,
            })?;
            keys.push(key);
        }
        Verifier::new(keys.iter().map(String::as_str), issuer)
            .map_err(|error| SettingsError::Verifier(error.to_string()))
    }
}
