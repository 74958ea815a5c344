//! Nobody sees another tenant's rows.

use reqwest::StatusCode;

use crate::{board, problem, start, titles};

#[tokio::test]
async fn a_tenant_sees_its_own_rows_alone() {
    let running = start().await;
    board::project_for(&running.postgres, "main", 1, 1, &[(1, "ours")]).await;
    board::project_for(
        &running.postgres,
        "acme",
        1,
        2,
        &[(1, "theirs"), (2, "more")],
    )
    .await;

    for (tenant, expected) in [
        ("main", &["ours"][..]),
        ("acme", &["more", "theirs"]),
        ("new", &[]),
    ] {
        let page = running
            .get_as(tenant, "/v1/tasks")
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(titles(&page), expected, "{tenant}");
    }
    // Another's is no different from one that never was.
    let theirs = problem(running.get("/v1/tasks/2").await, 404, "task-not-found").await;
    let nobodys = problem(running.get("/v1/tasks/3").await, 404, "task-not-found").await;
    assert_eq!(theirs["title"], nobodys["title"]);
    assert_eq!(
        theirs.as_object().unwrap().len(),
        nobodys.as_object().unwrap().len()
    );
    running.stop().await;
}

#[tokio::test]
async fn a_statement_that_forgets_the_tenant_is_refused() {
    let running = start().await;
    board::project_for(&running.postgres, "acme", 1, 1, &[(1, "theirs")]).await;
    for path in ["/v1/forgetful", "/v1/forgetful/0"] {
        let problem = problem(running.get(path).await, 500, "internal").await;
        assert!(problem["trace_id"].is_string());
        let mut members: Vec<_> = problem.as_object().unwrap().keys().collect();
        // In which order depends on what else is built with serde_json.
        members.sort();
        assert_eq!(members, ["code", "status", "title", "trace_id", "type"]);
    }
    // The connection serves the next one.
    assert_eq!(running.get("/v1/tasks").await.status(), StatusCode::OK);
    running.stop().await;
}
