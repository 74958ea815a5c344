//! `annals replay rebuild`, `editions` and `drop`: building a read model again beside itself.

use std::{fmt::Write, str::FromStr, time::Duration};

use chrono::SecondsFormat;
use projector::{
    Model,
    rebuild::{
        Comparison, EditionStatus, Rebuild, TableComparison, drop_edition, editions, roll_back,
    },
};
use serde::Serialize;
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::{Instant, sleep};

use super::{ReplayError, meter::Meter};
use crate::{settings::Settings, table::table};

const LOOK_EVERY: Duration = Duration::from_millis(200);
/// An edition that has not moved for so long may have nobody who feeds it.
const SAY_AFTER: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct RebuildArgs {
    /// The read model, such as task-board
    model: String,
    /// Take the edition back that was read before
    #[arg(long, group = "unseen", conflicts_with_all = ["expect", "no_swap", "no_comparison"])]
    rollback: bool,
    /// Expect this table, or table.column, to differ; of several, name each
    #[arg(long, value_name = "NAME")]
    expect: Vec<String>,
    /// Build and compare only
    #[arg(long)]
    no_swap: bool,
    /// Swap without comparing, where no projector of the old version runs any longer
    #[arg(long, group = "unseen", conflicts_with_all = ["expect", "no_swap"])]
    no_comparison: bool,
    /// Swap, or take back, although events are lacking: readers go back in time
    #[arg(long, requires = "unseen")]
    behind: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct EditionsArgs {
    /// Only those of this read model
    model: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DropArgs {
    /// The read model, such as task-board
    model: String,
    /// The number of the edition, which must not be the one that is read
    edition: i32,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What became of a rebuild, as JSON has it.
#[derive(Debug, Serialize)]
struct Rebuilt {
    model: String,
    old_edition: i32,
    new_edition: i32,
    /// Nothing when they were not compared.
    equal: Option<bool>,
    swapped: bool,
    comparison: Option<Comparison>,
}

/// What to print, and whether the two editions are the same.
pub(crate) async fn rebuild(
    settings: &Settings,
    models: &[Model],
    args: &RebuildArgs,
) -> Result<(String, bool), ReplayError> {
    let model = named(models, &args.model)?;
    let postgres = connect(settings)?;
    if args.rollback {
        let edition = roll_back(&postgres, &args.model, args.behind).await?;
        let told = match args.json {
            true => super::json(&serde_json::json!({
                "model": edition.model, "read_edition": edition.number
            })),
            false => format!(
                "edition {} of {} is read again",
                edition.number, edition.model
            ),
        };
        return Ok((told, true));
    }
    let expected = args.expect.iter().cloned();
    let rebuild = Rebuild::begin_expecting(&postgres, model, expected).await?;
    let (old, new) = (rebuild.old.number, rebuild.new.number);
    eprintln!(
        "{} edition {new} of {} beside edition {old}",
        match rebuild.is_made {
            true => "building",
            false => "going on with",
        },
        args.model
    );
    if !args.behind {
        catch_up(&rebuild).await?;
    }
    let comparison = match args.no_comparison {
        true => None,
        false => Some(compare(&rebuild).await?),
    };
    let equal = comparison.as_ref().map(Comparison::is_equal);
    let swapped = equal != Some(false) && !args.no_swap;
    if swapped {
        rebuild.swap_in(args.behind).await?;
    }
    let rebuilt = Rebuilt {
        model: args.model.clone(),
        old_edition: old,
        new_edition: new,
        equal,
        swapped,
        comparison,
    };
    let text = match args.json {
        true => super::json(&rebuilt),
        false => rebuilt.text(),
    };
    Ok((text, equal != Some(false)))
}

pub(crate) async fn list(
    settings: &Settings,
    models: &[Model],
    args: &EditionsArgs,
) -> Result<String, ReplayError> {
    if let Some(model) = &args.model {
        named(models, model)?;
    }
    let editions = editions(&connect(settings)?, args.model.as_deref()).await?;
    if args.json {
        return Ok(super::json(&editions));
    }
    let rows: Vec<_> = editions.iter().map(cells).collect();
    let head = [
        "model", "edition", "version", "made", "records", "behind", "",
    ];
    Ok(table(head, &rows))
}

pub(crate) async fn forget(
    settings: &Settings,
    models: &[Model],
    args: &DropArgs,
) -> Result<String, ReplayError> {
    named(models, &args.model)?;
    drop_edition(&connect(settings)?, &args.model, args.edition).await?;
    let (model, edition) = (&args.model, args.edition);
    Ok(match args.json {
        true => super::json(&serde_json::json!({ "model": model, "dropped_edition": edition })),
        false => format!("edition {edition} of {model} is dropped"),
    })
}

/// Waits until the new edition has nearly all that the old one has.
async fn catch_up(rebuild: &Rebuild) -> Result<(), ReplayError> {
    let new = &rebuild.new;
    let meter = Meter::new(format!("edition {} of {}", new.number, new.model), 0);
    let (mut done, mut moved) = (-1, Instant::now());
    loop {
        let progress = rebuild.progress().await?;
        meter.set(progress.done as u64, progress.goal as u64);
        if progress.is_nearly_there() {
            meter.done();
            return Ok(());
        }
        if progress.done != done {
            (done, moved) = (progress.done, Instant::now());
        } else if moved.elapsed() > SAY_AFTER {
            moved = Instant::now();
            meter.say(&format!(
                "edition {} of {} does not move: does a projector of version {} run? Its \
                 /health/ready says what keeps it",
                new.number, new.model, new.version
            ));
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn compare(rebuild: &Rebuild) -> Result<Comparison, ReplayError> {
    let meter = Meter::new("comparing tables", 0);
    let mut done = 0;
    let comparison = rebuild.compare(|_, tables| {
        done += 1;
        meter.set(done, tables as u64);
    });
    let comparison = comparison.await?;
    meter.done();
    Ok(comparison)
}

fn named<'a>(models: &'a [Model], name: &str) -> Result<&'a Model, ReplayError> {
    models
        .iter()
        .find(|model| model.name() == name)
        .ok_or_else(|| ReplayError::UnknownModel {
            model: name.into(),
            known: models
                .iter()
                .map(Model::name)
                .collect::<Vec<_>>()
                .join(", "),
        })
}

fn connect(settings: &Settings) -> Result<PgPool, ReplayError> {
    let options = PgConnectOptions::from_str(settings.postgres()?.expose())
        .map_err(ReplayError::Postgres)?
        .application_name("annals replay");
    Ok(PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(10))
        .connect_lazy_with(options))
}

impl Rebuilt {
    fn text(&self) -> String {
        let mut text = String::new();
        let (old, new) = (self.old_edition, self.new_edition);
        if let Some(comparison) = &self.comparison {
            let head = ["table", "rows before", "rows now", ""];
            let rows: Vec<_> = comparison.tables.iter().map(compared).collect();
            text.push_str(&table(head, &rows));
            for table in &comparison.tables {
                for difference in &table.differences {
                    let _ = write!(text, "\n{}: {difference}", table.table);
                }
            }
            let [theirs, ours] = comparison.quarantined;
            if theirs + ours > 0 {
                let _ = write!(
                    text,
                    "\nstreams in quarantine: {theirs} in edition {old}, {ours} in edition {new}"
                );
            }
            text.push('\n');
        }
        let model = &self.model;
        let _ = match (self.equal, self.swapped) {
            (Some(false), _) => write!(
                text,
                "edition {new} of {model} differs from edition {old}, which is read as before: \
                 name what may differ with --expect, or `annals replay drop {model} {new}`"
            ),
            (_, true) => write!(
                text,
                "edition {new} of {model} is read from now on; edition {old} stays fed: \
                 `annals replay rebuild {model} --rollback` takes it back, `annals replay drop \
                 {model} {old}` lets it go"
            ),
            (_, false) => write!(
                text,
                "edition {new} of {model} is the same as edition {old}, which is read as before"
            ),
        };
        text
    }
}

fn compared(table: &TableComparison) -> [String; 4] {
    let rows = |rows: Option<i64>| rows.map_or_else(|| "-".into(), |rows| rows.to_string());
    let verdict = match table {
        _ if !table.differences.is_empty() => "differs".into(),
        _ if table.expected => "not compared, as expected".into(),
        _ if table.expected_columns.is_empty() => "same".into(),
        _ => format!("same but for {}", table.expected_columns.join(", ")),
    };
    [
        table.table.clone(),
        rows(table.rows[0]),
        rows(table.rows[1]),
        verdict,
    ]
}

fn cells(edition: &EditionStatus) -> [String; 7] {
    let role = match edition {
        _ if edition.is_read => "read",
        _ if edition.is_previous => "taken back by a rollback",
        _ if edition.swapped_in_at.is_none() => "new",
        _ => "",
    };
    let advice = match edition.needs_rebuild {
        true if role.is_empty() => "rebuild it: rules have changed",
        true => ", rebuild it: rules have changed",
        false => "",
    };
    [
        edition.model.clone(),
        edition.edition.to_string(),
        edition.version.to_string(),
        edition
            .created_at
            .to_rfc3339_opts(SecondsFormat::Secs, true),
        edition.records.to_string(),
        edition.behind.to_string(),
        format!("{role}{advice}"),
    ]
}
