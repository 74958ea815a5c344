//! Versions that came later than this binary: the registry has the way down from them.

use std::sync::{Arc, PoisonError};

use kernel::Event;

use super::{DecodeError, EventCodec, reading::Reading, split_schema_id};
use crate::{
    migration::{Direction, Plan, Schema, Step, without_attribute},
    registry::{RegisteredVersion, RegistryError},
};

/// Why an event cannot be read, now or at all.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// Of the event: asking again does not help until somebody mends a rule.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("failed to ask what {event_type} of schema id {schema_id} is")]
    Registry {
        event_type: String,
        schema_id: u32,
        #[source]
        source: RegistryError,
    },
}

impl LearnError {
    /// Whether the event may be readable later: it is not the event that is wrong.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Decode(_) => false,
            Self::Registry { source, .. } => source.is_temporary(),
        }
    }
}

impl<E: Event> EventCodec<E> {
    /// Reads a value, asking the registry about a schema that is not known.
    ///
    /// # Errors
    /// A registry that cannot be asked makes a temporary error, which is not kept.
    pub async fn read_or_learn(
        &self,
        event_type: &str,
        value: &[u8],
    ) -> Result<Option<E>, LearnError> {
        match self.decode(event_type, value) {
            Err(DecodeError::UnknownSchema { .. }) => {
                self.learn(event_type, value).await?;
                Ok(self.decode(event_type, value)?)
            }
            decoded => Ok(decoded?),
        }
    }

    /// Asks the registry for the schema of a value and for the rules that lead from it to ours.
    /// Once it is known, it is not asked again; an error is not kept.
    ///
    /// Without a registry this changes nothing.
    pub async fn learn(&self, event_type: &str, value: &[u8]) -> Result<(), LearnError> {
        let (Some(registry), Some(variant), Some((schema_id, _))) = (
            &self.registry,
            self.variant(event_type),
            split_schema_id(value),
        ) else {
            return Ok(());
        };
        if self.known(schema_id).is_some() || self.learned(schema_id).is_some() {
            return Ok(());
        }
        let unknown = || DecodeError::UnknownSchema {
            event_type: event_type.into(),
            schema_id,
        };
        let asked = |source: RegistryError| match source {
            RegistryError::Unknown { .. } => LearnError::Decode(unknown()),
            source => LearnError::Registry {
                event_type: event_type.into(),
                schema_id,
                source,
            },
        };
        let text = registry.schema_of_id(schema_id).await.map_err(asked)?;
        let not_migrated = |reason: String| DecodeError::NotMigrated {
            event_type: event_type.into(),
            schema_id,
            reason,
        };
        let (text, _) = without_attribute(&text).map_err(|e| not_migrated(e.to_string()))?;
        let schema = Schema::parse(&text).map_err(|e| not_migrated(e.to_string()))?;
        if schema.name() != Some(event_type) {
            return Err(LearnError::Decode(DecodeError::OtherType {
                event_type: event_type.into(),
                schema_id,
                schema_of: schema.name().unwrap_or("something else").into(),
            }));
        }
        let registered = registry.versions(event_type).await.map_err(asked)?;
        let ours = self.variants[variant].schema_id;
        let plan =
            way_down(Arc::new(schema), &registered, schema_id, ours).map_err(not_migrated)?;
        tracing::info!(
            event_type,
            schema_id,
            "{event_type} of schema id {schema_id} is read by the rules of the registry"
        );
        let reading = Reading {
            variant,
            plan: Some(Arc::new(plan)),
        };
        let mut learned = self.learned.write().unwrap_or_else(PoisonError::into_inner);
        learned.insert(schema_id, reading);
        Ok(())
    }

    pub(super) fn learned(&self, schema_id: u32) -> Option<Reading> {
        let learned = self.learned.read().unwrap_or_else(PoisonError::into_inner);
        learned.get(&schema_id).cloned()
    }
}

/// From a later version of a subject down to ours.
fn way_down(
    writer: Arc<Schema>,
    registered: &[RegisteredVersion],
    theirs: u32,
    ours: u32,
) -> Result<Plan, String> {
    let place = |id: u32| registered.iter().position(|version| version.id == id);
    let to = place(ours).ok_or("our own version is not registered any more")?;
    let from = place(theirs).ok_or("its schema is no version of this subject any more")?;
    if from < to {
        return Err("its schema is older than ours, and not one of our files".into());
    }
    let mut steps = Vec::new();
    for edge in (to + 1..=from).rev() {
        let below = Schema::parse(&registered[edge - 1].schema).map_err(|e| e.to_string())?;
        let migration = registered[edge].migration.as_ref();
        steps.push(Step {
            rule: migration.and_then(|migration| migration.rule(Direction::Downgrade)),
            direction: Direction::Downgrade,
            to: Arc::new(below),
        });
    }
    Plan::compile(writer, &steps).map_err(|error| error.to_string())
}
