//! Any two schemas, a line each: they are compared in bounded time, either way.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schema_registry::avro::{AvroSchema, can_read};

fuzz_target!(|text: &str| {
    let Some((one, other)) = text.split_once('\n') else {
        return;
    };
    let (Ok(one), Ok(other)) = (AvroSchema::parse(one), AvroSchema::parse(other)) else {
        return;
    };
    let _ = can_read(&one, &other);
    let _ = can_read(&other, &one);
});
