//! `annals replay`: looking at the log, and building read models from it again.

pub(crate) mod kinds;
pub(crate) mod log;
pub(crate) mod meter;
mod rebuild;
mod show;
mod tail;
mod verify;

use event_log::{
    avro::CodecError,
    consume::ConsumeError,
    registry::{RegistryClient, RegistryError},
};
use kernel::StreamId;
use projector::{Model, rebuild::RebuildError};
use serde::Serialize;

use crate::{
    context::Context,
    settings::{Settings, SettingsError},
};
use kinds::Kinds;
use log::{Log, LogError};

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum ReplayVerb {
    /// Show a stream's events, raw and decoded, and the state that they lead to
    Show(show::ShowArgs),
    /// Print events as they are appended
    Tail(tail::TailArgs),
    /// Check the whole log: gaps, order, terms, commands, and that every event can be decoded
    Verify(verify::VerifyArgs),
    /// Build a read model again beside the one that is read, compare the two, and swap
    Rebuild(rebuild::RebuildArgs),
    /// List the editions of the read models
    Editions(rebuild::EditionsArgs),
    /// Forget an edition that is not read, with its tables
    Drop(rebuild::DropArgs),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error("the events' schemas cannot be had")]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    #[error("the address of Postgres is not valid")]
    Postgres(#[source] sqlx::Error),
    #[error("failed to listen for signals")]
    Signals(#[source] std::io::Error),
    #[error("failed to print")]
    Print(#[source] std::io::Error),
    #[error("`{argument}` {problem}")]
    Argument { argument: String, problem: String },
    #[error("there is no context {context} in this program, but {known}")]
    UnknownContext { context: String, known: String },
    #[error("no context of this program has streams of the kind {kind}")]
    UnknownKind { kind: String },
    #[error("no context that is read has an event {event}; there are {known}")]
    UnknownEvent { event: String, known: String },
    #[error("there is no stream {stream} in the log")]
    UnknownStream { stream: StreamId },
    #[error("there is no read model {model}, but {known}")]
    UnknownModel { model: String, known: String },
    #[error("the log is damaged")]
    Damaged,
    #[error("the editions differ")]
    Different,
    #[error("the stream's state cannot be had")]
    NoState,
}

/// Does what is asked; the result is printed, and an error says what is wrong with it.
pub(crate) async fn perform(
    settings: &Settings,
    contexts: &[Context],
    verb: ReplayVerb,
    print: impl Fn(&str),
) -> Result<(), ReplayError> {
    let told = |(text, is_well): (String, bool), otherwise| {
        print(&text);
        is_well.then_some(()).ok_or(otherwise)
    };
    match verb {
        ReplayVerb::Show(args) => {
            let (log, kinds) = reach(settings, contexts).await?;
            let of = |kind: &str| context_of(contexts, kind);
            let shown = show::show(&log, &kinds, of, &args).await?;
            told(shown, ReplayError::NoState)
        }
        ReplayVerb::Tail(args) => {
            let names = named(contexts, &args.contexts)?;
            let filter = tail::Filter::new(&args, contexts, &names)?;
            let (log, kinds) = reach(settings, contexts).await?;
            let shutdown = service_kit::shutdown::on_signal().map_err(ReplayError::Signals)?;
            tail::tail(&log, &kinds, &names, filter, &args, shutdown).await
        }
        ReplayVerb::Verify(args) => {
            let names = named(contexts, &args.contexts)?;
            let (log, kinds) = reach(settings, contexts).await?;
            let verified = verify::verify(&log, &kinds, &names, &args).await?;
            told(verified, ReplayError::Damaged)
        }
        ReplayVerb::Rebuild(args) => {
            let rebuilt = rebuild::rebuild(settings, &models(contexts), &args).await?;
            told(rebuilt, ReplayError::Different)
        }
        ReplayVerb::Editions(args) => {
            print(&rebuild::list(settings, &models(contexts), &args).await?);
            Ok(())
        }
        ReplayVerb::Drop(args) => {
            print(&rebuild::forget(settings, &models(contexts), &args).await?);
            Ok(())
        }
    }
}

/// The log, when Kafka is there, and what its bytes mean.
async fn reach(settings: &Settings, contexts: &[Context]) -> Result<(Log, Kinds), ReplayError> {
    let log = Log {
        cluster: settings.kafka()?,
        generation: settings.generation(),
    };
    log.reach().await?;
    let registry = RegistryClient::new(settings.registry()?)?;
    Ok((log, Kinds::connect(contexts, &registry).await?))
}

fn context_of(contexts: &[Context], kind: &str) -> Option<String> {
    let has = |context: &&Context| context.kinds.iter().any(|it| it.name() == kind);
    let context = contexts.iter().find(has)?;
    Some(context.schemas.context().into())
}

/// The contexts with these names; all of them when none is named.
fn named<'a>(contexts: &'a [Context], names: &[String]) -> Result<Vec<&'a str>, ReplayError> {
    let known: Vec<_> = contexts.iter().map(|it| it.schemas.context()).collect();
    let unknown = names.iter().find(|name| !known.contains(&name.as_str()));
    match unknown {
        Some(unknown) => Err(ReplayError::UnknownContext {
            context: unknown.clone(),
            known: known.join(", "),
        }),
        None if names.is_empty() => Ok(known),
        None => Ok(known
            .into_iter()
            .filter(|context| names.iter().any(|name| name == context))
            .collect()),
    }
}

fn models(contexts: &[Context]) -> Vec<Model> {
    let models = contexts.iter().flat_map(|context| &context.models);
    [projector::stream_index()]
        .into_iter()
        .chain(models.copied())
        .collect()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value)
        .unwrap_or_else(|error| unreachable!("a report is plain JSON: {error}"))
}
