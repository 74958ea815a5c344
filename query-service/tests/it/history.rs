//! What happened to a stream, from the index of all streams.

use event_log::{
    cluster::Cluster,
    topics::{Purpose, TopicOptions, ensure_topic},
};
use futures::future::BoxFuture;
use query_service::{DecodeEvents, EventData};
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::{Running, answered, board, follower::EventStream, problem, start, start_with};

const TASK: &str = "/v1/streams/task/1/events";

/// The index as the projector builds it, without a row.
async fn build_index(postgres: &PgPool) {
    let statements = format!(
        r#"create schema rm_stream_index_e1;
           create table rm_stream_index_e1.stream_index (
               tenant text not null, stream text not null, version bigint not null,
               event_type text not null, time timestamptz not null, actor text not null,
               topic text not null, partition integer not null, "offset" bigint not null,
               command_id text not null, correlation_id uuid not null, causation_id uuid,
               primary key (topic, partition, "offset"));
           insert into annals.editions (model, edition, version, tables)
               values ('stream-index', 1, 1, '');
           insert into annals.active_editions (model, edition) values ('stream-index', 1);
           insert into annals.checkpoints
               (model, edition, topic, partition, topic_id, next_offset, term)
           select 'stream-index', 1, '{}', p, gen_random_uuid(), 0, 0 from generate_series(0, 1) p"#,
        board::TOPIC
    );
    let mut connection = postgres.acquire().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(&mut *connection)
        .await
        .unwrap();
}

/// An event of this stream, in partition 0.
async fn happens(running: &Running, stream: &str, version: i64, correlation: Uuid) {
    sqlx::query(
        r#"with moved as (
               update annals.checkpoints set next_offset = next_offset + 1
                where model = 'stream-index' and partition = 0 returning next_offset - 1 as at)
           insert into rm_stream_index_e1.stream_index
           select split_part($1, '/', 1), $1, $2, 'annals.board.TaskDone',
                  timestamptz '2026-11-21T10:00:00Z' + at * interval '1 minute', 'user:ada', $3, 0,
                  at, 'key-' || at, $4, null
             from moved"#,
    )
    .bind(stream)
    .bind(version)
    .bind(board::TOPIC)
    .bind(correlation)
    .execute(&running.postgres)
    .await
    .unwrap();
}

async fn start_with_index() -> Running {
    let running = start().await;
    index(&running).await;
    running
}

/// Returns when it is served.
async fn index(running: &Running) {
    build_index(&running.postgres).await;
    crate::until("the index is served", async || {
        running
            .get("/v1/correlations/00000000-0000-0000-0000-000000000001/events")
            .await
            .status()
            == 200
    })
    .await;
}

fn versions(page: &Value) -> Vec<i64> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|it| it["version"].as_i64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_streams_events_are_read_page_by_page() {
    let running = start_with_index().await;
    let request = Uuid::from_u128(1);
    for version in 1..=5 {
        happens(&running, "main/task/1", version, request).await;
        happens(&running, "acme/task/1", version, request).await;
    }
    let page = running.get_json(&format!("{TASK}?limit=2")).await;
    assert_eq!(versions(&page), [1, 2]);
    let event = &page["items"][1];
    assert_eq!(event["type"], "annals.board.TaskDone");
    assert_eq!(event["stream"], "main/task/1");
    assert_eq!(
        (&event["offset"], &event["actor"]),
        (&2.into(), &"user:ada".into())
    );
    let of_it = kernel::EventId::of(&"main/task/1".parse().unwrap(), kernel::StreamVersion(2));
    assert_eq!(event["id"], of_it.to_string());
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = running
        .get_json(&format!("{TASK}?limit=3&cursor={cursor}"))
        .await;
    assert_eq!(versions(&page), [3, 4, 5]);
    assert!(page.get("next_cursor").is_none());
    let page = running.get_json(&format!("{TASK}?from=4")).await;
    assert_eq!(versions(&page), [4, 5]);
    let page = running.get_json(&format!("{TASK}?from=6")).await;
    assert_eq!(versions(&page), [] as [i64; 0]);
    running.stop().await;
}

struct Unreachable;

impl DecodeEvents for Unreachable {
    fn decode<'a>(
        &'a self,
        _: &'a str,
        _: &'a str,
        _: &'a [u8],
    ) -> BoxFuture<'a, Result<Value, String>> {
        unreachable!("there is nothing to decode")
    }
}

#[tokio::test]
async fn what_events_say_needs_kafka_and_nothing_else_does() {
    let nowhere = EventData::new(Cluster::new("127.0.0.1:1"), Unreachable);
    for event_data in [None, Some(nowhere)] {
        let running = start_with(|config| config.event_data = event_data).await;
        index(&running).await;
        happens(&running, "main/task/1", 1, Uuid::from_u128(1)).await;
        let path = format!("{TASK}?data=true");
        let refused = running.get_once(&path).await;
        problem(refused, 503, "read-side-unavailable").await;
        assert_eq!(versions(&running.get_json(TASK).await), [1]);
        let path = format!("{TASK}?data=yes");
        problem(running.get(&path).await, 422, "invalid-field").await;
        running.stop().await;
    }
}

#[tokio::test]
async fn an_event_that_the_log_does_not_have_is_shown_without_data() {
    let kafka = Cluster::new(dev_stack::shared().await.kafka());
    let topic = TopicOptions::default();
    ensure_topic(&kafka, board::TOPIC, Purpose::Events, 2, topic)
        .await
        .unwrap();
    let running = start_with(|config| {
        config.event_data = Some(EventData::new(kafka, Unreachable));
    })
    .await;
    index(&running).await;
    happens(&running, "main/task/1", 1, Uuid::from_u128(1)).await;
    let page = running.get_json(&format!("{TASK}?data=true")).await;
    let event = &page["items"][0];
    assert_eq!(event["data_error"], "it is not in the log");
    assert_eq!(event.get("data"), None);
    running.stop().await;
}

#[tokio::test]
async fn all_that_came_of_a_request_is_read_in_the_order_of_time() {
    let running = start_with_index().await;
    let [request, another] = [Uuid::from_u128(1), Uuid::from_u128(2)];
    happens(&running, "main/task/1", 1, request).await;
    happens(&running, "main/task/2", 1, another).await;
    happens(&running, "main/task/2", 2, request).await;
    happens(&running, "acme/task/2", 2, request).await;
    let path = format!("/v1/correlations/{request}/events");
    let page = running.get_json(&format!("{path}?limit=1")).await;
    assert_eq!(versions(&page), [1]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = running.get_json(&format!("{path}?cursor={cursor}")).await;
    assert_eq!(versions(&page), [2]);
    assert_eq!(page["items"][0]["stream"], "main/task/2");
    // A cursor of the one list is none of the other.
    let elsewhere = running.get(&format!("{TASK}?cursor={cursor}")).await;
    problem(elsewhere, 400, "cursor-malformed").await;
    running.stop().await;
}

#[tokio::test]
async fn a_stream_and_a_correlation_are_followed() {
    let running = start_with_index().await;
    let [request, another] = [Uuid::from_u128(1), Uuid::from_u128(2)];
    happens(&running, "main/task/1", 1, request).await;
    let mut stream = EventStream::open(&running, TASK, None).await;
    assert_eq!(versions(&stream.expect("state").await.data), [1]);
    let path = format!("/v1/correlations/{another}/events");
    let mut correlation = EventStream::open(&running, &path, None).await;
    correlation.expect("state").await;
    happens(&running, "main/task/1", 2, another).await;
    happens(&running, "main/task/2", 1, request).await;
    happens(&running, "main/task/1", 3, request).await;
    assert_eq!(stream.versions(2).await, [2, 3]);
    let told = correlation.expect("change").await;
    assert_eq!(told.version(), 2);
    assert_eq!(told.data["stream"], "main/task/1");
    happens(&running, "main/task/3", 1, another).await;
    assert_eq!(correlation.versions(1).await, [1]);
    let path = format!("{TASK}?since=beginning");
    let mut from_the_start = EventStream::open(&running, &path, None).await;
    assert_eq!(from_the_start.versions(3).await, [1, 2, 3]);
    let again = &told.position;
    let path = format!("/v1/correlations/{another}/events");
    let mut correlation = EventStream::open(&running, &path, Some(again)).await;
    assert_eq!(correlation.versions(1).await, [1]);
    running.stop().await;
}

#[tokio::test]
async fn what_is_not_there_and_what_makes_no_sense_is_refused() {
    let running = start_with_index().await;
    happens(&running, "main/task/1", 1, Uuid::from_u128(1)).await;
    for unknown in [
        "/v1/streams/task/2/events",
        "/v1/streams/nothing/1/events",
        "/v1/streams/TASK/1/events",
        "/v1/streams/task/1%27%20or%20%271%27%3D%271/events",
        "/v1/streams/task/1%3B%20drop%20table%20stream_index/events",
    ] {
        problem(running.get(unknown).await, 404, "no-such-stream").await;
        let followed = crate::follower::asked(&running, unknown, None);
        problem(answered(followed).await, 404, "no-such-stream").await;
    }
    let acme = running.get_as("acme", TASK).await;
    problem(acme, 404, "no-such-stream").await;
    for no_uuid in ["x", "%27--", "00000000"] {
        let path = format!("/v1/correlations/{no_uuid}/events");
        problem(running.get(&path).await, 404, "no-such-correlation").await;
    }
    for wrong in [
        "limit=0",
        "limit=1000000000",
        "limit=-1",
        "from=0",
        "from=x",
        "from=99999999999999999999",
    ] {
        let path = format!("{TASK}?{wrong}");
        problem(running.get(&path).await, 422, "invalid-field").await;
    }
    problem(
        running.get(&format!("{TASK}?cursor=x")).await,
        400,
        "cursor-malformed",
    )
    .await;
    problem(
        running.get(&format!("{TASK}?kind=x")).await,
        422,
        "unknown-parameter",
    )
    .await;
    let someone = service_kit::TokenRequest::new(kernel::Actor::User("mia".into()));
    let token = running.key.issue(&someone.role("worker"), crate::HOUR);
    for accept in ["application/json", "text/event-stream"] {
        let request = running
            .request(TASK)
            .bearer_auth(&token)
            .header("accept", accept);
        problem(request.send().await.unwrap(), 403, "role-required").await;
    }
    running.stop().await;
}
