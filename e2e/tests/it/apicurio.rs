//! Annals on somebody else's registry: Apicurio, which speaks Confluent's API and drops rule sets
//! without a word.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{Process, Release, TestApp, choose_crypto, eventually, free_port};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

const POM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/apicurio/pom.xml");

/// An Apicurio of this test's own, and where its Confluent API is.
struct Apicurio {
    process: Process,
    base: String,
}

impl Apicurio {
    async fn start() -> Self {
        let folder = tokio::task::spawn_blocking(fetched).await.unwrap();
        let address = free_port();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "java"])
            .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dquarkus.http.host=127.0.0.1")
            .arg(format!("-Dquarkus.http.port={}", address.port()))
            .arg("-jar")
            .arg(jar(&folder));
        let apicurio = Self {
            process: Process::start(command),
            base: format!("http://{address}/apis/ccompat/v7"),
        };
        eventually("Apicurio answers", async || {
            assert!(!apicurio.process.has_ended(), "{}", apicurio.said());
            apicurio.get("/subjects").await
        })
        .await;
        apicurio
    }

    async fn get(&self, path: &str) -> Option<Value> {
        let answer = reqwest::get(format!("{}{path}", self.base)).await.ok()?;
        match answer.status().is_success() {
            true => answer.json().await.ok(),
            false => None,
        }
    }

    fn said(&self) -> String {
        self.process.stdout() + &self.process.stderr()
    }
}

#[tokio::test]
async fn annals_runs_on_apicurio_and_its_rules_arrive_there() {
    choose_crypto();
    let apicurio = Apicurio::start().await;
    let app = TestApp::on_registry(dev_stack::shared().await, &apicurio.base).await;
    for _ in 0..2 {
        let registered = app.register_schemas();
        let complaint = String::from_utf8_lossy(&registered.stderr);
        assert!(registered.status.success(), "{complaint}");
    }
    let created = "/subjects/annals.tasks.TaskCreated/versions";
    let versions = apicurio.get(created).await.unwrap();
    let newest = apicurio.get(&format!("{created}/latest")).await.unwrap();
    assert_eq!(versions.as_array().unwrap().len() as u64, newest["version"]);
    assert!(newest.get("ruleSet").is_none(), "it keeps rule sets now");

    // The newest version is written here, and read by the release before: the rules that lead
    // back came to it out of the registry.
    app.run(&app.commands);
    app.run_of(Release::Previous, &app.projector);
    for role in [&app.commands, &app.projector] {
        role.until_ready().await;
    }
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let body = json!({ "title": "Sort the seeds", "jira_id": "APC-1", "assignee": "polly" });
    let task = mia.command("/v1/tasks").json(body).send().await.succeeded();
    let title = eventually("the release before has read it", || first_title(&app)).await;
    assert_eq!(title, "APC-1: Sort the seeds");

    // An owner that has forgotten everything reads its log with what the registry has.
    app.commands.kill().await;
    app.run(&app.commands);
    app.commands.until_ready().await;
    polly
        .complete(&task.id())
        .until_answered()
        .await
        .succeeded();
}

/// From the release before's board.
async fn first_title(app: &TestApp) -> Option<String> {
    let mut db = PgConnection::connect(app.setting("POSTGRES")).await.ok()?;
    let title = sqlx::query_scalar("select title from rm_task_board_e1.tasks");
    title.fetch_one(&mut db).await.ok()
}

/// A folder beside the build with Apicurio in it, fetched when it is not there: that takes some
/// seconds and the network, once.
fn fetched() -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let deps = own.ancestors().find(|folder| folder.ends_with("deps"));
    let target = deps.and_then(|deps| deps.parent()?.parent()).unwrap();
    let folder = target.join("apicurio");
    // Written last: what was begun and not finished is begun again.
    let installed = folder.join("installed.xml");
    let wanted = fs::read_to_string(POM).unwrap();
    if fs::read_to_string(&installed).is_ok_and(|there| there == wanted) {
        return folder;
    }
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    // Maven keeps notes beside the file.
    fs::write(folder.join("pom.xml"), &wanted).unwrap();
    let log = folder.join("fetch.log");
    let output = File::create(&log).unwrap();
    let status = Command::new("mvn")
        .args(["--batch-mode", "--no-transfer-progress", "package"])
        .arg(format!("-Dinto={}", folder.display()))
        .current_dir(&folder)
        .stdout(output)
        .status()
        .expect("mvn is there: see dev-stack/system-needs.sh");
    assert!(status.success(), "{}", fs::read_to_string(log).unwrap());
    fs::write(installed, wanted).unwrap();
    folder
}

fn jar(folder: &Path) -> PathBuf {
    let files = fs::read_dir(folder).unwrap();
    let mut paths = files.map(|file| file.unwrap().path());
    paths
        .find(|path| path.to_string_lossy().ends_with("-runner.jar"))
        .expect("Apicurio is one runnable jar and its libraries")
}
