//! `annals up`: everything on one machine, which goes as it came.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use dev_stack::new_temporary_folder;
use e2e::{Process, Release, User, choose_crypto, eventually, family_of, free_port, is_running};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// A folder in which `annals up` keeps its data, and the ports that it uses.
struct Place {
    folder: PathBuf,
    addresses: [SocketAddr; 4],
}

impl Place {
    fn new() -> Self {
        let folder = new_temporary_folder();
        fs::create_dir_all(&folder).unwrap();
        Self {
            folder,
            addresses: [(); 4].map(|()| free_port()),
        }
    }

    fn start(&self, arguments: &[&str]) -> Process {
        self.start_of(Release::This, arguments)
    }

    fn start_of(&self, release: Release, arguments: &[&str]) -> Process {
        let mut command = release.command();
        command.args(arguments).current_dir(&self.folder);
        let roles = ["COMMANDS", "QUERIES", "SCHEMA_REGISTRY", "PROJECTOR"];
        for (role, address) in roles.iter().zip(&self.addresses) {
            command.env(format!("ANNALS_{role}__ADDRESS"), address.to_string());
        }
        Process::start(command)
    }

    async fn up(&self) -> Process {
        self.up_of(Release::This).await
    }

    async fn up_of(&self, release: Release) -> Process {
        let up = self.start_of(release, &["up"]);
        up.said("Ctrl-C ends everything").await;
        up
    }

    /// What it prints, when it ends well.
    async fn run(&self, arguments: &[&str]) -> String {
        let process = self.start(arguments);
        let status = process.ended().await;
        assert!(status.success(), "{}{}", process.stdout(), process.stderr());
        process.stdout()
    }

    /// How many events of this type there are of each version.
    async fn stored(&self, subject: &str) -> Vec<u64> {
        let status = self.run(&["schema", "status", "--json"]).await;
        let status: Value = serde_json::from_str(&status).unwrap();
        let events = status["events"].as_array().unwrap();
        let event = events.iter().find(|it| it["subject"] == subject);
        let versions = event.unwrap()["versions"].as_array().unwrap();
        let stored = versions.iter().map(|it| it["stored"].as_u64().unwrap());
        stored.collect()
    }

    fn data(&self) -> PathBuf {
        self.folder.join(".annals")
    }

    async fn wipe(&self) {
        self.run(&["down", "--wipe"]).await;
        assert!(!self.data().exists());
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

#[tokio::test]
async fn the_story_goes_on_with_the_data_of_the_first_until_it_is_forgotten() {
    let place = Place::new();
    let first = place.run(&["up", "--demo", "--once"]).await;
    assert!(first.contains("5 registered"), "{first}");
    assert!(first.contains("\n40 tasks\n"), "{first}");
    let second = place.run(&["up", "--demo", "--once"]).await;
    assert!(second.contains("registered by an earlier run"), "{second}");
    assert!(second.contains("\n80 tasks\n"), "{second}");
    place.wipe().await;
}

#[tokio::test]
async fn nothing_is_left_behind_by_ctrl_c_or_a_kill() {
    let place = Place::new();
    let up = place.up().await;
    let family = family_of(up.pid());
    assert!(family.len() > 3, "no Kafka and Postgres among {family:?}");
    let megabytes = family.iter().filter_map(|pid| megabytes_of(*pid));
    let megabytes: Vec<_> = megabytes.collect();
    let sum: u64 = megabytes.iter().sum();
    eprintln!("all processes together take {sum} MB: {megabytes:?}");
    assert!(megabytes.len() > 3 && sum <= 1_200, "{sum} MB");

    let title = "AVRO-12: Sort the records";
    let token = place.run(&["token", "--user", "polly", "--role", "worker"]);
    let [commands, queries, ..] = place.addresses;
    let polly = User::new(commands, queries, token.await.trim());
    let created = polly.create_task(title).send().await.succeeded();
    // Who works beside it finds its servers.
    let stream = format!("task/{}", created.id());
    let shown = place.run(&["replay", "show", &stream]).await;
    assert!(shown.contains("TaskCreated"), "{shown}");
    let status = place.run(&["schema", "status"]).await;
    assert!(status.contains("TaskCreated"), "{status}");
    let second = place.start(&["up"]);
    assert!(!second.ended().await.success());
    let said = second.stderr();
    let expected = format!("is in use by process {}", up.pid());
    assert!(said.contains(&expected), "{said}");

    let wipe = place.start(&["down", "--wipe"]);
    assert!(!wipe.ended().await.success());
    assert!(wipe.stderr().contains(&expected), "{}", wipe.stderr());

    up.signal(Signal::INT);
    let status = up.ended().await;
    assert!(status.success(), "{}", up.stderr());
    until_gone(&family).await;

    let up = place.up().await;
    let tasks = polly.read("/v1/tasks").after(&created).send().await;
    assert_eq!(tasks.succeeded().body["items"][0]["title"], title);
    let family = family_of(up.pid());
    up.kill().await;
    until_gone(&family).await;
    let show = place.start(&["replay", "show", &stream]);
    assert!(!show.ended().await.success());
    assert!(show.stderr().contains("no Kafka is configured"));

    // A kill leaves data that can be used and forgotten.
    let up = place.up().await;
    assert!(up.stop().await.success());
    place.wipe().await;
}

#[tokio::test]
async fn the_data_of_the_release_before_is_gone_on_with() {
    let place = Place::new();
    let before = place.up_of(Release::Previous).await;
    let token = place.run(&["token", "--user", "polly", "--role", "worker"]);
    let [commands, queries, ..] = place.addresses;
    let polly = User::new(commands, queries, token.await.trim());
    let body = json!({ "title": "AVRO-12: Sort the records" });
    let old = polly
        .command("/v1/tasks")
        .json(body)
        .send()
        .await
        .succeeded();
    assert!(before.stop().await.success());

    let up = place.up().await;
    let body = json!({ "title": "Sort the rest", "jira_id": "AVRO-13" });
    let new = polly
        .command("/v1/tasks")
        .json(body)
        .send()
        .await
        .succeeded();
    for (created, title, jira_id) in [
        (old, "Sort the records", "AVRO-12"),
        (new, "Sort the rest", "AVRO-13"),
    ] {
        let task = polly.read(format!("/v1/tasks/{}", created.id()));
        let task = task.after(&created).send().await.succeeded();
        let read = (task.text("title"), task.text("jira_id"));
        assert_eq!(read, (title, jira_id), "{task:#?}");
    }
    // The owners hear a moment later of what is written from now on.
    let stored = eventually("an event is written in the newest version", async || {
        polly.create_task("Sort the last").send().await.succeeded();
        let stored = place.stored("annals.tasks.TaskCreated").await;
        (stored[2] > 0).then_some(stored)
    });
    let stored = stored.await;
    assert!(stored[0] > 0 && stored[1] == 0, "{stored:?}");
    assert!(up.stop().await.success());
    place.wipe().await;
}

#[tokio::test]
async fn rules_that_do_not_fit_are_taken_back_beside_it_and_it_goes_on() {
    let place = Place::new();
    let up = place.up().await;
    let registry = place.addresses[2];
    let rules = "subjects/annals.tasks.TaskCreated/versions/2/rules";
    let rule = json!({ "operations": [{ "op": "rename", "from": "titel", "to": "title" }] });
    let revision = json!({
        "migrationRules": [{
            "name": "v1-to-v2", "kind": "TRANSFORM", "type": "ANNALS", "mode": "UPGRADE",
            "expr": rule.to_string(),
        }],
    });
    choose_crypto();
    let mended = reqwest::Client::new().post(format!("http://{registry}/{rules}"));
    let mended = mended.json(&revision).send().await.unwrap();
    assert!(
        mended.status().is_success(),
        "{}",
        mended.text().await.unwrap()
    );
    assert!(up.stop().await.success());

    let up = place.start(&["up"]);
    let said = up.said("command-service is not ready").await;
    let advice = "`annals schema rollback TaskCreated --version 2`";
    assert!(said.contains("`titel`") && said.contains(advice), "{said}");
    place
        .run(&["schema", "rollback", "TaskCreated", "--version", "2"])
        .await;
    up.said("Ctrl-C ends everything").await;
    assert!(up.stop().await.success());
    place.wipe().await;
}

#[tokio::test]
async fn ctrl_c_ends_a_start_too() {
    let place = Place::new();
    let up = place.start(&["up"]);
    up.said("starting Kafka").await;
    let family = eventually("Kafka is being started", async || {
        let family = family_of(up.pid());
        (family.len() > 1).then_some(family)
    });
    let family = family.await;
    up.signal(Signal::INT);
    assert!(up.ended().await.success(), "{}", up.stderr());
    until_gone(&family).await;
    place.wipe().await;
}

#[tokio::test]
async fn a_server_that_dies_ends_everything_with_its_name() {
    let place = Place::new();
    let up = place.up().await;
    let family = family_of(up.pid());
    let kafka = family.iter().find(|pid| name_of(**pid) == "java").unwrap();
    kill_process(Pid::from_raw(*kafka as i32).unwrap(), Signal::KILL).unwrap();
    assert!(!up.ended().await.success());
    let said = up.stderr();
    let last = said.lines().last().unwrap_or_default();
    assert!(
        last.starts_with("annals: Kafka ended") && last.contains("kafka.log"),
        "{said}"
    );
    until_gone(&family).await;
    place.wipe().await;
}

fn name_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm"));
    name.unwrap_or_default().trim().to_owned()
}

async fn until_gone(family: &[u32]) {
    eventually("every process has ended", async || {
        family.iter().all(|pid| !is_running(*pid)).then_some(())
    })
    .await;
}

/// Its share of the memory that it has in use; what several share counts once in their sum.
/// Nothing of one that has ended: Postgres lets processes of its own come and go.
fn megabytes_of(pid: u32) -> Option<u64> {
    let proc = Path::new("/proc").join(pid.to_string());
    let text = fs::read_to_string(proc.join("smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    let kilobytes = line.split_whitespace().nth(1).unwrap();
    Some(kilobytes.parse::<u64>().unwrap() / 1_000)
}
