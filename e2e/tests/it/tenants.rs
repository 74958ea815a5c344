//! What belongs to one tenant does not exist for another.

use crate::{app, raw_log};

#[tokio::test]
async fn another_tenants_task_does_not_exist() {
    let app = app().await;
    let (ours, theirs) = (app.new_company(), app.new_company());
    let (mia, eve) = (
        ours.manager("mia"),
        theirs.user("mia", &["manager", "admin"]),
    );
    let created = mia.create_task("secret").key("the-same").send().await;
    let task = created.succeeded();
    let id = task.id();
    let stream = task.text("stream").to_owned();

    for command in [eve.assign(&id, "mia"), eve.complete(&id)] {
        command.send().await.is_problem(404, "no-such-task");
    }
    // Waiting for it too tells no more than that it has been projected.
    let read = eve.read(format!("/v1/tasks/{id}")).after(&task);
    read.send().await.is_problem(404, "no-such-task");
    let board = eve.read("/v1/tasks").after(&task).send().await;
    assert_eq!(board.body["items"], serde_json::json!([]));
    let recalls = [
        "/v1/commands/the-same".to_owned(),
        format!("/v1/commands/the-same?stream={stream}"),
        format!("/v1/commands/the-same?stream=task/{id}"),
    ];
    for recall in &recalls {
        eve.recall(recall).await.is_problem(404, "unknown-command");
        assert_eq!(mia.recall(recall).await.succeeded().id(), id);
    }

    // The same person, key and title in another tenant is another task.
    let other = eve.create_task("secret").key("the-same").send().await;
    assert_ne!(other.succeeded().id(), id);
    let shown = mia
        .read(format!("/v1/tasks/{id}"))
        .after(&task)
        .send()
        .await;
    assert_eq!(shown.succeeded().number("version"), 1);
    let of_task = raw_log::read(&app, "tasks");
    let of_task = of_task.iter().filter(|event| event.stream() == stream);
    assert_eq!(of_task.count(), 1);
}
