//! The way from a handler to the shard that decides.

use std::{any::Any, collections::HashMap, sync::Arc, time::Duration};

use event_log::{Fingerprint, router::partition_of};
use kernel::{Decider, Meta, StreamId};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    directory::Directory,
    group::{Answer, Ask, Request},
    http::forward,
    membership::Group,
    outcome::{Acceptance, CommandError, Expected},
    recorded::CommandKey,
    shard::{Routed, ShardStatus},
    streams::Command,
};

/// Sends commands to their shards. Cheap to clone.
#[derive(Clone)]
pub struct Commands(Arc<Shards>);

pub(crate) struct Shards {
    pub shards: Vec<ShardHandle>,
    /// The lane of each kind of stream: its context's.
    pub lanes: HashMap<&'static str, usize>,
    pub answer_within: Duration,
    /// How long a request waits for a shard that nobody serves just now.
    pub hand_over_wait: Duration,
    pub group: Group,
    pub directory: Directory,
    /// Nothing more is taken: all shards are handed over, or there is nobody to take them.
    pub ended: CancellationToken,
}

pub(crate) struct ShardHandle {
    pub requests: mpsc::Sender<Routed>,
    pub status: watch::Receiver<ShardStatus>,
}

/// A command's circumstances, besides its content.
#[derive(Clone, Debug)]
pub struct Submission {
    pub meta: Meta,
    pub expected: Expected,
    pub fingerprint: Fingerprint,
    pub trace_parent: Option<Box<str>>,
}

impl Commands {
    pub(crate) fn new(shards: Shards) -> Self {
        Self(Arc::new(shards))
    }

    pub(crate) fn shards(&self) -> &Shards {
        &self.0
    }

    /// Has the stream `submission.meta.stream` decide, and waits for the answer.
    pub async fn submit<D: Decider>(
        &self,
        submission: Submission,
        command: D::Command,
    ) -> Result<Acceptance, CommandError> {
        let content: Box<dyn Any + Send> = Box::new(command);
        let Submission {
            meta,
            expected,
            fingerprint,
            trace_parent,
        } = submission;
        let key = CommandKey::new(&meta.stream, &meta.actor, &meta.command_id);
        let stream = meta.stream.clone();
        let ask = Ask::Command(Box::new(Command {
            content,
            meta,
            expected,
            fingerprint,
            trace_parent,
        }));
        self.ask(&stream, key, ask).await
    }

    /// What became of the command with this key on this stream: its recorded
    /// answer, or the one it gets when it is still under way.
    pub async fn recall(&self, stream: &StreamId, key: CommandKey) -> Answer {
        let ask = Ask::Recall {
            stream: stream.clone(),
        };
        self.ask(stream, key, ask).await
    }

    /// Names of the kinds of streams that are served.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.lanes.keys().copied()
    }

    async fn ask(&self, stream: &StreamId, key: CommandKey, ask: Ask) -> Answer {
        let Some(&lane) = self.0.lanes.get(stream.kind()) else {
            // A context that has routes for a kind that it does not declare.
            return match ask {
                Ask::Command(_) => Err(CommandError::Bug {
                    reason: format!("no context declares streams of kind {}", stream.kind()),
                }),
                Ask::Recall { .. } => Err(CommandError::UnknownCommand),
            };
        };
        let shards = &self.0.shards;
        let number = partition_of(stream, shards.len() as i32);
        let shard = &shards[number as usize];
        match &*shard.status.borrow() {
            ShardStatus::Elsewhere | ShardStatus::Starting(_) => return Err(elsewhere(number)),
            status => {
                if let Some(reason) = status.trouble_of(lane) {
                    let reason = reason.to_owned();
                    return Err(CommandError::NotServed { reason });
                }
            }
        }
        let (reply, answer) = oneshot::channel();
        let request = Request {
            key,
            ask,
            replies: vec![reply],
        };
        let routed = Routed { lane, request };
        shard
            .requests
            .try_send(routed)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => CommandError::Busy,
                mpsc::error::TrySendError::Closed(_) => shutting_down(),
            })?;
        match timeout(self.0.answer_within, answer).await {
            Ok(Ok(answer)) => answer,
            // It was taken over, and nobody has decided.
            Ok(Err(_)) => Err(elsewhere(number)),
            Err(_) => Err(CommandError::NoAnswerYet {
                after_ms: self.0.answer_within.as_millis() as u64,
            }),
        }
    }
}

/// Another node may have the answer, or this one soon.
fn elsewhere(shard: i32) -> CommandError {
    forward::needed(shard);
    CommandError::NotServed {
        reason: format!("shard {shard} is not served here"),
    }
}

fn shutting_down() -> CommandError {
    CommandError::NotServed {
        reason: "the service is shutting down".into(),
    }
}
