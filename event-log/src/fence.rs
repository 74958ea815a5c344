//! Taking a shard over, so that whoever had it can append no more.
//!
//! A transactional id names the shard. An empty, aborted transaction over all
//! of its partitions puts a marker with the new epoch into each; from then on
//! every partition refuses older epochs. The second `InitProducerId`, with the
//! expected epoch, answers only when the markers are in.

use std::time::Duration;

use futures::future::{BoxFuture, ready};
use kafka_protocol::{
    ResponseError,
    messages::{
        AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, ProducerId,
        TransactionalId, add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        add_partitions_to_txn_response::AddPartitionsToTxnResponse,
    },
    protocol::{HeaderVersion, Request, StrBytes},
};
use tokio::time::{Instant, sleep};

use crate::{
    batch::ProducerIdentity,
    cluster::{Cluster, ClusterError, name, topic_name},
    wire::{Connection, WireError},
};

/// Markers land within a few milliseconds; asking sooner only adds load.
const SHORT_PAUSE: Duration = Duration::from_millis(2);
/// Between two tries while the coordinator is away.
const LONG_PAUSE: Duration = Duration::from_millis(50);
/// How long a take-over tries to reach the coordinator before it gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// The transaction is ended at once; this only bounds it when we die in between.
const TRANSACTION_TIMEOUT_MS: i32 = 10_000;
/// Above this epoch a new producer id is fetched before serving: epochs end at 32,767.
const HIGHEST_EPOCH: i16 = 16_000;

/// A completed take-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeOver {
    /// The identity on the markers that fenced the predecessors: a partition
    /// is read to its end when this marker has been read.
    pub marker: ProducerIdentity,
    /// The identity to append with.
    pub writer: ProducerIdentity,
}

/// Why a shard could not be taken over. Nothing may be appended.
#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    #[error("somebody else took {transactional_id} over meanwhile: {reason}")]
    Lost {
        transactional_id: String,
        reason: String,
    },
    #[error("{transactional_id} is not ours to take over any more")]
    Unassigned { transactional_id: String },
    #[error("failed to take {transactional_id} over within {PATIENCE:?}: {last}")]
    Unavailable {
        transactional_id: String,
        last: String,
    },
    #[error("the broker refused {step} for {transactional_id}: {}", name(*code))]
    Refused {
        step: &'static str,
        transactional_id: String,
        code: i16,
    },
}

/// Asks whether the shard is still ours to take over; answers by what is known after the question.
pub type StillAssigned = dyn Fn() -> BoxFuture<'static, bool> + Send + Sync;

/// Takes over partition `partition` of all `topics`, all or none.
///
/// # Errors
/// `Lost` when a contender came in between: back off with jitter, then look
/// whether the shard is still yours to take.
pub async fn take_over(
    cluster: &Cluster,
    transactional_id: &str,
    topics: &[String],
    partition: i32,
) -> Result<TakeOver, FenceError> {
    let always = || -> BoxFuture<'static, bool> { Box::pin(ready(true)) };
    take_over_while(&always, cluster, transactional_id, topics, partition).await
}

/// The same, as long as the shard is ours to take over.
///
/// A first `InitProducerId` that meets somebody else's unfinished take-over
/// ends it, and has to be repeated. Two who repeat it unasked could depose each
/// other for ever.
///
/// # Errors
/// `Unassigned` when it is not ours any more.
pub async fn take_over_while(
    still_assigned: &StillAssigned,
    cluster: &Cluster,
    transactional_id: &str,
    topics: &[String],
    partition: i32,
) -> Result<TakeOver, FenceError> {
    let mut coordinator = Coordinator::new(cluster, transactional_id, Some(still_assigned));
    let marker = coordinator.init_producer_id(None).await?;
    coordinator.fence(marker, topics, partition).await
}

/// Keeps the fence alive: brokers forget producers that write nothing for
/// `producer.id.expiration.ms`, and with them which epochs they have to refuse.
///
/// With nothing in flight, the owner fences itself: its `writer` ends, and the
/// new one appends with sequence numbers from 0 after the new marker.
///
/// # Errors
/// `Lost` when somebody else has taken over: `writer` was deposed.
pub async fn renew(
    cluster: &Cluster,
    transactional_id: &str,
    topics: &[String],
    partition: i32,
    writer: ProducerIdentity,
) -> Result<TakeOver, FenceError> {
    let mut coordinator = Coordinator::new(cluster, transactional_id, None);
    let marker = coordinator.init_producer_id(Some(writer)).await?;
    if marker.id != writer.id {
        // A coordinator that has forgotten us takes whoever comes for new.
        let reason = format!(
            "producer {} is not known any more, {} is new",
            writer.id, marker.id
        );
        return Err(coordinator.lost(reason));
    }
    coordinator.fence(marker, topics, partition).await
}

/// The steps of one take-over, each repeated until it has a definite answer.
struct Coordinator<'a> {
    cluster: &'a Cluster,
    transactional_id: &'a str,
    /// Nobody is asked when nobody can be deposed.
    still_assigned: Option<&'a StillAssigned>,
    connection: Option<Connection>,
    deadline: Instant,
}

/// One kind of request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Deposes whoever is there.
    FirstInit,
    AddPartitions,
    Abort,
    /// Fails when the expected identity is not the newest any more.
    ExpectingInit,
}

impl Step {
    fn request(self) -> &'static str {
        match self {
            Self::FirstInit | Self::ExpectingInit => "InitProducerId",
            Self::AddPartitions => "AddPartitionsToTxn",
            Self::Abort => "EndTxn",
        }
    }
}

impl<'a> Coordinator<'a> {
    fn new(
        cluster: &'a Cluster,
        transactional_id: &'a str,
        still_assigned: Option<&'a StillAssigned>,
    ) -> Self {
        Self {
            cluster,
            transactional_id,
            still_assigned,
            connection: None,
            deadline: Instant::now() + PATIENCE,
        }
    }

    /// From the identity that deposed the predecessors to one to append with.
    async fn fence(
        &mut self,
        marker: ProducerIdentity,
        topics: &[String],
        partition: i32,
    ) -> Result<TakeOver, FenceError> {
        self.add_partitions(marker, topics, partition).await?;
        self.abort(marker).await?;
        let mut writer = self.init_producer_id(Some(marker)).await?;
        while writer.id == marker.id && writer.epoch > HIGHEST_EPOCH {
            writer = self.init_producer_id(Some(writer)).await?;
        }
        Ok(TakeOver { marker, writer })
    }

    async fn init_producer_id(
        &mut self,
        expected: Option<ProducerIdentity>,
    ) -> Result<ProducerIdentity, FenceError> {
        let step = match expected {
            None => Step::FirstInit,
            Some(_) => Step::ExpectingInit,
        };
        let expected = expected.unwrap_or(ProducerIdentity { id: -1, epoch: -1 });
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.id()))
            .with_transaction_timeout_ms(TRANSACTION_TIMEOUT_MS)
            .with_producer_id(ProducerId(expected.id))
            .with_producer_epoch(expected.epoch);
        let answer = self
            .ask(step, 4, &request, |answer| answer.error_code)
            .await?;
        Ok(ProducerIdentity {
            id: answer.producer_id.0,
            epoch: answer.producer_epoch,
        })
    }

    async fn add_partitions(
        &mut self,
        producer: ProducerIdentity,
        topics: &[String],
        partition: i32,
    ) -> Result<(), FenceError> {
        let topics = topics
            .iter()
            .map(|topic| {
                AddPartitionsToTxnTopic::default()
                    .with_name(topic_name(topic))
                    .with_partitions(vec![partition])
            })
            .collect();
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id())
            .with_v3_and_below_producer_id(ProducerId(producer.id))
            .with_v3_and_below_producer_epoch(producer.epoch)
            .with_v3_and_below_topics(topics);
        self.ask(Step::AddPartitions, 3, &request, worst_code)
            .await?;
        Ok(())
    }

    async fn abort(&mut self, producer: ProducerIdentity) -> Result<(), FenceError> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.id())
            .with_producer_id(ProducerId(producer.id))
            .with_producer_epoch(producer.epoch)
            .with_committed(false);
        self.ask(Step::Abort, 3, &request, |answer| answer.error_code)
            .await?;
        Ok(())
    }

    /// Asks until there is a definite answer.
    async fn ask<R>(
        &mut self,
        step: Step,
        version: i16,
        request: &R,
        code_of: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, FenceError>
    where
        R: Request + HeaderVersion,
        R::Response: HeaderVersion,
    {
        loop {
            let connection = match self.connection().await {
                Ok(connection) => connection,
                Err(error) => {
                    self.again(&error).await?;
                    continue;
                }
            };
            match connection.call(version, request).await {
                Ok(answer) => match code_of(&answer) {
                    0 => return Ok(answer),
                    code => self.refused(step, code).await?,
                },
                Err(error) => self.lost_connection(&error).await?,
            }
        }
    }

    async fn connection(&mut self) -> Result<&mut Connection, ClusterError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                self.cluster
                    .connect_coordinator(self.transactional_id)
                    .await?
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Decides what an error code of the broker means; `Ok` means: ask again.
    async fn refused(&mut self, step: Step, code: i16) -> Result<(), FenceError> {
        use ResponseError as E;
        match ResponseError::try_from_code(code) {
            Some(E::InvalidProducerEpoch | E::ProducerFenced | E::InvalidProducerIdMapping) => {
                Err(self.lost(name(code)))
            }
            // The producer id is used up, and not by us: the coordinator has no rule for that.
            Some(E::UnknownServerError) if step == Step::ExpectingInit => {
                Err(self.lost(name(code)))
            }
            Some(E::NotCoordinator | E::CoordinatorNotAvailable) => {
                self.connection = None;
                self.again(&name(code)).await
            }
            Some(E::ConcurrentTransactions) => {
                if step == Step::FirstInit {
                    self.ask_whether_assigned().await?;
                }
                self.after(SHORT_PAUSE, &name(code)).await
            }
            Some(
                E::CoordinatorLoadInProgress
                | E::RequestTimedOut
                | E::NetworkException
                | E::NotEnoughReplicas
                | E::NotEnoughReplicasAfterAppend
                | E::UnknownTopicOrPartition
                | E::OperationNotAttempted,
            ) => self.again(&name(code)).await,
            _ => Err(FenceError::Refused {
                step: step.request(),
                transactional_id: self.transactional_id.into(),
                code,
            }),
        }
    }

    /// It may just have ended somebody else's take-over.
    async fn ask_whether_assigned(&self) -> Result<(), FenceError> {
        match self.still_assigned {
            Some(still_assigned) if !still_assigned().await => Err(FenceError::Unassigned {
                transactional_id: self.transactional_id.into(),
            }),
            _ => Ok(()),
        }
    }

    fn lost(&self, reason: String) -> FenceError {
        FenceError::Lost {
            transactional_id: self.transactional_id.into(),
            reason,
        }
    }

    async fn lost_connection(&mut self, error: &WireError) -> Result<(), FenceError> {
        self.connection = None;
        self.again(error).await
    }

    async fn again(&mut self, reason: &(dyn std::fmt::Display + Sync)) -> Result<(), FenceError> {
        self.after(LONG_PAUSE, reason).await
    }

    async fn after(
        &mut self,
        pause: Duration,
        reason: &(dyn std::fmt::Display + Sync),
    ) -> Result<(), FenceError> {
        if Instant::now() >= self.deadline {
            return Err(FenceError::Unavailable {
                transactional_id: self.transactional_id.into(),
                last: reason.to_string(),
            });
        }
        sleep(pause).await;
        Ok(())
    }

    fn id(&self) -> TransactionalId {
        TransactionalId(StrBytes::from_string(self.transactional_id.into()))
    }
}

/// 0 when all partitions were added, otherwise the code that decides: one that
/// is not `OPERATION_NOT_ATTEMPTED`, which only says that another failed.
fn worst_code(answer: &AddPartitionsToTxnResponse) -> i16 {
    let not_attempted = ResponseError::OperationNotAttempted.code();
    answer
        .results_by_topic_v3_and_below
        .iter()
        .flat_map(|topic| &topic.results_by_partition)
        .map(|result| result.partition_error_code)
        .filter(|code| *code != 0)
        .max_by_key(|code| *code != not_attempted)
        .unwrap_or(0)
}
