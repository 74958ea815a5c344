//! `annals replay tail`: events as they are appended, until Ctrl-C.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use chrono::SecondsFormat;
use event_log::{
    Position, PositionToken,
    consume::{Arrival, ConsumeError, Consumer, LogRecord, PartitionFeed},
};
use futures::future::{BoxFuture, FutureExt, select_all};
use kernel::StreamId;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{ReplayError, kinds::Kinds, log::Log, show::stream};
use crate::context::Context;

/// So many events wait for being printed; the log waits then.
const QUEUE: usize = 1_000;

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct TailArgs {
    /// Begin at the `start` of the log, at its `end`, or at a position: topic:partition@offset, or
    /// a position token. Partitions that are not named begin at their end
    #[arg(long, default_value = "end", value_name = "POSITION")]
    from: Vec<String>,
    /// Only events of this context; of several, name each
    #[arg(long = "context", value_name = "CONTEXT")]
    pub(super) contexts: Vec<String>,
    /// Only events of this stream: tenant/kind/id, or kind/id of the tenant `main`
    #[arg(long)]
    stream: Option<String>,
    /// Only events of this type, such as TaskCreated; of several, name each
    #[arg(long = "type", value_name = "EVENT")]
    types: Vec<String>,
    /// End after so many events
    #[arg(long)]
    count: Option<u64>,
    /// A line of JSON for each event
    #[arg(long)]
    json: bool,
}

/// Which events are wanted.
pub(crate) struct Filter {
    stream: Option<StreamId>,
    types: Vec<String>,
}

pub(crate) async fn tail(
    log: &Log,
    kinds: &Kinds,
    contexts: &[&str],
    filter: Filter,
    args: &TailArgs,
    shutdown: CancellationToken,
) -> Result<(), ReplayError> {
    let positions = begin(log, contexts, &args.from).await?;
    let (consumer, feeds) = Consumer::open(&log.cluster, "annals.replay.tail", &positions)?;
    let (records, mut arrived) = mpsc::channel(QUEUE);
    let mut view = consumer.view();
    let printing = async {
        let mut left = args.count.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(record) = arrived.recv().await else {
                break;
            };
            if filter.wants(&record) {
                left -= 1;
                match print(&line(&record, kinds, args.json)) {
                    // Whoever reads has seen enough.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                    printed => printed.map_err(ReplayError::Print)?,
                }
            }
        }
        Ok(())
    };
    let watching = async {
        let mut connected = true;
        while view.changed().await.is_ok() {
            let now = view.borrow_and_update().connected;
            if connected != now {
                let bootstrap = log.cluster.bootstrap();
                match now {
                    true => eprintln!("Kafka at {bootstrap} is back"),
                    false => eprintln!("Kafka at {bootstrap} is away; waiting for it"),
                }
            }
            connected = now;
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        () = shutdown.cancelled() => Ok(()),
        printed = printing => printed,
        error = forward_all(feeds, records) => Err(error.into()),
        error = consumer.attend() => Err(error.into()),
        () = watching => Ok(()),
    };
    consumer.close().await;
    ended
}

/// Where to begin in every partition of the contexts.
async fn begin(
    log: &Log,
    contexts: &[&str],
    from: &[String],
) -> Result<Vec<Position>, ReplayError> {
    let extents = log.extents(contexts).await?;
    let mut positions: Vec<_> = extents
        .iter()
        .map(|extent| Position {
            topic: extent.topic.clone(),
            partition: extent.partition,
            offset: extent.end,
        })
        .collect();
    for from in from {
        let refused = |problem| ReplayError::Argument {
            argument: from.clone(),
            problem,
        };
        match from.as_str() {
            "end" => {}
            "start" => positions.iter_mut().for_each(|it| it.offset = 0),
            named => {
                for place in places(named)? {
                    let Position {
                        topic, partition, ..
                    } = &place;
                    let known = extents
                        .iter()
                        .position(|it| (&it.topic, it.partition) == (topic, *partition))
                        .ok_or_else(|| {
                            refused(format!(
                                "names {topic} partition {partition}, which is not read"
                            ))
                        })?;
                    let end = extents[known].end;
                    if !(0..=end).contains(&place.offset) {
                        return Err(refused(format!("is beyond the end of the log, {end}")));
                    }
                    positions[known].offset = place.offset;
                }
            }
        }
    }
    Ok(positions)
}

/// `topic:partition@offset`, or a position token.
fn places(text: &str) -> Result<Vec<Position>, ReplayError> {
    let written = text.split_once(':').and_then(|(topic, rest)| {
        let (partition, offset) = rest.split_once('@')?;
        Some(Position {
            topic: topic.into(),
            partition: partition.parse().ok()?,
            offset: offset.parse().ok()?,
        })
    });
    if let Some(position) = written {
        return Ok(vec![position]);
    }
    let token = PositionToken::decode(text).map_err(|_| ReplayError::Argument {
        argument: text.into(),
        problem: "is none of start, end, topic:partition@offset and a position token".into(),
    })?;
    Ok(token.marks.into_iter().map(|mark| mark.position).collect())
}

async fn forward_all(feeds: Vec<PartitionFeed>, to: mpsc::Sender<LogRecord>) -> ConsumeError {
    let forwarded = feeds
        .into_iter()
        .map(|feed| forward(feed, to.clone()).boxed() as BoxFuture<'_, ConsumeError>);
    select_all(forwarded).await.0
}

async fn forward(feed: PartitionFeed, to: mpsc::Sender<LogRecord>) -> ConsumeError {
    loop {
        match feed.next().await {
            Ok(Arrival::Record(record)) => {
                if to.send(record).await.is_err() {
                    // Nobody prints any longer.
                    std::future::pending::<()>().await;
                }
            }
            Ok(Arrival::End) => {}
            Err(error) => return error,
        }
    }
}

impl Filter {
    /// Refuses what would be waited for in vain: none of the contexts that are `read` has it.
    pub(super) fn new(
        args: &TailArgs,
        contexts: &[Context],
        read: &[&str],
    ) -> Result<Self, ReplayError> {
        let is_read = |context: &&Context| read.contains(&context.schemas.context());
        let mut events = BTreeMap::new();
        for context in contexts.iter().filter(is_read) {
            let files = context.schemas.files().map(|file| &*file.event);
            events.extend(files.map(|event| (event, context.schemas.full_name(event))));
        }
        let is_unknown = |wanted: &&String| {
            let mut known = events.iter();
            !known.any(|(event, full_name)| *event == wanted.as_str() || full_name == *wanted)
        };
        if let Some(unknown) = args.types.iter().find(is_unknown) {
            return Err(ReplayError::UnknownEvent {
                event: unknown.clone(),
                known: events.into_keys().collect::<Vec<_>>().join(", "),
            });
        }
        let stream = args.stream.as_deref().map(stream).transpose()?;
        if let Some(stream) = &stream {
            let kind = stream.kind();
            let context = super::context_of(contexts, kind);
            let context = context.ok_or_else(|| ReplayError::UnknownKind { kind: kind.into() })?;
            if !read.contains(&&*context) {
                return Err(ReplayError::Argument {
                    argument: stream.to_string(),
                    problem: format!("is of the context {context}, which is not read"),
                });
            }
        }
        Ok(Self {
            stream,
            types: args.types.clone(),
        })
    }

    fn wants(&self, record: &LogRecord) -> bool {
        let Ok(envelope) = &record.envelope else {
            return self.stream.is_none() && self.types.is_empty();
        };
        let type_is_wanted =
            |wanted: &String| wanted == envelope.event_name() || *wanted == *envelope.event_type;
        self.stream.as_ref().is_none_or(|it| *it == envelope.stream)
            && (self.types.is_empty() || self.types.iter().any(type_is_wanted))
    }
}

fn line(record: &LogRecord, kinds: &Kinds, as_json: bool) -> String {
    let Position {
        topic,
        partition,
        offset,
    } = &record.position;
    let place = format!("{topic}:{partition}@{offset}");
    let envelope = match &record.envelope {
        Ok(envelope) => envelope,
        Err(error) if as_json => {
            return json!({ "position": place, "error": error.to_string() }).to_string();
        }
        Err(error) => return format!("{place}  no event of Annals: {error}"),
    };
    let decoded = kinds.decode(envelope.stream.kind(), &envelope.event_type, &record.value);
    let time = envelope.time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    if as_json {
        let (event, error) = match decoded {
            Ok(event) => (event, Value::Null),
            Err(error) => (Value::Null, error.to_string().into()),
        };
        return json!({
            "position": place,
            "stream": envelope.stream,
            "version": envelope.version,
            "type": envelope.event_type,
            "time": time,
            "actor": envelope.actor.to_string(),
            "command_id": envelope.command_id.to_string(),
            "correlation_id": envelope.correlation_id,
            "causation_id": envelope.causation_id,
            "event": event,
            "error": error,
        })
        .to_string();
    }
    let event = match decoded {
        Ok(event) => event.to_string(),
        Err(error) => format!("cannot be decoded: {error}"),
    };
    format!(
        "{place}  {time}  {} v{}  {}  {}  {event}",
        envelope.stream,
        envelope.version,
        envelope.event_name(),
        envelope.actor,
    )
}

fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_named_by_itself_or_by_a_token() {
        let position = Position {
            topic: "annals.tasks.events.1".into(),
            partition: 3,
            offset: 12,
        };
        let token = PositionToken::of(position.clone(), None).encode();
        for text in ["annals.tasks.events.1:3@12", &token] {
            assert_eq!(places(text).unwrap(), std::slice::from_ref(&position));
        }
        for text in ["", "yesterday", "a:b@c", "a:1@", "topic:1"] {
            assert!(places(text).is_err(), "{text:?}");
        }
    }
}
