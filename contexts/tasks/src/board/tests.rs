use annals::read_model::testing::given;
use serde_json::json;
use sqlx::PgPool;

use super::TaskBoard;
use crate::{TaskEvent, TaskStatus, UserId};

async fn postgres() -> PgPool {
    let stack = dev_stack::shared().await;
    let database = stack.fresh_database().await.unwrap();
    PgPool::connect(&database).await.unwrap()
}

fn created(title: &str) -> TaskEvent {
    TaskEvent::TaskCreated {
        title: title.into(),
        jira_id: None,
        typed_title: None,
        description: "all of it".into(),
        status: TaskStatus::BirdInACage,
    }
}

fn assigned(to: &str) -> TaskEvent {
    TaskEvent::TaskAssigned {
        assignee: UserId::parse(to).unwrap(),
    }
}

fn completed(by: &str) -> TaskEvent {
    TaskEvent::TaskCompleted {
        completed_by: UserId::parse(by).unwrap(),
    }
}

#[tokio::test]
async fn the_board_shows_each_task_as_its_last_events_left_it() {
    given::<TaskBoard>()
        .event_by("user:mia", "main/task/1", created("Sort the records"))
        .event("main/task/2", created("Dust the shelves"))
        .event("main/task/1", assigned("ada"))
        .event("acme/task/1", created("Somebody else's"))
        .event("main/task/1", assigned("bob"))
        .event("main/task/2", assigned("ada"))
        .event("main/task/3", created("Wind the clock"))
        .event("main/task/1", completed("bob"))
        .event("main/task/2", assigned("cy"))
        .then(
            &postgres().await,
            "select tenant, id, version, title, assignee, created_by,
                    completed_at is not null as done
               from tasks order by tenant, id",
            json!([
                { "tenant": "acme", "id": "1", "version": 1, "title": "Somebody else's",
                  "assignee": null, "created_by": "user:somebody", "done": false },
                { "tenant": "main", "id": "1", "version": 4, "title": "Sort the records",
                  "assignee": "bob", "created_by": "user:mia", "done": true },
                { "tenant": "main", "id": "2", "version": 3, "title": "Dust the shelves",
                  "assignee": "cy", "created_by": "user:somebody", "done": false },
                { "tenant": "main", "id": "3", "version": 1, "title": "Wind the clock",
                  "assignee": null, "created_by": "user:somebody", "done": false },
            ]),
        )
        .await;
}

#[tokio::test]
async fn a_task_has_all_of_its_history() {
    given::<TaskBoard>()
        .event("main/task/1", created("Sort the records"))
        .event("main/task/2", created("Dust the shelves"))
        .event("main/task/1", assigned("ada"))
        .event("main/task/1", completed("ada"))
        .then(
            &postgres().await,
            "select version, event, data from history where id = '1' order by version",
            json!([
                { "version": 1, "event": "TaskCreated",
                  "data": { "title": "Sort the records", "jira_id": null, "description": "all of it" } },
                { "version": 2, "event": "TaskAssigned", "data": { "assignee": "ada" } },
                { "version": 3, "event": "TaskCompleted", "data": { "completed_by": "ada" } },
            ]),
        )
        .await;
}
