//! Bytes from anywhere are read or refused, and never bring the reader down.

use bytes::{BufMut, Bytes, BytesMut};
use event_log::{
    Envelope, PositionToken,
    batch::{Batch, ProducerIdentity},
};
use proptest::{collection::vec, prelude::*};

use crate::raw::batch;

/// Reads as far as it goes, and everything in it.
fn read_all(mut bytes: Bytes) {
    while let Ok(Some(batch)) = Batch::read(&mut bytes) {
        assert!(batch.last_offset >= batch.base_offset);
        let mut malformed = 0;
        for record in batch.records() {
            match record {
                Ok(record) => {
                    assert!((batch.base_offset..=batch.last_offset).contains(&record.offset));
                    assert!(record.headers().count() <= bytes.len() + (1 << 20));
                    let _ = Envelope::read(record.headers());
                }
                Err(_) => malformed += 1,
            }
        }
        assert!(malformed <= 1, "reading goes on after what cannot be read");
    }
}

/// Makes the checksum right again, so that the reader looks at what is inside.
fn with_checksum(mut bytes: BytesMut) -> Bytes {
    if bytes.len() > 21 {
        let checksum = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
    }
    bytes.freeze()
}

fn put_varint(into: &mut BytesMut, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        into.put_u8(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.put_u8(rest as u8);
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..300)) {
        read_all(bytes.into());
    }

    #[test]
    fn any_content_of_a_batch_is_read_or_refused(
        header in vec(any::<u8>(), 61),
        records in vec(any::<u8>(), 0..200),
        count in prop_oneof![Just(1_i32), 0..20, any::<i32>()],
    ) {
        let mut bytes = BytesMut::from(&header[..]);
        bytes.put_slice(&records);
        let length = bytes.len() as i32 - 12;
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2; // the format
        bytes[22] &= !7; // not compressed
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        read_all(with_checksum(bytes));
    }

    #[test]
    fn any_numbers_in_a_record_are_read_or_refused(
        base in prop_oneof![Just(0_i64), Just(i64::MAX - 9), any::<i64>()],
        last in prop_oneof![Just(9_i32), any::<i32>()],
        numbers in vec(prop_oneof![-2..9_i64, any::<i64>()], 6..12),
    ) {
        let mut record = BytesMut::new();
        record.put_u8(0); // attributes
        // Time, offset, lengths of key and value, number of headers, lengths in headers.
        for number in numbers {
            put_varint(&mut record, number);
        }
        let mut bytes = BytesMut::zeroed(61);
        put_varint(&mut bytes, record.len() as i64);
        bytes.put_slice(&record);
        let length = bytes.len() as i32 - 12;
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        bytes[16] = 2;
        bytes[23..27].copy_from_slice(&last.to_be_bytes());
        bytes[57..61].copy_from_slice(&1_i32.to_be_bytes());
        read_all(with_checksum(bytes));
    }

    #[test]
    fn any_change_to_a_batch_is_read_or_refused(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        end in any::<prop::sample::Index>(),
        cut: bool,
    ) {
        let writer = ProducerIdentity { id: 7, epoch: 3 };
        let mut bytes = BytesMut::from(&batch(&[1, 2, 3]).seal(writer, 0, 0)[..]);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            let end = end.index(bytes.len());
            bytes.truncate(end);
        }
        read_all(with_checksum(bytes));
    }

    #[test]
    fn any_headers_are_an_envelope_or_refused(
        values in vec(prop_oneof![".{0,40}", "[0-9a-f-]{32,36}", "[a-z]{1,8}(/[a-z]{1,8}){2}", "[0-9]{1,20}"], 17),
        missing in any::<prop::sample::Index>(),
    ) {
        use event_log::envelope::header::*;
        let names = [
            SPEC_VERSION, ID, TYPE, SOURCE, SUBJECT, TIME, STREAM_VERSION, TENANT, ACTOR,
            COMMAND_ID, FINGERPRINT, CAUSATION_ID, CORRELATION_ID, INDEX, COUNT, TERM, TRACE_PARENT,
        ];
        let missing = missing.index(names.len() * 2);
        let headers = names.iter().zip(&values).enumerate();
        let headers = headers.filter(|(at, _)| *at != missing).map(|(_, (name, value))| (*name, value.as_bytes()));
        let _ = Envelope::read(headers);
    }

    #[test]
    fn any_text_is_a_token_or_refused(text in "[A-Za-z0-9_-]{0,200}") {
        let _ = PositionToken::decode(&text);
    }
}
