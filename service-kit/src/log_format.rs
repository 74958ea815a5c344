//! What a log line looks like. Every line within a request ends with its trace id.

use std::{collections::BTreeMap, fmt, time::SystemTime};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::Value;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::LookupSpan,
};

use crate::trace::TraceContext;

/// `10:02:03.123 INFO projector: caught up model=board trace=4bf9…`, in UTC.
pub struct Human;

/// One object a line: `{"time", "level", "target", "message", "trace_id", "fields", "spans"}`.
pub struct Json;

impl<S, N> FormatEvent<S, N> for Human
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let (dim, plain) = match out.has_ansi_escapes() {
            true => ("\x1b[2m", "\x1b[0m"),
            false => ("", ""),
        };
        let metadata = event.metadata();
        let time = DateTime::<Utc>::from(SystemTime::now()).format("%H:%M:%S%.3f");
        let level = colored(*metadata.level(), out.has_ansi_escapes());
        write!(
            out,
            "{dim}{time}{plain} {level} {dim}{}:{plain} ",
            metadata.target()
        )?;
        for span in spans(context) {
            write!(out, "{dim}{span}:{plain} ")?;
        }
        context.format_fields(out.by_ref(), event)?;
        if let Some(trace) = TraceContext::current() {
            write!(out, " {dim}trace={}{plain}", trace.trace_id)?;
        }
        writeln!(out)
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let time = DateTime::<Utc>::from(SystemTime::now());
        let line = Line {
            time: time.to_rfc3339_opts(SecondsFormat::Micros, true),
            level: metadata.level().as_str(),
            target: metadata.target(),
            message: fields.message,
            trace_id: TraceContext::current().map(|trace| trace.trace_id.to_string()),
            fields: fields.others,
            spans: spans(context),
        };
        writeln!(
            out,
            "{}",
            serde_json::to_string(&line).map_err(|_| fmt::Error)?
        )
    }
}

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    level: &'a str,
    target: &'a str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<&'static str, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    spans: Vec<String>,
}

#[derive(Default)]
struct Fields {
    message: String,
    others: BTreeMap<&'static str, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.others.insert(field.name(), value);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            _ => self.put(field, format!("{value:?}").into()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.into(),
            _ => self.put(field, value.into()),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

/// The spans around an event, outermost first: `rebuild{model=board}`.
fn spans<S, N>(context: &FmtContext<'_, S, N>) -> Vec<String>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let scope = context.event_scope().into_iter();
    scope
        .flat_map(|scope| scope.from_root())
        .map(|span| {
            let extensions = span.extensions();
            match extensions.get::<FormattedFields<N>>() {
                Some(fields) if !fields.is_empty() => format!("{}{{{fields}}}", span.name()),
                _ => span.name().to_owned(),
            }
        })
        .collect()
}

fn colored(level: Level, ansi: bool) -> &'static str {
    match (level, ansi) {
        (Level::ERROR, true) => "\x1b[31mERROR\x1b[0m",
        (Level::WARN, true) => "\x1b[33m WARN\x1b[0m",
        (Level::INFO, true) => "\x1b[32m INFO\x1b[0m",
        (Level::DEBUG, true) => "\x1b[34mDEBUG\x1b[0m",
        (Level::TRACE, true) => "\x1b[35mTRACE\x1b[0m",
        (Level::ERROR, false) => "ERROR",
        (Level::WARN, false) => " WARN",
        (Level::INFO, false) => " INFO",
        (Level::DEBUG, false) => "DEBUG",
        (Level::TRACE, false) => "TRACE",
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::{
        fmt::{MakeWriter, layer},
        layer::SubscriberExt,
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Captured {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    /// What one event looks like within a span and a request.
    async fn line<F>(format: F) -> (String, String)
    where
        F: for<'a> FormatEvent<
                tracing_subscriber::layer::Layered<
                    tracing_subscriber::filter::LevelFilter,
                    tracing_subscriber::Registry,
                >,
                tracing_subscriber::fmt::format::DefaultFields,
            > + Send
            + Sync
            + 'static,
    {
        let captured = Captured::default();
        let layer = layer()
            .with_ansi(false)
            .with_writer(captured.clone())
            .event_format(format);
        let subscriber = tracing_subscriber::registry()
            .with(tracing_subscriber::filter::LevelFilter::INFO)
            .with(layer);
        let trace = TraceContext::generate();
        trace
            .scope(async {
                tracing::subscriber::with_default(subscriber, || {
                    let _span = tracing::info_span!("rebuild", model = "board").entered();
                    tracing::info!(count = 3, name = "x\"y", "caught up\nat last");
                });
            })
            .await;
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        (text, trace.trace_id.to_string())
    }

    #[tokio::test]
    async fn a_json_line_is_one_object_with_its_trace() {
        let (text, trace_id) = line(Json).await;
        assert_eq!(text.lines().count(), 1);
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["message"], "caught up\nat last");
        assert_eq!(line["trace_id"], trace_id);
        assert_eq!(line["fields"]["count"], 3);
        assert_eq!(line["fields"]["name"], "x\"y");
        assert_eq!(line["spans"][0], "rebuild{model=\"board\"}");
    }

    #[tokio::test]
    async fn a_line_for_people_ends_with_its_trace() {
        let (text, trace_id) = line(Human).await;
        assert!(text.contains(" INFO "), "{text}");
        assert!(text.contains("caught up"), "{text}");
        assert!(text.ends_with(&format!(" trace={trace_id}\n")), "{text}");
    }
}
