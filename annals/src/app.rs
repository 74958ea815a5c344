//! The command line of a binary that is made of contexts.

use std::{error::Error, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use service_kit::{SecretUrl, telemetry::LogConfig};
use sqlx::postgres::PgConnectOptions;
use tokio_util::sync::CancellationToken;

use crate::{
    context::Context,
    demo::{Demo, DemoFuture},
    quarantine::{self, QuarantineVerb, QuarantineVerbError},
    replay::{self, ReplayError, ReplayVerb},
    roles::{self, RoleError},
    running,
    schema::{self, SchemaError, SchemaVerb},
    settings::{Settings, SettingsError},
    shards::{self, ShardsArgs, ShardsError},
    token::{self, TokenArgs},
    up::{self, Plan, Story, UpError, Written},
};

/// A binary: its contexts, and a story that shows them.
pub struct App {
    contexts: Vec<Context>,
    story: Option<Story>,
    migration: Option<Story>,
}

#[derive(Parser)]
#[command(version, about = "An event-sourced CQRS backend on Kafka and Postgres")]
struct Cli {
    /// Settings; ./annals.toml unless named
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Start everything on this machine: Kafka, Postgres, the registry and all roles
    Up {
        /// Play the demo story when everything is ready
        #[arg(long)]
        demo: bool,
        /// End after the story instead of staying up
        #[arg(long, requires = "demo")]
        once: bool,
    },
    /// Play a story on a stack of its own
    #[command(subcommand)]
    Demo(DemoVerb),
    /// Forget the data of `annals up`
    Down {
        /// Say that you mean it: the data folder is removed
        #[arg(long, required = true)]
        wipe: bool,
    },
    /// Serve the command HTTP API
    CommandService,
    /// Keep the read models up to date
    Projector,
    /// Serve the query HTTP API
    QueryService,
    /// Serve the schema registry
    Registry,
    /// Work with event schemas
    #[command(subcommand)]
    Schema(SchemaVerb),
    /// See to streams that read models cannot project
    #[command(subcommand)]
    Quarantine(QuarantineVerb),
    /// Look at the log, and build read models from it again
    #[command(subcommand)]
    Replay(ReplayVerb),
    /// Show who serves which shard, and how it is
    Shards(ShardsArgs),
    /// Issue a bearer token with the development key
    Token(TokenArgs),
}

#[derive(Subcommand)]
enum DemoVerb {
    /// Change the schema of an event that is in the log already, while people go on working
    Migration,
}

#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Telemetry(#[from] service_kit::telemetry::TelemetryError),
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    #[error(transparent)]
    Up(#[from] UpError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Stack(#[from] dev_stack::StackError),
    #[error(transparent)]
    Schema(#[from] Box<SchemaError>),
    #[error(transparent)]
    Shards(#[from] ShardsError),
    #[error(transparent)]
    Replay(#[from] ReplayError),
    #[error(transparent)]
    Quarantine(#[from] QuarantineVerbError),
    #[error("not everything could be let go")]
    StillInQuarantine,
    #[error("this binary has no demo story")]
    NoStory,
    #[error("Postgres at {place} cannot be reached")]
    PostgresAway {
        place: String,
        #[source]
        source: Box<AppError>,
    },
}

impl AppError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Schema(error) => error.exit_code().into(),
            Self::PostgresAway { source, .. } => source.exit_code(),
            _ => ExitCode::FAILURE,
        }
    }

    /// Says where Postgres is, when it is what cannot be reached: sqlx does not.
    fn with_place_of(self, postgres: Option<&SecretUrl>) -> Self {
        let place = postgres.and_then(|it| it.expose().parse().ok());
        match place {
            Some(place) if is_postgres_away(&self) => {
                let place: PgConnectOptions = place;
                Self::PostgresAway {
                    place: format!("{}:{}", place.get_host(), place.get_port()),
                    source: Box::new(self),
                }
            }
            _ => self,
        }
    }
}

fn is_postgres_away(error: &AppError) -> bool {
    let mut source = Some(error as &(dyn Error + 'static));
    while let Some(error) = source {
        match error.downcast_ref() {
            Some(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_)) => return true,
            _ => source = error.source(),
        }
    }
    false
}

impl App {
    pub fn new(contexts: impl IntoIterator<Item = Context>) -> Self {
        Self {
            contexts: contexts.into_iter().collect(),
            story: None,
            migration: None,
        }
    }

    /// What `annals up --demo` plays.
    pub fn demo(mut self, story: fn(Demo) -> DemoFuture) -> Self {
        self.story = Some(story);
        self
    }

    /// What `annals demo migration` plays, on a log that is written in the first versions.
    pub fn migration_demo(mut self, story: fn(Demo) -> DemoFuture) -> Self {
        self.migration = Some(story);
        self
    }

    /// Does what the command line says. Failures are one line on standard error.
    pub fn run(self) -> ExitCode {
        let cli = Cli::parse();
        // reqwest is built without a provider of its own; this one is shared with sqlx.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = match tokio::runtime::Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => {
                eprintln!("annals: failed to start the runtime: {error}");
                return ExitCode::FAILURE;
            }
        };
        match runtime.block_on(self.perform(cli)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("annals: {}", service_kit::problem::Chain(&error));
                error.exit_code()
            }
        }
    }

    async fn perform(self, cli: Cli) -> Result<(), AppError> {
        let mut settings = Settings::load(cli.config.as_deref())?;
        if !matches!(
            cli.verb,
            Verb::Up { .. } | Verb::Demo(_) | Verb::Down { .. }
        ) {
            running::join(&mut settings);
        }
        let postgres = settings.postgres.clone();
        let performed = Box::pin(self.perform_with(settings, cli.verb)).await;
        performed.map_err(|error| error.with_place_of(postgres.as_ref()))
    }

    async fn perform_with(self, mut settings: Settings, verb: Verb) -> Result<(), AppError> {
        let Self {
            mut contexts,
            story,
            migration,
        } = self;
        match verb {
            Verb::Token(args) => {
                println(&token::issue(&settings.dev_key()?, args));
                Ok(())
            }
            Verb::Shards(args) => {
                println(&shards::show(&settings, args).await?);
                Ok(())
            }
            Verb::Quarantine(verb) => {
                let told = quarantine::perform(&settings, &mut contexts, verb).await?;
                println(&told.text);
                told.gone.then_some(()).ok_or(AppError::StillInQuarantine)
            }
            Verb::Replay(verb) => Ok(replay::perform(&settings, &contexts, verb, println).await?),
            Verb::Down { wipe: _ } => Ok(dev_stack::wipe(&settings.data)?),
            Verb::Schema(verb) => {
                let performed = schema::perform(&settings, &contexts, verb, println).await;
                Ok(performed.map_err(Box::new)?)
            }
            Verb::Up { demo, once } => {
                if demo && settings.log.filter == LogConfig::default().filter {
                    settings.log.filter = BESIDE_A_STORY.into();
                }
                let shutdown = start(&settings)?;
                let story = match (demo, story) {
                    (false, _) => None,
                    (true, Some(story)) => Some(story),
                    (true, None) => return Err(AppError::NoStory),
                };
                let plan = Plan {
                    story,
                    once,
                    written: Written::Newest,
                };
                Ok(up::up(settings, contexts, plan, shutdown).await?)
            }
            Verb::Demo(DemoVerb::Migration) => {
                let story = migration.ok_or(AppError::NoStory)?;
                Ok(migration_demo(settings, contexts, story).await?)
            }
            Verb::Registry => {
                let shutdown = start(&settings)?;
                Ok(roles::registry(&settings, shutdown).await?.serve().await?)
            }
            Verb::CommandService => {
                let shutdown = start(&settings)?;
                let role = roles::command_service(&settings, &mut contexts, shutdown);
                Ok(role.await?.serve().await?)
            }
            Verb::Projector => {
                let shutdown = start(&settings)?;
                let role = roles::projector(&settings, &mut contexts, shutdown);
                Ok(role.await?.serve().await?)
            }
            Verb::QueryService => {
                let shutdown = start(&settings)?;
                let role = roles::query_service(&settings, &mut contexts, shutdown);
                Ok(role.await?.serve().await?)
            }
        }
    }
}

/// On data of its own, which are forgotten afterwards.
async fn migration_demo(
    mut settings: Settings,
    contexts: Vec<Context>,
    story: Story,
) -> Result<(), AppError> {
    if settings.log.filter == LogConfig::default().filter {
        settings.log.filter = BESIDE_A_STORY.into();
    }
    settings.data = settings.data.join("demo-migration");
    settings.generation = format!("demo-{}", std::process::id());
    // What runs beside it keeps its ports.
    let any_port = || "127.0.0.1:0".to_owned();
    settings.commands.address = any_port();
    settings.commands.advertise = None;
    settings.projector.address = any_port();
    settings.queries.address = any_port();
    settings.schema_registry.address = any_port();
    let shutdown = start(&settings)?;
    let is_own = settings.kafka.is_none() && settings.postgres.is_none();
    let data = settings.data.clone();
    if is_own {
        dev_stack::wipe(&data)?;
    }
    let plan = Plan {
        story: Some(story),
        once: true,
        written: Written::First,
    };
    up::up(settings, contexts, plan, shutdown).await?;
    if is_own {
        dev_stack::wipe(&data)?;
    }
    Ok(())
}

/// What is logged beside a story, unless a filter is set: services that start are not ready at
/// first, which is no news to who watches.
const BESIDE_A_STORY: &str = "warn,service_kit::readiness=error";

/// Logs from now on, and ends when asked to.
fn start(settings: &Settings) -> Result<CancellationToken, AppError> {
    service_kit::telemetry::init(&settings.log)?;
    service_kit::shutdown::on_signal().map_err(AppError::Signals)
}

/// What a command is asked for goes to standard output.
#[allow(clippy::print_stdout)]
fn println(line: &str) {
    println!("{line}");
}

#[cfg(test)]
mod tests {
    use projector::rebuild::RebuildError;
    use service_kit::problem::Chain;

    use super::*;

    #[test]
    fn a_postgres_that_cannot_be_reached_is_named_without_its_password() {
        let url = SecretUrl::new("postgres://ada:secret@db.example.org:6543/annals");
        let away = ReplayError::Rebuild(RebuildError::Postgres {
            what: "look the editions up",
            source: sqlx::Error::PoolTimedOut,
        });
        let told = AppError::from(away).with_place_of(Some(&url));
        let told = Chain(&told).to_string();
        assert!(
            told.starts_with("Postgres at db.example.org:6543 cannot be reached: "),
            "{told}"
        );
        assert!(
            told.contains("timed out") && !told.contains("secret"),
            "{told}"
        );
        let told = AppError::NoStory.with_place_of(Some(&url)).to_string();
        assert_eq!(told, AppError::NoStory.to_string());
    }
}
