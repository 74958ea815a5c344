//! The way of a task, from its creation to its history on the board.

use serde_json::json;

use crate::app;

#[tokio::test]
async fn a_task_goes_from_command_to_board_and_history() {
    let app = app().await;
    let company = app.new_company();
    let mia = company.manager("mia");
    let polly = company.worker("polly");

    let created = polly.create_task("AVRO-12: Sort the records").send().await;
    assert_eq!(created.status, 201, "{created:?}");
    let id = created.id();
    assert_eq!(
        created.header("location"),
        Some(format!("/v1/tasks/{id}").as_str())
    );
    assert_eq!(created.header("etag"), Some("\"1\""));

    mia.assign(&id, "rio").send().await.succeeded();
    let assigned = mia.assign(&id, "polly").send().await.succeeded();
    let board = polly.read("/v1/my/tasks").after(&assigned).send().await;
    assert_eq!(titles(&board.body), ["AVRO-12: Sort the records"]);

    let done = polly.complete(&id).if_match(3).send().await.succeeded();
    assert_eq!(done.header("etag"), Some("\"4\""));
    let board = polly.read("/v1/my/tasks").after(&done).send().await;
    assert!(titles(&board.body).is_empty(), "{board:?}");
    let board = mia.read("/v1/tasks?status=done&title=avro-12").after(&done);
    assert_eq!(titles(&board.send().await.body).len(), 1);

    let shown = mia
        .read(format!("/v1/tasks/{id}"))
        .after(&done)
        .send()
        .await;
    assert_eq!(shown.header("etag"), Some("\"4\""));
    let history = shown.body["history"].as_array().unwrap();
    let told: Vec<_> = history
        .iter()
        .map(|it| {
            (
                it["version"].clone(),
                it["event"].clone(),
                it["actor"].clone(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (json!(1), json!("TaskCreated"), json!("user:polly")),
            (json!(2), json!("TaskAssigned"), json!("user:mia")),
            (json!(3), json!("TaskAssigned"), json!("user:mia")),
            (json!(4), json!("TaskCompleted"), json!("user:polly")),
        ]
    );
    assert_eq!(history[2]["data"], json!({ "assignee": "polly" }));
}

#[tokio::test]
async fn a_streams_history_tells_what_its_events_say() {
    let app = app().await;
    let company = app.new_company();
    let mia = company.user("mia", &["manager", "admin"]);
    let created = mia.create_task("AVRO-12: Sort the records").send().await;
    let id = created.succeeded().id();
    // Others' events lie between them.
    mia.create_task("another").send().await.succeeded();
    let assigned = mia.assign(&id, "polly").send().await.succeeded();
    let path = format!("/v1/streams/task/{id}/events?data=true");
    let told = mia.read(&*path).after(&assigned).send().await.succeeded();
    assert_eq!(
        told.body["items"][0]["data"]["title"],
        "AVRO-12: Sort the records"
    );
    let event = &told.body["items"][1];
    assert_eq!(event["data"], json!({ "assignee": "polly" }));
    let request = event["correlation_id"].as_str().unwrap();
    let request = mia.read(format!("/v1/correlations/{request}/events?data=true"));
    assert_eq!(request.send().await.body["items"], json!([event]));
    let unasked = mia.read(path.replace("true", "false")).send().await;
    assert_eq!(unasked.succeeded().body["items"][1].get("data"), None);
}

fn titles(page: &serde_json::Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|it| it["title"].as_str().unwrap())
        .collect()
}
