//! Which versions this node writes: what was activated, as long as it can read it.
//!
//! Owners read it before each claim, and follow it while they serve. A node that does not know a
//! version that was activated does not decide: it would have to decide on states that it cannot
//! fold.

use std::{convert::Infallible, sync::Arc};

use event_log::{
    cluster::Cluster,
    control::{ActiveVersions, ControlError, ControlLog, KnownVersions, Unreadable},
    topics::{Generation, TopicOptions},
};
use kernel::WrittenVersions;
use tokio::sync::watch;

pub(crate) struct Switch {
    control: ControlLog,
    contexts: Vec<KnownVersions>,
}

/// Why this node may not decide, or cannot know whether it may.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl SwitchError {
    pub(crate) fn is_temporary(&self) -> bool {
        match self {
            Self::Control(error) => error.is_temporary(),
            Self::Unreadable(_) => false,
        }
    }
}

impl Switch {
    pub fn new(cluster: &Cluster, generation: &Generation, contexts: Vec<KnownVersions>) -> Self {
        Self {
            control: ControlLog::new(cluster, generation),
            contexts,
        }
    }

    /// Sees to it that every event of ours has an active version, and that we read it. The
    /// contexts' topics have to be there.
    pub async fn prepare(&self, options: TopicOptions) -> Result<(), SwitchError> {
        self.control.ensure(options).await?;
        for (event_type, active) in self.control.establish(&self.contexts).await? {
            let version = active.version;
            match version {
                0 => tracing::warn!(
                    event_type,
                    "{event_type} is new to this log: it is not written before \
                     `annals schema activate {event_type}`"
                ),
                _ => tracing::info!(event_type, version, "{event_type} begins with v{version}"),
            }
        }
        self.before_claim().await?;
        Ok(())
    }

    /// What was activated before this was called.
    pub async fn before_claim(&self) -> Result<Arc<ActiveVersions>, SwitchError> {
        let active = self.control.catch_up().await?;
        match active.unreadable(&self.contexts) {
            None => Ok(active),
            Some(unreadable) => Err(unreadable.into()),
        }
    }

    /// What is activated from now on, as soon as [`follow`](Self::follow) has read it.
    pub fn watch(&self) -> watch::Receiver<Arc<ActiveVersions>> {
        self.control.watch()
    }

    /// Goes on reading; tells when something was activated that this node does not know.
    pub async fn follow(&self, tell: impl FnOnce(Unreadable)) -> Infallible {
        tell(self.control.until_unreadable(&self.contexts).await);
        self.control.follow().await
    }

    /// How the events of a context are written, by its place. Instead of a version that we do not
    /// have we write the newest that we do, which everybody reads; what was never activated is not
    /// written.
    pub fn written(&self, active: &ActiveVersions, context: usize) -> WrittenVersions {
        let known = &self.contexts[context];
        let events = known.versions.iter().map(|(event_type, newest)| {
            let active = active.of(event_type).map_or(0, |active| active.version);
            let name = event_type.rsplit('.').next().unwrap_or_default();
            (name.to_owned(), active.min(*newest))
        });
        events.collect()
    }
}
