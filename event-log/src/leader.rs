//! The way to a broker that leads partitions: batches that are ready at the same time share a
//! request.
//!
//! A request costs a broker and us as much as what is in it. Nothing waits to be joined by others,
//! and what is under way holds nothing up: a further request takes a connection of its own. But
//! all in one request are answered together. So a partition that was slow, or has to be sent
//! again, shares with nobody until it has been fast.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use kafka_protocol::messages::{
    ProduceRequest, ProduceResponse, TopicName,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::yield_now,
    time::Instant,
};

use crate::{
    awake,
    cluster::{ANSWER_WITHIN, Connect},
    wire::{Connection, WireError},
};

const ALL_REPLICAS: i16 = -1;
/// How long the broker may wait for its replicas.
const REPLICATION_TIMEOUT_MS: i32 = 5_000;
const PRODUCE_VERSION: i16 = 9;
/// The partitions of a request that takes longer share none until they have been faster.
const SLOW: Duration = Duration::from_millis(3);
/// What has waited longer than this has slept: whether it may still be sent is the appender's to say.
const STALE: Duration = Duration::from_secs(1);
/// How often others have a turn before a request goes: those whose batches have just been
/// acknowledged together are about to send their next ones. With nobody else it takes no time.
const TURNS_FOR_OTHERS: usize = 3;
const MAX_REQUEST_BYTES: usize = 8 << 20;

/// The brokers that batches are sent to, by address.
#[derive(Debug, Default)]
pub(crate) struct Leaders(Mutex<HashMap<String, Leader>>);

/// A broker that leads partitions.
#[derive(Clone, Debug)]
pub(crate) struct Leader {
    batches: mpsc::UnboundedSender<Waiting>,
}

/// Where a batch belongs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub topic: TopicName,
    pub partition: i32,
}

/// What the broker says about a batch: its code, and the offset of the first record.
pub(crate) type Verdict = (i16, i64);

/// Why there is no verdict.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum ProduceError {
    /// The batch was not sent.
    #[error(transparent)]
    NotSent(WireError),
    /// The batch waited for so long that the process must have slept; it was not sent.
    #[error("the batch could not be sent for {STALE:?}")]
    Stale,
    /// It may be in the log or not.
    #[error(transparent)]
    Unanswered(WireError),
    #[error("the broker's answer does not name the partition")]
    Empty,
    /// Whether it was sent is not known.
    #[error("the way to the broker ended")]
    Ended,
}

impl ProduceError {
    /// Whether the log cannot have the batch from this attempt.
    pub fn is_unsent(&self) -> bool {
        matches!(self, Self::NotSent(_) | Self::Stale)
    }
}

#[derive(Debug)]
struct Waiting {
    place: Place,
    records: Bytes,
    alone: bool,
    since: Duration,
    verdict: oneshot::Sender<Result<Verdict, ProduceError>>,
}

impl Leaders {
    /// The way to the broker at this address, shared by all who ask.
    pub fn at(&self, address: &str, connect: &Connect) -> Leader {
        let mut leaders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leader) = leaders.get(address) {
            return leader.clone();
        }
        let (batches, waiting) = mpsc::unbounded_channel();
        let leader = Leader { batches };
        leaders.insert(address.to_owned(), leader.clone());
        let sender = Sender {
            address: address.into(),
            connect: connect.clone(),
            idle: Vec::new(),
            slow: HashSet::new(),
        };
        tokio::spawn(sender.run(waiting));
        leader
    }
}

impl Leader {
    /// Sends a batch once and waits for the answer. `alone`: in a request of its own.
    ///
    /// When it is dropped before, the batch may be sent or not.
    pub async fn produce(
        &self,
        place: &Place,
        records: Bytes,
        alone: bool,
    ) -> Result<Verdict, ProduceError> {
        let (verdict, answered) = oneshot::channel();
        let waiting = Waiting {
            place: place.clone(),
            records,
            alone,
            since: awake::now(),
            verdict,
        };
        // The other end lives as long as this one.
        let _ = self.batches.send(waiting);
        answered.await.unwrap_or(Err(ProduceError::Ended))
    }
}

/// The other end of a [`Leader`].
struct Sender {
    address: Arc<str>,
    connect: Connect,
    idle: Vec<Connection>,
    /// Partitions that have to show that they are not slow.
    slow: HashSet<Place>,
}

/// A request that has been answered, or has failed.
struct Done {
    connection: Option<Connection>,
    places: Vec<Place>,
    took: Duration,
}

impl Sender {
    async fn run(mut self, mut batches: mpsc::UnboundedReceiver<Waiting>) {
        let mut waiting = Vec::new();
        let mut under_way = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(done) = under_way.next() => {
                    self.note(done);
                    continue;
                }
                batch = batches.recv() => match batch {
                    Some(batch) => waiting.push(batch),
                    None => return,
                },
            }
            for _ in 0..TURNS_FOR_OTHERS {
                yield_now().await;
                while let Ok(batch) = batches.try_recv() {
                    waiting.push(batch);
                }
            }
            for together in self.requests(&mut waiting) {
                under_way.push(self.send(together));
            }
        }
    }

    /// What goes together: one request for all that may share, one each for the others.
    fn requests(&self, waiting: &mut Vec<Waiting>) -> Vec<Vec<Waiting>> {
        let mut requests = vec![Vec::new()];
        let mut bytes = 0;
        for batch in waiting.drain(..) {
            if batch.verdict.is_closed() {
                continue;
            }
            if awake::now().saturating_sub(batch.since) > STALE {
                let _ = batch.verdict.send(Err(ProduceError::Stale));
                continue;
            }
            bytes += batch.records.len();
            if batch.alone || bytes > MAX_REQUEST_BYTES || self.slow.contains(&batch.place) {
                requests.push(vec![batch]);
            } else {
                requests[0].push(batch);
            }
        }
        requests.retain(|batches| !batches.is_empty());
        requests
    }

    fn send(&mut self, batches: Vec<Waiting>) -> impl Future<Output = Done> + use<> {
        let (mut requested, mut verdicts) = (Vec::new(), Vec::new());
        for batch in batches {
            requested.push((batch.place.clone(), batch.records));
            verdicts.push((batch.place, batch.verdict));
        }
        let request = request(requested);
        let idle = std::iter::from_fn(|| self.idle.pop()).find_map(|mut idle| {
            // A broker that hung up on an idle connection is no trouble.
            idle.is_open().then_some(idle)
        });
        let (connect, address) = (self.connect.clone(), self.address.clone());
        async move {
            let began = Instant::now();
            let mut connection = None;
            let answer = async {
                let opened = match idle {
                    Some(idle) => idle,
                    None => connect
                        .open(&address, ANSWER_WITHIN)
                        .await
                        .map_err(ProduceError::NotSent)?,
                };
                let opened = connection.insert(opened);
                let answer = opened.call(PRODUCE_VERSION, &request).await;
                answer.map_err(ProduceError::Unanswered)
            };
            let answer = answer.await;
            if answer.is_err() {
                connection = None;
            }
            let mut places = Vec::with_capacity(verdicts.len());
            for (place, verdict) in verdicts {
                let told = match &answer {
                    Ok(answer) => of(answer, &place),
                    Err(error) => Err(error.clone()),
                };
                let _ = verdict.send(told);
                places.push(place);
            }
            Done {
                connection,
                places,
                took: began.elapsed(),
            }
        }
    }

    fn note(&mut self, done: Done) {
        self.idle.extend(done.connection);
        if done.took > SLOW {
            self.slow.extend(done.places);
        } else if !self.slow.is_empty() {
            done.places.iter().for_each(|place| {
                self.slow.remove(place);
            });
        }
    }
}

fn request(mut batches: Vec<(Place, Bytes)>) -> ProduceRequest {
    batches.sort_unstable_by(|(a, _), (b, _)| a.topic.cmp(&b.topic));
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for (place, records) in batches {
        let data = PartitionProduceData::default()
            .with_index(place.partition)
            .with_records(Some(records));
        match topics.last_mut() {
            Some(topic) if topic.name == place.topic => topic.partition_data.push(data),
            _ => topics.push(
                TopicProduceData::default()
                    .with_name(place.topic)
                    .with_partition_data(vec![data]),
            ),
        }
    }
    ProduceRequest::default()
        .with_transactional_id(None)
        .with_acks(ALL_REPLICAS)
        .with_timeout_ms(REPLICATION_TIMEOUT_MS)
        .with_topic_data(topics)
}

fn of(answer: &ProduceResponse, place: &Place) -> Result<Verdict, ProduceError> {
    let topic = answer.responses.iter().find(|it| it.name == place.topic);
    let partitions = topic.into_iter().flat_map(|it| &it.partition_responses);
    let mut verdicts = partitions
        .filter(|it| it.index == place.partition)
        .map(|it| (it.error_code, it.base_offset));
    verdicts.next().ok_or(ProduceError::Empty)
}
