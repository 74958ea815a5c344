//! Whether each command that is read from the log has all of its events.
//!
//! A command's events are in one batch, one after the other: whatever else is
//! found was not written by an owner.

use event_log::{Envelope, Fingerprint};
use kernel::{CommandId, StreamId};

/// Watches a partition's events go by.
#[derive(Debug, Default)]
pub(crate) struct Whole {
    /// The command whose events are not complete yet.
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    stream: StreamId,
    command_id: CommandId,
    fingerprint: Fingerprint,
    count: u32,
    next_index: u32,
    last_offset: i64,
}

/// A command lacks events, or an event its command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Torn {
    pub stream: StreamId,
    /// Of the event that shows it.
    pub offset: i64,
}

impl Whole {
    /// The next event. Answers what it shows to be torn: the command before it, or its own.
    pub fn take(&mut self, event: &Envelope, offset: i64) -> Vec<Torn> {
        let goes_on = self.open.as_ref().is_some_and(|open| open.goes_on(event));
        let before = match goes_on {
            true => None,
            false => self.end(),
        };
        let next_index = event.index.saturating_add(1);
        self.open = (next_index < event.count).then(|| Open {
            stream: event.stream.clone(),
            command_id: event.command_id.clone(),
            fingerprint: event.fingerprint,
            count: event.count,
            next_index,
            last_offset: offset,
        });
        let fits = event.index < event.count && (goes_on || event.index == 0);
        let own = (!fits).then(|| Torn {
            stream: event.stream.clone(),
            offset,
        });
        before.into_iter().chain(own).collect()
    }

    /// Nothing follows: the command that lacks events, if there is one.
    pub fn end(&mut self) -> Option<Torn> {
        self.open.take().map(|open| Torn {
            stream: open.stream,
            offset: open.last_offset,
        })
    }
}

impl Open {
    fn goes_on(&self, event: &Envelope) -> bool {
        event.index == self.next_index
            && event.count == self.count
            && event.stream == self.stream
            && event.command_id == self.command_id
            && event.fingerprint == self.fingerprint
    }
}
