//! The command pipeline without HTTP: from a decided-upon call to the acknowledged append.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use command_service::{CommandService, Commands, Config, ContextStreams, StartError, Submission};
use event_log::Fingerprint;
use kernel::{Actor, CommandId, Meta, StreamId, Tenant};
use service_kit::{Readiness, prometheus::metrics_handle};
use tasks::{Description, Task, TaskCommand, Title, UserId};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Result,
    load::{Caller, Measured, load},
    world::{CALLER, TASKS, World},
};

/// The pipeline neither makes nor looks into these.
pub const FINGERPRINT: Fingerprint = Fingerprint([7; 16]);
pub const TRACE_PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

pub struct Pipeline {
    commands: Commands,
    running: JoinHandle<std::result::Result<(), StartError>>,
    shutdown: CancellationToken,
}

/// Assigns the tasks that it has for itself, one after the other.
struct Assigner {
    commands: Commands,
    tasks: std::iter::Cycle<std::vec::IntoIter<usize>>,
}

/// Numbers that no other command of this run has.
static NEXT: AtomicU64 = AtomicU64::new(0);

impl Pipeline {
    /// Serves the shards of a generation of its own and makes the tasks.
    pub async fn start(world: &World) -> Result<Self> {
        metrics_handle();
        let context = tasks::context();
        let schemas = std::sync::Arc::new(context.schemas().clone());
        let service = CommandService {
            kafka: world.cluster(),
            registry: world.registry()?,
            generation: world.generation("pipeline"),
            topics: world.topics,
            config: Config::default(),
            contexts: vec![ContextStreams::new(schemas).stream::<Task>()],
        };
        let readiness = Readiness::new();
        let shutdown = CancellationToken::new();
        let (commands, running) = service.start(&readiness, shutdown.clone())?;
        let running = tokio::spawn(running);
        readiness.until_ready().await;
        for task in 0..TASKS {
            let create = TaskCommand::Create {
                title: Title::parse("AVRO-12: Sort the records")?,
                jira_id: None,
                description: Description::default(),
                assignee: None,
            };
            let meta = assignment(task, NEXT.fetch_add(1, Ordering::Relaxed))?;
            commands.submit::<Task>(submission(meta), create).await?;
        }
        Ok(Self {
            commands,
            running,
            shutdown,
        })
    }

    /// Commands a second of this many concurrent callers, and how many one append carried in the mean.
    pub async fn measure(&self, callers: usize, lasts: Duration) -> Result<(Measured, f64)> {
        let mut assigners: Vec<_> = (0..callers)
            .map(|first| {
                let own: Vec<_> = (first..TASKS).step_by(callers).collect();
                Assigner {
                    commands: self.commands.clone(),
                    tasks: own.into_iter().cycle(),
                }
            })
            .collect();
        let groups = || Groups::told_by(&metrics_handle().render());
        let before = groups();
        let measured = load(&mut assigners, lasts).await?;
        Ok((measured, groups().mean_size_since(before)))
    }

    pub async fn stop(self) -> Result<()> {
        self.shutdown.cancel();
        Ok(self.running.await??)
    }
}

impl Caller for Assigner {
    async fn call(&mut self) -> Result<u32> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let task = self.tasks.next().ok_or("every caller has a task")?;
        let to = UserId::parse(&assignee(number))?;
        let submission = submission(assignment(task, number)?);
        let assign = TaskCommand::Assign { to };
        let accepted = self.commands.submit::<Task>(submission, assign).await?;
        match accepted.events {
            1 => Ok(1),
            events => Err(format!("an assignment caused {events} events").into()),
        }
    }
}

/// Circumstances of command `number`, as the HTTP API makes them.
pub fn assignment(task: usize, number: u64) -> Result<Meta> {
    let tenant = Tenant::default();
    let id = Uuid::from_u128(task as u128).to_string();
    Ok(Meta {
        stream: StreamId::new(&tenant, "task", &id)?,
        tenant,
        actor: Actor::User(CALLER.into()),
        at: SystemTime::now().into(),
        command_id: CommandId::parse(&key(number))?,
        correlation_id: Uuid::from_u128(u128::from(number)),
        causation_id: None,
        written: Default::default(),
    })
}

/// A new assignee each time: whoever has the task, it changes hands.
pub fn assignee(number: u64) -> String {
    format!("worker-{number:09}")
}

/// An idempotency key of the usual form.
pub fn key(number: u64) -> String {
    Uuid::from_u128(u128::from(number)).to_string()
}

fn submission(meta: Meta) -> Submission {
    Submission {
        trace_parent: Some(TRACE_PARENT.into()),
        ..Submission::new(meta, FINGERPRINT)
    }
}

/// How many groups have been appended so far, and how many commands in them.
#[derive(Clone, Copy, Debug)]
pub struct Groups {
    appended: f64,
    commands: f64,
}

impl Groups {
    /// From metrics in the form that Prometheus reads.
    pub fn told_by(metrics: &str) -> Self {
        let value = |name: &str| {
            let value = |line: &str| line.strip_prefix(name)?.trim().parse().ok();
            metrics.lines().find_map(value).unwrap_or(0.0)
        };
        Self {
            appended: value("annals_group_commands_count "),
            commands: value("annals_group_commands_sum "),
        }
    }

    pub fn mean_size_since(self, before: Self) -> f64 {
        (self.commands - before.commands) / (self.appended - before.appended)
    }
}
