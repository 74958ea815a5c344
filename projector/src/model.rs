//! A read model with its type erased, so that a list can hold any of them.

use std::sync::Arc;

use event_log::{
    avro::{CodecError, EventCodec},
    registry::RegistryClient,
    schemas::ContextSchemas,
};
use futures::future::BoxFuture;

use crate::{
    ReadModel,
    projection::{Project, Projection},
    stream_index::{self, StreamIndex},
};

/// A [`ReadModel`] as [`run`](crate::run()) takes it.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    pub(crate) name: &'static str,
    pub(crate) version: i32,
    pub(crate) contexts: Contexts,
    pub(crate) tables: &'static str,
    /// See [`ReadModel::DIFFERS`].
    pub(crate) differs: &'static [&'static str],
    check: fn(&[&ContextSchemas]) -> Result<(), CodecError>,
    connect: Connect,
}

/// Whose events a model takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Contexts {
    /// Those of every context of the binary.
    All,
    Named(&'static [&'static str]),
}

type Connect = for<'a> fn(
    &'a [&'a ContextSchemas],
    &'a RegistryClient,
) -> BoxFuture<'a, Result<Arc<dyn Project>, CodecError>>;

/// Names a read model to [`run`](crate::run()).
///
/// # Panics
/// When its name or version is not as [`ReadModel`] says.
pub fn model<M: ReadModel>() -> Model {
    assert!(
        is_kebab_case(M::NAME) && M::NAME.len() <= 40,
        "a read model's name has at most 40 characters of a-z, 0-9 and '-': {:?}",
        M::NAME
    );
    assert!(
        (1..=i32::MAX as u32).contains(&M::VERSION),
        "versions of a read model begin at 1"
    );
    Model {
        name: M::NAME,
        version: M::VERSION as i32,
        contexts: Contexts::Named(M::CONTEXTS),
        tables: M::TABLES,
        differs: M::DIFFERS,
        check: |schemas| EventCodec::<M::Event>::offline(schemas).map(drop),
        connect: |schemas, registry| {
            Box::pin(async move {
                let codec = EventCodec::connect(schemas, registry).await?;
                Ok(Arc::new(Projection::<M>::new(codec)) as Arc<dyn Project>)
            })
        },
    }
}

/// The index of all streams, [`STREAM_INDEX`](crate::STREAM_INDEX), as [`run`](crate::run())
/// takes it.
pub fn stream_index() -> Model {
    Model {
        name: stream_index::STREAM_INDEX,
        version: stream_index::VERSION,
        contexts: Contexts::All,
        tables: stream_index::TABLES,
        differs: &[],
        check: |_| Ok(()),
        connect: |_, _| {
            let projection: Arc<dyn Project> = Arc::new(StreamIndex);
            Box::pin(async move { Ok(projection) })
        },
    }
}

impl Contexts {
    pub(crate) fn contain(&self, context: &str) -> bool {
        match self {
            Self::All => true,
            Self::Named(names) => names.contains(&context),
        }
    }

    /// The first of them that is not among these.
    pub(crate) fn missing_in(&self, schemas: &[ContextSchemas]) -> Option<&'static str> {
        let known = |context: &str| schemas.iter().any(|it| it.context() == context);
        match self {
            Self::All => None,
            Self::Named(names) => names.iter().find(|name| !known(name)).copied(),
        }
    }
}

impl Model {
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether the events that it takes have usable schema files.
    pub(crate) fn check(&self, schemas: &[&ContextSchemas]) -> Result<(), CodecError> {
        (self.check)(schemas)
    }

    /// Asks the registry for the ids of the events that it takes.
    pub(crate) async fn connect(
        &self,
        schemas: &[&ContextSchemas],
        registry: &RegistryClient,
    ) -> Result<Arc<dyn Project>, CodecError> {
        (self.connect)(schemas, registry).await
    }
}

fn is_kebab_case(name: &str) -> bool {
    name.split('-').all(|word| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_not_do_as_a_schema_are_refused() {
        for name in ["tasks", "task-board", "board2"] {
            assert!(is_kebab_case(name), "{name}");
        }
        for name in ["", "-", "Task", "task_board", "a--b", "a;drop", "ä"] {
            assert!(!is_kebab_case(name), "{name}");
        }
    }
}
