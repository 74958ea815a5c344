//! The streams of one kind on one shard: acknowledged states, and ahead of
//! them the states that groups in the making or in flight lead to.

use std::{
    any::Any,
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use event_log::{
    avro::{CodecError, DecodeError, EncodeError, EventCodec},
    batch::BatchBuilder,
    control::KnownVersions,
    envelope::{CommandHeaders, Envelope, Fingerprint},
    registry::RegistryClient,
    schemas::ContextSchemas,
};
use futures::future::BoxFuture;
use indexmap::IndexMap;
use kernel::{Decider, Meta, StreamId, StreamVersion, WrittenVersions};

use crate::{
    outcome::{CommandError, Expected},
    recorded::CommandKey,
};

/// A batch of ours stays below this, in bytes.
pub(crate) const MAX_BATCH_BYTES: usize = 900_000;
const MAX_EVENTS: usize = 1_000;

/// A context's kinds of streams, as the context declares them.
pub struct ContextStreams {
    schemas: Arc<ContextSchemas>,
    kinds: Vec<Box<dyn DeclaredKind>>,
}

impl ContextStreams {
    pub fn new(schemas: Arc<ContextSchemas>) -> Self {
        Self {
            schemas,
            kinds: Vec::new(),
        }
    }

    /// Adds a kind of stream.
    pub fn stream<D: Decider>(mut self) -> Self {
        self.kinds.push(Box::new(Declared::<D>(Default::default())));
        self
    }

    pub fn context(&self) -> &str {
        self.schemas.context()
    }

    pub(crate) fn known_versions(&self) -> KnownVersions {
        KnownVersions::of(&self.schemas)
    }

    pub(crate) fn kind_names(&self) -> impl Iterator<Item = &'static str> {
        self.kinds.iter().map(|kind| kind.name())
    }

    /// Fetches the schema ids; what comes back makes the streams of each shard.
    pub(crate) async fn connect(
        &self,
        registry: &RegistryClient,
    ) -> Result<Vec<KindFactory>, CodecError> {
        let mut factories = Vec::new();
        for kind in &self.kinds {
            factories.push(kind.connect(&self.schemas, registry).await?);
        }
        Ok(factories)
    }
}

/// Makes an empty set of streams of one kind.
pub(crate) type KindFactory = Arc<dyn Fn() -> Box<dyn Kind> + Send + Sync>;

trait DeclaredKind: Send + Sync {
    fn name(&self) -> &'static str;

    fn connect<'a>(
        &'a self,
        schemas: &'a ContextSchemas,
        registry: &'a RegistryClient,
    ) -> BoxFuture<'a, Result<KindFactory, CodecError>>;
}

struct Declared<D>(std::marker::PhantomData<fn() -> D>);

impl<D: Decider> DeclaredKind for Declared<D> {
    fn name(&self) -> &'static str {
        D::KIND
    }

    fn connect<'a>(
        &'a self,
        schemas: &'a ContextSchemas,
        registry: &'a RegistryClient,
    ) -> BoxFuture<'a, Result<KindFactory, CodecError>> {
        Box::pin(async move {
            let codec = Arc::new(EventCodec::<D::Event>::connect(&[schemas], registry).await?);
            let edition = edition::<D>(&codec);
            let make = move || {
                let (codec, edition) = (codec.clone(), edition.clone());
                Box::new(Streams::<D>::new(codec, edition)) as Box<dyn Kind>
            };
            Ok(Arc::new(make) as KindFactory)
        })
    }
}

/// What the states depend on besides the events: their type and `evolve`, and how the events are
/// read.
fn edition<D: Decider>(codec: &EventCodec<D::Event>) -> Arc<str> {
    let edition = format!(
        "{} {} {} {}",
        D::KIND,
        D::EVOLVE_VERSION,
        std::any::type_name::<D>(),
        codec.fingerprint()
    );
    edition.into()
}

/// A command as the shard gets it: what it asks is known only to its kind.
pub(crate) struct Command {
    pub key: CommandKey,
    pub content: Box<dyn Any + Send>,
    pub meta: Meta,
    pub expected: Expected,
    pub fingerprint: Fingerprint,
    pub issued_at: Option<DateTime<Utc>>,
    /// Whether the answer is recorded if it has no events.
    pub record_answer: bool,
    pub trace_parent: Option<Box<str>>,
}

/// The group that a decision goes into.
pub(crate) struct Sink<'a> {
    pub batch: &'a mut BatchBuilder,
    pub group: u64,
    /// CloudEvents source of the context.
    pub source: &'a str,
    pub term: u64,
    /// How the context's events are written.
    pub written: &'a WrittenVersions,
}

/// A decision, before it is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    /// Version after the events.
    pub version: StreamVersion,
    pub events: u32,
}

/// Why there is no decision.
#[derive(Debug)]
pub(crate) enum Undecided {
    /// The group has no room for the events: decide again in the next one.
    NoRoom,
    Error(CommandError),
    /// The author's code has a bug: whatever it makes of this stream cannot be trusted.
    Panicked,
}

/// The streams of one kind, their types hidden.
pub(crate) trait Kind: Send {
    fn name(&self) -> &'static str;

    /// Decides on the newest state and writes the events into the group.
    ///
    /// The command is taken up at the stream's latest time at the earliest: a clock that is
    /// behind another node's does not make the stream's times go back.
    fn decide(&mut self, command: &mut Command, sink: &mut Sink<'_>) -> Result<Decided, Undecided>;

    /// A copy of the newest state, and its version.
    fn read(&self, stream: &StreamId) -> Result<(Box<dyn Any + Send>, StreamVersion), Undecided>;

    /// The group was acknowledged: its states are the truth now.
    fn commit(&mut self, stream: &StreamId, group: u64);

    /// No group that was decided ahead will be appended as it is.
    fn abandon(&mut self);

    /// Takes in an event that was read from the log. It may be contained in a state that came
    /// from a snapshot.
    fn replay(
        &mut self,
        envelope: &Envelope,
        value: &[u8],
        may_be_contained: bool,
    ) -> Result<(), ReplayError>;

    /// What the states depend on besides the events.
    fn edition(&self) -> &str;

    /// How many streams have an acknowledged state.
    fn len(&self) -> usize;

    /// Writes the acknowledged state of a stream, by its number in the order of their making.
    fn save(&self, index: usize, into: &mut Vec<u8>) -> Result<(), SaveError>;

    /// Takes in what was saved.
    fn load(&mut self, saved: &[u8]) -> Result<(), serde_json::Error>;
}

/// A state that snapshots do not keep.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SaveError {
    #[error("failed to save a state")]
    Json(#[source] serde_json::Error),
    #[error("saving a state panicked")]
    Panicked,
}

pub(crate) fn kind_named<'a>(
    kinds: &'a mut [Box<dyn Kind>],
    name: &str,
) -> Option<&'a mut Box<dyn Kind>> {
    kinds.iter_mut().find(|kind| kind.name() == name)
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplayError {
    #[error("version {found} follows version {current}")]
    Gap {
        current: StreamVersion,
        found: StreamVersion,
    },
    #[error("{0} is no event of this kind of stream")]
    Unknown(String),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("evolve panicked")]
    Panicked,
}

pub(crate) struct Streams<D: Decider> {
    codec: Arc<EventCodec<D::Event>>,
    edition: Arc<str>,
    acknowledged: IndexMap<StreamId, State<D>>,
    /// At most two for a stream: of the group in flight and of the one in the making.
    ahead: HashMap<StreamId, Vec<Ahead<D>>>,
    scratch: Vec<u8>,
}

#[derive(Clone, Default)]
struct State<D> {
    version: StreamVersion,
    /// Of the latest event.
    time: DateTime<Utc>,
    content: D,
}

struct Ahead<D> {
    group: u64,
    state: State<D>,
}

impl<D: Decider> Streams<D> {
    pub(crate) fn new(codec: Arc<EventCodec<D::Event>>, edition: Arc<str>) -> Self {
        Self {
            codec,
            edition,
            acknowledged: IndexMap::new(),
            ahead: HashMap::new(),
            scratch: Vec::new(),
        }
    }

    fn newest(&self, stream: &StreamId) -> Option<&State<D>> {
        match self.ahead.get(stream).and_then(|ahead| ahead.last()) {
            Some(ahead) => Some(&ahead.state),
            None => self.acknowledged.get(stream),
        }
    }

    fn write(
        &mut self,
        command: &Command,
        from: StreamVersion,
        events: &[D::Event],
        sink: &mut Sink<'_>,
    ) -> Result<(), Undecided> {
        let too_large = CommandError::TooLarge {
            limit_bytes: MAX_BATCH_BYTES,
        };
        if events.len() > MAX_EVENTS {
            return Err(Undecided::Error(too_large));
        }
        let headers = CommandHeaders::new(
            &command.meta,
            sink.source,
            command.fingerprint,
            command.trace_parent.as_deref(),
            events.len(),
            sink.term,
        );
        let mark = sink.batch.mark();
        let was_empty = sink.batch.is_empty();
        let mut version = from;
        for (index, event) in events.iter().enumerate() {
            version = version.next();
            self.scratch.clear();
            let written = |name: &str| sink.written.of(name);
            let encoded = self.codec.encode_as(event, written, &mut self.scratch);
            let event_type = match encoded {
                Ok(event_type) => event_type,
                Err(error) => {
                    sink.batch.take_back(mark);
                    return Err(Undecided::Error(not_encoded(error)));
                }
            };
            let key = command.meta.stream.as_str().as_bytes();
            sink.batch.push(key, Some(&self.scratch), |writer| {
                headers.write(writer, event_type, version, index);
            });
        }
        if sink.batch.size() > MAX_BATCH_BYTES {
            sink.batch.take_back(mark);
            return Err(match was_empty {
                true => Undecided::Error(too_large),
                false => Undecided::NoRoom,
            });
        }
        Ok(())
    }

    fn advance(&mut self, stream: &StreamId, state: State<D>, group: u64) {
        let ahead = self.ahead.entry(stream.clone()).or_default();
        match ahead.last_mut() {
            Some(last) if last.group == group => last.state = state,
            _ => ahead.push(Ahead { group, state }),
        }
    }
}

/// The author's code for a command.
fn decide_and_fold<D: Decider>(
    state: &State<D>,
    command: &D::Command,
    meta: &Meta,
) -> Result<(Vec<D::Event>, State<D>), Undecided> {
    contained(|| {
        let events = state
            .content
            .decide(command, meta)
            .map_err(|rejection| Undecided::Error(CommandError::rejected(&rejection)))?;
        let mut next = state.clone();
        for event in &events {
            next.content.evolve(event);
            next.version = next.version.next();
            next.time = meta.at;
        }
        Ok((events, next))
    })?
}

fn not_encoded(error: EncodeError) -> CommandError {
    match error {
        EncodeError::NotActive {
            event_type,
            version,
            field,
            reason,
        } => CommandError::NotActive {
            event_type,
            active: version,
            reason: match &*field {
                "" => reason,
                field => format!("`{field}`: {reason}"),
            },
        },
        refused @ EncodeError::Refused { .. } => CommandError::Bug {
            reason: refused.to_string(),
        },
    }
}

/// Runs what an author wrote: a panic in it must not take the other streams of the shard along.
fn contained<T>(authors: impl FnOnce() -> T) -> Result<T, Undecided> {
    catch_unwind(AssertUnwindSafe(authors)).map_err(|_| Undecided::Panicked)
}

impl<D: Decider> Kind for Streams<D> {
    fn name(&self) -> &'static str {
        D::KIND
    }

    fn decide(&mut self, command: &mut Command, sink: &mut Sink<'_>) -> Result<Decided, Undecided> {
        let stream = &command.meta.stream;
        let content = command
            .content
            .downcast_ref::<D::Command>()
            .unwrap_or_else(|| unreachable!("commands are sent by the type of their decider"));
        let unborn;
        let state = match self.newest(stream) {
            Some(state) => state,
            None => {
                unborn = State::default();
                &unborn
            }
        };
        let version = state.version;
        if !command.expected.holds(version) {
            return Err(Undecided::Error(CommandError::Stale { current: version }));
        }
        command.meta.at = command.meta.at.max(state.time);
        command.meta.written = sink.written.clone();
        let (events, next) = decide_and_fold(state, content, &command.meta)?;
        let decided = Decided {
            version: next.version,
            events: events.len() as u32,
        };
        if !events.is_empty() {
            self.write(command, version, &events, sink)?;
            self.advance(&command.meta.stream, next, sink.group);
        }
        Ok(decided)
    }

    fn read(&self, stream: &StreamId) -> Result<(Box<dyn Any + Send>, StreamVersion), Undecided> {
        let state = contained(|| self.newest(stream).cloned().unwrap_or_default())?;
        Ok((Box::new(state.content), state.version))
    }

    fn commit(&mut self, stream: &StreamId, group: u64) {
        let Some(ahead) = self.ahead.get_mut(stream) else {
            return;
        };
        if ahead.first().is_some_and(|first| first.group == group) {
            let state = ahead.remove(0).state;
            if ahead.is_empty() {
                self.ahead.remove(stream);
            }
            self.acknowledged.insert(stream.clone(), state);
        }
    }

    fn abandon(&mut self) {
        self.ahead.clear();
    }

    fn replay(
        &mut self,
        envelope: &Envelope,
        value: &[u8],
        may_be_contained: bool,
    ) -> Result<(), ReplayError> {
        let state = self
            .acknowledged
            .entry(envelope.stream.clone())
            .or_default();
        if may_be_contained && envelope.version <= state.version {
            return Ok(());
        }
        if envelope.version != state.version.next() {
            return Err(ReplayError::Gap {
                current: state.version,
                found: envelope.version,
            });
        }
        let event = self
            .codec
            .decode(&envelope.event_type, value)?
            .ok_or_else(|| ReplayError::Unknown(envelope.event_type.to_string()))?;
        catch_unwind(AssertUnwindSafe(|| state.content.evolve(&event)))
            .map_err(|_| ReplayError::Panicked)?;
        state.version = envelope.version;
        state.time = state.time.max(envelope.time);
        Ok(())
    }

    fn edition(&self) -> &str {
        &self.edition
    }

    fn len(&self) -> usize {
        self.acknowledged.len()
    }

    fn save(&self, index: usize, into: &mut Vec<u8>) -> Result<(), SaveError> {
        let Some((stream, state)) = self.acknowledged.get_index(index) else {
            unreachable!("streams are not removed");
        };
        let micros = state.time.timestamp_micros();
        let saved = (stream, state.version, micros, &state.content);
        contained(|| serde_json::to_writer(into, &saved))
            .map_err(|_| SaveError::Panicked)?
            .map_err(SaveError::Json)
    }

    fn load(&mut self, saved: &[u8]) -> Result<(), serde_json::Error> {
        let saved = contained(|| serde_json::from_slice(saved));
        let (stream, version, micros, content): (StreamId, _, _, D) =
            saved.unwrap_or_else(|_| Err(serde::de::Error::custom("reading a state panicked")))?;
        let time = DateTime::from_timestamp_micros(micros)
            .ok_or_else(|| serde::de::Error::custom("a time is out of range"))?;
        let state = State {
            version,
            time,
            content,
        };
        self.acknowledged.insert(stream, state);
        Ok(())
    }
}
