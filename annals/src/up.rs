//! `annals up`: the development stack and every role, in one process.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use dev_stack::{DevStack, Options, Progress, Source, StackError};
use indicatif::{ProgressBar, ProgressStyle};
use service_kit::{Readiness, SecretUrl, problem::Chain};
use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    activate::{ActivateError, activate_new, begin_with_first},
    context::Context,
    demo::{Demo, DemoError},
    roles::{self, Role, RoleError},
    running,
    schema::{self, Registry},
    settings::{Settings, SettingsError},
};

/// How long a role may take, where a story is to be told.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// What keeps a role is said when it has lasted, and again when it is something else.
const SAY_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error("{role} ended")]
    Ended {
        role: &'static str,
        #[source]
        source: Box<RoleError>,
    },
    #[error("a role has a bug")]
    Bug(#[source] JoinError),
    #[error("failed to register the schemas")]
    Schemas(#[from] event_log::registry::RegistryError),
    #[error("{role} did not become ready in time: {reason}")]
    NotReady { role: &'static str, reason: String },
    #[error("failed to have the newest versions written")]
    Activate(#[from] ActivateError),
    #[error("failed to note in {data} where the servers are")]
    Note {
        data: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the demo story failed: {0}")]
    Demo(DemoError),
}

/// A story that is played once everything is ready.
pub(crate) type Story = fn(Demo) -> crate::demo::DemoFuture;

/// What is done with everything that was started.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub story: Option<Story>,
    /// End after the story.
    pub once: bool,
    pub written: Written,
}

/// Which versions of the events are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Written {
    /// The newest; what was taken back on purpose stays so.
    Newest,
    /// The first, in a log that is new: as if releases before had written it.
    First,
}

/// Starts everything, says where it is, and stays until shutdown, or until the story has been told.
pub(crate) async fn up(
    mut settings: Settings,
    mut contexts: Vec<Context>,
    plan: Plan,
    shutdown: CancellationToken,
) -> Result<(), UpError> {
    let began = Instant::now();
    let stack = tokio::select! {
        stack = start_stack(&settings) => stack?,
        () = shutdown.cancelled() => return Ok(()),
    };
    settings.kafka = Some(stack.kafka().into());
    settings.postgres = Some(SecretUrl::new(stack.postgres()));
    // Nobody else feeds or reads the version before.
    settings.projector.swap_unasked = true;
    // The servers go last: what is in flight is finished before.
    let result = tokio::select! {
        result = Box::pin(serve(settings, &mut contexts, plan, began, shutdown.clone())) => result,
        failed = stack.failed() => Err(failed.into()),
    };
    shutdown.cancel();
    stack.stop().await;
    result
}

async fn serve(
    mut settings: Settings,
    contexts: &mut [Context],
    plan: Plan,
    began: Instant,
    shutdown: CancellationToken,
) -> Result<(), UpError> {
    let mut roles = Roles::new();
    if settings.registry.is_none() {
        let anonymous = &mut settings.schema_registry.anonymous;
        anonymous.get_or_insert(schema_registry::Role::Write);
        let registry = roles::registry(&settings, shutdown.clone()).await?;
        settings.registry = Some(format!("http://{}", registry.address));
        spawn(&mut roles, registry);
    }
    // Until everything ends; who mends what keeps a role works beside it.
    let _noted = running::note(&settings).map_err(|source| UpError::Note {
        data: settings.data.clone(),
        source,
    })?;
    if plan.written == Written::First {
        begin_with_first(&settings, contexts).await?;
    }
    let commands = roles::command_service(&settings, contexts, shutdown.clone()).await?;
    let projector = roles::projector(&settings, contexts, shutdown.clone()).await?;
    let queries = roles::query_service(&settings, contexts, shutdown.clone()).await?;
    let demo = Demo {
        commands: commands.address,
        queries: queries.address,
        stays_up: !plan.once,
        key: settings.dev_key()?,
        settings: settings.clone(),
    };
    let readiness: Vec<_> = [&commands, &projector, &queries]
        .map(|role| (role.name, role.readiness.clone()))
        .into();
    for role in [commands, projector, queries] {
        spawn(&mut roles, role);
    }
    let told = async {
        register(&settings, contexts).await?;
        for (role, readiness) in readiness {
            until_ready(role, &readiness, plan.story.map(|_| READY_WITHIN)).await?;
        }
        if plan.written == Written::Newest {
            // Nobody else reads them.
            for told in activate_new(&settings, contexts).await? {
                eprintln!("{told}");
            }
        }
        tracing::info!(
            after_ms = began.elapsed().as_millis() as u64,
            "everything is ready"
        );
        eprintln!("ready after {:.1} s", began.elapsed().as_secs_f64());
        let addresses = addresses(&settings, &demo);
        if let Some(story) = plan.story {
            story(demo).await.map_err(UpError::Demo)?;
        }
        if !plan.once {
            eprintln!(
                "{addresses}\nCtrl-C ends everything; the data stays in {}/.",
                settings.data.display()
            );
            shutdown.cancelled().await;
        }
        Ok(())
    };
    finish(told, roles, &shutdown).await
}

/// What each role came to.
type Roles = JoinSet<(&'static str, Result<(), RoleError>)>;

fn spawn(roles: &mut Roles, role: Role) {
    roles.spawn(async move { (role.name, role.serve().await) });
}

/// Ends everything when `work` has ended, a role has failed or shutdown came, whatever was first,
/// and answers what failed first. A role that fails may ask for the shutdown before it says why.
async fn finish(
    work: impl Future<Output = Result<(), UpError>>,
    mut roles: Roles,
    shutdown: &CancellationToken,
) -> Result<(), UpError> {
    let mut result = tokio::select! {
        result = work => result,
        failed = first_failure(&mut roles) => Err(failed),
        () = shutdown.cancelled() => Ok(()),
    };
    shutdown.cancel();
    while let Some(ended) = roles.join_next().await {
        let Err(error) = outcome(ended) else { continue };
        match result {
            Ok(()) => result = Err(error),
            Err(_) => tracing::error!(error = %Chain(&error), "a role ended, too"),
        }
    }
    result
}

/// Waits for a role that ends with an error.
async fn first_failure(roles: &mut Roles) -> UpError {
    while let Some(ended) = roles.join_next().await {
        if let Err(error) = outcome(ended) {
            return error;
        }
    }
    std::future::pending().await
}

fn outcome(ended: Result<(&'static str, Result<(), RoleError>), JoinError>) -> Result<(), UpError> {
    let (role, result) = ended.map_err(UpError::Bug)?;
    result.map_err(|error| UpError::Ended {
        role,
        source: Box::new(error),
    })
}

/// Waits, and says what for: for as long as it takes, unless it has to be `within` some time.
async fn until_ready(
    role: &'static str,
    readiness: &Readiness,
    within: Option<Duration>,
) -> Result<(), UpError> {
    let patience = async {
        match within {
            Some(within) => sleep(within).await,
            None => say_what_keeps(role, readiness).await,
        }
    };
    tokio::select! {
        () = readiness.until_ready() => Ok(()),
        () = patience => Err(UpError::NotReady { role, reason: reasons(readiness) }),
    }
}

async fn say_what_keeps(role: &'static str, readiness: &Readiness) {
    let mut said = String::new();
    loop {
        sleep(SAY_AFTER).await;
        let reason = reasons(readiness);
        if reason != said {
            eprintln!("{role} is not ready: {reason}");
            said = reason;
        }
    }
}

/// The registry may need a moment to make its tables.
async fn register(settings: &Settings, contexts: &[Context]) -> Result<(), UpError> {
    let registry = Registry::new(settings.registry()?)?;
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        match schema::register(contexts, &registry).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_temporary() && Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn reasons(readiness: &Readiness) -> String {
    let report = readiness.report();
    let reasons: Vec<_> = report
        .components
        .iter()
        .filter(|(_, state)| !state.ready)
        .map(|(name, state)| format!("{name}: {}", state.reason.as_deref().unwrap_or("not ready")))
        .collect();
    reasons.join("; ")
}

fn addresses(settings: &Settings, demo: &Demo) -> String {
    let Settings {
        kafka,
        postgres,
        registry,
        ..
    } = settings;
    let (kafka, registry) = (kafka.as_deref(), registry.as_deref());
    let postgres = postgres.as_ref().map(SecretUrl::to_string);
    format!(
        "
  commands         http://{}
  queries          http://{}
  schema registry  {}
  Kafka            {}
  Postgres         {}
",
        demo.commands,
        demo.queries,
        registry.unwrap_or_default(),
        kafka.unwrap_or_default(),
        postgres.unwrap_or_default(),
    )
}

async fn start_stack(settings: &Settings) -> Result<DevStack, StackError> {
    let mut options = Options::new(&settings.data);
    if let Some(kafka) = &settings.kafka {
        options.kafka = Source::Existing(kafka.clone());
    }
    if let Some(postgres) = &settings.postgres {
        options.postgres = Source::Existing(postgres.expose().into());
    }
    // Hidden when standard error is no terminal; plain lines are printed then.
    let spinner = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(100));
    let shown = spinner.clone();
    let plain = spinner.is_hidden();
    options.on_progress = Arc::new(move |progress| {
        let line = match progress {
            Progress::Fetching => "fetching Kafka and Postgres (80 MB, once)".into(),
            Progress::Starting { server } => format!("starting {server}"),
            Progress::Ready { server, took } => {
                format!("{server} is ready after {:.1} s", took.as_secs_f64())
            }
        };
        if plain {
            eprintln!("{line}");
        } else {
            shown.set_message(line);
        }
    });
    let stack = DevStack::start(options).await;
    spinner.finish_and_clear();
    stack
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(shutdown: &CancellationToken) -> Roles {
        let mut roles = Roles::new();
        let (ending, well) = (shutdown.clone(), shutdown.clone());
        roles.spawn(async move {
            well.cancelled().await;
            ("projector", Ok(()))
        });
        // As the roles do it: the others are told before the reason is.
        roles.spawn(async move {
            ending.cancel();
            ending.cancelled().await;
            tokio::task::yield_now().await;
            let error = RoleError::NoSuchModel("boards".into());
            ("command-service", Err(error))
        });
        roles
    }

    #[tokio::test]
    async fn a_role_that_fails_is_named_although_it_ends_everything_first() {
        for staying in [true, false] {
            let shutdown = CancellationToken::new();
            let roles = failing(&shutdown);
            let work = async {
                if staying {
                    std::future::pending::<()>().await;
                }
                shutdown.cancelled().await;
                Ok(())
            };
            let error = finish(work, roles, &shutdown).await.unwrap_err();
            let told = Chain(&error).to_string();
            assert!(told.starts_with("command-service ended: "), "{told}");
            assert!(told.contains("boards"), "{told}");
        }
    }

    #[tokio::test]
    async fn a_role_that_panics_is_no_good_end() {
        let shutdown = CancellationToken::new();
        let mut roles = Roles::new();
        roles.spawn(async { panic!("a bug") });
        let error = finish(std::future::pending(), roles, &shutdown).await;
        let told = Chain(&error.unwrap_err()).to_string();
        assert!(told.contains("a bug"), "{told}");
    }

    #[tokio::test]
    async fn who_ends_it_is_told_nothing() {
        let shutdown = CancellationToken::new();
        let mut roles = Roles::new();
        let serving = shutdown.clone();
        roles.spawn(async move {
            serving.cancelled().await;
            ("registry", Ok(()))
        });
        shutdown.cancel();
        let ended = finish(std::future::pending(), roles, &shutdown).await;
        assert!(ended.is_ok());
    }

    #[tokio::test]
    async fn only_where_a_story_is_to_be_told_waiting_comes_to_an_end() {
        let readiness = Readiness::new();
        let shards = readiness.component("shards");
        shards.not_ready("a rule does not fit");
        let shortly = Duration::from_millis(1);
        let error = until_ready("command-service", &readiness, Some(shortly)).await;
        let told = error.unwrap_err().to_string();
        assert!(told.contains("shards: a rule does not fit"), "{told}");
        let waiting = until_ready("command-service", &readiness, None);
        let mended = async { shards.ready() };
        let (waited, ()) = tokio::join!(waiting, mended);
        assert!(waited.is_ok());
    }
}
