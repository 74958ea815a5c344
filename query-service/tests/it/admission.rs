//! What is refused before a handler sees it.

use std::time::Duration;

use kernel::Actor;
use service_kit::{DevKey, TokenRequest};

use crate::{HOUR, answered, board, problem, start, titles};

#[tokio::test]
async fn a_query_wants_a_valid_token() {
    let running = start().await;
    for path in ["/v1/tasks", "/v1/tasks/1", "/v1/tasks?nonsense=1"] {
        let response = running.request(path).send().await.unwrap();
        problem(response, 401, "token-missing").await;
    }
    let ada = TokenRequest::new(Actor::User("ada".into()));
    let forged = DevKey::generate().issue(&ada, HOUR);
    let expired = running.key.issue(&ada, Duration::ZERO);
    for (token, code) in [
        (forged.as_str(), "token-invalid"),
        (&expired, "token-expired"),
        ("x", "token-invalid"),
    ] {
        let request = running.request("/v1/tasks").bearer_auth(token);
        problem(request.send().await.unwrap(), 401, code).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn health_metrics_and_openapi_are_open() {
    let running = start().await;
    for path in ["/health/live", "/health/ready", "/metrics", "/openapi.json"] {
        let response = running.request(path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
    }
    let openapi = running.request("/openapi.json").send().await.unwrap();
    let openapi: serde_json::Value = openapi.json().await.unwrap();
    let list = &openapi["paths"]["/v1/tasks"]["get"];
    let names: Vec<_> = list["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "search",
            "done",
            "limit",
            "cursor",
            "wait",
            "since",
            "Last-Event-ID",
            "annals-position",
            "position"
        ]
    );
    assert!(list["responses"]["503"].is_object() && list["security"].is_array());
    assert!(openapi["components"]["schemas"]["Problem"].is_object());
    running.stop().await;
}

#[tokio::test]
async fn a_parameter_that_is_not_declared_is_named() {
    let running = start().await;
    for (path, parameter) in [
        ("/v1/tasks?serach=x", "serach"),
        ("/v1/tasks?search=x&x=1", "x"),
        ("/v1/tasks?Limit=1", "Limit"),
        ("/v1/tasks?%27;drop", "';drop"),
        ("/v1/tasks/1?limit=1", "limit"),
        ("/v1/tasks?=", ""),
    ] {
        let problem = problem(running.get(path).await, 422, "unknown-parameter").await;
        assert_eq!(problem["parameter"], parameter, "{path}");
    }
    let long = format!("/v1/tasks?{}=1", "x".repeat(5000));
    let problem = problem(running.get(&long).await, 422, "unknown-parameter").await;
    assert!(problem.to_string().len() < 1000);
    running.stop().await;
}

#[tokio::test]
async fn a_value_that_is_not_valid_is_named() {
    let running = start().await;
    for (path, field) in [
        ("/v1/tasks?done=perhaps", "done"),
        ("/v1/tasks?done=true&done=false", "done"),
        ("/v1/tasks?limit=5&limit=6", "limit"),
        ("/v1/tasks?search=a%00b", "search"),
    ] {
        let problem = problem(running.get(path).await, 422, "invalid-field").await;
        assert_eq!(problem["field"], field, "{path}");
    }
    for path in [
        "/v1/tasks/x",
        "/v1/tasks/99999999999",
        "/v1/tasks/%00",
        "/v1/tasks/%ff",
    ] {
        problem(running.get(path).await, 400, "invalid-path").await;
    }
    problem(running.get("/v1/nothing").await, 404, "no-such-route").await;
    let post = running
        .client
        .post(format!("http://{}/v1/tasks", running.address));
    problem(post.send().await.unwrap(), 405, "method-not-allowed").await;
    running.stop().await;
}

#[tokio::test]
async fn sql_in_a_filter_is_text() {
    let running = start().await;
    let hostile = "'; drop table tasks; -- \" \\ % _ $1 \u{1F99C}";
    board::project(&running.postgres, 1, &[(1, hostile), (2, "plain")]).await;
    for search in [
        hostile,
        "' or '1'='1",
        "%",
        "_",
        "\\",
        "$1",
        "\u{1F99C}",
        "\u{7}",
    ] {
        let request = running
            .request("/v1/tasks")
            .query(&[("search", search)])
            .bearer_auth(running.token("ada", "main"));
        let page: serde_json::Value = answered(request).await.json().await.unwrap();
        let expected: Vec<_> = Some(hostile)
            .filter(|title| title.contains(search))
            .into_iter()
            .collect();
        assert_eq!(titles(&page), expected, "{search}");
    }
    running.stop().await;
}
