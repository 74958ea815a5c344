//! `annals quarantine`: the streams that read models cannot project, and letting them go.

use chrono::{DateTime, Utc};
use event_log::Position;
use projector::quarantine::{
    Desk, QuarantineError, QuarantinedStream, Released, Skip, SkippedEvent,
};

use crate::{
    context::Context,
    roles::{RoleError, projector_config},
    settings::Settings,
    stream::stream,
    table::table,
};

#[derive(Clone, Debug, clap::Subcommand)]
pub(crate) enum QuarantineVerb {
    /// List the streams that are held back, the longest first
    List {
        /// Only those of this read model
        #[arg(long)]
        model: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// List the events that were left out for good, with who decided it and why
    Skipped {
        /// Only those of this read model
        model: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Show why a stream is held back, and from which event on
    Show {
        #[command(flatten)]
        which: Which,
    },
    /// Project a stream's events again, from the poisoned one on
    Retry {
        #[command(flatten)]
        which: Which,
    },
    /// Leave the poisoned event out for good, and project what comes after it
    Skip {
        #[command(flatten)]
        which: Which,
        /// Why; kept with the decision
        #[arg(long)]
        reason: String,
        /// Who decides; the user of this shell unless named
        #[arg(long)]
        by: Option<String>,
    },
}

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Which {
    /// The read model, such as task-board
    model: String,
    /// The stream, tenant/kind/id, or kind/id of the tenant `main`; `skip` also takes a record that
    /// names none, topic:partition@offset
    stream: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum QuarantineVerbError {
    #[error(transparent)]
    Role(#[from] RoleError),
    #[error(transparent)]
    Quarantine(#[from] QuarantineError),
    #[error("the reason must not be empty: it is all that others will know of the decision")]
    NoReason,
}

/// What to print, and whether everything went that was to go.
pub(crate) struct Told {
    pub text: String,
    pub gone: bool,
}

pub(crate) async fn perform(
    settings: &Settings,
    contexts: &mut [Context],
    verb: QuarantineVerb,
) -> Result<Told, QuarantineVerbError> {
    let desk = desk(settings, contexts)?;
    match verb {
        QuarantineVerb::List { model, json } => {
            let streams = desk.list(model.as_deref()).await?;
            Ok(told(match json {
                true => as_json(&streams),
                false => list(&streams),
            }))
        }
        QuarantineVerb::Skipped { model, json } => {
            let events = desk.skipped(model.as_deref()).await?;
            Ok(told(match json {
                true => as_json(&events),
                false => left_out(&events),
            }))
        }
        QuarantineVerb::Show { which } => {
            let streams = desk.show(&which.model, &which.in_full()).await?;
            let texts: Vec<_> = streams.iter().map(sheet).collect();
            Ok(told(match which.json {
                true => as_json(&streams),
                false => texts.join("\n\n"),
            }))
        }
        QuarantineVerb::Retry { which } => {
            let released = desk.retry(&which.model, &which.in_full()).await?;
            Ok(outcome(&released, which.json))
        }
        QuarantineVerb::Skip { which, reason, by } => {
            if reason.trim().is_empty() {
                return Err(QuarantineVerbError::NoReason);
            }
            let user = || std::env::var("USER").unwrap_or_else(|_| "operator".into());
            let by = by.unwrap_or_else(user);
            let skip = Skip { reason, by };
            if let Some(record) = record(&which.stream) {
                desk.skip_record(&which.model, &record, &skip).await?;
                let (model, record) = (&which.model, &which.stream);
                return Ok(told(match which.json {
                    true => as_json(&serde_json::json!({ "model": model, "left_out": record })),
                    false => format!("{record} is left out"),
                }));
            }
            let released = desk.skip(&which.model, &which.in_full(), &skip).await?;
            Ok(outcome(&released, which.json))
        }
    }
}

impl Which {
    /// What is no stream stays as it is, for the desk to refuse.
    fn in_full(&self) -> String {
        let named = stream(&self.stream);
        named.map_or_else(|_| self.stream.clone(), |stream| stream.to_string())
    }
}

fn desk(settings: &Settings, contexts: &mut [Context]) -> Result<Desk, RoleError> {
    let mut models = vec![projector::stream_index()];
    let mut schemas = Vec::new();
    for context in contexts {
        models.append(&mut context.models);
        schemas.push((*context.schemas).clone());
    }
    Ok(Desk {
        config: projector_config(settings)?,
        models,
        schemas,
    })
}

/// `topic:partition@offset`. A stream has slashes, and a topic none.
fn record(text: &str) -> Option<Position> {
    let (topic, place) = text.rsplit_once(':')?;
    let (partition, offset) = place.split_once('@')?;
    (!topic.contains('/')).then_some(())?;
    Some(Position {
        topic: topic.into(),
        partition: partition.parse().ok()?,
        offset: offset.parse().ok()?,
    })
}

fn told(text: String) -> Told {
    Told { text, gone: true }
}

fn as_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value)
        .unwrap_or_else(|error| unreachable!("what is told is plain JSON: {error}"))
}

fn list(streams: &[QuarantinedStream]) -> String {
    if streams.is_empty() {
        return "nothing is in quarantine".into();
    }
    let rows: Vec<_> = streams
        .iter()
        .map(|it| {
            [
                it.model.clone(),
                it.edition.to_string(),
                it.stream.clone(),
                moment(it.since),
                it.held.to_string(),
                it.code.clone(),
                it.reason.clone(),
            ]
        })
        .collect();
    let head = [
        "model", "edition", "stream", "since", "held", "code", "reason",
    ];
    format!(
        "{}\n`annals quarantine show MODEL STREAM` says what can be done about each",
        table(head, &rows)
    )
}

fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn left_out(events: &[SkippedEvent]) -> String {
    if events.is_empty() {
        return "nothing was left out".into();
    }
    let rows: Vec<_> = events
        .iter()
        .map(|it| {
            [
                it.model.clone(),
                it.version.to_string(),
                it.stream.clone().unwrap_or_else(|| "-".into()),
                format!("{}:{}@{}", it.topic, it.partition, it.offset),
                moment(it.skipped_at),
                it.skipped_by.clone(),
                it.reason.clone(),
            ]
        })
        .collect();
    let head = ["model", "version", "stream", "at", "since", "by", "reason"];
    table(head, &rows)
}

fn sheet(it: &QuarantinedStream) -> String {
    let version = it.version.map_or_else(String::new, |it| format!(" {it}"));
    let event = it.event_type.as_deref().unwrap_or("a record");
    let mut lines = vec![
        format!("{} for {} edition {}", it.stream, it.model, it.edition),
        format!("  event    {event}{version}"),
        format!("  at       {}:{}@{}", it.topic, it.partition, it.offset),
        format!("  since    {}", moment(it.since)),
        match it.held {
            1 => "  held     1 later event".into(),
            held => format!("  held     {held} later events"),
        },
        format!("  reason   {} ({})", it.reason, it.code),
    ];
    if let Some(at) = it.retried_at {
        let at = moment(at);
        lines.push(format!("  retried  {} times, last {at}", it.retries));
    }
    let (model, stream) = (&it.model, &it.stream);
    lines.push(format!(
        "  → `annals quarantine retry {model} {stream}` when the cause is mended, or leave the event \
         out: `annals quarantine skip {model} {stream} --reason WHY`"
    ));
    lines.join("\n")
}

fn outcome(released: &[Released], json: bool) -> Told {
    let gone = released.iter().all(|it| it.still.is_none());
    let lines: Vec<_> = released
        .iter()
        .map(|it| {
            let Released {
                model,
                edition,
                stream,
                applied,
                ..
            } = it;
            match &it.still {
                None => {
                    format!("{stream} is let go in {model} edition {edition}: {applied} events")
                }
                Some(still) => format!(
                    "{stream} stays in quarantine in {model} edition {edition}, after {applied} \
                     events: {} ({})",
                    still.reason, still.code
                ),
            }
        })
        .collect();
    let text = match json {
        true => as_json(&released),
        false => lines.join("\n"),
    };
    Told { text, gone }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_told_from_a_stream() {
        let position = record("annals.tasks.events.1:3@42").unwrap();
        assert_eq!(position.topic, "annals.tasks.events.1");
        assert_eq!((position.partition, position.offset), (3, 42));
        for stream in ["main/task/a:3@4", "main/task/a", "", "t:x@1"] {
            assert_eq!(record(stream), None, "{stream}");
        }
    }
}
