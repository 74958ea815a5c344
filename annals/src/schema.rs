//! `annals schema`: event schemas and the rules between their versions, from the file to every
//! stored event.
//!
//! `lint`, `diff`, `check`, `new`, `release` and `graph` look at the files alone. `plan`, `verify`
//! and `apply` bring them into the registry; `status`, `history`, `rollback`, `export` and `import`
//! look after what is there. What each ends with is in docs/schema-cli.md.

mod applying;
mod bridge;
mod check;
mod diff;
mod draft;
mod files;
mod finding;
mod graph;
mod history;
mod lint;
mod outline;
mod plan;
mod prover;
mod registering;
mod registry;
mod released;
mod report;
mod rollback;
mod scan;
mod standing;
mod status;
mod transfer;
mod verify;

use std::{path::PathBuf, str::FromStr, sync::Arc};

use event_log::{
    avro::CodecError,
    control::{ControlError, ControlLog},
    migration::{self, HistoryError},
    registry::RegistryError,
};
use schema_registry::avro::InvalidSchema;
use serde::Serialize;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::{
    activate::{ActivateArgs, ActivateError, activate},
    announcing::{Announcement, announcements},
    context::Context,
    replay::log::Log,
    settings::{Settings, SettingsError},
};
use files::{EventFiles, Files, FilesError, Source};
pub(crate) use registering::register;
pub(crate) use registry::Registry;
use released::{LOCK, Lock};
use scan::ScanError;
use transfer::ImportError;

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum SchemaVerb {
    /// Put this binary's schema files into the registry
    Register {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Check names, docs, defaults, logical types, that money is no float, and the rules
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
    /// Make the next version of an event from a copy of its newest; then, when that was changed, a
    /// draft of the rule that leads to it
    New {
        /// Such as TaskCreated
        event: String,
        /// Draft the rule anew
        #[arg(long)]
        overwrite: bool,
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
    /// Say what would be registered, who can read it, what comes after what, and what is for good
    Plan {
        /// Where to keep the plan for `apply`
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        #[command(flatten)]
        source: Source,
    },
    /// Read every stored event by the files' rules, and back: how many come through, which do not
    Verify {
        /// Where to keep the report for `apply`
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
        #[command(flatten)]
        source: Source,
    },
    /// Do exactly what a plan says, unless anything has moved since
    Apply {
        /// What `plan --out` wrote
        plan: PathBuf,
        /// What `verify --report` wrote; what was appended since is verified before anything is done
        #[arg(long, value_name = "FILE")]
        verified: Option<PathBuf>,
        /// Apply rules that no stored event was read by
        #[arg(long, conflicts_with = "verified")]
        unverified: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Show which versions the log has, who reads and writes which, and which may be retired
    Status {
        /// Leave the log out, which takes its time to count
        #[arg(long)]
        no_log: bool,
        #[command(flatten)]
        source: Source,
    },
    /// Make an earlier revision of a version's rules the newest again; nothing is deleted
    Rollback {
        /// Such as TaskCreated
        event: String,
        /// The version whose rules are meant; the newest unless named
        #[arg(long)]
        version: Option<u32>,
        /// The revision to go back to; the one before the newest unless named
        #[arg(long)]
        to: Option<u32>,
        /// Why; kept in the history
        #[arg(long)]
        reason: Option<String>,
        #[command(flatten)]
        source: Source,
    },
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
    #[error(
        "{file} is not released: change it as it is, or release it first with `annals schema release`"
    )]
    NotReleased { file: String },
    #[error("{} is there already: draft it anew with --overwrite", path.display())]
    RuleExists { path: PathBuf },
    #[error("the registry has no {subject}: see `annals schema plan`")]
    NotRegistered { subject: String },
    #[error("{file} is not usable Avro")]
    Unusable {
        file: String,
        #[source]
        source: migration::SchemaError,
    },
    #[error("the versions do not follow one another")]
    History(#[source] HistoryError),
    #[error("{event} v{newest} cannot read v{version}: see `annals schema check`")]
    Unreadable {
        event: String,
        version: u32,
        newest: u32,
        #[source]
        source: HistoryError,
    },
    #[error("this binary's events and its schema files do not fit together")]
    Codec(#[source] CodecError),
    #[error("failed to read the log")]
    Scan(#[from] ScanError),
    #[error("the address of Postgres is not valid")]
    Address(#[source] sqlx::Error),
    #[error("failed to ask who reads and writes what")]
    Announcements(#[source] sqlx::Error),
    #[error("failed to ask which versions are active")]
    Control(#[from] ControlError),
    #[error(
        "{subject} became version {newest} instead of {version}: somebody else registers, too; plan again"
    )]
    OtherVersion {
        subject: String,
        version: u32,
        newest: u32,
    },
    #[error("the registry keeps no revisions of rules for {subject} v{version}")]
    NoRevisions { subject: String, version: u32 },
    #[error(
        "there is no such earlier revision of the rules of {subject} v{version}; the newest is {newest}: see `annals schema history`"
    )]
    NoRevision {
        subject: String,
        version: u32,
        newest: u32,
    },
    #[error("{}: see above what to do about each", count(*.0, "error"))]
    Found(usize),
    #[error("it cannot be done: {0}")]
    InTheWay(String),
    #[error("{failed} of {all} stored events do not come through")]
    NotSound { failed: u64, all: u64 },
    #[error(
        "rules are new and nobody has read the log by them: run `annals schema verify --report FILE`, then `apply --verified FILE`"
    )]
    NotVerified,
    #[error("something has moved since it was planned, and nothing was changed: {0}; plan again")]
    Moved(String),
}

impl SchemaError {
    /// What the process ends with; stable, for CI.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Found(_) | Self::InTheWay(_) | Self::NotSound { .. } | Self::NotVerified => 3,
            Self::Moved(_) | Self::Activate(ActivateError::InTheWay { .. }) => 4,
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
        SchemaVerb::Register { json } => {
            let registered = register(contexts, &reach(settings)?).await?;
            print(&shown(json, &registered, |all| {
                let lines: Vec<_> = all.iter().map(ToString::to_string).collect();
                lines.join("\n")
            }));
            Ok(())
        }
        SchemaVerb::Lint { events, source } => {
            let files = Files::load(&source, contexts)?;
            let lock = lock(&files)?;
            let events = files.events(&events)?;
            let of = |it: &&EventFiles| [lint::lint(it, &lock), check::check_rules(it)].concat();
            let findings = events.iter().flat_map(of).collect();
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
        SchemaVerb::New {
            event,
            overwrite,
            source,
        } => {
            let files = Files::load(&source, contexts)?;
            let lock = Lock::read(files.folder()?)?;
            let drafted = draft::next(&files, files.event(&event)?, &lock, overwrite)?;
            print(&shown(source.json, &drafted, draft::Drafted::text));
            Ok(())
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
        SchemaVerb::Plan { out, source } => {
            let files = Files::load(&source, contexts)?;
            let plan = plan::plan(&reach(settings)?, &files).await?;
            let obstacles = plan.obstacles.join("; ");
            if let Some(out) = out {
                write(&out, &to_json(&plan))?;
            }
            let planned = plan::Planned::new(plan, &files, members(settings).await?)?;
            print(&shown(source.json, &planned, plan::Planned::text));
            match obstacles.is_empty() {
                true => Ok(()),
                false => Err(SchemaError::InTheWay(obstacles)),
            }
        }
        SchemaVerb::Verify { report, source } => {
            let files = Files::load(&source, contexts)?;
            let plan = plan::plan(&reach(settings)?, &files).await?;
            let found = verify(settings, contexts, &files, &plan, None).await?;
            if let Some(report) = report {
                write(&report, &to_json(&found))?;
            }
            print(&shown(source.json, &found, verify::Report::text));
            found.verdict()
        }
        SchemaVerb::Apply {
            plan,
            verified,
            unverified,
            source,
        } => {
            let files = Files::load(&source, contexts)?;
            let plan: plan::Plan = read_json(&plan)?;
            let registry = reach(settings)?;
            applying::unmoved(&registry, &files, &plan).await?;
            match verified {
                Some(report) => {
                    let report: verify::Report = read_json(&report)?;
                    report.verdict()?;
                    if report.plan != plan.fingerprint {
                        return Err(SchemaError::Moved(
                            "what was verified is another plan".into(),
                        ));
                    }
                    verify(settings, contexts, &files, &plan, Some(&report))
                        .await?
                        .verdict()?;
                }
                None if plan.needs_proof() && !unverified => return Err(SchemaError::NotVerified),
                None => {}
            }
            let applied = applying::apply(&registry, &files, &plan).await?;
            print(&shown(source.json, &applied, applying::Applied::text));
            Ok(())
        }
        SchemaVerb::Status { no_log, source } => {
            let files = Files::load(&source, contexts)?;
            let status = status(settings, &files, no_log).await?;
            print(&shown(source.json, &status, status::Status::text));
            Ok(())
        }
        SchemaVerb::Rollback {
            event,
            version,
            to,
            reason,
            source,
        } => {
            let files = Files::load(&source, contexts)?;
            let event = files.event(&event)?;
            let version = version.unwrap_or_else(|| event.newest().version);
            let (registry, reason) = (reach(settings)?, reason.as_deref());
            let back = rollback::rollback(&registry, &event.subject, version, to, reason).await?;
            print(&shown(source.json, &back, rollback::RolledBack::text));
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

fn log(settings: &Settings) -> Result<Log, SettingsError> {
    Ok(Log {
        cluster: settings.kafka()?,
        generation: settings.generation(),
    })
}

/// The whole log, or what came after a report.
async fn verify(
    settings: &Settings,
    contexts: &[Context],
    files: &Files,
    plan: &plan::Plan,
    after: Option<&verify::Report>,
) -> Result<verify::Report, SchemaError> {
    let provers = Arc::new(prover::Provers::new(files, &plan.events, contexts)?);
    let log = log(settings)?;
    let mut parts = scan::parts(&log, &files.contexts()).await?;
    if let Some(report) = after {
        for part in &mut parts {
            part.from = report.end(part);
            if part.from > part.end {
                return Err(SchemaError::Moved(format!(
                    "{} partition {} ended at {}, and ends at {} now: it is another log",
                    part.topic, part.partition, part.from, part.end
                )));
            }
        }
    }
    Ok(verify::verify(&log.cluster, parts, provers, &plan.fingerprint).await?)
}

async fn status(
    settings: &Settings,
    files: &Files,
    no_log: bool,
) -> Result<status::Status, SchemaError> {
    let registry = reach(settings)?;
    let mut events = Vec::new();
    for event in &files.events {
        events.push((event, standing::standing(&registry, event).await?));
    }
    let log = log(settings)?;
    let stored = match no_log {
        true => None,
        false => {
            let parts = scan::parts(&log, &files.contexts()).await?;
            let counted = scan::scan(&log.cluster, parts, "counting", |_| {
                status::Stored::default()
            });
            let mut sum = status::Stored::default();
            counted.await?.into_iter().for_each(|(_, it)| sum.add(it));
            Some(sum)
        }
    };
    let control = ControlLog::new(&log.cluster, &log.generation);
    let active = control.catch_up_if_there().await?;
    let members = members(settings).await?;
    Ok(status::Status::new(
        &events,
        stored.as_ref(),
        &active,
        &members,
    ))
}

/// Who says what they read and write; nobody where there is no Postgres, or no table yet.
async fn members(settings: &Settings) -> Result<Vec<Announcement>, SchemaError> {
    const NO_SUCH_TABLE: &str = "42P01";
    let Some(address) = &settings.postgres else {
        return Ok(Vec::new());
    };
    let options = PgConnectOptions::from_str(address.expose()).map_err(SchemaError::Address)?;
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .connect_lazy_with(options);
    match announcements(&pool, &settings.generation).await {
        Ok(members) => Ok(members),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(NO_SUCH_TABLE) => {
            Ok(Vec::new())
        }
        Err(error) => Err(SchemaError::Announcements(error)),
    }
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
    let (old, new) = (event.version(from)?, event.version(to)?);
    let (old, new) = (event.outline(old)?, event.outline(new)?);
    Ok(diff::Difference::new(event, (from, &old), (to, &new)))
}

/// `1 error`, `2 errors`.
fn count(number: usize, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
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
