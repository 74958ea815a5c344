//! What librdkafka tells about itself, brought into our logs and a [`LogView`].

use std::collections::HashMap;

use rdkafka::{
    ClientContext, Statistics, config::RDKafkaLogLevel, consumer::ConsumerContext,
    error::KafkaError,
};
use tokio::sync::watch;

/// What a consumer sees of the log at present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogView {
    /// Whether any broker is connected.
    pub connected: bool,
    /// By topic and partition: the offset that the next record will have, once it is known.
    pub ends: HashMap<(String, i32), i64>,
}

/// The callbacks of one consumer.
pub(super) struct Client {
    view: watch::Sender<LogView>,
}

impl Client {
    pub(super) fn new() -> (Self, watch::Receiver<LogView>) {
        let (view, receiver) = watch::channel(LogView::default());
        (Self { view }, receiver)
    }
}

impl ConsumerContext for Client {}

impl ClientContext for Client {
    fn stats(&self, statistics: Statistics) {
        let connected = statistics
            .brokers
            .values()
            .any(|broker| broker.state == "UP");
        let ends = statistics
            .topics
            .into_iter()
            .flat_map(|(name, topic)| {
                let partitions = topic.partitions.into_values();
                partitions.map(move |it| ((name.clone(), it.partition), it.hi_offset))
            })
            // Below zero: not known yet.
            .filter(|(_, end)| *end >= 0)
            .collect();
        self.view.send_replace(LogView { connected, ends });
    }

    /// Each error comes again as what a feed or `attend` receives.
    fn error(&self, _: KafkaError, reason: &str) {
        tracing::debug!(reason, "the Kafka client reports");
    }

    /// A broker that is away fills the log with a line per attempt; the reader's readiness says
    /// it once.
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::error!(facility, "Kafka client: {message}");
            }
            RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning
            | RDKafkaLogLevel::Notice
            | RDKafkaLogLevel::Info
            | RDKafkaLogLevel::Debug => tracing::debug!(facility, "Kafka client: {message}"),
        }
    }
}
