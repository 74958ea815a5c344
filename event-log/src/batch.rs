//! Kafka's record batch, format 2: written into one buffer as commands are
//! decided, and read without copying.
//!
//! `kafka-protocol`'s own encoder wants an ordered map of headers for each
//! record, and its decoder hides control batches and emptied ones; both are
//! what restoring and appending look at most.

use bytes::{Buf, BufMut, Bytes};

/// Bytes before the first record.
const HEADER: usize = 61;
/// Bytes before what `batch_length` counts.
const BEFORE_LENGTH: usize = 12;
/// Where what the checksum covers begins.
const CHECKED_FROM: usize = 21;
/// Where it says how many offsets the last record lies after the first.
const LAST_OFFSET_DELTA_AT: usize = 23;

/// How many bytes the length of a record takes as a rule: enough for 8 kB.
const RECORD_LENGTH: usize = 2;
/// How many bytes the length of a header's value takes as a rule: enough for 63.
const VALUE_LENGTH: usize = 1;

const COMPRESSION_MASK: i16 = 0x07;
const CONTROL_FLAG: i16 = 0x20;

/// Who may append: the producer id and the epoch that the brokers check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerIdentity {
    pub id: i64,
    pub epoch: i16,
}

/// The sequence number that comes `records` after this one; they wrap from 2^31 - 1 to 0.
pub fn sequence_after(sequence: i32, records: i32) -> i32 {
    sequence.wrapping_add(records) & i32::MAX
}

/// A batch in the making. Records are written as they come; the identity and
/// the sequence number are filled in when it is sealed.
#[derive(Debug)]
pub struct BatchBuilder {
    buffer: Vec<u8>,
    records: i32,
}

/// Where a batch in the making can be taken back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    bytes: usize,
    records: i32,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        let mut buffer = Vec::with_capacity(8 << 10);
        buffer.resize(HEADER, 0);
        Self { buffer, records: 0 }
    }
}

impl BatchBuilder {
    pub fn records(&self) -> i32 {
        self.records
    }

    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Size as it will be sent, in bytes.
    pub fn size(&self) -> usize {
        self.buffer.len()
    }

    pub fn mark(&self) -> Mark {
        Mark {
            bytes: self.buffer.len(),
            records: self.records,
        }
    }

    /// Drops every record since the mark.
    pub fn take_back(&mut self, mark: Mark) {
        self.buffer.truncate(mark.bytes);
        self.records = mark.records;
    }

    /// Adds a record; `headers` writes them and says how many there are.
    pub fn push(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        headers: impl FnOnce(&mut HeaderWriter<'_>),
    ) {
        let place = i64::from(self.records);
        put_sized(&mut self.buffer, RECORD_LENGTH, |body| {
            body.push(0); // attributes
            body.push(0); // timestamp delta: the broker sets the time
            put_varint(body, place);
            put_varint(body, key.len() as i64);
            body.extend_from_slice(key);
            match value {
                Some(value) => {
                    put_varint(body, value.len() as i64);
                    body.extend_from_slice(value);
                }
                None => put_varint(body, -1),
            }
            // The count stands before the headers; one byte holds up to 63.
            let count_at = body.len();
            body.push(0);
            let mut writer = HeaderWriter {
                buffer: body,
                count: 0,
            };
            headers(&mut writer);
            let count = writer.count;
            assert!(count < 64, "a record has at most 63 headers");
            body[count_at] = count << 1;
        });
        self.records += 1;
    }

    /// The finished batch, as the broker takes it.
    pub fn seal(mut self, producer: ProducerIdentity, base_sequence: i32, now_ms: i64) -> Bytes {
        let length = (self.buffer.len() - BEFORE_LENGTH) as i32;
        let mut header = &mut self.buffer[..HEADER];
        header.put_i64(0); // base offset
        header.put_i32(length);
        header.put_i32(-1); // partition leader epoch
        header.put_i8(2); // format
        header.put_u32(0); // checksum, below
        header.put_i16(0); // attributes
        header.put_i32(self.records - 1);
        header.put_i64(now_ms);
        header.put_i64(now_ms);
        header.put_i64(producer.id);
        header.put_i16(producer.epoch);
        header.put_i32(base_sequence);
        header.put_i32(self.records);
        let checksum = crc32c::crc32c(&self.buffer[CHECKED_FROM..]);
        self.buffer[17..21].copy_from_slice(&checksum.to_be_bytes());
        self.buffer.into()
    }
}

/// Writes the headers of one record.
#[derive(Debug)]
pub struct HeaderWriter<'a> {
    buffer: &'a mut Vec<u8>,
    count: u8,
}

impl HeaderWriter<'_> {
    pub fn put(&mut self, name: &str, value: &[u8]) {
        self.put_with(name, |into| into.extend_from_slice(value));
    }

    /// The same for a value that is written here first.
    pub fn put_with(&mut self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        put_varint(self.buffer, name.len() as i64);
        self.buffer.extend_from_slice(name.as_bytes());
        put_sized(self.buffer, VALUE_LENGTH, write);
        self.count += 1;
    }
}

/// Why bytes are not a batch that we can read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("batch at offset {offset} has format {format}, not 2")]
    Format { offset: i64, format: i8 },
    #[error("batch at offset {offset} fails its checksum")]
    Checksum { offset: i64 },
    #[error("batch at offset {offset} is compressed, and none of ours is")]
    Compressed { offset: i64 },
    #[error("batch at offset {offset} is not well-formed")]
    Malformed { offset: i64 },
}

/// A batch as it lies in the log.
#[derive(Clone, Debug)]
pub struct Batch {
    pub base_offset: i64,
    /// Offset of the last record that the batch had when it was written.
    pub last_offset: i64,
    /// When it was appended, by the broker's clock, in milliseconds since 1970.
    pub appended_at_ms: i64,
    pub producer: ProducerIdentity,
    pub base_sequence: i32,
    /// A transaction marker, written by a coordinator.
    pub control: bool,
    count: i32,
    records: Bytes,
}

impl Batch {
    /// Takes the next batch off; `None` when only a part of one is left.
    pub fn read(from: &mut Bytes) -> Result<Option<Self>, BatchError> {
        if from.len() < HEADER {
            return Ok(None);
        }
        let mut header = &from[..HEADER];
        let offset = header.get_i64();
        let length = header.get_i32();
        let malformed = BatchError::Malformed { offset };
        let total = usize::try_from(length).map_err(|_| malformed.clone())? + BEFORE_LENGTH;
        if total < HEADER {
            return Err(malformed);
        }
        if from.len() < total {
            return Ok(None);
        }
        header.advance(4); // partition leader epoch
        let format = header.get_i8();
        if format != 2 {
            return Err(BatchError::Format { offset, format });
        }
        let checksum = header.get_u32();
        if crc32c::crc32c(&from[CHECKED_FROM..total]) != checksum {
            return Err(BatchError::Checksum { offset });
        }
        let attributes = header.get_i16();
        let last_offset_delta = header.get_i32();
        header.advance(8); // timestamp of the first record
        let appended_at_ms = header.get_i64();
        let producer = ProducerIdentity {
            id: header.get_i64(),
            epoch: header.get_i16(),
        };
        let base_sequence = header.get_i32();
        let count = header.get_i32();
        let last_offset = u32::try_from(last_offset_delta)
            .ok()
            .and_then(|delta| offset.checked_add(i64::from(delta)))
            .ok_or(malformed)?;
        if attributes & COMPRESSION_MASK != 0 {
            return Err(BatchError::Compressed { offset });
        }
        let mut records = from.split_to(total);
        records.advance(HEADER);
        Ok(Some(Self {
            base_offset: offset,
            last_offset,
            appended_at_ms,
            producer,
            base_sequence,
            control: attributes & CONTROL_FLAG != 0,
            count,
            records,
        }))
    }

    /// The offset after a batch that cannot be read, if its header can be believed.
    pub(crate) fn end_in_header(from: &Bytes) -> Option<i64> {
        let mut header = from.get(..HEADER)?;
        let offset = header.get_i64();
        header.advance(LAST_OFFSET_DELTA_AT - 8);
        let delta = u32::try_from(header.get_i32()).ok()?;
        offset.checked_add(i64::from(delta) + 1)
    }

    /// The records, in order; a compacted batch may have fewer than it was written with.
    ///
    /// Ends with the first error: nothing after it can be told apart.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, BatchError>> + '_ {
        let mut rest = self.records.clone();
        let mut left = self.count;
        std::iter::from_fn(move || {
            if left <= 0 {
                return None;
            }
            let record = self.next_record(&mut rest);
            left = if record.is_some() { left - 1 } else { 0 };
            Some(record.ok_or(BatchError::Malformed {
                offset: self.base_offset,
            }))
        })
    }

    fn next_record(&self, rest: &mut Bytes) -> Option<Record> {
        let record = Record::read(rest, self.base_offset)?;
        (self.base_offset..=self.last_offset)
            .contains(&record.offset)
            .then_some(record)
    }
}

/// A record as it lies in the log.
#[derive(Clone, Debug)]
pub struct Record {
    pub offset: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    header_count: i64,
    headers: Bytes,
}

impl Record {
    fn read(from: &mut Bytes, base_offset: i64) -> Option<Self> {
        let length = usize::try_from(get_varint(from)?).ok()?;
        if from.len() < length {
            return None;
        }
        let mut body = from.split_to(length);
        body.try_get_i8().ok()?; // attributes
        get_varint(&mut body)?; // timestamp delta
        let offset = base_offset.checked_add(get_varint(&mut body)?)?;
        let key = get_bytes(&mut body)?;
        let value = get_bytes(&mut body)?;
        let header_count = get_varint(&mut body)?;
        Some(Self {
            offset,
            key,
            value,
            header_count,
            headers: body,
        })
    }

    /// Names and values of the headers; ends early where they are not well-formed.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest: &[u8] = &self.headers;
        (0..self.header_count).map_while(move |_| {
            let name = get_slice(&mut rest)?;
            let value = get_slice(&mut rest)?;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }
}

/// Writes something behind its length, which takes `room` bytes as a rule; where it takes
/// another number of them, what was written moves.
fn put_sized(into: &mut Vec<u8>, room: usize, write: impl FnOnce(&mut Vec<u8>)) {
    let start = into.len();
    let from = start + room;
    into.resize(from, 0);
    write(into);
    let (length, bytes) = varint((into.len() - from) as i64);
    let length = &length[..bytes];
    if bytes == room {
        into[start..from].copy_from_slice(length);
    } else {
        into.splice(start..from, length.iter().copied());
    }
}

fn put_varint(into: &mut Vec<u8>, value: i64) {
    let (varint, bytes) = varint(value);
    into.extend_from_slice(&varint[..bytes]);
}

/// A zigzag varint, as protobuf and Kafka write signed numbers, and how many bytes it has.
fn varint(value: i64) -> ([u8; 10], usize) {
    let mut bytes = [0; 10];
    let mut length = 0;
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        bytes[length] = rest as u8 | 0x80;
        length += 1;
        rest >>= 7;
    }
    bytes[length] = rest as u8;
    (bytes, length + 1)
}

fn get_varint(from: &mut impl Buf) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = from.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

/// Length and bytes; `Some(None)` for null.
fn get_bytes(from: &mut Bytes) -> Option<Option<Bytes>> {
    match get_varint(from)? {
        -1 => Some(None),
        length => {
            let length = usize::try_from(length).ok()?;
            (from.len() >= length).then(|| Some(from.split_to(length)))
        }
    }
}

fn get_slice<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(get_varint(from)?).ok()?;
    from.split_off(..length)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRODUCER: ProducerIdentity = ProducerIdentity { id: 7, epoch: 3 };

    fn sealed() -> Bytes {
        let mut batch = BatchBuilder::default();
        batch.push(b"a", Some(b"one"), |headers| headers.put("x", b"1"));
        let mark = batch.mark();
        batch.push(b"gone", None, |_| {});
        batch.take_back(mark);
        batch.push(b"b", None, |headers| {
            headers.put("x", b"2");
            headers.put("long", &[9; 300]);
        });
        batch.seal(PRODUCER, 40, 1_000)
    }

    #[test]
    fn what_was_written_is_read_back() {
        let mut bytes = sealed();
        let batch = Batch::read(&mut bytes).unwrap().unwrap();
        assert!(bytes.is_empty());
        assert_eq!(batch.producer, PRODUCER);
        assert_eq!((batch.base_sequence, batch.last_offset), (40, 1));
        assert!(!batch.control);
        let records: Vec<_> = batch.records().map(Result::unwrap).collect();
        assert_eq!(records[0].value.as_deref(), Some(&b"one"[..]));
        assert_eq!(records[1].offset, 1);
        assert_eq!(records[1].value, None);
        let headers: Vec<_> = records[1].headers().collect();
        assert_eq!(headers, [("x", &b"2"[..]), ("long", &[9; 300][..])]);
    }

    #[test]
    fn lengths_take_as_many_bytes_as_they_need() {
        for length in [0, 40, 63, 64, 8_000, 8_191, 8_192, 70_000] {
            let value = vec![7; length];
            let mut batch = BatchBuilder::default();
            batch.push(b"a", Some(&value), |headers| headers.put("x", &value));
            batch.push(b"b", None, |_| {});
            let batch = Batch::read(&mut batch.seal(PRODUCER, 0, 0))
                .unwrap()
                .unwrap();
            let records: Vec<_> = batch.records().map(Result::unwrap).collect();
            assert_eq!(records[0].value.as_deref(), Some(&value[..]));
            assert!(records[0].headers().eq([("x", &value[..])]));
            assert_eq!(records[1].key.as_deref(), Some(&b"b"[..]));
        }
    }

    #[test]
    fn the_public_codec_reads_the_same() {
        let set = kafka_protocol::records::RecordBatchDecoder::decode(&mut sealed()).unwrap();
        assert_eq!(set.records.len(), 2);
        assert_eq!(set.records[1].sequence, 41);
        assert_eq!(set.records[1].headers.len(), 2);
    }

    #[test]
    fn a_part_of_a_batch_is_left_for_the_next_fetch() {
        let whole = sealed();
        for end in [0, 10, HEADER, whole.len() - 1] {
            assert!(Batch::read(&mut whole.slice(..end)).unwrap().is_none());
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed() {
        let mut bytes = sealed().to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let error = Batch::read(&mut Bytes::from(bytes)).unwrap_err();
        assert_eq!(error, BatchError::Checksum { offset: 0 });
    }

    #[test]
    fn varints_cover_all_of_i64() {
        for value in [0, -1, 1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            let mut rest = &bytes[..];
            assert_eq!(get_varint(&mut rest), Some(value));
            assert!(rest.is_empty());
        }
    }
}
