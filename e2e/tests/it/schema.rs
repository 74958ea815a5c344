//! `annals schema`: an operator brings a new version of an event into a running system, with a rule
//! that one stored event in many does not fit.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use e2e::{Process, TestApp, annals, eventually, free_port};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The installation, and a copy of the schema files that are changed here.
struct Operator {
    app: TestApp,
    folder: TempDir,
}

impl Operator {
    async fn start() -> Self {
        // Its own: it registers versions that no binary has.
        let app = TestApp::start().await;
        let folder = tempfile::tempdir().unwrap();
        copy(&schemas_of_this_repo(), &folder.path().join("schemas"));
        let operator = Self { app, folder };
        operator.told(0, &["release"]);
        operator
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn schema(&self, name: &str) -> PathBuf {
        self.path("schemas/tasks").join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.app.annals();
        command.current_dir(self.folder.path());
        command.arg("schema").args(arguments).output().unwrap()
    }

    /// What it prints, which must be JSON, when it ends with this code.
    fn told(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--json"]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{arguments:?} printed no JSON: {said}"))
    }

    /// The last line of what it says when it ends with this code.
    fn refused(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        said
    }
}

#[tokio::test]
async fn a_new_version_is_planned_verified_applied_and_mended() {
    let operator = Operator::start().await;
    let company = operator.app.new_company();
    let mia = company.manager("mia");
    let newest = newest_version(&operator.path("schemas"), "TaskAssigned");
    let (before, next) = (format!("TaskAssigned.v{newest}"), newest + 1);
    let assigned_to = async |assignee: &str| {
        let created = mia.create_task("one of many").send().await.succeeded();
        let assigned = mia.assign(&created.id(), assignee).send().await;
        assigned.succeeded();
        created.text("stream").to_owned()
    };
    for assignee in 1..=7 {
        assigned_to(&assignee.to_string()).await;
    }

    // What is registered is what the files say.
    let registered = operator.told(0, &["register"]);
    assert_eq!(
        registered[0]["subject"], "annals.accounts.UserRegistered",
        "{registered}"
    );
    let plan = operator.told(0, &["plan"]);
    assert_eq!(plan["steps"], json!([]), "{plan}");
    // The next version: assignees are numbers now, as most of them are.
    let made = operator.told(0, &["new", "TaskAssigned"]);
    let v_next = format!("TaskAssigned.v{next}");
    assert!(
        made["file"]
            .as_str()
            .unwrap()
            .ends_with(&format!("{v_next}.avsc"))
    );
    let (schema, rule) = (format!("{v_next}.avsc"), format!("{v_next}.migration.json"));
    let (schema, rule) = (operator.schema(&schema), operator.schema(&rule));
    let text = fs::read_to_string(&schema).unwrap();
    assert_eq!(
        text,
        fs::read_to_string(operator.schema(&format!("{before}.avsc"))).unwrap()
    );
    let numbered = text.replacen("\"type\": \"string\"", "\"type\": \"long\"", 1);
    assert_ne!(text, numbered);
    fs::write(&schema, numbered).unwrap();
    let drafted = operator.told(0, &["new", "TaskAssigned"]);
    assert!(
        drafted["file"]
            .as_str()
            .unwrap()
            .ends_with(&format!("{v_next}.migration.json"))
    );
    // The draft does not say yet that other spellings of a number are lost.
    operator.refused(3, &["check"]);
    for verb in ["plan", "verify"] {
        let refused = operator.refused(3, &[verb]);
        assert!(
            refused.contains("assignee: it is lost"),
            "{verb}: {refused}"
        );
    }
    let convert = json!({ "type": "ANNALS", "operations": [{ "op": "convert", "field": "assignee" }],
                          "drops": ["assignee"] });
    fs::write(&rule, json!({ "upgrade": convert }).to_string()).unwrap();
    let checked = operator.told(0, &["check"]);
    let bridge = bridge(&checked, next);
    assert_eq!(bridge["upgrade"]["by"], "rule", "{bridge}");

    // Every stored event fits, until somebody appends one that does not: what comes after the
    // report is verified before anything is done.
    let plan = operator.told(0, &["plan", "--out", "first.json"]);
    assert_eq!(plan["steps"][0]["step"], "register", "{plan}");
    assert_eq!(plan["steps"][0]["version"], next);
    let report = operator.told(0, &["verify", "--report", "sound.json"]);
    assert_eq!(passed(&report, newest), 7, "{report}");
    let odd = assigned_to("polly").await;
    let refused = operator.refused(3, &["apply", "first.json", "--verified", "sound.json"]);
    assert!(refused.contains("1 of 2 stored events"), "{refused}");

    // A plan that was changed by hand is none.
    let whole = fs::read_to_string(operator.path("first.json")).unwrap();
    let mut half: Value = serde_json::from_str(&whole).unwrap();
    half["steps"] = json!([]);
    fs::write(operator.path("half.json"), half.to_string()).unwrap();
    let refused = operator.refused(4, &["apply", "half.json", "--unverified"]);
    assert!(
        refused.contains("is not what `annals schema plan` wrote"),
        "{refused}"
    );
    operator.refused(1, &["verify", "--report", "nowhere/report.json"]);
    operator.refused(3, &["export", "none.json", "--prefix", "nobody"]);
    assert!(!operator.path("none.json").exists());

    // It is one in many, and named.
    let report = operator.told(3, &["verify", "--report", "first-report.json"]);
    assert_eq!(report["sound"], false);
    let failures = report["failures"].as_array().unwrap();
    assert_eq!(failures.len(), 1, "{report}");
    assert_eq!(failures[0]["stream"], *odd);
    assert_eq!(failures[0]["stream_version"], 2);
    assert_eq!(failures[0]["topic"], operator.app.events_topic("tasks"));
    assert!(failures[0]["offset"].as_i64().unwrap() >= 0);
    assert!(
        failures[0]["reason"]
            .as_str()
            .unwrap()
            .contains("`assignee`"),
        "{report}"
    );
    assert_eq!(failures[0]["event"], json!({ "assignee": "polly" }));
    let text = String::from_utf8(operator.run(&["verify"]).stdout).unwrap();
    let position = format!(
        "{}:{}@{} {odd} v2",
        operator.app.events_topic("tasks"),
        failures[0]["partition"],
        failures[0]["offset"]
    );
    assert!(text.contains(&position), "{text}");
    // So it cannot be applied, with the report or without.
    let refused = operator.refused(3, &["apply", "first.json"]);
    assert!(refused.contains("annals schema verify"), "{refused}");
    let with_report = ["apply", "first.json", "--verified", "first-report.json"];
    let refused = operator.refused(3, &with_report);
    assert!(refused.contains("1 of "), "{refused}");

    // Thought over: the field gets another name, and every event comes through.
    let renamed = fs::read_to_string(operator.schema(&format!("{before}.avsc"))).unwrap();
    fs::write(&schema, renamed.replace("\"assignee\"", "\"worker\"")).unwrap();
    let rename = json!([{ "op": "rename", "from": "assignee", "to": "worker" }]);
    fs::write(
        &rule,
        json!({ "upgrade": { "type": "ANNALS", "operations": rename } }).to_string(),
    )
    .unwrap();
    let refused = operator.refused(4, &["apply", "first.json", "--unverified"]);
    assert!(refused.contains("has another schema file"), "{refused}");
    operator.told(0, &["plan", "--out", "plan.json"]);
    let report = operator.told(0, &["verify", "--report", "report.json"]);
    assert_eq!(passed(&report, newest), 8, "{report}");
    assigned_to("polly").await;
    let apply = ["apply", "plan.json", "--verified", "report.json"];
    let applied = operator.told(0, &apply);
    assert_eq!(applied["done"][0]["version"], next, "{applied}");
    let id = applied["done"][0]["id"].as_u64().unwrap();
    let refused = operator.refused(4, &apply);
    assert!(refused.contains("is registered"), "{refused}");

    let status = operator.told(0, &["status"]);
    let assigned = event(&status, "annals.tasks.TaskAssigned");
    let versions = assigned["versions"].as_array().unwrap();
    let last = versions.last().unwrap();
    assert_eq!(
        (&last["is"], &last["id"]),
        (&json!("there"), &json!(id)),
        "{status}"
    );
    assert_eq!(last["stored"], 0);
    assert_eq!(versions[newest as usize - 1]["stored"], 9);
    assert_eq!(versions[newest as usize - 1]["may_be_retired"], false);
    let reads_it = |it: &Value| it["role"] == "command-service" && it["reads_up_to"] == newest;
    assert!(
        assigned["members"].as_array().unwrap().iter().any(reads_it),
        "{status}"
    );

    // A rule is mended: a revision, no version. And it is taken back: one more.
    let twice = json!([
        { "op": "rename", "from": "assignee", "to": "by" },
        { "op": "rename", "from": "by", "to": "worker" },
    ]);
    fs::write(
        &rule,
        json!({ "upgrade": { "type": "ANNALS", "operations": twice } }).to_string(),
    )
    .unwrap();
    let plan = operator.told(0, &["plan", "--out", "mend.json"]);
    assert_eq!(
        plan["steps"],
        json!([{ "step": "mend", "subject": "annals.tasks.TaskAssigned",
                                       "version": next, "revision": 2 }])
    );
    operator.told(0, &["verify", "--report", "mended.json"]);
    operator.told(0, &["apply", "mend.json", "--verified", "mended.json"]);
    let back = ["rollback", "TaskAssigned", "--reason", "one step is enough"];
    let back = operator.told(0, &back);
    assert_eq!(
        (&back["to"], &back["revision"]),
        (&json!(1), &json!(3)),
        "{back}"
    );
    let history = operator.told(0, &["history", "TaskAssigned"]);
    let revisions = history["versions"][newest as usize]["revisions"].clone();
    let revisions = revisions.as_array().unwrap();
    assert_eq!(revisions.len(), 3, "{history}");
    assert_eq!(
        revisions[0]["migrationRules"],
        revisions[2]["migrationRules"]
    );
    assert_eq!(
        revisions[2]["comment"],
        "back to revision 1: one step is enough"
    );
    // The version has not changed by any of it.
    assert_eq!(
        event(&operator.told(0, &["status"]), "annals.tasks.TaskAssigned")["versions"]
            [newest as usize]["id"],
        id
    );

    a_registry_is_moved(&operator).await;
}

/// Into an empty one, ids and revisions kept.
async fn a_registry_is_moved(operator: &Operator) {
    operator.told(0, &["export", "all.json"]);
    let postgres = dev_stack::shared().await.fresh_database().await.unwrap();
    let address = free_port().to_string();
    let mut command = annals();
    command
        .arg("registry")
        .current_dir(operator.folder.path())
        .env("ANNALS_POSTGRES", postgres)
        .env("ANNALS_SCHEMA_REGISTRY__ADDRESS", &address)
        .env("ANNALS_SCHEMA_REGISTRY__ANONYMOUS", "write");
    let registry = Process::start(command);
    let url = format!("http://{address}");
    eventually("the other registry is ready", async || {
        assert!(!registry.has_ended(), "{}", registry.stderr());
        let answer = reqwest::get(format!("{url}/health/ready")).await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    let there = |arguments: &[&str]| {
        let mut command = operator.app.annals();
        command.current_dir(operator.folder.path());
        command.env("ANNALS_REGISTRY", &url);
        let output = command
            .arg("schema")
            .args(arguments)
            .arg("--json")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let imported = there(&["import", "all.json"]);
    assert_eq!(imported["revisions"], 2, "{imported}");
    // The same again changes nothing.
    assert_eq!(there(&["import", "all.json"])["revisions"], 0);
    let ids = |history: &Value| {
        let versions = history["versions"].as_array().unwrap().clone();
        versions
            .iter()
            .map(|it| it["id"].clone())
            .collect::<Vec<_>>()
    };
    for event in ["TaskAssigned", "TaskCreated", "UserRegistered"] {
        let (ours, theirs) = (
            operator.told(0, &["history", event]),
            there(&["history", event]),
        );
        assert_eq!(ids(&ours), ids(&theirs), "{event}");
    }
}

#[test]
fn the_files_of_this_repository_may_be_merged() {
    let schemas = schemas_of_this_repo();
    let mut command = annals();
    let output = command
        .args(["schema", "check", "--schemas"])
        .arg(schemas)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

#[test]
fn what_is_wrong_with_files_is_found_without_anything_running() {
    let folder = tempfile::tempdir().unwrap();
    let schemas = folder.path().join("schemas");
    copy(&schemas_of_this_repo(), &schemas);
    let run = |arguments: &[&str]| {
        let mut command = annals();
        command.current_dir(folder.path());
        let output = command.arg("schema").args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), text)
    };
    assert_eq!(run(&["lint"]).0, Some(0));
    let completed = schemas.join("tasks/TaskCompleted.v1.avsc");
    let text = fs::read_to_string(&completed).unwrap();
    fs::write(&completed, text.replace("The task is done.", "It is done.")).unwrap();
    let (code, said) = run(&["check"]);
    assert_eq!(code, Some(3));
    assert!(
        said.contains("error tasks/TaskCompleted.v1.avsc: is released, and has changed"),
        "{said}"
    );
    fs::write(&completed, text).unwrap();
    let paid = r#"{"type":"record","namespace":"annals.tasks","name":"TaskPaid","fields":[{"name":"price","type":"double"}]}"#;
    fs::write(schemas.join("tasks/TaskPaid.v1.avsc"), paid).unwrap();
    let (code, said) = run(&["lint", "--json"]);
    assert_eq!(code, Some(3));
    let said: Value = serde_json::from_str(&said).unwrap();
    let rules: Vec<_> = said["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["rule"])
        .collect();
    assert_eq!(rules, ["doc", "doc", "money"], "{said}");
    fs::remove_file(schemas.join("tasks/TaskPaid.v1.avsc")).unwrap();
    let (code, said) = run(&["diff", "TaskCreated", "2", "3"]);
    assert_eq!(code, Some(0));
    for line in [
        "annals.tasks.TaskCreated v2 → v3",
        "v3 reads v2 by the ANNALS rule: map status",
        "v2 reads v3 by the ANNALS rule: map status",
    ] {
        assert!(said.contains(line), "{said}");
    }
    let (code, said) = run(&["graph", "TaskCreated"]);
    assert_eq!(code, Some(0));
    assert!(
        said.starts_with("flowchart LR") && said.contains("==>|ANNALS|"),
        "{said}"
    );

    // What is released has changed, and nothing new is noted.
    let created = schemas.join("tasks/TaskCreated.v1.avsc");
    let text = fs::read_to_string(&created).unwrap();
    fs::write(
        &created,
        text.replacen("\"doc\": \"", "\"doc\": \"Or so. ", 1),
    )
    .unwrap();
    let lock = fs::read_to_string(schemas.join("released.lock")).unwrap();
    let (code, said) = run(&["release"]);
    assert_eq!(code, Some(3));
    assert!(
        said.contains("error tasks/TaskCreated.v1.avsc: is released, and has changed"),
        "{said}"
    );
    assert_eq!(
        fs::read_to_string(schemas.join("released.lock")).unwrap(),
        lock
    );
    fs::write(&created, text).unwrap();
    // Two files are broken, and both are found.
    let second = schemas.join("tasks/TaskCreated.v2.avsc");
    let kept = [&second, &completed].map(|it| fs::read_to_string(it).unwrap());
    fs::write(&second, "{\n oops").unwrap();
    fs::write(&completed, "[").unwrap();
    for verb in ["lint", "check"] {
        let (code, said) = run(&[verb]);
        assert_eq!(code, Some(3));
        for broken in [
            "TaskCreated.v2.avsc is not JSON: key must be a string at line 2",
            "TaskCompleted.v1.avsc is not JSON",
        ] {
            assert!(said.contains(broken), "{verb}: {said}");
        }
        assert!(said.contains("2 errors"), "{verb}: {said}");
    }
    for (file, text) in [&second, &completed].into_iter().zip(kept) {
        fs::write(file, text).unwrap();
    }
    assert_eq!(run(&["check"]).0, Some(0));

    for (arguments, code) in [
        (&["lint", "TaskGone"][..], "files"),
        (&["diff", "TaskGone"], "files"),
        (&["diff", "TaskCreated", "1", "9"], "files"),
        (&["diff", "TaskCompleted"], "one-version"),
        (&["graph", "TaskGone"], "files"),
        (&["new", "TaskGone"], "files"),
        (&["history", "TaskGone"], "files"),
        (&["rollback", "TaskGone"], "files"),
        (&["activate", "TaskGone"], "activate"),
        (&["apply", "no-plan.json"], "read"),
        (&["apply", "schemas/released.lock"], "read"),
        (&["import", "no-export.json"], "read"),
        (&["check", "--schemas", "nowhere"], "files"),
    ] {
        let (ended, said) = run(&[arguments, &["--json"]].concat());
        assert_eq!(ended, Some(1), "{arguments:?}: {said}");
        let said: Value = serde_json::from_str(&said).unwrap();
        assert_eq!(said["error"]["code"], code, "{arguments:?}: {said}");
    }
    assert_eq!(run(&["lint", "--what"]).0, Some(2));
    for verb in ["plan", "status", "export all.json"] {
        let mut command = annals();
        let command = command
            .current_dir(folder.path())
            .arg("schema")
            .args(verb.split(' '));
        // Nobody listens there.
        let output = command
            .env("ANNALS_REGISTRY", "http://127.0.0.1:1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{verb}: {said}");
        assert!(
            said.contains("→ start it (`annals up` or `annals registry`)"),
            "{verb}: {said}"
        );
    }
}

fn bridge(checked: &Value, to: u32) -> &Value {
    let bridges = checked["bridges"].as_array().unwrap();
    let found = bridges
        .iter()
        .find(|it| it["event"] == "annals.tasks.TaskAssigned" && it["to"] == to);
    found.unwrap()
}

fn passed(report: &Value, version: u32) -> u64 {
    let versions = report["versions"].as_array().unwrap();
    let found = versions
        .iter()
        .find(|it| it["event_type"] == "annals.tasks.TaskAssigned" && it["version"] == version);
    found.unwrap()["passed"].as_u64().unwrap()
}

fn event<'a>(status: &'a Value, subject: &str) -> &'a Value {
    let events = status["events"].as_array().unwrap();
    events.iter().find(|it| it["subject"] == subject).unwrap()
}

fn newest_version(schemas: &Path, event: &str) -> u32 {
    let versions = (1..).take_while(|version| {
        let file = format!("tasks/{event}.v{version}.avsc");
        schemas.join(file).exists()
    });
    versions.count() as u32
}

fn schemas_of_this_repo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => fs::copy(entry.path(), to).map(drop).unwrap(),
        }
    }
}
