//! From records to the model's own code: decode, then project.

use std::marker::PhantomData;

use event_log::{
    Envelope, Position, Recorded,
    avro::{DecodeError, EventCodec},
    consume::LogRecord,
    envelope::EnvelopeError,
};
use futures::future::BoxFuture;
use sqlx::PgConnection;

use crate::{ReadModel, changes::Changes};

/// A read model's code, its event type erased.
pub(crate) trait Project: Send + Sync {
    /// Decodes the records and lets the model write its rows; records of events that it does not
    /// take are passed over.
    fn project<'a>(
        &'a self,
        records: &'a [LogRecord],
        db: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), ProjectError>>;
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ProjectError {
    #[error("record {index} of the batch cannot be read")]
    Unreadable {
        index: usize,
        #[source]
        source: Unreadable,
    },
    #[error("the rows cannot be written")]
    Rows(#[source] sqlx::Error),
}

/// A record that is no event of ours, or not in a form that we know.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("it was not written by Annals: {0}")]
    Foreign(EnvelopeError),
    #[error("{0}")]
    Event(DecodeError),
}

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

    fn decode(&self, records: &[LogRecord]) -> Result<Vec<Recorded<M::Event>>, ProjectError> {
        let mut events = Vec::with_capacity(records.len());
        for (index, record) in records.iter().enumerate() {
            let unreadable = |source| ProjectError::Unreadable { index, source };
            let envelope = match &record.envelope {
                Ok(envelope) => envelope,
                Err(error) => return Err(unreadable(Unreadable::Foreign(error.clone()))),
            };
            let decoded = self
                .codec
                .decode(&envelope.event_type, &record.value)
                .map_err(|error| unreadable(Unreadable::Event(error)))?;
            if let Some(event) = decoded {
                events.push(Recorded {
                    envelope: envelope.clone(),
                    position: record.position.clone(),
                    event,
                });
            }
        }
        Ok(events)
    }
}

impl<M: ReadModel> Project for Projection<M> {
    fn project<'a>(
        &'a self,
        records: &'a [LogRecord],
        db: &'a mut PgConnection,
    ) -> BoxFuture<'a, Result<(), ProjectError>> {
        Box::pin(async move {
            let events = self.decode(records)?;
            let Some(first) = events.first() else {
                return Ok(());
            };
            let mut changes = Changes::default();
            for event in &events {
                if let Some(key) = M::changed_key(event) {
                    let Envelope {
                        stream, version, ..
                    } = &event.envelope;
                    changes.push(stream, version.0, key.into_owned(), &event.position);
                }
            }
            let Position {
                topic, partition, ..
            } = &first.position;
            let written = async {
                M::project(&events, &mut *db).await?;
                changes.write(topic, *partition, db).await
            };
            written.await.map_err(ProjectError::Rows)
        })
    }
}
