//! Lists, page by page.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Running, board, problem, start, titles};

#[tokio::test]
async fn the_cursor_walks_all_rows_once_in_order_while_rows_are_added() {
    let running = start().await;
    // Many with the same title, so that pages end between equals.
    let name = |n: i32| format!("task {:02}", n / 7);
    let first: Vec<_> = (0..100).map(|n| (n * 2, name(n * 2))).collect();
    write(&running, 1, &first).await;

    let mut walked: Vec<(String, i64)> = Vec::new();
    let mut cursor = None;
    let mut next_offset = 1;
    loop {
        let page = list(&running, 9, cursor.as_deref()).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 9);
        for item in items {
            walked.push((
                item["title"].as_str().unwrap().into(),
                item["id"].as_i64().unwrap(),
            ));
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() {
            break;
        }
        // Somebody adds rows before and after the place.
        next_offset += 1;
        let n = next_offset as i32;
        write(
            &running,
            next_offset,
            &[(n * 2 + 1, name(n * 2)), (1000 + n, "zzz".into())],
        )
        .await;
    }
    assert!(walked.is_sorted_by(|a, b| a < b), "out of order, or twice");
    let ids: BTreeSet<_> = walked.iter().map(|(_, id)| *id).collect();
    assert!(first.iter().all(|(id, _)| ids.contains(&i64::from(*id))));
    running.stop().await;
}

#[tokio::test]
async fn a_page_has_fifty_rows_unless_told_and_the_last_has_no_cursor() {
    let running = start().await;
    assert_eq!(
        list_path(&running, "/v1/tasks").await.to_string(),
        r#"{"items":[]}"#
    );
    let rows: Vec<_> = (0..50).map(|n| (n, format!("{n:03}"))).collect();
    write(&running, 1, &rows).await;
    let page = list_path(&running, "/v1/tasks").await;
    assert_eq!(titles(&page).len(), 50);
    assert_eq!(page.get("next_cursor"), None);
    write(&running, 2, &[(50, "050".into())]).await;
    let page = list_path(&running, "/v1/tasks").await;
    let path = format!("/v1/tasks?cursor={}", page["next_cursor"].as_str().unwrap());
    let page = list_path(&running, &path).await;
    assert_eq!(titles(&page), ["050"]);
    assert_eq!(page.get("next_cursor"), None);
    running.stop().await;
}

#[tokio::test]
async fn a_limit_out_of_bounds_is_named() {
    let running = start().await;
    for limit in [
        "0",
        "201",
        "1000000000",
        "-1",
        "abc",
        "",
        "1.5",
        "99999999999999999999",
    ] {
        let path = format!("/v1/tasks?limit={limit}");
        let problem = problem(running.get(&path).await, 422, "invalid-field").await;
        assert_eq!(problem["field"], "limit");
    }
    for limit in ["1", "200"] {
        list_path(&running, &format!("/v1/tasks?limit={limit}")).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_cursor_that_is_not_one_of_this_list_is_malformed() {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

    let running = start().await;
    let forged = |json: &str| BASE64_URL_SAFE_NO_PAD.encode(json);
    for cursor in [
        "x".to_owned(),
        String::new(),
        "!!".into(),
        "A".repeat(5000),
        forged("{}"),
        forged(r#"[1,"other list",["a",1]]"#),
        forged(r#"[1,"tasks by title and id",[1,1]]"#),
        forged(r#"[1,"tasks by title and id",["a",1,2]]"#),
        forged(r#"[1,"tasks by title and id",["a",99999999999]]"#),
        forged(r#"[1,"tasks by title and id",["a\u0000",1]]"#),
        forged(r#"[2,"tasks by title and id",["a",1]]"#),
    ] {
        let path = format!("/v1/tasks?cursor={cursor}");
        problem(running.get(&path).await, 400, "cursor-malformed").await;
    }
    let hostile = forged(r#"[1,"tasks by title and id",["'; drop table tasks; --",1]]"#);
    list_path(&running, &format!("/v1/tasks?cursor={hostile}")).await;
    list_path(&running, "/v1/tasks").await;
    running.stop().await;
}

async fn list(running: &Running, limit: u32, cursor: Option<&str>) -> Value {
    let cursor = cursor.map(|it| format!("&cursor={it}")).unwrap_or_default();
    list_path(running, &format!("/v1/tasks?limit={limit}{cursor}")).await
}

async fn list_path(running: &Running, path: &str) -> Value {
    running.get_json(path).await
}

async fn write(running: &Running, next_offset: i64, rows: &[(i32, String)]) {
    let rows: Vec<_> = rows
        .iter()
        .map(|(id, title)| (*id, title.as_str()))
        .collect();
    board::project(&running.postgres, next_offset, &rows).await;
}
