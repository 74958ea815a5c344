//! A read that names a position.

use std::time::{Duration, Instant};

use reqwest::{Response, StatusCode};
use serde_json::json;
use tokio::{task::JoinHandle, time::timeout};

use crate::{answered, board, problem, start, start_with, titles, token};

/// Within a time that is long enough for a read that does not wait.
async fn is_answered_soon(read: &JoinHandle<Response>) -> bool {
    let answered = async {
        while !read.is_finished() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_millis(300), answered).await.is_ok()
}

#[tokio::test]
async fn a_read_waits_until_its_position_is_committed_and_told() {
    let running = start().await;
    let read = tokio::spawn(running.get_waiting("/v1/tasks", 4));
    assert!(!is_answered_soon(&read).await, "the read did not wait");

    board::project(&running.postgres, 5, &[(1, "feed the parrot")]).await;
    board::tell(&running.postgres, 5).await;
    let page = read.await.unwrap().json().await.unwrap();
    assert_eq!(titles(&page), ["feed the parrot"]);
    running.stop().await;
}

#[tokio::test]
async fn a_notification_is_enough_and_requests_do_not_ask_the_database_themselves() {
    let running = start_with(|config| {
        config.poll_ms = 3_600_000;
    })
    .await;
    let told = tokio::spawn(running.get_waiting("/v1/tasks", 0));
    let untold = tokio::spawn(running.get_waiting("/v1/tasks", 1));
    board::project(&running.postgres, 2, &[]).await;
    board::tell(&running.postgres, 1).await;
    assert_eq!(told.await.unwrap().status(), StatusCode::OK);
    assert!(!is_answered_soon(&untold).await, "it asked the database");
    board::tell(&running.postgres, 2).await;
    assert_eq!(untold.await.unwrap().status(), StatusCode::OK);
    running.stop().await;
}

#[tokio::test]
async fn a_commit_that_was_never_told_is_found() {
    let running = start().await;
    let read = tokio::spawn(running.get_waiting("/v1/tasks", 0));
    board::project(&running.postgres, 1, &[(1, "untold")]).await;
    let page = read.await.unwrap().json().await.unwrap();
    assert_eq!(titles(&page), ["untold"]);
    running.stop().await;
}

#[tokio::test]
async fn what_is_told_before_it_is_committed_is_not_believed() {
    let running = start().await;
    let read = tokio::spawn(running.get_waiting("/v1/tasks", 0));
    board::tell(&running.postgres, 1).await;
    // The service now thinks that it is there, and the snapshot knows better.
    tokio::time::sleep(Duration::from_millis(100)).await;
    board::project(&running.postgres, 1, &[(1, "late")]).await;
    let page = read.await.unwrap().json().await.unwrap();
    assert_eq!(titles(&page), ["late"]);
    running.stop().await;
}

#[tokio::test]
async fn a_position_from_the_future_is_not_waited_for_for_ever() {
    let running = start_with(|config| config.position_wait_ms = 300).await;
    board::project(&running.postgres, 5, &[]).await;
    // The service has heard of it.
    crate::until("what is there is visible", async || {
        running.get_waiting("/v1/tasks", 4).await.status() == StatusCode::OK
    })
    .await;
    let started = Instant::now();
    let response = running.get_waiting("/v1/tasks", i64::MAX).await;
    assert!(started.elapsed() >= Duration::from_millis(300));
    let problem = problem(response, 503, "not-yet-visible").await;
    assert_eq!(
        problem["positions"],
        json!([{"topic": board::TOPIC, "partition": 0, "offset": i64::MAX, "next_offset": 5}])
    );
    running.stop().await;
}

#[tokio::test]
async fn a_position_that_nobody_was_given_is_refused_at_once() {
    let running = start_with(|config| config.position_wait_ms = 3_600_000).await;
    for partition in [2, 99, i32::MAX] {
        let elsewhere = format!("/v1/tasks?position={}", token(board::TOPIC, partition, 0));
        problem(running.get(&elsewhere).await, 400, "position-impossible").await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_position_that_is_visible_costs_no_wait() {
    let running = start_with(|config| config.position_wait_ms = 0).await;
    board::project(&running.postgres, 5, &[(1, "seen")]).await;
    board::tell(&running.postgres, 5).await;
    crate::until("the position is visible", async || {
        running.get_waiting("/v1/tasks", 4).await.status() == StatusCode::OK
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_position_in_another_topic_is_no_concern_of_the_model() {
    let running = start_with(|config| config.position_wait_ms = 0).await;
    for topic in [
        "annals.accounts.events.1",
        "annals.board.events.2",
        "annals.boards.events.1",
        "board",
    ] {
        let path = format!("/v1/tasks?position={}", token(topic, 0, 1000));
        assert_eq!(running.get(&path).await.status(), StatusCode::OK, "{topic}");
    }
    running.stop().await;
}

#[tokio::test]
async fn tokens_in_the_header_and_in_the_query_are_both_waited_for() {
    let running = start_with(|config| config.position_wait_ms = 0).await;
    board::project(&running.postgres, 5, &[]).await;
    let seen = token(board::TOPIC, 0, 4);
    let unseen = token(board::TOPIC, 1, 0);
    for (header, parameter) in [(&seen, &unseen), (&unseen, &seen)] {
        let request = running
            .request(&format!("/v1/tasks?position={parameter}"))
            .bearer_auth(running.token("ada", "main"))
            .header("Annals-Position", header);
        problem(request.send().await.unwrap(), 503, "not-yet-visible").await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_token_that_is_none_is_malformed() {
    let running = start().await;
    let impossible = token(board::TOPIC, 0, -1);
    for text in ["x", "W10", "e30", "", &"A".repeat(5000), &impossible] {
        let path = format!("/v1/tasks?position={text}");
        problem(running.get(&path).await, 400, "position-malformed").await;
        let request = running
            .request("/v1/tasks")
            .bearer_auth(running.token("ada", "main"))
            .header("Annals-Position", text);
        problem(request.send().await.unwrap(), 400, "position-malformed").await;
    }
    running.stop().await;
}

#[tokio::test]
async fn only_so_many_reads_wait_at_a_time() {
    let running = start_with(|config| {
        config.waiting_reads = 2;
        config.position_wait_ms = 60_000;
    })
    .await;
    // Each comes again when the third, which asks who is there, has come before it.
    let wait = || {
        let request = running.waiting("/v1/tasks", 0);
        async move {
            loop {
                let response = answered(request.try_clone().unwrap()).await;
                if response.status() != StatusCode::SERVICE_UNAVAILABLE {
                    return response;
                }
            }
        }
    };
    let waiting: Vec<_> = (0..2).map(|_| tokio::spawn(wait())).collect();
    crate::until("two reads wait", async || {
        let third = running.get_waiting("/v1/tasks", 0);
        match timeout(Duration::from_millis(200), third).await {
            Ok(response) => response.status() == StatusCode::SERVICE_UNAVAILABLE,
            Err(_) => false,
        }
    })
    .await;
    problem(running.get_waiting("/v1/tasks", 0).await, 503, "busy").await;
    // Who waits for nothing is served meanwhile.
    running.get_json("/v1/tasks").await;
    board::project(&running.postgres, 1, &[]).await;
    for read in waiting {
        assert_eq!(read.await.unwrap().status(), StatusCode::OK);
    }
    running.stop().await;
}
