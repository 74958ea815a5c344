//! `annals replay show`: the events of a stream, raw and decoded, and the state they lead to.

use std::fmt::Write;

use chrono::{DateTime, SecondsFormat, Utc};
use event_log::{Envelope, batch::Record, envelope::header, router::partition_of};
use kernel::StreamId;
use serde::Serialize;
use serde_json::Value;

use super::{
    ReplayError,
    kinds::{Folded, Kind, Kinds},
    log::Log,
    meter::Meter,
};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// tenant/kind/id, or kind/id of the tenant `main`
    stream: String,
    /// Only up to this version, or this time (RFC 3339, such as 2026-11-21T10:00:00Z)
    #[arg(long, value_name = "VERSION|TIME")]
    at: Option<String>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// Up to where a stream is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    End,
    Version(u64),
    Time(DateTime<Utc>),
}

/// A stream's history, as JSON has it.
#[derive(Debug, Serialize)]
struct Shown {
    stream: String,
    topic: String,
    partition: i32,
    events: Vec<ShownEvent>,
    /// Of the last event; 0 of a stream without events.
    version: u64,
    /// As the context's rules see it.
    state: Option<Value>,
    /// Why there is no state.
    #[serde(skip_serializing_if = "Option::is_none")]
    state_error: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownEvent {
    version: u64,
    #[serde(rename = "type")]
    event_type: String,
    time: String,
    actor: String,
    offset: i64,
    command_id: String,
    correlation_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<String>,
    index: u32,
    count: u32,
    term: u64,
    /// The record's value as it lies in the log, in hexadecimal: Confluent's wire format.
    raw: String,
    event: Option<Value>,
    /// Why it cannot be decoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Why readers pass over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    ignored: Option<String>,
}

/// What to print, and whether all of it could be shown.
pub(crate) async fn show(
    log: &Log,
    kinds: &Kinds,
    context_of: impl Fn(&str) -> Option<String>,
    args: &ShowArgs,
) -> Result<(String, bool), ReplayError> {
    let stream = stream(&args.stream)?;
    let at = At::parse(args.at.as_deref())?;
    let unknown = || ReplayError::UnknownKind {
        kind: stream.kind().into(),
    };
    let context = context_of(stream.kind()).ok_or_else(unknown)?;
    let kind = kinds.named(stream.kind()).ok_or_else(unknown)?;
    let partition = partition_of(&stream, log.partitions(&context).await?);
    let topic = log.generation.events_topic(&context);
    let extent = log.extent(&topic, partition).await?;

    let meter = Meter::new(format!("reading {topic} partition {partition}"), 0);
    let mut history = History::new(&**kind, &stream, at);
    log.read(&extent, |batch| {
        meter.set(batch.last_offset as u64 + 1, extent.end as u64);
        // What cannot be told apart is for `verify` to report.
        batch
            .records()
            .map_while(Result::ok)
            .for_each(|record| history.take(&record));
    })
    .await?;
    meter.done();
    if history.is_unknown {
        return Err(ReplayError::UnknownStream { stream });
    }
    let shown = history.shown(&stream, topic, partition);
    let whole = shown.state_error.is_none();
    let text = match args.json {
        true => super::json(&shown),
        false => shown.text(),
    };
    Ok((text, whole))
}

pub(crate) fn stream(text: &str) -> Result<StreamId, ReplayError> {
    crate::stream::stream(text).map_err(|malformed| ReplayError::Argument {
        argument: text.into(),
        problem: malformed.to_string(),
    })
}

impl At {
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, ReplayError> {
        let Some(text) = text else {
            return Ok(Self::End);
        };
        if let Ok(version) = text.parse() {
            return Ok(Self::Version(version));
        }
        match DateTime::parse_from_rfc3339(text) {
            Ok(time) => Ok(Self::Time(time.into())),
            Err(_) => Err(ReplayError::Argument {
                argument: text.into(),
                problem: "is neither a version nor a time such as 2026-11-21T10:00:00Z".into(),
            }),
        }
    }

    fn includes(self, envelope: &Envelope) -> bool {
        match self {
            Self::End => true,
            Self::Version(version) => envelope.version.0 <= version,
            Self::Time(time) => envelope.time <= time,
        }
    }
}

/// Folds one stream out of its partition.
struct History<'a> {
    kind: &'a dyn Kind,
    stream: &'a StreamId,
    at: At,
    /// The highest in the partition so far.
    term: u64,
    is_unknown: bool,
    events: Vec<ShownEvent>,
    version: u64,
    state: Result<Box<dyn Folded>, String>,
}

impl<'a> History<'a> {
    fn new(kind: &'a dyn Kind, stream: &'a StreamId, at: At) -> Self {
        Self {
            kind,
            stream,
            at,
            term: 0,
            is_unknown: true,
            events: Vec::new(),
            version: 0,
            state: Ok(kind.unborn()),
        }
    }

    fn take(&mut self, record: &Record) {
        let before = self.term;
        self.term = self.term.max(term_of(record));
        if record.key.as_deref() != Some(self.stream.as_str().as_bytes()) {
            return;
        }
        let Ok(envelope) = Envelope::read(record.headers()) else {
            return;
        };
        self.is_unknown = false;
        if !self.at.includes(&envelope) {
            return;
        }
        let value = record.value.as_deref().unwrap_or_default();
        let deposed = envelope.term < before;
        if !deposed {
            self.fold(&envelope, value);
        }
        let (event, error) = match self.kind.decode(&envelope.event_type, value) {
            Ok(event) => (Some(event), None),
            Err(error) => (None, Some(error.to_string())),
        };
        self.events.push(ShownEvent {
            version: envelope.version.0,
            event_type: envelope.event_type.to_string(),
            time: envelope.time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
            actor: envelope.actor.to_string(),
            offset: record.offset,
            command_id: envelope.command_id.to_string(),
            correlation_id: envelope.correlation_id.to_string(),
            causation_id: envelope.causation_id.map(|id| id.to_string()),
            index: envelope.index,
            count: envelope.count,
            term: envelope.term,
            raw: hex(value),
            event,
            error,
            ignored: deposed.then(|| {
                format!(
                    "its term {} is below {before}: a deposed owner wrote it",
                    envelope.term
                )
            }),
        });
    }

    fn fold(&mut self, envelope: &Envelope, value: &[u8]) {
        let Ok(state) = &mut self.state else { return };
        let version = envelope.version.0;
        if version != self.version + 1 {
            self.state = Err(format!(
                "version {version} follows version {}",
                self.version
            ));
            return;
        }
        match state.evolve(&envelope.event_type, value) {
            Ok(()) => self.version = version,
            Err(error) => self.state = Err(format!("version {version}: {error}")),
        }
    }

    fn shown(self, stream: &StreamId, topic: String, partition: i32) -> Shown {
        let state = self
            .state
            .and_then(|state| state.state().map_err(|it| it.to_string()));
        let (state, state_error) = match state {
            Ok(state) => (Some(state), None),
            Err(error) => (None, Some(error)),
        };
        Shown {
            stream: stream.to_string(),
            topic,
            partition,
            events: self.events,
            version: self.version,
            state,
            state_error,
        }
    }
}

impl Shown {
    fn text(&self) -> String {
        let mut text = format!(
            "{}  {} partition {}\n",
            self.stream, self.topic, self.partition
        );
        for event in &self.events {
            let _ = writeln!(
                text,
                "{:>5}  {}  {}  {}  offset {}  term {}",
                event.version, event.time, event.event_type, event.actor, event.offset, event.term
            );
            match (&event.event, &event.error) {
                (Some(event), _) => _ = writeln!(text, "       {event}"),
                (None, Some(error)) => _ = writeln!(text, "       cannot be decoded: {error}"),
                (None, None) => {}
            }
            if let Some(ignored) = &event.ignored {
                let _ = writeln!(text, "       passed over: {ignored}");
            }
            let _ = writeln!(text, "       {}", event.raw);
        }
        match (&self.state, &self.state_error) {
            (Some(state), _) => {
                let _ = write!(text, "state at version {}: {state}", self.version);
            }
            (None, error) => {
                let error = error.as_deref().unwrap_or_default();
                let _ = write!(text, "no state beyond version {}: {error}", self.version);
            }
        }
        text
    }
}

/// Without reading the rest of the envelope; 0 where there is none.
fn term_of(record: &Record) -> u64 {
    let term = record.headers().find(|(name, _)| *name == header::TERM);
    let text = term.and_then(|(_, value)| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_a_version_and_anything_else_must_be_a_time() {
        assert_eq!(At::parse(None).unwrap(), At::End);
        assert_eq!(At::parse(Some("3")).unwrap(), At::Version(3));
        let time = "2026-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(
            At::parse(Some("2026-11-21T11:00:00+01:00")).unwrap(),
            At::Time(time)
        );
        for text in ["", "-1", "yesterday", "2026-11-21"] {
            assert!(At::parse(Some(text)).is_err(), "{text:?}");
        }
    }
}
