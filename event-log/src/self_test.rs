//! The proof, at every start, that this cluster fences as the log needs.
//!
//! Servers that speak Kafka's protocol do not all keep what it does not say:
//! that a deposed owner's plain appends are refused. Without it two owners
//! could write one stream, and nothing would show. So before anything is
//! owned, two owners of a scratch topic depose each other, once on every broker.
//! The same topic remembers what the others were at the last start.

use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    time::{Duration, SystemTime},
};

use kafka_protocol::{
    ResponseError,
    messages::{
        AddPartitionsToTxnRequest, InitProducerIdRequest, ProduceRequest, ProducerId,
        TransactionalId,
        add_partitions_to_txn_request::AddPartitionsToTxnTopic,
        produce_request::{PartitionProduceData, TopicProduceData},
    },
    protocol::{HeaderVersion, Request, StrBytes},
};
use tokio::time::{Instant, sleep};

use crate::{
    batch::{BatchBuilder, ProducerIdentity},
    cluster::{Cluster, ClusterError, name, topic_name},
    fence::{FenceError, take_over},
    topics::{
        Generation, Purpose, TopicError, TopicOptions, check_transaction_log, ensure_topic,
        logbook, partitions_by_leader,
    },
    wire::{Connection, WireError},
};

/// Coordinators remember a transactional id for a week, so there are only so
/// many; two nodes that happen to take the same one depose each other and try again.
const SLOTS: u64 = 16;
const TRIES: u32 = 20;
/// How long one request is repeated while leaders and coordinators move.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// What was expected of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    OwnerAppends,
    BrokersTime,
    DuplicateGetsFirstOffset,
    GapIsRefused,
    DeposedIsRefusedNext,
    DeposedIsRefusedAtZero,
    DeposedIsRefusedResend,
    DeposedIsRefusedInit,
    DeposedIsRefusedTransaction,
}

#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("failed to take over the topic that this cluster is tested with")]
    TakeOver(#[from] FenceError),
    #[error(
        "this cluster cannot keep one writer per shard: it must be that {property}, but the broker \
         that leads {topic} partition {partition} {found}. Run Annals on Apache Kafka 3.0 or \
         newer; some other servers of its protocol do not check what fencing rests on"
    )]
    Unfenced {
        property: Property,
        topic: String,
        partition: i32,
        found: String,
    },
    #[error("other nodes tested this cluster in the same moments, {TRIES} times in a row")]
    Contended,
    #[error("{topic} partition {partition} gave no answer within {PATIENCE:?}: {last}")]
    Unavailable {
        topic: String,
        partition: i32,
        last: String,
    },
}

impl SelfTestError {
    /// Whether trying again later may help, with nobody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Topic(error) => error.is_temporary(),
            Self::Cluster(error) => error.is_temporary(),
            Self::Wire(error) => error.is_temporary(),
            Self::TakeOver(error) => !matches!(error, FenceError::Refused { .. }),
            Self::Unfenced { .. } => false,
            Self::Contended | Self::Unavailable { .. } => true,
        }
    }
}

/// Proves it on the scratch topic of the generation, which is made when it is
/// missing, and checks that `topics` are those of the last start, and all in
/// place. Any number of nodes may do so at once.
pub async fn self_test(
    cluster: &Cluster,
    generation: &Generation,
    topics: &[String],
    options: TopicOptions,
) -> Result<(), SelfTestError> {
    let began = Instant::now();
    let topic = generation.self_test_topic();
    let partitions = generation.partitions;
    ensure_topic(cluster, &topic, Purpose::Scratch, partitions, options).await?;
    let leaders = partitions_by_leader(cluster, &topic).await?;
    for partitions in leaders.values() {
        prove(cluster, &topic, partitions[0]).await?;
    }
    // The take-overs have made it, had it not been there.
    check_transaction_log(cluster, options).await?;
    logbook::compare(cluster, generation, topics).await?;
    let (brokers, took) = (leaders.len(), began.elapsed());
    tracing::info!(brokers, ?took, "{brokers} brokers fence as the log needs");
    Ok(())
}

async fn prove(cluster: &Cluster, topic: &str, partition: i32) -> Result<(), SelfTestError> {
    for _ in 0..TRIES {
        let random = RandomState::new().hash_one(partition);
        let trial = Trial {
            cluster,
            topic,
            partition,
            transactional_id: format!("{topic}.{}", random % SLOTS),
            leader: None,
            coordinator: None,
            deadline: Instant::now() + PATIENCE,
        };
        match trial.run().await {
            Err(Ended::Contended) => sleep(PAUSE * (1 + (random >> 60) as u32)).await,
            Err(Ended::With(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
    Err(SelfTestError::Contended)
}

/// One pass over one partition.
struct Trial<'a> {
    cluster: &'a Cluster,
    topic: &'a str,
    partition: i32,
    transactional_id: String,
    leader: Option<Connection>,
    coordinator: Option<Connection>,
    deadline: Instant,
}

/// Why a pass did not come to its end.
enum Ended {
    /// Somebody else has taken the transactional id over in the middle: nothing is proved.
    Contended,
    With(SelfTestError),
}

/// What a broker said to an append.
struct Answer {
    code: i16,
    offset: i64,
    appended_at_ms: i64,
}

impl Trial<'_> {
    async fn run(mut self) -> Result<(), Ended> {
        use Property as P;
        let first = self.take_over().await?;
        let appended = self.append(P::OwnerAppends, first, 0).await?;
        if appended.appended_at_ms < 0 {
            return Err(self.unfenced(P::BrokersTime, "kept the client's time"));
        }
        let again = self.append(P::DuplicateGetsFirstOffset, first, 0).await?;
        if again.offset != appended.offset {
            let found = format!(
                "answered {} to a resend of {}",
                again.offset, appended.offset
            );
            return Err(self.unfenced(P::DuplicateGetsFirstOffset, found));
        }
        let gap = self.produce(first, 7).await?;
        match ResponseError::try_from_code(gap.code) {
            Some(ResponseError::OutOfOrderSequenceNumber) => {}
            _ if is_fenced(gap.code) => return Err(Ended::Contended),
            _ => return Err(self.unexpected(P::GapIsRefused, gap.code)),
        }
        self.append(P::OwnerAppends, first, 1).await?;

        let second = self.take_over().await?;
        for (property, sequence) in [
            (P::DeposedIsRefusedNext, 2),
            (P::DeposedIsRefusedAtZero, 0),
            (P::DeposedIsRefusedResend, 1),
        ] {
            let answer = self.produce(first, sequence).await?;
            if !is_fenced(answer.code) {
                return Err(self.unexpected(property, answer.code));
            }
        }
        // Before the Init, which would depose the second owner where it is not refused.
        let code = self.add_partition(first).await?;
        if !is_fenced(code) {
            return Err(self.unexpected(P::DeposedIsRefusedTransaction, code));
        }
        let code = self.init_producer_id(first).await?;
        if !is_fenced(code) {
            return Err(self.unexpected(P::DeposedIsRefusedInit, code));
        }
        self.append(P::OwnerAppends, second, 0).await?;
        Ok(())
    }

    async fn take_over(&self) -> Result<ProducerIdentity, Ended> {
        let topics = [self.topic.to_owned()];
        let id = &self.transactional_id;
        match take_over(self.cluster, id, &topics, self.partition).await {
            Ok(taken) => Ok(taken.writer),
            Err(FenceError::Lost { .. }) => Err(Ended::Contended),
            Err(error) => Err(Ended::With(error.into())),
        }
    }

    /// An append that must be accepted.
    async fn append(
        &mut self,
        property: Property,
        owner: ProducerIdentity,
        sequence: i32,
    ) -> Result<Answer, Ended> {
        let answer = self.produce(owner, sequence).await?;
        match answer.code {
            0 => Ok(answer),
            code if is_fenced(code) => Err(Ended::Contended),
            code => Err(self.unexpected(property, code)),
        }
    }

    async fn produce(&mut self, owner: ProducerIdentity, sequence: i32) -> Result<Answer, Ended> {
        let mut batch = BatchBuilder::default();
        batch.push(b"self-test", None, |_| {});
        let records = batch.seal(owner, sequence, now_ms());
        let data = PartitionProduceData::default()
            .with_index(self.partition)
            .with_records(Some(records));
        let request = ProduceRequest::default()
            .with_acks(-1)
            .with_timeout_ms(5_000)
            .with_topic_data(vec![
                TopicProduceData::default()
                    .with_name(topic_name(self.topic))
                    .with_partition_data(vec![data]),
            ]);
        loop {
            let asked = ask(&mut self.leader, &request, async || {
                self.cluster
                    .connect_leader(self.topic, self.partition)
                    .await
            });
            let last = match asked.await {
                Err(error) if !error.is_temporary() => return Err(Ended::With(error.into())),
                Err(error) => error.to_string(),
                Ok(answer) => {
                    let partitions = answer.responses.first().map(|it| &it.partition_responses);
                    match partitions.and_then(|partitions| partitions.first()) {
                        Some(answer) if may_pass(answer.error_code) => name(answer.error_code),
                        Some(answer) => {
                            return Ok(Answer {
                                code: answer.error_code,
                                offset: answer.base_offset,
                                appended_at_ms: answer.log_append_time_ms,
                            });
                        }
                        None => "its answer names no partition".into(),
                    }
                }
            };
            self.leader = None;
            self.wait_or_give_up(last).await?;
        }
    }

    /// The coordinator's answer to an owner that adds its partition to a transaction.
    async fn add_partition(&mut self, owner: ProducerIdentity) -> Result<i16, Ended> {
        let topic = AddPartitionsToTxnTopic::default()
            .with_name(topic_name(self.topic))
            .with_partitions(vec![self.partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.id())
            .with_v3_and_below_producer_id(ProducerId(owner.id))
            .with_v3_and_below_producer_epoch(owner.epoch)
            .with_v3_and_below_topics(vec![topic]);
        self.ask_coordinator(&request, |answer| {
            let topic = answer.results_by_topic_v3_and_below.first()?;
            Some(topic.results_by_partition.first()?.partition_error_code)
        })
        .await
    }

    /// The coordinator's answer to an owner that expects to be the newest.
    async fn init_producer_id(&mut self, owner: ProducerIdentity) -> Result<i16, Ended> {
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(self.id()))
            .with_transaction_timeout_ms(10_000)
            .with_producer_id(ProducerId(owner.id))
            .with_producer_epoch(owner.epoch);
        self.ask_coordinator(&request, |answer| Some(answer.error_code))
            .await
    }

    async fn ask_coordinator<R>(
        &mut self,
        request: &R,
        code_of: impl Fn(&R::Response) -> Option<i16>,
    ) -> Result<i16, Ended>
    where
        R: Request + HeaderVersion,
        R::Response: HeaderVersion,
    {
        loop {
            let asked = ask(&mut self.coordinator, request, async || {
                let id = &self.transactional_id;
                self.cluster.connect_coordinator(id).await
            });
            let last = match asked.await {
                Err(error) if !error.is_temporary() => return Err(Ended::With(error.into())),
                Err(error) => error.to_string(),
                Ok(answer) => match code_of(&answer) {
                    Some(code) if may_pass(code) => name(code),
                    Some(code) => return Ok(code),
                    None => "its answer names no partition".into(),
                },
            };
            self.coordinator = None;
            self.wait_or_give_up(last).await?;
        }
    }

    async fn wait_or_give_up(&self, last: String) -> Result<(), Ended> {
        if Instant::now() >= self.deadline {
            return Err(Ended::With(SelfTestError::Unavailable {
                topic: self.topic.into(),
                partition: self.partition,
                last,
            }));
        }
        sleep(PAUSE).await;
        Ok(())
    }

    fn unexpected(&self, property: Property, code: i16) -> Ended {
        let found = match code {
            0 => "accepted it".to_owned(),
            code => format!("answered {}", name(code)),
        };
        self.unfenced(property, found)
    }

    fn unfenced(&self, property: Property, found: impl Into<String>) -> Ended {
        Ended::With(SelfTestError::Unfenced {
            property,
            topic: self.topic.into(),
            partition: self.partition,
            found: found.into(),
        })
    }

    fn id(&self) -> TransactionalId {
        TransactionalId(StrBytes::from_string(self.transactional_id.clone()))
    }
}

/// Asks over the connection, which is opened when there is none.
async fn ask<R>(
    connection: &mut Option<Connection>,
    request: &R,
    open: impl AsyncFnOnce() -> Result<Connection, ClusterError>,
) -> Result<R::Response, ClusterError>
where
    R: Request + HeaderVersion,
    R::Response: HeaderVersion,
{
    let connection = match connection {
        Some(connection) => connection,
        none => none.insert(open().await?),
    };
    Ok(connection.ask(request).await?)
}

fn is_fenced(code: i16) -> bool {
    use ResponseError as E;
    matches!(
        ResponseError::try_from_code(code),
        Some(E::InvalidProducerEpoch | E::ProducerFenced | E::InvalidProducerIdMapping)
    )
}

/// Leaders and coordinators that move, and a transaction of a contender that is not over yet.
fn may_pass(code: i16) -> bool {
    use ResponseError as E;
    ResponseError::try_from_code(code)
        .is_some_and(|error| error.is_retriable() || matches!(error, E::ConcurrentTransactions))
}

fn now_ms() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl fmt::Display for Property {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OwnerAppends => "an owner can append",
            Self::BrokersTime => "records have the broker's time",
            Self::DuplicateGetsFirstOffset => "a batch that is sent twice is appended once",
            Self::GapIsRefused => "a gap in the sequence numbers is refused",
            Self::DeposedIsRefusedNext => "a deposed owner's next append is refused",
            Self::DeposedIsRefusedAtZero => {
                "a deposed owner's append that begins anew (sequence number 0) is refused"
            }
            Self::DeposedIsRefusedResend => "a deposed owner's resend is refused",
            Self::DeposedIsRefusedInit => "a deposed owner cannot renew its fence",
            Self::DeposedIsRefusedTransaction => "a deposed owner cannot begin a transaction",
        })
    }
}
