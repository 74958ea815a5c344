//! What an operator sees of an event that a read model cannot take, and how they let it go.

use std::process::Output;

use e2e::{TestApp, eventually};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

#[tokio::test]
async fn an_operator_sees_a_poisoned_stream_and_lets_it_go() {
    // Its own: a rebuild elsewhere would find the editions to differ.
    let app = TestApp::start().await;
    let company = app.new_company();
    let mia = company.manager("mia");
    let mut postgres = PgConnection::connect(app.setting("POSTGRES"))
        .await
        .unwrap();
    sqlx::raw_sql(
        "alter table rm_task_board_e1.tasks
             add constraint not_that check (title <> 'the one that is not wanted')",
    )
    .execute(&mut postgres)
    .await
    .unwrap();
    let poisoned = mia.create_task("the one that is not wanted").send().await;
    let poisoned = poisoned.succeeded();
    let id = poisoned.id();
    let stream = format!("{}/task/{id}", company.tenant);
    let fine = mia.create_task("another").send().await.succeeded();
    let entry = eventually("the stream is in quarantine", async || {
        let list = json(&quarantine(&app, &["list", "--json"]));
        let entries = list.as_array().unwrap().iter();
        let mut own = entries.filter(|entry| entry["stream"] == *stream);
        own.next().cloned()
    })
    .await;
    assert_eq!(
        (&entry["model"], &entry["code"]),
        (&"task-board".into(), &"23514".into())
    );
    let reason = entry["reason"].as_str().unwrap();
    assert!(reason.ends_with("\"not_that\""), "{reason}");
    let metrics = format!("http://{}/metrics", app.projector.address);
    eventually("the stream is counted", async || {
        let metrics = reqwest::get(&metrics).await.ok()?.text().await.ok()?;
        let counts = |line: &&str| {
            line.starts_with("projector_quarantined_streams{")
                && line.contains(r#"model="task-board""#)
                && line.ends_with(" 1")
        };
        metrics.lines().find(counts).map(drop)
    })
    .await;
    // Others are read.
    let path = format!("/v1/tasks/{}", fine.id());
    mia.read(path).after(&fine).send().await.succeeded();

    let shown = quarantine(&app, &["show", "task-board", &stream]);
    let advice = format!("`annals quarantine retry task-board {stream}`");
    assert!(text(&shown).contains("not_that"), "{}", text(&shown));
    assert!(text(&shown).contains(&advice), "{}", text(&shown));
    let in_vain = quarantine(&app, &["retry", "task-board", &stream]);
    assert!(!in_vain.status.success());
    assert!(
        text(&in_vain).contains("stays in quarantine"),
        "{}",
        text(&in_vain)
    );
    for (arguments, expected) in [
        (
            ["retry", "task-bord", &stream],
            "there is no read model task-bord",
        ),
        (
            ["retry", "task-board", "main/task/none"],
            "is not in quarantine",
        ),
        (
            ["retry", "task-board", "task/none"],
            "main/task/none is not in quarantine",
        ),
        (
            ["show", "task-board", "'; drop schema annals"],
            "is neither a stream",
        ),
    ] {
        let refused = quarantine(&app, &arguments);
        assert!(!refused.status.success());
        let said = String::from_utf8_lossy(&refused.stderr);
        assert!(said.contains(expected), "{said}");
    }

    // A decision is told to whoever comes later.
    assert_eq!(
        text(&quarantine(&app, &["skipped"])),
        "nothing was left out\n"
    );
    let record = "annals.tasks.events.none:0@7";
    let decision = ["--reason", "never valid", "--by", "ada", "--json"];
    let skipped = quarantine(
        &app,
        &[&["skip", "task-board", record][..], &decision].concat(),
    );
    assert_eq!(json(&skipped)["left_out"], record);
    let decisions = json(&quarantine(&app, &["skipped", "task-board", "--json"]));
    let (by, why) = (&decisions[0]["skipped_by"], &decisions[0]["reason"]);
    assert_eq!((by, why), (&"ada".into(), &"never valid".into()));
    let decisions = text(&quarantine(&app, &["skipped"]));
    assert!(
        decisions.contains(record) && decisions.contains("never valid"),
        "{decisions}"
    );

    sqlx::raw_sql("alter table rm_task_board_e1.tasks drop constraint not_that")
        .execute(&mut postgres)
        .await
        .unwrap();
    let gone = quarantine(&app, &["retry", "task-board", &stream]);
    assert!(
        gone.status.success(),
        "{}",
        String::from_utf8_lossy(&gone.stderr)
    );
    let shown = mia
        .read(format!("/v1/tasks/{id}"))
        .after(&poisoned)
        .send()
        .await;
    assert_eq!(
        shown.succeeded().text("title"),
        "the one that is not wanted"
    );
}

fn quarantine(app: &TestApp, arguments: &[&str]) -> Output {
    let mut command = app.annals();
    command.arg("quarantine").args(arguments).output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}
