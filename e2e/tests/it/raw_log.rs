//! The log as a consumer sees it that knows nothing of Annals.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use e2e::{TestApp, WITHIN};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Headers,
};

const SOON: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub(crate) struct RawEvent {
    pub key: String,
    pub headers: BTreeMap<String, String>,
    pub value: Vec<u8>,
    pub partition: i32,
}

impl RawEvent {
    pub fn stream(&self) -> &str {
        &self.headers["ce_subject"]
    }

    pub fn command_id(&self) -> &str {
        &self.headers["annals_command_id"]
    }

    pub fn version(&self) -> u64 {
        self.headers["annals_stream_version"].parse().unwrap()
    }
}

/// The ends of some contexts' partitions.
pub(crate) struct Ends {
    consumer: BaseConsumer,
    partitions: TopicPartitionList,
}

impl Ends {
    pub fn new(app: &TestApp, contexts: &[&str]) -> Self {
        let consumer = consumer(app);
        let mut list = TopicPartitionList::new();
        for context in contexts {
            let topic = app.events_topic(context);
            for partition in partitions(&consumer, &topic) {
                list.add_partition_offset(&topic, partition, Offset::End)
                    .unwrap();
            }
        }
        Self {
            partitions: list,
            consumer,
        }
    }

    /// It changes with every append.
    pub fn sum(&self) -> i64 {
        // A time at the end stands for the end; one request, where watermarks take one each.
        let ends = self
            .consumer
            .offsets_for_times(self.partitions.clone(), SOON);
        let ends = ends.unwrap();
        let offsets = ends.elements().into_iter().map(|end| match end.offset() {
            Offset::Offset(offset) => offset,
            other => panic!("no end but {other:?}"),
        });
        offsets.sum()
    }
}

/// Every event of a context's topic, partition by partition.
pub(crate) fn read(app: &TestApp, context: &str) -> Vec<RawEvent> {
    let topic = app.events_topic(context);
    let consumer = consumer(app);
    let mut assignment = TopicPartitionList::new();
    for partition in partitions(&consumer, &topic) {
        let all = assignment.add_partition_offset(&topic, partition, Offset::Beginning);
        all.unwrap();
    }
    let mut unread: BTreeSet<_> = partitions(&consumer, &topic).collect();
    consumer.assign(&assignment).unwrap();
    let mut events = Vec::new();
    let began = Instant::now();
    while !unread.is_empty() {
        assert!(began.elapsed() < WITHIN, "the end of {topic} never came");
        match consumer.poll(SOON) {
            Some(Ok(message)) => {
                let headers = message.headers().into_iter().flat_map(|it| it.iter());
                let text = |bytes: &[u8]| String::from_utf8(bytes.into()).unwrap();
                events.push(RawEvent {
                    key: text(message.key().unwrap()),
                    headers: headers
                        .map(|it| (it.key.to_owned(), text(it.value.unwrap())))
                        .collect(),
                    value: message.payload().unwrap().into(),
                    partition: message.partition(),
                });
            }
            // Of one that somebody appends to, more than once.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(error)) => panic!("{error}"),
            None => {}
        }
    }
    events
}

fn consumer(app: &TestApp) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", app.setting("KAFKA"))
        .set("group.id", "nobody's")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_uncommitted")
        .create()
        .unwrap()
}

fn partitions(consumer: &BaseConsumer, topic: &str) -> std::ops::Range<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), SOON).unwrap();
    0..metadata.topics()[0].partitions().len() as i32
}
