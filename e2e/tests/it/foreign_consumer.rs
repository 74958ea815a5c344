//! A consumer with nothing but Kafka's and Confluent's conventions reads the log.

use std::collections::BTreeSet;

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value};
use serde_json::json;

use crate::{app, raw_log};

#[tokio::test]
async fn events_are_cloud_events_in_avro() {
    let app = app().await;
    let company = app.new_company();
    let mia = company.manager("mia");
    let body = json!({ "title": "Ä title", "jira_id": "AVRO-12", "assignee": "polly" });
    let command = mia.command("/v1/tasks").json(body).key("k-1").header(
        "traceparent",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    );
    let answer = command.send().await.succeeded();
    let stream = answer.text("stream");

    let events = raw_log::read(&app, "tasks");
    let events: Vec<_> = events.iter().filter(|it| it.stream() == stream).collect();
    let [created, assigned] = events[..] else {
        panic!("not two events: {events:#?}");
    };
    assert_eq!(created.partition, assigned.partition);
    let mut ids = BTreeSet::new();
    for (n, event) in events.iter().enumerate() {
        let header = |name: &str| event.headers[name].as_str();
        assert_eq!(event.key, stream);
        assert_eq!(header("ce_specversion"), "1.0");
        assert_eq!(header("ce_subject"), stream);
        assert!(ids.insert(header("ce_id").to_owned()), "{event:#?}");
        assert!(!header("ce_source").is_empty());
        assert!(header("ce_time").ends_with('Z'), "{event:#?}");
        assert_eq!(header("annals_tenant"), company.tenant);
        assert_eq!(header("annals_actor"), "user:mia");
        assert_eq!(header("annals_command_id"), "k-1");
        assert_eq!(header("annals_stream_version"), (n + 1).to_string());
        assert_eq!(header("annals_index"), n.to_string());
        assert_eq!(header("annals_count"), "2");
        assert_eq!(
            header("annals_correlation_id").replace('-', ""),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert!(header("traceparent").contains("0af7651916cd43dd8448eb211c80319c"));
        assert!(header("annals_term").parse::<u64>().is_ok());
        assert_eq!(header("annals_fingerprint").len(), 32);
    }
    assert_eq!(created.headers["ce_type"], "annals.tasks.TaskCreated");
    assert_eq!(assigned.headers["ce_type"], "annals.tasks.TaskAssigned");

    let registry = format!("http://{}", app.registry.address);
    assert_eq!(
        decode(&registry, &created.value).await,
        record([
            ("title", Value::String("Ä title".into())),
            (
                "jira_id",
                Value::Union(1, Value::String("AVRO-12".into()).into())
            ),
            ("typed_title", Value::Union(0, Value::Null.into())),
            ("description", Value::String("".into())),
            ("status", Value::Enum(0, "bird_in_a_cage".into())),
        ])
    );
    assert_eq!(
        decode(&registry, &assigned.value).await,
        record([("assignee", Value::String("polly".into()))])
    );
}

/// Confluent's framing: a zero byte, the schema's id in four bytes, Avro.
async fn decode(registry: &str, value: &[u8]) -> Value {
    assert_eq!(value[0], 0);
    let id = u32::from_be_bytes(value[1..5].try_into().unwrap());
    let answer = reqwest::get(format!("{registry}/schemas/ids/{id}")).await;
    let answer: serde_json::Value = answer.unwrap().json().await.unwrap();
    let schema = Schema::parse_str(answer["schema"].as_str().unwrap()).unwrap();
    let mut rest = &value[5..];
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let value = reader.read_value(&mut rest).unwrap();
    assert!(rest.is_empty(), "{} bytes are left over", rest.len());
    value
}

fn record<const N: usize>(fields: [(&str, Value); N]) -> Value {
    Value::Record(fields.map(|(name, value)| (name.to_owned(), value)).into())
}
