//! What somebody follows.

use axum::extract::RawPathParams;
use kernel::{StreamId, Tenant};
use service_kit::Problem;
use uuid::Uuid;

use crate::history;

/// Of which changes of a read model a route's followers hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changes {
    /// Of all of the caller's tenant, whatever the query filters by.
    All,
    /// Of the key that this parameter of the path names.
    OfKey(&'static str),
    /// Of the stream that the path names as `kind` and `id`.
    #[doc(hidden)]
    OfStream,
    /// Of the correlation id that the path names as `id`.
    #[doc(hidden)]
    OfCorrelation,
}

/// What one follower follows, within the caller's tenant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Interest {
    All,
    Key(String),
    /// `tenant/kind/id`
    Stream(String),
    Correlation(Uuid),
}

impl Interest {
    /// What the path names.
    pub fn of(changes: Changes, path: &RawPathParams, tenant: &Tenant) -> Result<Self, Problem> {
        let named = |name: &str| {
            let found = path.iter().find(|(known, _)| *known == name);
            found.map_or("", |(_, value)| value)
        };
        Ok(match changes {
            Changes::All => Self::All,
            Changes::OfKey(name) => Self::Key(named(name).to_owned()),
            Changes::OfStream => {
                let stream = StreamId::new(tenant, named("kind"), named("id"));
                Self::Stream(stream.map_err(|_| history::no_such_stream())?.to_string())
            }
            Changes::OfCorrelation => {
                let id = named("id").parse();
                Self::Correlation(id.map_err(|_| history::no_such_correlation())?)
            }
        })
    }

    /// The key by which the tail knows it; `None` for everything.
    pub fn key(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Key(text) | Self::Stream(text) => Some(text.clone()),
            Self::Correlation(id) => Some(id.to_string()),
        }
    }
}
