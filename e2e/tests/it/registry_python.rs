//! A foreign client: Python's `confluent-kafka` reads the log, and writes and evolves schemas of
//! its own in our registry.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::app;

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");

#[tokio::test]
async fn a_python_client_reads_the_log_and_evolves_schemas() {
    let app = app().await;
    let company = app.new_company();
    let mia = company.manager("mia");
    let body = json!({ "title": "Count the feathers", "jira_id": "PY-1", "assignee": "polly" });
    let command = mia.command("/v1/tasks").json(body).key("k-1");
    let answer = command.send().await.succeeded();
    let stream = answer.text("stream").to_owned();

    let kafka = dev_stack::shared().await.kafka().to_owned();
    let arguments = [
        kafka,
        format!("http://{}", app.registry.address),
        app.events_topic("tasks"),
        format!("python.{}", company.tenant),
    ];
    let output = tokio::task::spawn_blocking(move || run(&arguments)).await;
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let events: Vec<Value> = said
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["subject"] == stream)
        .collect();
    assert_eq!(
        events,
        [
            json!({"type": "annals.tasks.TaskCreated", "subject": stream, "data": {
                "title": "Count the feathers", "jira_id": "PY-1", "typed_title": null,
                "description": "", "status": "bird_in_a_cage"
            }}),
            json!({"type": "annals.tasks.TaskAssigned", "subject": stream, "data": {
                "assignee": "polly"
            }}),
        ]
    );
}

fn run(arguments: &[String]) -> Output {
    let script = Path::new(SCRIPTS).join("registry_client.py");
    let mut command = Command::new(python());
    let output = command.arg(script).args(arguments).output();
    output.expect("the interpreter of the virtual environment starts")
}

/// The interpreter of a virtual environment beside the build, made when it is not there: that takes
/// a minute and the network, once.
fn python() -> PathBuf {
    let wanted = fs::read_to_string(Path::new(SCRIPTS).join("requirements.txt")).unwrap();
    let own = std::env::current_exe().unwrap();
    let target = own
        .ancestors()
        .find(|folder| folder.ends_with("deps"))
        .and_then(|deps| deps.parent()?.parent());
    let folder = target.unwrap().join("foreign-python");
    let interpreter = folder.join("bin/python");
    // Written last: what was begun and not finished is begun again.
    let installed = folder.join("installed.txt");
    if fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
        return interpreter;
    }
    succeed(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&folder),
    );
    succeed(
        Command::new(&interpreter)
            .args(["-m", "pip", "install", "--quiet"])
            .args(["--disable-pip-version-check", "--requirement"])
            .arg(Path::new(SCRIPTS).join("requirements.txt")),
    );
    fs::write(installed, wanted).unwrap();
    interpreter
}

fn succeed(command: &mut Command) {
    let output = command.output();
    let output = output.expect("python3 is there: see dev-stack/system-needs.sh");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {complaint}");
}
