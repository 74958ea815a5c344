//! The descriptions of both services are complete, and no operation goes untested.

use std::{collections::BTreeSet, net::SocketAddr};

use e2e::Answer;
use serde_json::{Value, json};

use crate::app;

#[tokio::test]
async fn every_described_operation_is_used() {
    let app = app().await;
    let company = app.new_company();
    let ada = company.user("ada", &["admin", "manager"]);
    let body = json!({ "email": "mia@parrots.example", "name": "Mia", "role": "manager" });
    let registered = ada.command("/v1/users").json(body).send().await;
    let created = ada.create_task("x").key("k-1").send().await;
    let id = created.id();
    let user = registered.id();

    let used = [
        ("post /v1/users", registered.clone()),
        ("post /v1/tasks", created.clone()),
        (
            "post /v1/tasks/{id}/assign",
            ada.assign(&id, "ada").send().await,
        ),
        (
            "post /v1/tasks/{id}/complete",
            ada.complete(&id).send().await,
        ),
        (
            "get /v1/commands/{key}",
            ada.recall("/v1/commands/k-1").await,
        ),
        (
            "get /v1/tasks/{id}/state",
            ada.recall(&format!("/v1/tasks/{id}/state")).await,
        ),
    ];
    let commands = operations(app.commands.address).await;
    compare(&commands, used);

    let read = async |path: &str| {
        let read = ada.read(path).after(&registered).after(&created);
        read.send().await
    };
    let used = [
        ("get /v1/tasks", read("/v1/tasks").await),
        ("get /v1/my/tasks", read("/v1/my/tasks").await),
        ("get /v1/tasks/{id}", read(&format!("/v1/tasks/{id}")).await),
        ("get /v1/users", read("/v1/users").await),
        (
            "get /v1/users/{id}",
            read(&format!("/v1/users/{user}")).await,
        ),
        (
            "get /v1/streams/{kind}/{id}/events",
            read(&format!("/v1/streams/task/{id}/events")).await,
        ),
        (
            "get /v1/correlations/{id}/events",
            read("/v1/correlations/00000000-0000-0000-0000-000000000001/events").await,
        ),
    ];
    let queries = operations(app.queries.address).await;
    compare(&queries, used);
}

/// Every operation was used, answered as its description says, and asks for a token.
fn compare<const N: usize>(described: &[(String, Value)], used: [(&str, Answer); N]) {
    let names: BTreeSet<_> = described.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, used.iter().map(|(name, _)| *name).collect());
    for (name, answer) in used {
        let answer = answer.succeeded();
        let (_, operation) = described.iter().find(|it| it.0 == name).unwrap();
        let status = answer.status.to_string();
        let described = &operation["responses"][&status];
        assert!(
            described.is_object(),
            "{name} answers {status}: {operation:#}"
        );
        assert!(
            operation["responses"]["401"].is_object(),
            "{name}: {operation:#}"
        );
        assert!(
            operation["security"][0]["bearer"].is_array(),
            "{name}: {operation:#}"
        );
        assert!(operation["operationId"].is_string() && operation["summary"].is_string());
    }
}

/// `method path` and description of each operation.
async fn operations(address: SocketAddr) -> Vec<(String, Value)> {
    let answer = reqwest::get(format!("http://{address}/openapi.json")).await;
    let openapi: Value = answer.unwrap().json().await.unwrap();
    let paths = openapi["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, methods)| {
        let methods = methods.as_object().unwrap().iter();
        methods.map(move |(method, operation)| (format!("{method} {path}"), operation.clone()))
    });
    operations.collect()
}
