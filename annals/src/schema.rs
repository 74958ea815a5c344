//! `annals schema`: event schemas and the rules between their versions, from the file to every
//! stored event.
//!
//! `lint`, `diff`, `check`, `new`, `release` and `graph` look at the files alone. `plan`, `verify`
//! and `apply` bring them into the registry; `status`, `history`, `rollback`, `export` and `import`
//! look after what is there. What each ends with is in docs/schema-cli.md.

mod bridge;
mod check;
mod diff;
mod files;
mod finding;
mod graph;
mod history;
mod lint;
mod outline;
mod registering;
mod registry;
mod released;
mod report;
mod transfer;

use std::path::PathBuf;

use event_log::registry::RegistryError;
use schema_registry::avro::InvalidSchema;
use serde::Serialize;

use crate::{
    activate::{ActivateArgs, ActivateError, activate},
    context::Context,
    settings::{Settings, SettingsError},
};
use files::{Files, FilesError, Source};
use outline::Outline;
pub(crate) use registering::register;
pub(crate) use registry::Registry;
use released::{LOCK, Lock};
use transfer::ImportError;

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum SchemaVerb {
    /// Put this binary's schema files into the registry
    Register,
    /// Check names, docs, defaults, logical types, and that money is no float
    Lint {
        /// Events such as TaskCreated; all of them unless named
        events: Vec<String>,
        #[command(flatten)]
        source: Source,
    },
    /// Say what is different between two versions, and who can read whom
    Diff {
        /// Such as TaskCreated
        event: String,
        /// The version before the second unless named
        from: Option<u32>,
        /// The newest unless named
        to: Option<u32>,
        #[command(flatten)]
        source: Source,
    },
    /// Check that the files may be merged: lint, released.lock, and that each version reads the one
    /// before it, by its schema or by a rule
    Check {
        #[command(flatten)]
        source: Source,
    },
    /// Note every schema file in released.lock: from then on it must not change
    Release {
        #[command(flatten)]
        source: Source,
    },
    /// Draw the versions and what leads from one to the next, as a Mermaid flowchart
    Graph {
        /// Events such as TaskCreated; all of them unless named
        events: Vec<String>,
        #[command(flatten)]
        source: Source,
    },
    /// Have an event written in another version from now on, once everybody who is there reads it
    Activate(ActivateArgs),
    /// Show what the registry has of an event: versions, ids, and the revisions of their rules
    History {
        /// Such as TaskCreated
        event: String,
        #[command(flatten)]
        source: Source,
    },
    /// Write subjects of the registry to a file, with their ids
    Export {
        /// Where to
        file: PathBuf,
        /// Only subjects whose names begin like this
        #[arg(long, default_value = "")]
        prefix: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Put the subjects of a file into the registry, with their ids
    Import {
        /// What `export` wrote
        file: PathBuf,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Import(#[from] ImportError),
    #[error(transparent)]
    Activate(#[from] ActivateError),
    #[error("{file} is not usable Avro")]
    Invalid {
        file: String,
        #[source]
        source: InvalidSchema,
    },
    #[error("failed to write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{} is not what it should be", path.display())]
    NotOurs {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{event} has one version only: make the next with `annals schema new {event}`")]
    OneVersion { event: String },
    #[error("the registry has no {subject}: see `annals schema plan`")]
    NotRegistered { subject: String },
    #[error("{0} errors: see above what to do about each")]
    Found(usize),
}

impl SchemaError {
    /// What the process ends with; stable, for CI.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Found(_) => 3,
            Self::Activate(ActivateError::InTheWay { .. }) => 4,
            _ => 1,
        }
    }
}

/// Does what is asked; the result is printed, and an error says what is wrong with it.
pub(crate) async fn perform(
    settings: &Settings,
    contexts: &[Context],
    verb: SchemaVerb,
    print: impl Fn(&str),
) -> Result<(), SchemaError> {
    match verb {
        SchemaVerb::Register => {
            for schema in register(contexts, &reach(settings)?).await? {
                print(&schema.to_string());
            }
            Ok(())
        }
        SchemaVerb::Lint { events, source } => {
            let files = Files::load(&source, contexts)?;
            let lock = lock(&files)?;
            let events = files.events(&events)?;
            let findings = events.iter().flat_map(|it| lint::lint(it, &lock)).collect();
            let report = report::Report::new(&files, events.len(), findings);
            print(&report.shown(source.json));
            report.verdict()
        }
        SchemaVerb::Diff {
            event,
            from,
            to,
            source,
        } => {
            let files = Files::load(&source, contexts)?;
            let difference = difference(&files, &event, from, to)?;
            print(&shown(source.json, &difference, diff::Difference::text));
            Ok(())
        }
        SchemaVerb::Check { source } => {
            let files = Files::load(&source, contexts)?;
            let checked = check::check(&files, &lock(&files)?)?;
            print(&shown(source.json, &checked, check::Checked::text));
            checked.verdict()
        }
        SchemaVerb::Release { source } => {
            let files = Files::load(&source, contexts)?;
            let mut lock = Lock::read(files.folder()?)?;
            let added = lock.add(&files);
            write(&files.folder()?.join(LOCK), &lock.text())?;
            print(&shown(source.json, &added, |added| match added.len() {
                0 => "every file is noted already".into(),
                _ => format!(
                    "noted in {LOCK}, and not to be changed any more:\n  {}",
                    added.join("\n  ")
                ),
            }));
            Ok(())
        }
        SchemaVerb::Graph { events, source } => {
            let files = Files::load(&source, contexts)?;
            let graph = graph::graph(&files.events(&events)?)?;
            print(&shown(source.json, &graph, graph::Graph::mermaid));
            Ok(())
        }
        SchemaVerb::Activate(args) => {
            let activated = activate(settings, contexts, &args).await;
            if let Some(refusal) = activated.as_ref().err().and_then(ActivateError::json) {
                print(&refusal);
            }
            print(&activated?);
            Ok(())
        }
        SchemaVerb::History { event, source } => {
            let files = Files::load(&source, contexts)?;
            let subject = &files.event(&event)?.subject;
            let history = history::history(&reach(settings)?, subject).await?;
            let history = history.ok_or_else(|| SchemaError::NotRegistered {
                subject: subject.clone(),
            })?;
            print(&shown(source.json, &history, history::History::text));
            Ok(())
        }
        SchemaVerb::Export { file, prefix, json } => {
            let export = transfer::export(&reach(settings)?, &prefix).await?;
            write(&file, &to_json(&export))?;
            let versions = export.versions();
            let told = serde_json::json!({ "versions": versions, "file": file });
            print(&shown(json, &told, |_| {
                format!("{versions} versions are in {}", file.display())
            }));
            Ok(())
        }
        SchemaVerb::Import { file, json } => {
            let export = read_json(&file)?;
            let imported = transfer::import(&reach(settings)?, &export).await?;
            print(&shown(json, &imported, |it| {
                format!(
                    "{} versions of {} subjects are there, {} revisions of rules are new",
                    it.versions, it.subjects, it.revisions
                )
            }));
            Ok(())
        }
    }
}

fn reach(settings: &Settings) -> Result<Registry, SchemaError> {
    Ok(Registry::new(settings.registry()?)?)
}

/// What is released; nothing is in the files of a binary, which were checked when it was built.
fn lock(files: &Files) -> Result<Lock, FilesError> {
    files
        .folder
        .as_deref()
        .map_or_else(|| Ok(Lock::default()), Lock::read)
}

fn difference(
    files: &Files,
    event: &str,
    from: Option<u32>,
    to: Option<u32>,
) -> Result<diff::Difference, SchemaError> {
    let event = files.event(event)?;
    let newest = event.newest().version;
    if newest == 1 {
        return Err(SchemaError::OneVersion {
            event: event.event.clone(),
        });
    }
    let to = to.unwrap_or(newest);
    let from = from.unwrap_or_else(|| to.saturating_sub(1).max(1));
    let outline = |version: u32| {
        let file = event.version(version)?;
        Outline::read(&file.schema).map_err(|source| SchemaError::Invalid {
            file: event.path(version),
            source,
        })
    };
    Ok(diff::Difference::new(
        event,
        (from, &outline(from)?),
        (to, &outline(to)?),
    ))
}

fn shown<T: Serialize>(json: bool, value: &T, text: impl FnOnce(&T) -> String) -> String {
    match json {
        true => to_json(value),
        false => text(value),
    }
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value)
        .unwrap_or_else(|error| unreachable!("a report is plain JSON: {error}"))
}

fn write(path: &std::path::Path, text: &str) -> Result<(), SchemaError> {
    std::fs::write(path, text).map_err(|source| SchemaError::Write {
        path: path.into(),
        source,
    })
}

fn read_json<T: serde::de::DeserializeOwned>(path: &std::path::Path) -> Result<T, SchemaError> {
    let text = std::fs::read_to_string(path).map_err(|source| SchemaError::Read {
        path: path.into(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|source| SchemaError::NotOurs {
        path: path.into(),
        source,
    })
}
