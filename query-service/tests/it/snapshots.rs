//! One moment of one edition.

use projector::ReadModel;
use serde_json::json;
use sqlx::Connection;
use tokio::time::timeout;

use crate::{PATIENCE, answered, board, problem, start, start_with, titles, until};

#[tokio::test]
async fn all_statements_of_a_read_see_the_same_rows() {
    let running = start().await;
    board::project(&running.postgres, 1, &[(1, "before")]).await;
    let mut lock = running.postgres.acquire().await.unwrap().detach();
    sqlx::query("select pg_advisory_lock(7)")
        .execute(&mut lock)
        .await
        .unwrap();
    let counts = async {
        let counts: serde_json::Value = running.get_json("/v1/counts").await;
        counts
    };
    let write = async {
        until("the read waits for the lock", async || {
            sqlx::query_scalar(
                "select exists (select from pg_locks
                                  join pg_database on database = pg_database.oid
                                 where locktype = 'advisory' and not granted
                                   and datname = current_database())",
            )
            .fetch_one(&running.postgres)
            .await
            .unwrap()
        })
        .await;
        board::project(&running.postgres, 2, &[(2, "meanwhile")]).await;
        lock.close().await.unwrap();
    };
    let (counts, ()) = tokio::join!(counts, write);
    assert_eq!(counts, json!([1, 1]));
    assert_eq!(titles(&running.get_json("/v1/tasks").await).len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_swapped_edition_is_read_from_then_on() {
    // The same connection serves both.
    let running = start_with(|config| config.connections = 1).await;
    board::project_for(&running.postgres, "main", 1, 1, &[(1, "old")]).await;
    let tables = board::Board::TABLES.replace("title   text", "title   varchar");
    assert_ne!(tables, board::Board::TABLES);
    board::build_with(&running.postgres, 2, &tables).await;
    board::project_for(&running.postgres, "main", 2, 1, &[(1, "new")]).await;
    assert_eq!(titles(&running.get_json("/v1/tasks").await), ["old"]);
    board::activate(&running.postgres, 2).await;
    until("the new edition is read", async || {
        titles(&running.get_json("/v1/tasks").await) == ["new"]
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn an_edition_of_another_version_is_not_read() {
    let running = start().await;
    sqlx::query("update annals.editions set version = 2")
        .execute(&running.postgres)
        .await
        .unwrap();
    until("the other version is noticed", async || {
        !running.readiness.is_ready()
    })
    .await;
    let refused = running.get_once("/v1/tasks").await;
    let told = problem(refused, 503, "read-side-unavailable").await;
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.contains("is built in version 2"), "{detail}");
    running.stop().await;
}

#[tokio::test]
async fn one_row_is_shown_with_the_version_of_its_stream() {
    let running = start().await;
    board::project(&running.postgres, 1, &[(7, "seven")]).await;
    let response = running.get("/v1/tasks/7").await;
    assert_eq!(response.headers()["etag"], "\"1\"");
    let task: serde_json::Value = response.json().await.unwrap();
    assert_eq!(task, json!({"id": 7, "title": "seven", "done": false}));
    running.stop().await;
}

#[tokio::test]
async fn a_statement_that_takes_too_long_is_cancelled() {
    let running = start_with(|config| config.statement_timeout_ms = 200).await;
    // It would take ten minutes.
    let cancelled = timeout(PATIENCE, running.get("/v1/slow")).await.unwrap();
    problem(cancelled, 503, "read-timed-out").await;
    // What is quick may take as long on a busy machine.
    until("others are served", async || {
        running.get("/v1/tasks").await.status() == 200
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn reads_beyond_the_connections_are_turned_away_and_the_checkpoints_still_followed() {
    let running = start_with(|config| {
        config.connections = 1;
        config.statement_timeout_ms = 600_000;
    })
    .await;
    let slow = running
        .request("/v1/slow")
        .bearer_auth(running.token("ada", "main"));
    let slow = tokio::spawn(answered(slow));
    until("the only connection is taken", async || {
        sqlx::query_scalar(
            "select exists (select from pg_stat_activity
                             where datname = current_database() and state = 'active'
                               and query like '%pg_sleep(600)%' and pid <> pg_backend_pid())",
        )
        .fetch_one(&running.postgres)
        .await
        .unwrap()
    })
    .await;
    let refused = running.get_once("/v1/tasks").await;
    problem(refused, 503, "read-side-unavailable").await;
    running.ready().await;
    // A client that goes away frees its connection: its statement is cut.
    slow.abort();
    sqlx::query("select pg_terminate_backend(pid) from pg_stat_activity where query like '%pg_sleep(600)%' and pid <> pg_backend_pid()")
        .execute(&running.postgres)
        .await
        .unwrap();
    until("reads are served again", async || {
        running.get("/v1/tasks").await.status() == 200
    })
    .await;
    running.stop().await;
}
