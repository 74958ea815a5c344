//! A read model's code, its event type erased: events are decoded as they come, and written as
//! rows when their batch is.

use std::{marker::PhantomData, sync::Arc};

use event_log::{
    Envelope, Position, Recorded,
    avro::{DecodeError, EventCodec, LearnError},
};
use futures::future::BoxFuture;
use kernel::StreamId;
use sqlx::PgConnection;

use crate::{ReadModel, changes::Changes};

/// What gathers events of a model, one for each partition.
pub(crate) trait Project: Send + Sync {
    fn gather(self: Arc<Self>) -> Box<dyn Gathered>;

    /// See [`Code::reading`].
    fn reading(&self) -> Option<String>;
}

/// Events of one partition in the order of their offsets, decoded and not yet in the rows.
pub(crate) trait Gathered: Send + Sync {
    /// Takes an event, or answers `false` for one of a type that the model does not take. One
    /// that cannot be decoded is given back.
    fn push(
        &mut self,
        envelope: Envelope,
        position: Position,
        value: &[u8],
    ) -> Result<bool, Box<Undecodable>>;

    /// Asks the registry about the schema of a value that cannot be decoded without.
    fn learn<'a>(
        &'a self,
        event_type: &'a str,
        value: &'a [u8],
    ) -> BoxFuture<'a, Result<(), LearnError>>;

    fn len(&self) -> usize;

    fn envelope(&self, index: usize) -> &Envelope;

    fn offset(&self, index: usize) -> i64;

    /// Lets the model write its rows for these events, and notes what they change.
    fn write<'a>(
        &'a self,
        from: usize,
        to: usize,
        db: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>>;

    /// Forgets the first so many.
    fn drop_first(&mut self, count: usize);

    /// Forgets this one and what comes after it of its stream.
    fn drop_stream_from(&mut self, index: usize);
}

/// An event in no form that we know.
#[derive(Debug)]
pub(crate) struct Undecodable {
    pub(crate) envelope: Envelope,
    pub(crate) position: Position,
    pub(crate) error: DecodeError,
}

impl dyn Gathered {
    /// Like [`push`](Gathered::push); a schema of a later release is learned first.
    ///
    /// # Errors
    /// Nobody can say now what it is: it is not the event that is at fault.
    pub(crate) async fn push_or_learn(
        &mut self,
        envelope: Envelope,
        position: Position,
        value: &[u8],
    ) -> Result<Result<bool, Box<Undecodable>>, LearnError> {
        let unknown = match self.push(envelope, position, value) {
            Err(unknown) if matches!(unknown.error, DecodeError::UnknownSchema { .. }) => *unknown,
            pushed => return Ok(pushed),
        };
        let Undecodable {
            envelope, position, ..
        } = unknown;
        match self.learn(&envelope.event_type, value).await {
            Ok(()) => Ok(self.push(envelope, position, value)),
            Err(LearnError::Decode(error)) => Ok(Err(Box::new(Undecodable {
                envelope,
                position,
                error,
            }))),
            Err(error) => Err(error),
        }
    }
}

/// The part that differs from model to model.
pub(crate) trait Code: Send + Sync + 'static {
    type Event: Send + Sync;

    /// A fingerprint of how older events are read; `None` where nothing depends on it.
    fn reading(&self) -> Option<String>;

    /// `None` for an event of a type that the model does not take.
    fn decode(&self, event_type: &str, value: &[u8]) -> Result<Option<Self::Event>, DecodeError>;

    /// So that it can be decoded from now on, if that is possible.
    fn learn(
        &self,
        event_type: &str,
        value: &[u8],
    ) -> impl Future<Output = Result<(), LearnError>> + Send;

    /// At least one event, all of one partition.
    fn write(
        events: &[Recorded<Self::Event>],
        db: &mut PgConnection,
    ) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
}

/// What an author wrote.
pub(crate) struct Projection<M: ReadModel> {
    codec: EventCodec<M::Event>,
    model: PhantomData<M>,
}

impl<M: ReadModel> Projection<M> {
    pub(crate) fn new(codec: EventCodec<M::Event>) -> Self {
        Self {
            codec,
            model: PhantomData,
        }
    }
}

impl<M: ReadModel> Code for Projection<M> {
    type Event = M::Event;

    fn reading(&self) -> Option<String> {
        Some(self.codec.fingerprint())
    }

    fn decode(&self, event_type: &str, value: &[u8]) -> Result<Option<M::Event>, DecodeError> {
        self.codec.decode(event_type, value)
    }

    async fn learn(&self, event_type: &str, value: &[u8]) -> Result<(), LearnError> {
        self.codec.learn(event_type, value).await
    }

    async fn write(
        events: &[Recorded<M::Event>],
        db: &mut PgConnection,
    ) -> Result<(), sqlx::Error> {
        M::project(events, &mut *db).await?;
        let mut changes = Changes::default();
        for event in events {
            if let Some(key) = M::changed_key(event) {
                let Envelope {
                    stream, version, ..
                } = &event.envelope;
                changes.push(stream, version.0, key.into_owned(), &event.position);
            }
        }
        let Position {
            topic, partition, ..
        } = &events[0].position;
        changes.write(topic, *partition, db).await
    }
}

impl<C: Code> Project for C {
    fn gather(self: Arc<Self>) -> Box<dyn Gathered> {
        Box::new(Events {
            code: self,
            events: Vec::new(),
        })
    }

    fn reading(&self) -> Option<String> {
        Code::reading(self)
    }
}

struct Events<C: Code> {
    code: Arc<C>,
    events: Vec<Recorded<C::Event>>,
}

impl<C: Code> Gathered for Events<C> {
    fn push(
        &mut self,
        envelope: Envelope,
        position: Position,
        value: &[u8],
    ) -> Result<bool, Box<Undecodable>> {
        match self.code.decode(&envelope.event_type, value) {
            Ok(Some(event)) => {
                self.events.push(Recorded {
                    envelope,
                    position,
                    event,
                });
                Ok(true)
            }
            Ok(None) => Ok(false),
            Err(error) => Err(Box::new(Undecodable {
                envelope,
                position,
                error,
            })),
        }
    }

    fn learn<'a>(
        &'a self,
        event_type: &'a str,
        value: &'a [u8],
    ) -> BoxFuture<'a, Result<(), LearnError>> {
        Box::pin(self.code.learn(event_type, value))
    }

    fn len(&self) -> usize {
        self.events.len()
    }

    fn envelope(&self, index: usize) -> &Envelope {
        &self.events[index].envelope
    }

    fn offset(&self, index: usize) -> i64 {
        self.events[index].position.offset
    }

    fn write<'a>(
        &'a self,
        from: usize,
        to: usize,
        db: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        Box::pin(async move {
            match &self.events[from..to] {
                [] => Ok(()),
                events => C::write(events, db).await,
            }
        })
    }

    fn drop_first(&mut self, count: usize) {
        self.events.drain(..count);
    }

    fn drop_stream_from(&mut self, index: usize) {
        let stream: StreamId = self.events[index].envelope.stream.clone();
        let mut place = 0;
        self.events.retain(|event| {
            let kept = place < index || event.envelope.stream != stream;
            place += 1;
            kept
        });
    }
}
