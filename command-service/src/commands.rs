//! The way from a handler to the shard that decides.

use std::{
    any::Any,
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use event_log::{Fingerprint, Position, router::partition_of};
use kernel::{Decider, Meta, StreamId, StreamVersion};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    counters,
    directory::Directory,
    group::{Announced, Answer, Ask, Found, Recall, Request},
    http::forward::{self, NodeClient},
    membership::Group,
    outcome::{Acceptance, CommandError, Expected},
    preparing::Preparing,
    recorded::CommandKey,
    shard::{Facts, Routed, ShardStatus},
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
    pub preparing: Preparing,
    /// How long a request waits for a shard that nobody serves just now.
    pub hand_over_wait: Duration,
    pub group: Group,
    pub directory: Directory,
    /// For requests to other nodes.
    pub client: NodeClient,
    /// Nothing more is taken: all shards are handed over, or there is nobody to take them.
    pub ended: CancellationToken,
}

pub(crate) struct ShardHandle {
    pub requests: mpsc::Sender<Routed>,
    pub status: watch::Receiver<ShardStatus>,
    pub facts: Arc<Facts>,
}

/// A command's circumstances, besides its content.
#[derive(Clone, Debug)]
pub struct Submission {
    pub meta: Meta,
    pub expected: Expected,
    pub fingerprint: Fingerprint,
    /// When the client made the command. If it was so long ago that its answer may have been
    /// forgotten, it is refused; without it, it would be decided anew.
    pub issued_at: Option<DateTime<Utc>>,
    /// For processes: whatever is answered, a rejection too, every retry is answered the same.
    /// Without this, a command that caused nothing may be decided anew.
    pub record_answer: bool,
    pub trace_parent: Option<Box<str>>,
}

impl Submission {
    /// A command that expects no version.
    pub fn new(meta: Meta, fingerprint: Fingerprint) -> Self {
        Self {
            meta,
            fingerprint,
            expected: Expected::Any,
            issued_at: None,
            record_answer: false,
            trace_parent: None,
        }
    }
}

/// The state of a stream, as its owner had it when no other owner could have changed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Current<T> {
    pub stream: StreamId,
    pub state: T,
    /// 0 when the stream has no events: `state` is the default then.
    pub version: StreamVersion,
    /// The end of what the state saw; `None` when that was an empty log.
    pub position: Option<Position>,
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
            issued_at,
            record_answer,
            trace_parent,
        } = submission;
        let key = CommandKey::new(&meta.stream, &meta.actor, &meta.command_id);
        let stream = meta.stream.clone();
        let ask = Ask::Command(Box::new(Command {
            key,
            content,
            meta,
            expected,
            fingerprint,
            issued_at,
            record_answer,
            trace_parent,
        }));
        self.ask(&stream, ask).await
    }

    /// Like [`submit`](Self::submit) of a command that has to be prepared first, by gathering
    /// facts that are not in its stream. They belong into its events: nobody gathers them again.
    ///
    /// A command that is recorded or under way gets its answer, and `prepare` is not run; of
    /// several with one key that come at the same time, one prepares and the others wait. It is
    /// run where the stream's shard is.
    ///
    /// # Errors
    /// Those of `prepare`, too; nothing is decided then.
    pub async fn submit_prepared<D: Decider, E: From<CommandError>>(
        &self,
        submission: Submission,
        prepare: impl Future<Output = Result<D::Command, E>> + Send,
    ) -> Result<Acceptance, E> {
        let Submission { meta, .. } = &submission;
        let key = CommandKey::new(&meta.stream, &meta.actor, &meta.command_id);
        let Ok(turn) = timeout(self.0.answer_within, self.0.preparing.turn(key)).await else {
            return Err(self.no_answer_yet().into());
        };
        let _turn = turn.ok_or(CommandError::Busy)?;
        let announced = Recall {
            stream: meta.stream.clone(),
            key,
            announced: Some(Announced {
                fingerprint: submission.fingerprint,
                issued_at: submission.issued_at,
            }),
        };
        let stream = meta.stream.clone();
        match self.ask(&stream, Ask::Recall(Box::new(announced))).await {
            Err(CommandError::UnknownCommand) => {}
            known => return Ok(known?),
        }
        let command = prepare.await?;
        Ok(self.submit::<D>(submission, command).await?)
    }

    /// What became of the command with this key on this stream: its recorded
    /// answer, or the one it gets when it is still under way.
    pub async fn recall(&self, stream: &StreamId, key: CommandKey) -> Answer {
        let recall = Recall {
            stream: stream.clone(),
            key,
            announced: None,
        };
        self.ask(stream, Ask::Recall(Box::new(recall))).await
    }

    /// The state of a stream now, from its owner: it contains every command that was answered
    /// before this was called, wherever that was.
    pub async fn read<D: Decider>(&self, stream: &StreamId) -> Result<Current<D>, CommandError> {
        let found = Found::default();
        let ask = Ask::Read {
            stream: stream.clone(),
            found: found.clone(),
        };
        let seen = self.ask(stream, ask).await?;
        let state = found.lock().unwrap_or_else(PoisonError::into_inner).take();
        match state.and_then(|state| state.downcast::<D>().ok()) {
            Some(state) => Ok(Current {
                stream: seen.stream,
                state: *state,
                version: seen.version,
                position: seen.position,
            }),
            None => Err(CommandError::Bug {
                reason: format!("the streams of kind {} have another decider", D::KIND),
            }),
        }
    }

    /// Names of the kinds of streams that are served.
    pub fn kinds(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.0.lanes.keys().copied()
    }

    async fn ask(&self, stream: &StreamId, ask: Ask) -> Answer {
        let answer = self.ask_shard(stream, ask).await;
        counters::count(&answer);
        answer
    }

    async fn ask_shard(&self, stream: &StreamId, ask: Ask) -> Answer {
        let Some(&lane) = self.0.lanes.get(stream.kind()) else {
            // A context that has routes for a kind that it does not declare.
            return match ask {
                Ask::Command(_) | Ask::Read { .. } => Err(CommandError::Bug {
                    reason: format!("no context declares streams of kind {}", stream.kind()),
                }),
                Ask::Recall(_) => Err(CommandError::UnknownCommand),
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
            Err(_) => Err(self.no_answer_yet()),
        }
    }

    fn no_answer_yet(&self) -> CommandError {
        CommandError::NoAnswerYet {
            after_ms: self.0.answer_within.as_millis() as u64,
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
