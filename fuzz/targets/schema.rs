//! Any text that is registered as an Avro schema: refused, or a schema whose canonical text is the
//! same schema again, which reads what it wrote.
#![no_main]

use libfuzzer_sys::fuzz_target;
use schema_registry::avro::{AvroSchema, can_read};

fuzz_target!(|text: &str| {
    let Ok(schema) = AvroSchema::parse(text) else {
        return;
    };
    let canonical = schema.canonical();
    let again = AvroSchema::parse(&canonical).expect("a canonical text is a schema");
    assert_eq!(again.canonical(), canonical);
    if let Ok(differences) = can_read(&again, &schema) {
        assert!(differences.is_empty(), "{canonical}: {differences:?}");
    }
});
