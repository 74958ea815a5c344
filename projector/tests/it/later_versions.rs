//! Events of a release that came later: read by the rules that the registry has of them.

use std::sync::Arc;

use event_log::{
    migration::Migration,
    schemas::{ContextSchemas, SchemaFile},
};
use projector::{
    model,
    rebuild::{Rebuild, editions},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    exactly_once::fold,
    log::Piece,
    models::{Tally, schemas, written},
    quarantine::released,
    world::{World, registered, until},
};

const WRITTEN: &str = "annals.notes.Written";

/// In version 2 the text is called a message.
fn version_2(migration: Option<&str>) -> SchemaFile {
    SchemaFile {
        event: "Written".into(),
        version: 2,
        text: r#"{"type":"record","namespace":"annals.notes","name":"Written","fields":[
            {"name":"message","type":"string","default":""},
            {"name":"weight","type":"long"}]}"#
            .into(),
        migration: migration.map(|text| Arc::new(Migration::parse(text).unwrap())),
    }
}

const RENAMED: &str = r#"{"upgrade":{"type":"ANNALS","operations":[
    {"op":"rename","from":"text","to":"message"}]}}"#;

const AUTHORED: &str = r#"{"upgrade":{"type":"ANNALS","operations":[
    {"op":"default","field":"author","value":"unknown"}]},
    "downgrade":{"type":"ANNALS","drops":["author"]}}"#;

/// An event of version 2: `later`, with weight 2.
fn later(schema_id: u32) -> Vec<u8> {
    [&[0][..], &schema_id.to_be_bytes(), b"\x0alater\x04"].concat()
}

#[tokio::test]
async fn a_later_version_is_read_by_the_rules_that_lead_back_from_it() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("first", 1)]).await;
    world.caught_up("tally", &log).await;
    let file = version_2(Some(RENAMED));
    let id = registered(async || world.registry.register_file(WRITTEN, &file).await).await;
    log.append_raw("a", WRITTEN, &later(id)).await;
    world.caught_up("tally", &log).await;
    let events = [written("first", 1), written("later", 2)];
    assert_eq!(world.tally("a").await, Some(fold(&events)));
    running.stop().await;
}

#[tokio::test]
async fn without_a_rule_a_later_version_is_poison() {
    let (world, mut log) = World::new().await;
    let file = version_2(None);
    let id = registered(async || world.registry.register_file(WRITTEN, &file).await).await;
    let running = world.start(vec![model::<Tally>()]);
    log.append_raw("a", WRITTEN, &later(id)).await;
    world.caught_up("tally", &log).await;
    let quarantined = world.quarantined().await;
    assert_eq!(quarantined.len(), 1);
    let reason = &quarantined[0].reason;
    assert!(reason.contains("cannot be migrated"), "{reason}");
    running.stop().await;
}

/// In version 2 weights are text; what is no number has none in version 1.
fn weighed(downgrade: &str) -> SchemaFile {
    let upgrade = r#"{"type":"ANNALS","operations":[{"op":"convert","field":"weight"}]}"#;
    let rules = format!(r#"{{"upgrade":{upgrade},"downgrade":{downgrade}}}"#);
    SchemaFile {
        text: r#"{"type":"record","namespace":"annals.notes","name":"Written","fields":[
            {"name":"text","type":"string"},
            {"name":"weight","type":"string"}]}"#
            .into(),
        ..version_2(Some(&rules))
    }
}

#[tokio::test]
async fn an_event_that_a_rule_fails_on_stops_its_stream_alone_until_the_rule_is_mended() {
    let (world, mut log) = World::new().await;
    let file = weighed(
        r#"{"type":"ANNALS","operations":[{"op":"convert","field":"weight"}],"drops":["weight"]}"#,
    );
    let id = registered(async || world.registry.register_file(WRITTEN, &file).await).await;
    let event = |weight: &str| {
        let weight = [&[weight.len() as u8 * 2][..], weight.as_bytes()].concat();
        let head = [&[0][..], &id.to_be_bytes(), b"\x0alater"].concat();
        Piece::Raw(WRITTEN, [head, weight].concat())
    };
    let beside = (0..).map(|n| format!("b{n}"));
    let beside = beside
        .filter(|it| log.partition_of(it) == log.partition_of("a"))
        .take(1)
        .collect::<String>();
    let pieces = [
        ("a", "1"),
        (&beside, "2"),
        ("a", "many"),
        (&beside, "4"),
        ("a", "5"),
    ];
    let pieces = pieces.map(|(stream, weight)| (stream.to_owned(), event(weight)));
    log.append_mixed(&pieces).await;
    let running = world.start(vec![model::<Tally>()]);
    world.caught_up("tally", &log).await;
    running.ready().await;
    let quarantined = world.quarantined().await;
    assert_eq!(quarantined.len(), 1);
    assert_eq!(
        (&*quarantined[0].stream, quarantined[0].held),
        ("main/note/a", 1)
    );
    let reason = &quarantined[0].reason;
    assert!(reason.contains("`weight` cannot be migrated"), "{reason}");
    let later = |weights: &[i64]| {
        let events: Vec<_> = weights.iter().map(|it| written("later", *it)).collect();
        Some(fold(&events))
    };
    assert_eq!(world.tally("a").await, later(&[1]));
    assert_eq!(world.tally(&beside).await, later(&[2, 4]));
    running.stop().await;

    let mended = weighed(
        r#"{"type":"JSONATA","expression":"{'text': text, 'weight': weight = 'many' ? 100 : $number(weight)}"}"#,
    );
    let path = ["subjects", WRITTEN, "versions", "2", "rules"];
    let rules = json!({
        "migrationRules": mended.migration.unwrap().to_rules(2),
        "revision": 2,
    });
    let _: Value = registered(async || {
        let request = world.registry.request(Method::POST, &path).json(&rules);
        world.registry.ask(WRITTEN, request).await
    })
    .await;
    let running = world.start(vec![model::<Tally>()]);
    running.ready().await;
    let desk = world.desk(vec![model::<Tally>()]);
    let released = released(async || desk.retry("tally", "main/note/a").await).await;
    assert!(released[0].still.is_none());
    assert_eq!(world.tally("a").await, later(&[1, 100, 5]));
    running.stop().await;
}

#[tokio::test]
async fn while_nobody_can_be_asked_a_later_version_is_waited_for() {
    let (mut world, mut log) = World::new().await;
    let file = version_2(Some(RENAMED));
    let id = registered(async || world.registry.register_file(WRITTEN, &file).await).await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("first", 1)]).await;
    world.caught_up("tally", &log).await;
    world.end_registry().await;
    log.append_raw("a", WRITTEN, &later(id)).await;
    running.troubled("tally", "schema registry").await;
    assert!(world.quarantined().await.is_empty());
    world.serve_registry_again().await;
    world.caught_up("tally", &log).await;
    running.ready().await;
    let events = [written("first", 1), written("later", 2)];
    assert_eq!(world.tally("a").await, Some(fold(&events)));
    running.stop().await;
}

#[tokio::test]
async fn rows_of_events_that_were_read_otherwise_want_to_be_built_again() {
    let (world, mut log) = World::new().await;
    let running = world.start(vec![model::<Tally>()]);
    log.append("a", &[written("first", 1)]).await;
    world.caught_up("tally", &log).await;
    running.stop().await;
    let wanted = async || {
        let all = editions(&world.postgres, Some("tally")).await.unwrap();
        let wanted = all.iter().map(|it| (it.edition, it.needs_rebuild));
        wanted.collect::<Vec<_>>()
    };
    assert_eq!(wanted().await, [(1, false)]);

    // A release with one version more, to which a rule leads.
    let file = SchemaFile {
        text: r#"{"type":"record","namespace":"annals.notes","name":"Written","fields":[
            {"name":"text","type":"string"},
            {"name":"weight","type":"long"},
            {"name":"author","type":"string"}]}"#
            .into(),
        ..version_2(Some(AUTHORED))
    };
    registered(async || world.registry.register_file(WRITTEN, &file).await).await;
    let files = schemas();
    let files = files
        .files()
        .map(|file| (format!("{}.v1.avsc", file.event), file.text.clone()));
    let mut files: Vec<_> = files.collect();
    files.push(("Written.v2.avsc".into(), file.text.clone()));
    files.push(("Written.v2.migration.json".into(), AUTHORED.into()));
    let files = files.iter().map(|(name, text)| (&**name, &**text));
    let files = ContextSchemas::load("notes", files).unwrap();
    let running = world.start_reading(files, vec![model::<Tally>()]);
    running.ready().await;
    log.append("a", &[written("second", 1)]).await;
    world.caught_up("tally", &log).await;
    assert_eq!(wanted().await, [(1, true)]);

    Rebuild::begin(&world.postgres, &model::<Tally>())
        .await
        .unwrap();
    until("the new edition is read by one set of rules", async || {
        wanted().await == [(1, true), (2, false)]
    })
    .await;
    running.stop().await;
}
