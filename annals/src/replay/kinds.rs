//! What the log's bytes mean: the kinds of stream of all contexts, their types erased, events and
//! states as JSON.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use event_log::{
    avro::{CodecError, DecodeError, EventCodec},
    registry::RegistryClient,
    schemas::ContextSchemas,
};
use futures::future::BoxFuture;
use kernel::{Decider, Event};
use serde_json::Value;

use crate::context::Context;

/// A kind of stream, as its context declares it.
pub(crate) trait DeclaredKind: Send + Sync {
    fn name(&self) -> &'static str;

    fn connect<'a>(
        &'a self,
        schemas: &'a ContextSchemas,
        registry: &'a RegistryClient,
    ) -> BoxFuture<'a, Result<Arc<dyn Kind>, CodecError>>;

    /// The events' types, without asking the registry about anything.
    fn typed(&self, schemas: &ContextSchemas) -> Result<Arc<dyn Typed>, CodecError>;
}

/// The Rust types of a kind's events.
pub(crate) trait Typed: Send + Sync {
    fn has(&self, event_type: &str) -> bool;

    /// Whether the type takes a datum of the event's newest version.
    fn take(&self, event_type: &str, datum: &[u8]) -> Result<(), DecodeError>;
}

/// A kind of stream whose events can be read.
pub(crate) trait Kind: Send + Sync {
    /// The event's fields.
    fn decode(&self, event_type: &str, value: &[u8]) -> Result<Value, Unreadable>;

    /// Whether the event can be decoded.
    fn check(&self, event_type: &str, value: &[u8]) -> Result<(), Unreadable>;

    /// The state of a stream without events.
    fn unborn(&self) -> Box<dyn Folded>;
}

/// A state that events are folded into.
pub(crate) trait Folded: Send {
    fn evolve(&mut self, event_type: &str, value: &[u8]) -> Result<(), Unreadable>;

    fn state(&self) -> Result<Value, Unreadable>;
}

/// Why the contexts of this binary cannot make sense of an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("{0} is no event of this kind of stream")]
    UnknownType(String),
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("it cannot be shown as JSON: {0}")]
    Json(String),
    #[error("evolve panicked")]
    Panicked,
}

pub(crate) fn declare<D: Decider>() -> Arc<dyn DeclaredKind> {
    Arc::new(Declared::<D>(std::marker::PhantomData))
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
    ) -> BoxFuture<'a, Result<Arc<dyn Kind>, CodecError>> {
        Box::pin(async move {
            let codec = EventCodec::<D::Event>::connect(&[schemas], registry).await?;
            Ok(Arc::new(Read::<D>(Arc::new(codec))) as Arc<dyn Kind>)
        })
    }

    fn typed(&self, schemas: &ContextSchemas) -> Result<Arc<dyn Typed>, CodecError> {
        let codec = EventCodec::<D::Event>::offline(&[schemas])?;
        // The newest versions have the ids from 1 on, in this order.
        let ids = codec.event_types().map(str::to_owned).zip(1..).collect();
        Ok(Arc::new(Types { codec, ids }))
    }
}

struct Types<E> {
    codec: EventCodec<E>,
    ids: BTreeMap<String, u32>,
}

impl<E: Event> Typed for Types<E> {
    fn has(&self, event_type: &str) -> bool {
        self.ids.contains_key(event_type)
    }

    fn take(&self, event_type: &str, datum: &[u8]) -> Result<(), DecodeError> {
        let id = self.ids.get(event_type).copied().unwrap_or_default();
        let mut value = Vec::with_capacity(datum.len() + 5);
        value.push(0);
        value.extend(id.to_be_bytes());
        value.extend(datum);
        self.codec.decode(event_type, &value).map(drop)
    }
}

struct Read<D: Decider>(Arc<EventCodec<D::Event>>);

impl<D: Decider> Read<D> {
    fn event(&self, event_type: &str, value: &[u8]) -> Result<D::Event, Unreadable> {
        let event = self.0.decode(event_type, value)?;
        event.ok_or_else(|| Unreadable::UnknownType(event_type.into()))
    }
}

impl<D: Decider> Kind for Read<D> {
    fn decode(&self, event_type: &str, value: &[u8]) -> Result<Value, Unreadable> {
        let event = self.event(event_type, value)?;
        match serde_json::to_value(event) {
            // The variant's name is the event's type, which is shown anyway.
            Ok(Value::Object(variant)) if variant.len() == 1 => {
                Ok(variant.into_iter().next().map_or(Value::Null, |it| it.1))
            }
            Ok(other) => Ok(other),
            Err(error) => Err(Unreadable::Json(error.to_string())),
        }
    }

    fn check(&self, event_type: &str, value: &[u8]) -> Result<(), Unreadable> {
        self.event(event_type, value).map(drop)
    }

    fn unborn(&self) -> Box<dyn Folded> {
        Box::new(State {
            read: Read::<D>(self.0.clone()),
            state: D::default(),
        })
    }
}

struct State<D: Decider> {
    read: Read<D>,
    state: D,
}

impl<D: Decider> Folded for State<D> {
    fn evolve(&mut self, event_type: &str, value: &[u8]) -> Result<(), Unreadable> {
        let event = self.read.event(event_type, value)?;
        // What an author wrote may panic; the events are shown all the same.
        catch_unwind(AssertUnwindSafe(|| self.state.evolve(&event)))
            .map_err(|_| Unreadable::Panicked)
    }

    fn state(&self) -> Result<Value, Unreadable> {
        serde_json::to_value(&self.state).map_err(|error| Unreadable::Json(error.to_string()))
    }
}

/// The kinds of all contexts, before the registry is asked about their schemas.
pub(crate) struct DeclaredKinds(Vec<(Arc<ContextSchemas>, Arc<dyn DeclaredKind>)>);

impl DeclaredKinds {
    pub(crate) fn of(contexts: &[Context]) -> Self {
        let of = |context: &Context| {
            let schemas = context.schemas.clone();
            let kinds = context.kinds.clone().into_iter();
            kinds.map(move |kind| (schemas.clone(), kind))
        };
        Self(contexts.iter().flat_map(of).collect())
    }

    /// Asks the registry for the ids of the schemas.
    pub(crate) async fn connect(&self, registry: &RegistryClient) -> Result<Kinds, CodecError> {
        let mut kinds = BTreeMap::new();
        for (schemas, kind) in &self.0 {
            let connected = kind.connect(schemas, registry).await?;
            kinds.insert(kind.name(), (schemas.context().to_owned(), connected));
        }
        Ok(Kinds(kinds))
    }
}

/// The kinds of all contexts, by the middle part of their stream ids.
#[derive(Clone)]
pub(crate) struct Kinds(BTreeMap<&'static str, (String, Arc<dyn Kind>)>);

impl Kinds {
    /// Asks the registry for the ids of the schemas.
    pub(crate) async fn connect(
        contexts: &[Context],
        registry: &RegistryClient,
    ) -> Result<Self, CodecError> {
        DeclaredKinds::of(contexts).connect(registry).await
    }

    pub(crate) fn named(&self, kind: &str) -> Option<&Arc<dyn Kind>> {
        self.0.get(kind).map(|(_, kind)| kind)
    }

    /// Decodes an event of whatever kind.
    pub(crate) fn decode(
        &self,
        kind: &str,
        event_type: &str,
        value: &[u8],
    ) -> Result<Value, Unreadable> {
        let known = self.named(kind);
        let known = known.ok_or_else(|| Unreadable::UnknownType(event_type.into()))?;
        known.decode(event_type, value)
    }
}
