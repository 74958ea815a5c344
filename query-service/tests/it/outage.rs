//! Postgres away at the start, and in the middle.

use dev_stack::{DevStack, Options, Source};

use crate::{board, problem, start_on, titles, until};

#[tokio::test]
async fn reads_go_on_by_themselves_when_postgres_is_back() {
    let mut options = Options::new(dev_stack::new_temporary_folder());
    // Nothing here asks for Kafka.
    options.kafka = Source::Existing("127.0.0.1:1".into());
    let stack = DevStack::start(options).await.unwrap();
    let server = stack.postgres_process();
    let url = stack.fresh_database().await.unwrap();
    server.kill().await;

    let running = start_on(&url, |_| ()).await;
    let away = async || {
        let refused = running.get_once("/v1/tasks").await;
        problem(refused, 503, "read-side-unavailable").await;
        let health = running.request("/health/ready").send().await.unwrap();
        assert_eq!(health.status(), 503);
        let report: serde_json::Value = health.json().await.unwrap();
        assert!(
            report["components"]["postgres"]["reason"].is_string(),
            "{report}"
        );
        assert_eq!(
            running
                .request("/health/live")
                .send()
                .await
                .unwrap()
                .status(),
            200
        );
    };
    away().await;

    server.start().await.unwrap();
    until("the missing tables are told", async || {
        let report = running.readiness.report();
        let reason = report.components["postgres"].reason.as_deref();
        reason.is_some_and(|reason| reason.contains("the projector makes them"))
    })
    .await;
    projector::read_side::migrate(&running.postgres)
        .await
        .unwrap();
    until("the missing model is told", async || {
        let report = running.readiness.report();
        report.components["postgres"].ready && !report.ready
    })
    .await;
    let refused = running.get_once("/v1/tasks").await;
    problem(refused, 503, "read-side-unavailable").await;
    board::build(&running.postgres, 1).await;
    board::activate(&running.postgres, 1).await;
    running.ready().await;
    assert_eq!(running.get("/v1/tasks").await.status(), 200);

    let waiting = tokio::spawn(running.get_waiting("/v1/tasks", 0));
    server.kill().await;
    until("it is noticed", async || !running.readiness.is_ready()).await;
    away().await;
    server.start().await.unwrap();
    // Its own connections were cut as well.
    until("rows can be written", async || {
        running.postgres.acquire().await.is_ok()
    })
    .await;
    board::project(&running.postgres, 1, &[(1, "after")]).await;
    running.ready().await;
    assert_eq!(titles(&running.get_json("/v1/tasks").await), ["after"]);
    // It waited through the outage, or was told to come again.
    let waited = waiting.await.unwrap().status();
    assert!([200, 503].contains(&waited.as_u16()), "{waited}");
    let again = running.get_waiting("/v1/tasks", 0).await;
    assert_eq!(titles(&again.json().await.unwrap()), ["after"]);
    running.stop().await;
    stack.stop().await;
}
