//! `annals up`: the development stack and every role, in one process.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use dev_stack::{DevStack, Options, Progress, Source, StackError};
use indicatif::{ProgressBar, ProgressStyle};
use service_kit::SecretUrl;
use tokio::{task::JoinSet, time::Instant};
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

/// How long the roles may take until all are ready.
const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    #[error(transparent)]
    Stack(#[from] StackError),
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error("failed to register the schemas")]
    Schemas(#[from] event_log::registry::RegistryError),
    #[error("{role} was not ready within {READY_WITHIN:?}: {reason}")]
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
        result = serve(settings, &mut contexts, plan, began, shutdown.clone()) => result,
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
    let mut roles = JoinSet::new();
    if settings.registry.is_none() {
        let anonymous = &mut settings.schema_registry.anonymous;
        anonymous.get_or_insert(schema_registry::Role::Write);
        let registry = roles::registry(&settings, shutdown.clone()).await?;
        settings.registry = Some(format!("http://{}", registry.address));
        roles.spawn(registry.serve());
    }
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
        roles.spawn(Role::serve(role));
    }
    let told = async {
        register(&settings, contexts).await?;
        for (role, readiness) in readiness {
            let waited = tokio::time::timeout(READY_WITHIN, readiness.until_ready()).await;
            waited.map_err(|_| UpError::NotReady {
                role,
                reason: reasons(&readiness),
            })?;
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
        // Until everything ends.
        let _noted = running::note(&settings).map_err(|source| UpError::Note {
            data: settings.data.clone(),
            source,
        })?;
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
    let result = tokio::select! {
        result = told => result,
        ended = first_failure(&mut roles) => Err(ended.into()),
        () = shutdown.cancelled() => Ok(()),
    };
    shutdown.cancel();
    while let Some(ended) = roles.join_next().await {
        if let Ok(Err(error)) = ended {
            tracing::error!(%error, "a role ended with an error");
        }
    }
    result
}

/// Waits for a role that ends with an error.
async fn first_failure(roles: &mut JoinSet<Result<(), RoleError>>) -> RoleError {
    loop {
        match roles.join_next().await {
            Some(Ok(Err(error))) => return error,
            Some(_) => {}
            None => std::future::pending().await,
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

fn reasons(readiness: &service_kit::Readiness) -> String {
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
