//! The events of one stream, read from its partition again.

use std::collections::{BTreeSet, VecDeque};

use event_log::{
    avro::LearnError,
    cluster::Cluster,
    consume::LogRecord,
    fetch::{FetchError, PartitionReader},
};

use super::{QuarantinedStream, keeping::Poison};
use crate::projection::{Gathered, Undecodable};

/// How often the end of the log may come before what was projected once.
const PATIENCE: usize = 50;

pub(super) struct StreamLog {
    reader: PartitionReader,
    partition: i32,
    stream: String,
    from: i64,
    /// The highest term from the poisoned event on: who writes under a lower one was deposed.
    term: u64,
    events: Box<dyn Gathered>,
    skipped: BTreeSet<i64>,
    /// The first event that cannot be decoded; nothing after it is.
    poison: Option<Poison>,
    /// Where the stream's events lie, those that are left out apart.
    offsets: Vec<i64>,
    /// Read, and above where reading was to end.
    ahead: VecDeque<LogRecord>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error(transparent)]
    Learn(Box<LearnError>),
    #[error("{topic} partition {partition} has bytes that are no records")]
    Records { topic: String, partition: i32 },
    #[error(
        "{topic} partition {partition} ends before offset {until}, which was projected already: it \
         was truncated"
    )]
    Truncated {
        topic: String,
        partition: i32,
        until: i64,
    },
}

impl From<LearnError> for ReadError {
    fn from(error: LearnError) -> Self {
        Self::Learn(Box::new(error))
    }
}

impl StreamLog {
    pub(super) fn new(
        cluster: &Cluster,
        of: &QuarantinedStream,
        events: Box<dyn Gathered>,
        skipped: BTreeSet<i64>,
    ) -> Self {
        Self {
            reader: PartitionReader::new(cluster, &of.topic, of.partition, of.offset),
            partition: of.partition,
            stream: of.stream.clone(),
            from: of.offset,
            term: 0,
            events,
            skipped,
            poison: None,
            offsets: Vec::new(),
            ahead: VecDeque::new(),
        }
    }

    /// Gathers what lies below this offset.
    pub(super) async fn read_to(&mut self, until: i64) -> Result<(), ReadError> {
        while let Some(record) = self.ahead.pop_front_if(|it| it.position.offset < until) {
            self.take(record).await?;
        }
        let topic = self.reader.topic().to_owned();
        let mut at_end = 0;
        while self.reader.next_offset() < until {
            let batches = self.reader.next_batches().await?;
            if batches.is_empty() {
                at_end += 1;
            }
            if at_end > PATIENCE {
                return Err(ReadError::Truncated {
                    topic,
                    partition: self.partition,
                    until,
                });
            }
            for batch in batches.iter().filter(|batch| !batch.control) {
                for record in batch.records() {
                    let Ok(record) = record else {
                        return Err(ReadError::Records {
                            topic,
                            partition: self.partition,
                        });
                    };
                    let record = LogRecord::of(&topic, self.partition, &record);
                    match record.position.offset {
                        offset if offset < self.from => {}
                        offset if offset < until => self.take(record).await?,
                        _ => self.ahead.push_back(record),
                    }
                }
            }
        }
        Ok(())
    }

    async fn take(&mut self, record: LogRecord) -> Result<(), ReadError> {
        if let Ok(envelope) = &record.envelope {
            if envelope.term < self.term {
                return Ok(());
            }
            self.term = envelope.term;
        }
        let offset = record.position.offset;
        let is_of_the_stream = record.stream().is_some_and(|it| it.as_str() == self.stream);
        if !is_of_the_stream || self.skipped.contains(&offset) {
            return Ok(());
        }
        let poison = match record.envelope {
            // Once something cannot be decoded, the rest is held back.
            Ok(_) if self.poison.is_some() => {
                self.offsets.push(offset);
                return Ok(());
            }
            Ok(envelope) => {
                let (position, value) = (record.position, &record.value);
                match self.events.push_or_learn(envelope, position, value).await? {
                    Ok(true) => {
                        self.offsets.push(offset);
                        return Ok(());
                    }
                    Ok(false) => return Ok(()),
                    Err(undecodable) => {
                        let Undecodable {
                            envelope, error, ..
                        } = *undecodable;
                        Poison::unreadable(envelope.stream.clone(), offset, &error).of(&envelope)
                    }
                }
            }
            Err(unrecognized) if unrecognized.ours => match &unrecognized.stream {
                Some(stream) => Poison::unreadable(stream.clone(), offset, &unrecognized),
                None => return Ok(()),
            },
            Err(_) => return Ok(()),
        };
        self.offsets.push(offset);
        self.poison.get_or_insert(poison);
        Ok(())
    }

    /// What could be decoded, up to what could not.
    pub(super) fn events(&self) -> &dyn Gathered {
        &*self.events
    }

    pub(super) fn take_poison(&mut self) -> Option<Poison> {
        self.poison.take()
    }

    /// How many events of the stream come after this one.
    pub(super) fn held_after(&self, offset: i64) -> i64 {
        let later = self.offsets.iter().filter(|it| **it > offset);
        later.count() as i64
    }
}
