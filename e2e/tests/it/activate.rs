//! `annals schema activate`: what it refuses, and whom it waits for.

use e2e::{Process, TestApp};
use event_log::{
    cluster::Cluster,
    control::ControlLog,
    topics::{Generation, TopicOptions},
};
use serde_json::Value;
use sqlx::{Connection, PgConnection};

use crate::app;

/// Exit code and everything that was printed.
async fn activate(app: &TestApp, arguments: &[&str]) -> (i32, String) {
    let mut command = app.annals();
    // The tests that share this installation go on writing what they write.
    command
        .args(["schema", "activate", "--check"])
        .args(arguments);
    let process = Process::start(command);
    let code = process.ended().await.code().unwrap();
    (code, process.stdout() + &process.stderr())
}

#[tokio::test]
async fn what_is_not_there_cannot_be_activated() {
    let app = app().await;
    let unknown = "no context of this binary has an event TaskPainted";
    let not_in_the_way = "nobody of that name is in the way";
    for (arguments, expected) in [
        (&["TaskPainted"][..], unknown),
        (&["TaskCreated", "99"], "no version 99"),
        (&["TaskCreated", "0"], "no version 0"),
        (&["TaskCreated", "1", "--gone", "nobody"], not_in_the_way),
    ] {
        let (code, told) = activate(&app, arguments).await;
        assert_eq!(code, 1, "{told}");
        assert!(told.contains(expected), "{told}");
    }
    let (code, told) = activate(&app, &["annals.accounts.UserRegistered"]).await;
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("in version 1 already"), "{told}");
}

/// A process that was there once, as the table has it.
struct Ghost<'a> {
    app: &'a TestApp,
    db: PgConnection,
}

impl<'a> Ghost<'a> {
    async fn announce(app: &'a TestApp) -> Self {
        let db = PgConnection::connect(app.setting("POSTGRES")).await;
        let mut ghost = Self {
            app,
            db: db.unwrap(),
        };
        ghost
            .change(
                "insert into annals.announcements
                        (generation, role, member, event_type, reads_up_to, release, expires_at)
                 values ($1, 'command-service', 'ghost:1', 'annals.tasks.TaskCreated', 1, '0.0.9',
                         now() + interval '1 hour')",
            )
            .await;
        ghost
    }

    async fn change(&mut self, statement: &'static str) {
        let statement = sqlx::query(statement).bind(self.app.setting("GENERATION"));
        statement.execute(&mut self.db).await.unwrap();
    }
}

#[tokio::test]
async fn a_process_that_reads_less_is_waited_for_until_it_is_gone() {
    let app = app().await;
    let mut ghost = Ghost::announce(&app).await;
    let (code, told) = activate(&app, &["TaskCreated", "2"]).await;
    assert_eq!(code, 4, "{told}");
    for expected in [
        "command-service ghost:1 (release 0.0.9) reads up to version 1",
        "--gone ghost:1",
    ] {
        assert!(told.contains(expected), "{told}");
    }
    let (code, told) = activate(&app, &["TaskCreated", "2", "--json"]).await;
    assert_eq!(code, 4, "{told}");
    let (json, _) = told.split_once("annals:").unwrap();
    let json: Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["in_the_way"][0]["member"], "ghost:1", "{json}");
    assert_eq!(json["activated"], false, "{json}");

    // The operator knows better.
    let (code, told) = activate(&app, &["TaskCreated", "2", "--gone", "ghost:1"]).await;
    assert_eq!(code, 0, "{told}");
    // Or it is not heard of any more, and not in its group either.
    ghost
        .change(
            "update annals.announcements set expires_at = now() - interval '1 second'
              where generation = $1 and member = 'ghost:1'",
        )
        .await;
    let (code, told) = activate(&app, &["TaskCreated", "2"]).await;
    assert_eq!(code, 0, "{told}");
    ghost
        .change("delete from annals.announcements where generation = $1 and member = 'ghost:1'")
        .await;
}

#[tokio::test]
async fn a_projector_that_cannot_read_what_is_written_refuses_to_start() {
    let app = TestApp::on(dev_stack::shared().await).await;
    app.run(&app.registry);
    app.registry.until_ready().await;
    assert!(app.register_schemas().status.success());
    let generation = Generation {
        name: app.setting("GENERATION").into(),
        partitions: app.partitions() as i32,
    };
    // As a later release has it, which no rule leads back from.
    let control = ControlLog::new(&Cluster::new(app.setting("KAFKA")), &generation);
    control.ensure(TopicOptions::default()).await.unwrap();
    let renamed = "annals.tasks.TaskRenamed";
    let activated = control.activate(renamed, 1, "a later release").await;
    activated.unwrap();
    app.run(&app.projector);
    let status = app.projector.running().ended().await;
    assert!(!status.success());
    let said = app.projector.running().stderr();
    let line = said.lines().last().unwrap_or_default();
    for expected in [
        "TaskRenamed was activated in version 1",
        "does not know the event",
    ] {
        assert!(line.contains(expected), "{said}");
    }
}
