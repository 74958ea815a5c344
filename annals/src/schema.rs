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
mod error;
mod files;
mod finding;
mod graph;
mod history;
mod lint;
mod outline;
mod output;
mod plan;
mod prover;
mod reach;
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

use std::{cell::Cell, path::PathBuf};

use crate::{
    activate::{ActivateArgs, ActivateError, activate},
    context::Context,
    settings::Settings,
};
pub(crate) use error::SchemaError;
use files::{Broken, EventFiles, Files, Source};
use output::{expect_writable, read_json, shown, to_json, write};
pub(crate) use registering::register;
pub(crate) use registry::Registry;
use released::{LOCK, Lock};

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

impl SchemaVerb {
    fn json(&self) -> bool {
        match self {
            Self::Register { json } | Self::Export { json, .. } | Self::Import { json, .. } => {
                *json
            }
            Self::Activate(args) => args.json,
            Self::Lint { source, .. }
            | Self::Diff { source, .. }
            | Self::Check { source }
            | Self::New { source, .. }
            | Self::Release { source }
            | Self::Graph { source, .. }
            | Self::Plan { source, .. }
            | Self::Verify { source, .. }
            | Self::Apply { source, .. }
            | Self::Status { source, .. }
            | Self::Rollback { source, .. }
            | Self::History { source, .. } => source.json,
        }
    }
}

/// Does what is asked; the result is printed, and an error says what is wrong with it. Who asks for
/// JSON gets some, also of an error without a result.
pub(crate) async fn perform(
    settings: &Settings,
    contexts: &[Context],
    verb: SchemaVerb,
    print: impl Fn(&str),
) -> Result<(), SchemaError> {
    let (json, printed) = (verb.json(), Cell::new(false));
    let performed = perform_printing(settings, contexts, verb, |text| {
        printed.set(true);
        print(text);
    });
    let performed = performed.await.map_err(SchemaError::advised);
    if let Some(error) = performed.as_ref().err().filter(|_| json && !printed.get()) {
        print(&error.json());
    }
    performed
}

async fn perform_printing(
    settings: &Settings,
    contexts: &[Context],
    verb: SchemaVerb,
    print: impl Fn(&str),
) -> Result<(), SchemaError> {
    match verb {
        SchemaVerb::Register { json } => {
            let registered = register(contexts, &reach::registry(settings)?).await?;
            print(&shown(json, &registered, |all| {
                let lines: Vec<_> = all.iter().map(ToString::to_string).collect();
                lines.join("\n")
            }));
            Ok(())
        }
        SchemaVerb::Lint { events, source } => {
            let (files, broken) = Files::load_what_can_be(&source, contexts)?;
            let lock = Lock::of(&files)?;
            // An event that is named may be what is broken.
            let events = match &broken[..] {
                [] => files.events(&events)?,
                _ => files.events(&[])?,
            };
            let of = |it: &&EventFiles| [lint::lint(it, &lock), check::check_rules(it)].concat();
            let found = events.iter().flat_map(of);
            let findings = found.chain(broken.iter().map(Broken::finding)).collect();
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
            let difference = diff::difference(&files, &event, from, to)?;
            print(&shown(source.json, &difference, diff::Difference::text));
            Ok(())
        }
        SchemaVerb::Check { source } => {
            let (files, broken) = Files::load_what_can_be(&source, contexts)?;
            let checked = check::check(&files, &broken, &Lock::of(&files)?);
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
            let changed = lock.changed(&files.events);
            if !changed.is_empty() {
                let report = report::Report::new(&files, files.events.len(), changed);
                print(&report.shown(source.json));
                return report.verdict();
            }
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
            print(&shown(source.json, &graph, |it| it.mermaid.clone()));
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
            let plan = plan::plan(&reach::registry(settings)?, &files).await?;
            let (verdict, kept) = (plan.verdict(), to_json(&plan));
            let planned = plan::Planned::new(plan, &files, reach::members(settings).await?)?;
            print(&shown(source.json, &planned, plan::Planned::text));
            if let Some(out) = out {
                write(&out, &kept)?;
            }
            verdict
        }
        SchemaVerb::Verify { report, source } => {
            let files = Files::load(&source, contexts)?;
            let plan = plan::plan(&reach::registry(settings)?, &files).await?;
            plan.verdict()?;
            if let Some(report) = &report {
                expect_writable(report)?;
            }
            let found = verify::verify(settings, contexts, &files, &plan, None).await?;
            print(&shown(source.json, &found, verify::Report::text));
            if let Some(report) = report {
                write(&report, &to_json(&found))?;
            }
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
            let registry = reach::registry(settings)?;
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
                    verify::verify(settings, contexts, &files, &plan, Some(&report))
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
            let status = status::status(settings, &files, no_log).await?;
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
            let (registry, reason) = (reach::registry(settings)?, reason.as_deref());
            let back = rollback::rollback(&registry, &event.subject, version, to, reason).await?;
            print(&shown(source.json, &back, rollback::RolledBack::text));
            Ok(())
        }
        SchemaVerb::History { event, source } => {
            let files = Files::load(&source, contexts)?;
            let subject = &files.event(&event)?.subject;
            let history = history::history(&reach::registry(settings)?, subject).await?;
            let history = history.ok_or_else(|| SchemaError::NotRegistered {
                subject: subject.clone(),
            })?;
            print(&shown(source.json, &history, history::History::text));
            Ok(())
        }
        SchemaVerb::Export { file, prefix, json } => {
            let export = transfer::export(&reach::registry(settings)?, &prefix).await?;
            let versions = export.versions();
            if versions == 0 {
                return Err(SchemaError::NothingToExport { prefix });
            }
            write(&file, &to_json(&export))?;
            let told = serde_json::json!({ "versions": versions, "file": file });
            print(&shown(json, &told, |_| {
                format!("{versions} versions are in {}", file.display())
            }));
            Ok(())
        }
        SchemaVerb::Import { file, json } => {
            let export = read_json(&file)?;
            let imported = transfer::import(&reach::registry(settings)?, &export).await?;
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
