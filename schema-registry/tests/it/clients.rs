//! A client of others: `schema_registry_converter`, as producers and consumers use it.

use apache_avro::types::Value;
use schema_registry_converter::async_impl::avro::{AvroDecoder, AvroEncoder};
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_schema_by_id, get_schema_by_subject, post_schema,
};
use schema_registry_converter::avro_common::get_supplied_schema;
use schema_registry_converter::schema_registry_common::{SubjectNameStrategy, SuppliedSchema};
use serde_json::json;

use crate::running::{Running, install_crypto, registry};

fn settings(registry: &Running) -> SrSettings {
    install_crypto();
    SrSettings::new(registry.url())
}

fn supplied() -> SuppliedSchema {
    let schema = json!({"type": "record", "name": "TaskCreated", "namespace": "annals.tasks", "fields": [
        {"name": "title", "type": "string", "personal": true},
        {"name": "price", "type": ["null", {"type": "string", "logicalType": "decimal"}], "default": null}
    ]});
    get_supplied_schema(&apache_avro::Schema::parse(&schema).unwrap())
}

#[tokio::test]
async fn the_converter_registers_and_finds_schemas() {
    let registry = registry().await;
    let settings = settings(&registry);
    let posted = post_schema(&settings, "tasks-value".to_owned(), supplied())
        .await
        .unwrap();
    let by_id = get_schema_by_id(posted.id, &settings).await.unwrap();
    assert!(
        by_id.schema.contains(r#""personal":true"#),
        "{}",
        by_id.schema
    );
    let strategy = SubjectNameStrategy::TopicNameStrategy("tasks".to_owned(), false);
    let newest = get_schema_by_subject(&settings, &strategy).await.unwrap();
    assert_eq!((newest.id, newest.schema), (posted.id, by_id.schema));
    let missing = get_schema_by_id(99, &settings).await.unwrap_err();
    assert!(format!("{missing:?}").contains("404"), "{missing:?}");
}

#[tokio::test]
async fn what_the_converter_encodes_it_decodes() {
    let registry = registry().await;
    let strategy = SubjectNameStrategy::RecordNameStrategyWithSchema(supplied());
    let fields = vec![
        (
            "title",
            Value::String("[ATES-1] - Feed the parrots".to_owned()),
        ),
        (
            "price",
            Value::Union(1, Box::new(Value::String("13.14000".to_owned()))),
        ),
    ];
    let encoder = AvroEncoder::new(settings(&registry));
    let bytes = encoder.encode(fields.clone(), strategy).await.unwrap();
    registry
        .get("/subjects")
        .await
        .is(json!(["annals.tasks.TaskCreated"]));

    let decoder = AvroDecoder::new(settings(&registry));
    let decoded = decoder.decode(Some(&bytes)).await.unwrap();
    let fields = fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    assert_eq!(decoded.value, Value::Record(fields));
}
