//! Somebody who knows nothing of owners writes into our topics.
//!
//! Nobody can keep them from it but the brokers' access rules. What must hold: the owner notices at its next append,
//! answers nobody, and reads the shard anew; everything else is served on, and nothing that was acknowledged is missing.

use std::time::Duration;

use event_log::router::partition_of;
use kernel::StreamId;
use rdkafka::{
    Message, Offset, Timestamp, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    producer::{FutureProducer, FutureRecord, Producer},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    history::{Clock, Moment, Operation, Place},
    load::Load,
    seed::Dice,
    world::{PARTITIONS, World},
};

const SOON: Duration = Duration::from_secs(60);
const NOTICED_WITHIN: Duration = Duration::from_secs(100);
const A_MONTH_MS: i64 = 30 * 24 * 3_600_000;

/// What was written, into which shard, and what came of it.
#[derive(Clone, Debug)]
pub struct Trespass {
    pub what: &'static str,
    pub shard: i32,
    pub place: Place,
    /// After how long the shard's owner noticed it, and what it said.
    pub noticed: Option<(Duration, String)>,
}

#[derive(Debug, Default)]
pub struct Trespasses {
    pub all: Vec<Trespass>,
    /// How far the broker's time for the record with an old one is from now.
    pub time_off: Option<Duration>,
    /// Answers of the other shards from then on.
    pub answered_elsewhere: usize,
    /// Answers of these shards, once they had been read anew.
    pub answered_again: usize,
    pub failed: Vec<String>,
    pub history: Vec<Operation>,
}

impl World {
    /// With clients at work.
    pub async fn trespass(&self, clock: Clock, clients: usize, dice: &mut Dice) -> Trespasses {
        const ANSWERED_WITHIN: Duration = Duration::from_secs(120);
        let mut found = Trespasses::default();
        let pause = Duration::from_millis(100);
        let load = Load::begin(self, clock, clients, pause, dice);
        load.until_answered(200).await;

        if let Err(error) = self.commit_all(&mut found).await {
            found.failed.push(format!("failed to trespass: {error}"));
        }
        self.until_noticed(&mut found).await;
        let noticed = clock.now();
        for node in &self.nodes {
            if let Err(error) = node.until_ready(ANSWERED_WITHIN).await {
                found.failed.push(error.to_string());
            }
        }
        // Some on every shard.
        let more = load.until_answered(load.answered() + 10 * clients as u64);
        if timeout(ANSWERED_WITHIN, more).await.is_err() {
            found.failed.push("the clients get no answers".into());
        }
        found.history = load.end(ANSWERED_WITHIN).await;
        found.count_answers(noticed);
        found
    }

    async fn commit_all(&self, found: &mut Trespasses) -> Result<(), KafkaError> {
        let (events, owners) = (self.events_topic(), self.owners_topic());
        let committed = self.write(&events, 0, Some(true), None).await?;
        found.push("a foreign transaction, committed", 0, committed);
        let aborted = self.write(&events, 1, Some(false), None).await?;
        found.push("a foreign transaction, aborted", 1, aborted);
        let old = self.write(&events, 2, None, Some(A_MONTH_MS)).await?;
        found.time_off = self.time_off(&old).await;
        found.push("a record with an old timestamp", 2, old);
        let among_claims = self.write(&owners, 3, None, Some(A_MONTH_MS)).await?;
        found.push("one in the topic of claims", 3, among_claims);
        match found.time_off {
            Some(off) if off < Duration::from_secs(3_600) => {}
            off => {
                let what = format!("the broker took the client's old timestamp: {off:?} off");
                found.failed.push(what);
            }
        }
        Ok(())
    }

    /// In a transaction that is committed or aborted, or in none.
    async fn write(
        &self,
        topic: &str,
        partition: i32,
        commits: Option<bool>,
        age_ms: Option<i64>,
    ) -> Result<Place, KafkaError> {
        let mut config = self.client();
        config.set("linger.ms", "0");
        if commits.is_some() {
            config.set("transactional.id", format!("somebody-{partition}"));
        }
        let producer: FutureProducer = config.create()?;
        if commits.is_some() {
            let producer = producer.clone();
            blocking(move || {
                producer.init_transactions(SOON)?;
                producer.begin_transaction()
            })
            .await?;
        }
        let record = FutureRecord::to(topic).partition(partition);
        let mut record = record.key("somebody's").payload("not an event");
        record.timestamp = age_ms.map(|age| now_ms() - age);
        let sent = producer.send(record, SOON).await;
        let delivery = sent.map_err(|(error, _)| error)?;
        if let Some(commits) = commits {
            blocking(move || match commits {
                true => producer.commit_transaction(SOON),
                false => producer.abort_transaction(SOON),
            })
            .await?;
        }
        Ok(Place {
            topic: topic.into(),
            partition,
            offset: delivery.offset,
        })
    }

    async fn time_off(&self, place: &Place) -> Option<Duration> {
        let (client, place) = (self.client(), place.clone());
        let read = move || {
            let consumer: BaseConsumer = client.create().ok()?;
            let mut assignment = TopicPartitionList::new();
            let offset = Offset::Offset(place.offset);
            let added = assignment.add_partition_offset(&place.topic, place.partition, offset);
            added.ok()?;
            consumer.assign(&assignment).ok()?;
            let began = Instant::now();
            let message = loop {
                match consumer.poll(SOON)? {
                    Ok(message) => break message,
                    // Of a connection that was lost, for one; another is made.
                    Err(_) if began.elapsed() < SOON => {}
                    Err(_) => return None,
                }
            };
            match message.timestamp() {
                Timestamp::LogAppendTime(ms) | Timestamp::CreateTime(ms) => {
                    Some(Duration::from_millis(ms.abs_diff(now_ms())))
                }
                Timestamp::NotAvailable => None,
            }
        };
        tokio::task::spawn_blocking(read).await.ok()?
    }

    /// Waits until each of these shards' owners has noticed.
    async fn until_noticed(&self, found: &mut Trespasses) {
        let began = Instant::now();
        while began.elapsed() < NOTICED_WITHIN && found.all.iter().any(|it| it.noticed.is_none()) {
            for trespass in &mut found.all {
                if trespass.noticed.is_none() {
                    let said = self.said_of_trespass(trespass.shard);
                    trespass.noticed = said.map(|said| (began.elapsed(), said));
                }
            }
            sleep(Duration::from_millis(20)).await;
        }
        for trespass in found.all.iter().filter(|it| it.noticed.is_none()) {
            let what = format!(
                "nobody noticed {} in shard {}",
                trespass.what, trespass.shard
            );
            found.failed.push(what);
        }
    }

    /// What a node says about a shard that somebody else wrote into.
    fn said_of_trespass(&self, shard: i32) -> Option<String> {
        let noticed = format!("somebody wrote past the owner of shard {shard}");
        let said = self.nodes.iter().map(|node| node.said());
        said.flat_map(|said| said.lines().map(str::to_owned).collect::<Vec<_>>())
            .find(|line| line.contains(&noticed))
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                let reason = line["reason"]
                    .as_str()
                    .or_else(|| line["fields"]["reason"].as_str());
                reason.unwrap_or_default().to_owned()
            })
    }
}

impl Trespasses {
    pub fn places(&self) -> Vec<Place> {
        self.all.iter().map(|it| it.place.clone()).collect()
    }

    fn push(&mut self, what: &'static str, shard: i32, place: Place) {
        self.all.push(Trespass {
            what,
            shard,
            place,
            noticed: None,
        });
    }

    fn count_answers(&mut self, noticed: Moment) {
        for operation in &self.history {
            let stream = operation.stream.parse::<StreamId>();
            let shard = stream.map(|stream| partition_of(&stream, PARTITIONS));
            let attempts = operation.attempts.iter();
            let answers = attempts.filter(|it| it.answer.is_definite() && it.started > noticed);
            match self.all.iter().any(|it| Ok(it.shard) == shard) {
                true => self.answered_again += answers.count(),
                false => self.answered_elsewhere += answers.count(),
            }
        }
        if self.answered_elsewhere == 0 {
            self.failed.push("the other shards were not served".into());
        }
        if self.answered_again == 0 {
            self.failed.push("the shards were not served again".into());
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, KafkaError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.expect("librdkafka does not panic")
}

fn now_ms() -> i64 {
    let since = std::time::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_millis() as i64)
}
