//! What is not a proper command is refused with a stable code, and nothing is appended.

use std::time::Duration;

use e2e::{Answer, Command, TestApp, User, new_key};
use serde_json::json;
use tokio::sync::RwLockWriteGuard;

use crate::{app_alone, raw_log::Ends};

/// The installation while nobody else appends.
struct Quiet {
    app: RwLockWriteGuard<'static, TestApp>,
    ends: Ends,
}

impl Quiet {
    async fn app() -> Self {
        let app = app_alone().await;
        let ends = Ends::new(&app, &["tasks", "accounts"]);
        Self { app, ends }
    }

    /// Sends a command that must be refused so, and append nothing.
    async fn refused(&self, command: Command, status: u16, code: &str) -> Answer {
        let before = self.ends.sum();
        let answer = command.send().await.is_problem(status, code);
        let after = self.ends.sum();
        assert_eq!(after, before, "something was appended: {answer:?}");
        answer
    }
}

fn create(user: &User, body: &str) -> Command {
    user.command("/v1/tasks").body(body)
}

#[tokio::test]
async fn a_body_that_is_not_the_commands_is_refused() {
    let quiet = Quiet::app().await;
    let company = quiet.app.new_company();
    let polly = company.worker("polly");
    let megabyte = "x".repeat(1_000_000);
    for (body, status, code) in [
        ("", 400, "malformed-json"),
        ("{", 400, "malformed-json"),
        (r#"{"title": "x"} x"#, 400, "malformed-json"),
        ("\u{0}", 400, "malformed-json"),
        (r#"{"title": "x", "priority": 1}"#, 422, "invalid-field"),
        (r#"{"title": "x", "title": "y"}"#, 422, "invalid-field"),
        (r#"{"title": 7}"#, 422, "invalid-field"),
        (r#"{"title": null}"#, 422, "invalid-field"),
        (r#"{}"#, 422, "invalid-field"),
        (r#"["x"]"#, 422, "invalid-field"),
        (r#""x""#, 422, "invalid-field"),
        (r#"{"title": ""}"#, 422, "invalid-field"),
        (r#"{"title": "   "}"#, 422, "invalid-field"),
        (r#"{"title": "a\u0000b"}"#, 422, "invalid-field"),
        (r#"{"title": "a\nb"}"#, 422, "invalid-field"),
        (r#"{"title": "a\u0085b"}"#, 422, "invalid-field"),
        (
            r#"{"title": "x", "description": "\u0007"}"#,
            422,
            "invalid-field",
        ),
        (
            &format!(r#"{{"title": "{}"}}"#, &megabyte[..2_001]),
            422,
            "invalid-field",
        ),
        (&format!(r#"{{"title": "{megabyte}"}}"#), 413, "too-large"),
        (&"[".repeat(100_000), 422, "invalid-field"),
    ] {
        eprintln!("{}", body.chars().take(60).collect::<String>());
        let answer = quiet.refused(create(&polly, body), status, code).await;
        if code == "invalid-field" {
            assert!(answer.text("field").len() < 300, "{answer:?}");
        }
        assert!(answer.text("detail").len() < 600, "{answer:?}");
    }
    let bytes = polly.command("/v1/tasks").body(*b"{\"title\": \"\xff\"}");
    quiet.refused(bytes, 400, "malformed-json").await;
    let text = polly.create_task("x").header("content-type", "text/plain");
    quiet.refused(text, 415, "unsupported-media-type").await;
    // What was refused can be sent rightly with the same key.
    let key = new_key();
    quiet
        .refused(create(&polly, "{").key(&key), 400, "malformed-json")
        .await;
    polly.create_task("x").key(&key).send().await.succeeded();
}

#[tokio::test]
async fn a_command_without_a_proper_key_or_precondition_is_refused() {
    let quiet = Quiet::app().await;
    let company = quiet.app.new_company();
    let polly = company.worker("polly");
    let command = || polly.create_task("x");
    quiet
        .refused(command().without_key(), 400, "key-missing")
        .await;
    for key in ["", "two words", "\t", "ключ", &"k".repeat(129)] {
        quiet
            .refused(command().key(key), 400, "key-malformed")
            .await;
    }
    for version in ["1", "\"x\"", "\"-1\"", "W/\"1\"", "\"1\", \"2\"", ""] {
        let command = command().header("if-match", version);
        quiet.refused(command, 400, "if-match-malformed").await;
    }
    let both = command().if_match(1).header("if-none-match", "*");
    quiet.refused(both, 400, "if-match-malformed").await;
}

#[tokio::test]
async fn who_has_no_valid_token_is_refused() {
    let quiet = Quiet::app().await;
    let company = quiet.app.new_company();
    let polly = company.worker("polly");
    let token = |ttl| quiet.app.token(&company.tenant, "polly", &["worker"], ttl);
    let expired = token(Duration::ZERO);
    let valid = token(Duration::from_secs(60));
    let changed = format!("{}x", &valid[..valid.len() - 2]);
    let of_another_key = TestApp::on(dev_stack::shared().await).await.token(
        &company.tenant,
        "polly",
        &["admin"],
        Duration::from_secs(60),
    );
    for (token, code) in [
        (None, "token-missing"),
        (Some(""), "token-missing"),
        (Some("a.b.c"), "token-invalid"),
        (Some(changed.as_str()), "token-invalid"),
        (Some(of_another_key.as_str()), "token-invalid"),
        (Some(expired.as_str()), "token-expired"),
    ] {
        let nobody = polly.with_token(token);
        let answer = quiet.refused(nobody.create_task("x"), 401, code).await;
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer"), "{answer:?}");
        for read in ["/v1/tasks", "/v1/tasks/x", "/v1/my/tasks", "/v1/users"] {
            nobody.read(read).send().await.is_problem(401, code);
        }
        nobody.recall("/v1/commands/k").await.is_problem(401, code);
    }
}

#[tokio::test]
async fn what_the_rules_forbid_is_refused() {
    let quiet = Quiet::app().await;
    let company = quiet.app.new_company();
    let (mia, polly, rio) = (
        company.manager("mia"),
        company.worker("polly"),
        company.worker("rio"),
    );
    let task = mia.create_task("x").send().await.succeeded().id();

    for (unknown, code) in [
        ("5d2c1f3e-7c53-5d8e-9b11-0c7a3a0f4d6b", "no-such-task"),
        ("x", "no-such-task"),
        // No stream can have this id.
        ("%F0%9F%A6%9C", "not-found"),
    ] {
        for command in [mia.assign(unknown, "polly"), polly.complete(unknown)] {
            quiet.refused(command, 404, code).await;
        }
    }
    quiet
        .refused(rio.assign(&task, "polly"), 403, "role-required")
        .await;
    let choosy = json!({ "title": "x", "assignee": "rio" });
    let choosy = polly.command("/v1/tasks").json(choosy);
    quiet.refused(choosy, 403, "role-required").await;
    let nobody = mia.assign(&task, "");
    quiet.refused(nobody, 422, "invalid-field").await;
    quiet
        .refused(polly.complete(&task), 403, "not-the-assignee")
        .await;

    mia.assign(&task, "polly").send().await.succeeded();
    quiet
        .refused(rio.complete(&task), 403, "not-the-assignee")
        .await;
    for version in [0, 1, 3, u64::MAX] {
        let stale = polly.complete(&task).if_match(version);
        let stale = quiet.refused(stale, 412, "stale-version").await;
        assert_eq!(stale.number("current_version"), 2);
        assert_eq!(stale.header("etag"), Some("\"2\""));
    }
    // A new task cannot be at a version.
    let stale = mia.create_task("x").if_match(1);
    let stale = quiet.refused(stale, 412, "stale-version").await;
    assert_eq!(stale.number("current_version"), 0);

    polly.complete(&task).send().await.succeeded();
    quiet
        .refused(polly.complete(&task), 409, "already-completed")
        .await;
    quiet
        .refused(mia.assign(&task, "rio"), 409, "already-completed")
        .await;
}

#[tokio::test]
async fn a_person_is_registered_as_the_rules_say() {
    let quiet = Quiet::app().await;
    let company = quiet.app.new_company();
    let (ada, polly) = (company.admin("ada"), company.worker("polly"));
    let register = |user: &User, email: &str, role: &str| {
        let body = json!({ "email": email, "name": "X", "role": role });
        user.command("/v1/users").json(body)
    };
    let mia = register(&ada, "mia@parrots.example", "manager");
    mia.send().await.succeeded();
    let taken = register(&ada, "MIA@parrots.example", "worker");
    quiet.refused(taken, 409, "email-taken").await;
    let admin = register(&polly, "polly@parrots.example", "admin");
    quiet.refused(admin, 403, "role-required").await;
    for (email, role) in [("nobody", "worker"), ("", "worker"), ("a@b.c", "parrot")] {
        quiet
            .refused(register(&ada, email, role), 422, "invalid-field")
            .await;
    }
}

#[tokio::test]
async fn what_is_not_there_is_told_as_a_problem() {
    let quiet = Quiet::app().await;
    let company = quiet.app.new_company();
    let mia = company.manager("mia");
    quiet
        .refused(mia.command("/v1/nothing"), 404, "no-such-route")
        .await;
    quiet
        .refused(mia.command("/v1/commands/k"), 405, "method-not-allowed")
        .await;
    for (path, status, code) in [
        ("/v1/tasks/x", 404, "no-such-task"),
        ("/v1/users/x", 404, "no-such-user"),
        ("/v1/nothing", 404, "no-such-route"),
        ("/v1/tasks?limit=0", 422, "invalid-field"),
        ("/v1/tasks?limit=201", 422, "invalid-field"),
        ("/v1/tasks?status=lost", 422, "invalid-field"),
        ("/v1/tasks?titel=x", 422, "unknown-parameter"),
        ("/v1/tasks?title=%00", 422, "invalid-field"),
        ("/v1/tasks?cursor=x", 400, "cursor-malformed"),
        ("/v1/tasks?position=x", 400, "position-malformed"),
    ] {
        mia.read(path).send().await.is_problem(status, code);
    }
}
