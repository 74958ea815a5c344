//! `annals schema activate`: what is written from now on, once everybody reads it.

mod obstacles;

use std::time::Duration;

use event_log::{
    control::{Active, ControlError, ControlLog, KnownVersions},
    group::{GroupError, present},
    registry::{RegistryClient, RegistryError},
    schemas::SchemaFile,
};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use self::obstacles::{Obstacle, Who, obstacles};
use crate::{
    announcing::announcements,
    context::Context,
    roles::{RoleError, pool},
    settings::{Settings, SettingsError},
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ActivateArgs {
    /// The event, such as TaskCreated or annals.tasks.TaskCreated
    event: String,
    /// The version that is written from now on: the newest of this binary unless given. An older
    /// one takes a newer back
    version: Option<u32>,
    /// A process that is gone for good, by its name: it is not waited for. Of several, name each
    #[arg(long, value_name = "ID")]
    gone: Vec<String>,
    /// Only tell whether it could be done
    #[arg(long)]
    check: bool,
    /// As JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ActivateError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error("no context of this binary has an event {event}; there are {known}")]
    NoSuchEvent { event: String, known: String },
    #[error("{event} is an event of several contexts: name one of {known}")]
    Ambiguous { event: String, known: String },
    #[error("{event_type} has versions 1 to {newest} in this binary, and no version {version}")]
    NoSuchVersion {
        event_type: String,
        version: u32,
        newest: u32,
    },
    #[error("{event_type} v{version} is not in the registry: run `annals schema register` first")]
    NotRegistered {
        event_type: String,
        version: u32,
        #[source]
        source: Box<RegistryError>,
    },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Role(Box<RoleError>),
    #[error("failed to make the platform's tables")]
    Tables(#[source] sqlx::migrate::MigrateError),
    #[error("failed to read who has announced what")]
    Announcements(#[source] sqlx::Error),
    #[error("failed to ask who is in Kafka's groups")]
    Group(#[from] GroupError),
    #[error("failed to look up or to change what is written")]
    Control(#[source] Box<ControlError>),
    #[error("--gone {id}: nobody of that name is in the way{known}")]
    NotInTheWay { id: String, known: String },
    #[error("{}", refusal(event_type, *version, in_the_way))]
    InTheWay {
        event_type: String,
        version: u32,
        in_the_way: Vec<Obstacle>,
        json: bool,
    },
}

impl From<RoleError> for ActivateError {
    fn from(error: RoleError) -> Self {
        Self::Role(Box::new(error))
    }
}

impl From<ControlError> for ActivateError {
    fn from(error: ControlError) -> Self {
        Self::Control(Box::new(error))
    }
}

impl ActivateError {
    /// What a script is told, if it asked for JSON.
    pub(crate) fn json(&self) -> Option<String> {
        match self {
            Self::InTheWay {
                event_type,
                version,
                in_the_way,
                json: true,
            } => Some(
                Told {
                    event_type,
                    version: *version,
                    before: None,
                    activated: false,
                    in_the_way,
                }
                .json(),
            ),
            _ => None,
        }
    }
}

/// As JSON has it.
#[derive(Serialize)]
struct Told<'a> {
    event_type: &'a str,
    version: u32,
    /// What was written before; 0 when the event was not.
    before: Option<u32>,
    activated: bool,
    in_the_way: &'a [Obstacle],
}

impl Told<'_> {
    fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

/// Activates the version, or says who is in the way. Answers what to print.
pub(crate) async fn activate(
    settings: &Settings,
    contexts: &[Context],
    args: &ActivateArgs,
) -> Result<String, ActivateError> {
    let wanted = Wanted::find(contexts, args)?;
    wanted.is_registered(settings).await?;
    let control = ControlLog::new(&settings.kafka()?, &settings.generation());
    control.ensure(settings.topics()).await?;
    let before = control.catch_up().await?.of(&wanted.event_type);
    let is_written = before.is_some_and(|it| it.version == wanted.version);
    if !is_written {
        wanted.has_no_obstacles(settings, args).await?;
        if !args.check {
            let by = std::env::var("USER").unwrap_or_else(|_| "operator".into());
            let (event_type, version) = (&wanted.event_type, wanted.version);
            control.activate(event_type, version, &by).await?;
        }
    }
    let told = Told {
        event_type: &wanted.event_type,
        version: wanted.version,
        before: before.map(|it| it.version),
        activated: !is_written && !args.check,
        in_the_way: &[],
    };
    Ok(match args.json {
        true => told.json(),
        false => sentence(&wanted, before, is_written, args.check),
    })
}

/// Activates the newest version of every event that never was: where one process is everything, as in
/// `annals up`, there is nobody to wait for. Answers a sentence for each, or why it could not be.
/// What was taken back stays so.
pub(crate) async fn activate_new(
    settings: &Settings,
    contexts: &[Context],
) -> Result<Vec<String>, ActivateError> {
    let control = ControlLog::new(&settings.kafka()?, &settings.generation());
    let active = control.catch_up().await?;
    let mut told = Vec::new();
    for context in contexts {
        let known = KnownVersions::of(&context.schemas);
        for (event_type, newest) in &known.versions {
            if active.of(event_type).is_some_and(|it| it.highest < *newest) {
                let args = ActivateArgs::newest(event_type);
                told.push(activate_soon(settings, contexts, &args).await?);
            }
        }
    }
    Ok(told)
}

/// Has version 1 of every event written that has no active version yet.
pub(crate) async fn begin_with_first(
    settings: &Settings,
    contexts: &[Context],
) -> Result<(), ActivateError> {
    let control = ControlLog::new(&settings.kafka()?, &settings.generation());
    control.ensure(settings.topics()).await?;
    let active = control.catch_up().await?;
    for context in contexts {
        for event_type in KnownVersions::of(&context.schemas).versions.keys() {
            if active.of(event_type).is_none() {
                control.activate(event_type, 1, "the first start").await?;
            }
        }
    }
    Ok(())
}

/// The roles of this process may have to announce themselves first.
async fn activate_soon(
    settings: &Settings,
    contexts: &[Context],
    args: &ActivateArgs,
) -> Result<String, ActivateError> {
    const PATIENCE: Duration = Duration::from_secs(10);
    const PAUSE: Duration = Duration::from_millis(200);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match activate(settings, contexts, args).await {
            Err(ActivateError::InTheWay { .. }) if Instant::now() < deadline => sleep(PAUSE).await,
            Err(error @ ActivateError::InTheWay { .. }) => return Ok(error.to_string()),
            result => return result,
        }
    }
}

impl ActivateArgs {
    fn newest(event_type: &str) -> Self {
        Self {
            event: event_type.into(),
            version: None,
            gone: Vec::new(),
            check: false,
            json: false,
        }
    }
}

/// What is to be activated.
struct Wanted<'a> {
    event_type: String,
    version: u32,
    schema: &'a SchemaFile,
    context: KnownVersions,
}

impl<'a> Wanted<'a> {
    fn find(contexts: &'a [Context], args: &ActivateArgs) -> Result<Self, ActivateError> {
        let files = contexts.iter().flat_map(|context| {
            let files = context.schemas.files();
            files.map(move |file| (context, context.schemas.full_name(&file.event), file))
        });
        let files: Vec<_> = files.collect();
        let is_meant = |full: &str, event: &str| args.event == full || args.event == event;
        let found = files
            .iter()
            .filter(|(_, full, file)| is_meant(full, &file.event));
        let found: Vec<_> = found.collect();
        let mut names: Vec<_> = found.iter().map(|(_, full, _)| full.as_str()).collect();
        names.dedup();
        let event = args.event.clone();
        let event_type = match names[..] {
            [one] => one.to_owned(),
            [] => {
                let mut known: Vec<_> = files.iter().map(|(_, full, _)| full.as_str()).collect();
                known.dedup();
                let known = known.join(", ");
                return Err(ActivateError::NoSuchEvent { event, known });
            }
            _ => {
                let known = names.join(", ");
                return Err(ActivateError::Ambiguous { event, known });
            }
        };
        let newest = found.last().map_or(0, |(_, _, file)| file.version);
        let version = args.version.unwrap_or(newest);
        let file = found.iter().find(|(_, _, file)| file.version == version);
        let Some((context, _, file)) = file else {
            return Err(ActivateError::NoSuchVersion {
                event_type,
                version,
                newest,
            });
        };
        Ok(Self {
            event_type,
            version,
            schema: file,
            context: KnownVersions::of(&context.schemas),
        })
    }

    /// Who meets the event in the log has to find its schema.
    async fn is_registered(&self, settings: &Settings) -> Result<(), ActivateError> {
        let registry = RegistryClient::new(settings.registry()?)?;
        match registry.find(&self.event_type, self.schema).await {
            Ok(_) => Ok(()),
            Err(source @ RegistryError::Unknown { .. }) => Err(ActivateError::NotRegistered {
                event_type: self.event_type.clone(),
                version: self.version,
                source: Box::new(source),
            }),
            Err(error) => Err(error.into()),
        }
    }

    async fn has_no_obstacles(
        &self,
        settings: &Settings,
        args: &ActivateArgs,
    ) -> Result<(), ActivateError> {
        let postgres = pool(settings, 2, "annals schema")?;
        projector::read_side::migrate(&postgres)
            .await
            .map_err(ActivateError::Tables)?;
        let generation = &settings.generation;
        let announced = announcements(&postgres, generation).await;
        let announced = announced.map_err(ActivateError::Announcements)?;
        let owners = settings.generation().owners_topic();
        let of_models = format!("annals.{generation}.");
        let is_ours = |group: &str| group == owners || group.starts_with(&of_models);
        let present = present(&settings.kafka()?, is_ours).await?;
        let present: Vec<_> = present.iter().map(|it| Who::of(it, &owners)).collect();
        let mut in_the_way = obstacles(
            &announced,
            &present,
            &self.context,
            &self.event_type,
            self.version,
        );
        for id in &args.gone {
            let before = in_the_way.len();
            in_the_way.retain(|it| it.member != *id);
            if in_the_way.len() == before {
                let known: Vec<_> = in_the_way.iter().map(|it| it.member.as_str()).collect();
                let known = match known[..] {
                    [] => String::new(),
                    _ => format!(", but {}", known.join(", ")),
                };
                let id = id.clone();
                return Err(ActivateError::NotInTheWay { id, known });
            }
        }
        match in_the_way.is_empty() {
            true => Ok(()),
            false => Err(ActivateError::InTheWay {
                event_type: self.event_type.clone(),
                version: self.version,
                in_the_way,
                json: args.json,
            }),
        }
    }
}

fn sentence(wanted: &Wanted<'_>, before: Option<Active>, is_written: bool, check: bool) -> String {
    let Wanted {
        event_type,
        version,
        ..
    } = wanted;
    let before = before.map_or(0, |it| it.version);
    match (is_written, check) {
        (true, _) => format!("{event_type} is written in version {version} already"),
        (false, true) => format!("nobody is in the way of {event_type} in version {version}"),
        (false, false) if before == 0 => format!("{event_type} is written from now on"),
        (false, false) => format!(
            "{event_type} is written in version {version} from now on, no longer in {before}; \
             `annals schema activate {event_type} {before}` takes it back"
        ),
    }
}

fn refusal(event_type: &str, version: u32, in_the_way: &[Obstacle]) -> String {
    let mut text = format!("{event_type} cannot be written in version {version} yet. In the way:");
    for obstacle in in_the_way {
        text.push_str(&format!("\n  {obstacle}"));
    }
    let first = in_the_way.first().map_or("ID", |it| it.member.as_str());
    text.push_str(&format!(
        "\nReplace them by a release that reads version {version}, or end them, and try again. Of \
         one that is gone for good and that nobody can ask, say so: --gone {first}"
    ));
    text
}
