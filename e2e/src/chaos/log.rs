//! The log as the brokers have it, read raw: batches, markers, headers as bytes.

use std::collections::BTreeMap;

/// Every partition of the topics of events and of claims.
#[derive(Clone, Debug, Default)]
pub struct Log {
    pub events: Vec<Partition>,
    pub owners: Vec<Partition>,
}

#[derive(Clone, Debug, Default)]
pub struct Partition {
    pub topic: String,
    pub number: i32,
    pub batches: Vec<Batch>,
}

#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub base_offset: i64,
    pub last_offset: i64,
    pub producer_id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
    /// A transaction marker.
    pub control: bool,
    pub records: Vec<Record>,
}

#[derive(Clone, Debug, Default)]
pub struct Record {
    pub offset: i64,
    pub key: Vec<u8>,
    /// Those that are text.
    pub headers: BTreeMap<String, String>,
    pub value: Vec<u8>,
}

impl Log {
    /// Events, and what else lies among them.
    pub fn records(&self) -> usize {
        let batches = self.events.iter().flat_map(|it| &it.batches);
        batches.map(|batch| batch.records.len()).sum()
    }

    /// Markers of take-overs: two partitions or more for each.
    pub fn markers(&self) -> usize {
        let batches = self.events.iter().flat_map(|it| &it.batches);
        batches.filter(|batch| batch.control).count()
    }
}
