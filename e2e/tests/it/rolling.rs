//! A rolling deploy, from a release that knows version 1 of `TaskCreated` to one that writes
//! version 2: under load, with some processes killed on the way.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use e2e::{Process, Release, Role, TestApp, eventually};
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::{
    load::{assert_logged_once, assert_repeatable},
    nodes::{Load, commands},
    raw_log,
};

/// Three nodes that decide and two that project, all of the release before.
struct Deployment {
    app: TestApp,
    nodes: Vec<Role>,
    projector: Role,
}

/// A verb of this release, as an operator sees it end.
struct Ended {
    code: Option<i32>,
    told: String,
}

impl Deployment {
    async fn start() -> Self {
        let app = TestApp::on(dev_stack::shared().await).await;
        app.run(&app.registry);
        app.registry.until_ready().await;
        let mut register = app.binary(Release::Previous);
        register.args(["schema", "register"]);
        run(register).await.succeeded();
        let nodes = (0..2).map(|_| app.another_command_service()).collect();
        let deployment = Self {
            projector: app.another_projector(),
            nodes,
            app,
        };
        for role in deployment.nodes().chain(deployment.projectors()) {
            deployment.app.run_of(Release::Previous, role);
        }
        for role in deployment.nodes().chain(deployment.projectors()) {
            role.until_ready().await;
        }
        deployment
    }

    fn nodes(&self) -> impl Iterator<Item = &Role> {
        std::iter::once(&self.app.commands).chain(&self.nodes)
    }

    fn projectors(&self) -> impl Iterator<Item = &Role> {
        [&self.app.projector, &self.projector].into_iter()
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes().map(|node| node.address).collect()
    }

    /// `annals schema activate TaskCreated` with this version.
    async fn activate(&self, version: u32) -> Ended {
        let mut activate = self.app.annals();
        activate.args(["schema", "activate", "TaskCreated", &version.to_string()]);
        run(activate).await
    }

    /// Again and again, until what it tells is this.
    async fn until_told(&self, what: &str, is_it: impl Fn(&Ended) -> bool) -> Ended {
        eventually(what, async || {
            let ended = self.activate(2).await;
            if !is_it(&ended) {
                // Announcements are renewed every few seconds.
                sleep(Duration::from_millis(500)).await;
                return None;
            }
            Some(ended)
        })
        .await
    }

    /// The same release again, or this one instead of the one before.
    async fn replace(&self, role: &Role, how: How) {
        match how {
            How::Asked => assert!(role.running().stop().await.success()),
            How::Killed => role.kill().await,
        }
        self.app.run(role);
        role.until_ready().await;
    }

    /// How many tasks each edition of the board shows as done: the old projector's, and the new
    /// one's.
    async fn done_on_boards(&self) -> Option<Vec<usize>> {
        let postgres = self.app.setting("POSTGRES");
        let mut db = PgConnection::connect(postgres).await.ok()?;
        let editions =
            "select edition from annals.editions where model = 'task-board' order by edition";
        let editions = sqlx::query_scalar(editions).fetch_all(&mut db).await;
        let editions: Vec<i32> = editions.ok()?;
        let mut counts = Vec::new();
        for edition in editions {
            let done = format!(
                "select count(*) from rm_task_board_e{edition}.tasks
                  where completed_at is not null and title <> ''"
            );
            let done = sqlx::query_scalar(sqlx::AssertSqlSafe(done));
            let done: i64 = done.fetch_one(&mut db).await.ok()?;
            counts.push(done as usize);
        }
        Some(counts)
    }

    /// How many `TaskCreated` the log has, by the id of their schema.
    fn created_by_schema(&self) -> BTreeMap<u32, usize> {
        let mut counts = BTreeMap::new();
        for event in raw_log::read(&self.app, "tasks") {
            if event.headers["ce_type"] == "annals.tasks.TaskCreated" {
                let id = u32::from_be_bytes(event.value[1..5].try_into().unwrap());
                *counts.entry(id).or_default() += 1;
            }
        }
        counts
    }
}

#[derive(Clone, Copy)]
enum How {
    Asked,
    Killed,
}

impl Ended {
    fn succeeded(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.told);
        self.told
    }

    /// Who is in the way, by what was told of each; nobody, where it was ended by something else,
    /// such as a group that is just shared out anew.
    fn in_the_way(&self) -> Vec<&str> {
        let refused = self.code == Some(4);
        let lines = self.told.lines().filter(|_| refused);
        lines.filter_map(|line| line.strip_prefix("  ")).collect()
    }
}

async fn run(command: std::process::Command) -> Ended {
    let process = Process::start(command);
    let code = process.ended().await.code();
    let told = process.stdout() + &process.stderr();
    Ended { code, told }
}

#[tokio::test]
async fn a_rolling_deploy_to_a_new_version_loses_nothing_and_answers_every_command() {
    let deployment = Deployment::start().await;
    let Deployment { app, .. } = &deployment;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let load = Load::begin(&mia, &polly, deployment.addresses());
    load.until_more(60).await;

    // The new version has to be known to the registry, and to everybody who is there.
    let told = deployment.activate(2).await;
    assert!(
        told.told.contains("annals schema register"),
        "{}",
        told.told
    );
    assert!(app.register_schemas().status.success());
    // Projectors of the release before read it by the rules that lead down from it; who decides
    // must know it.
    let announced = |it: &Ended| it.in_the_way().len() == 3 && !it.told.contains("nothing");
    let refused = deployment.until_told("everybody has announced what it reads", announced);
    let refused = refused.await;
    for node in deployment.nodes() {
        let line = format!("command-service {} (", node.address);
        let mut lines = refused.in_the_way().into_iter();
        let line = lines.find(|it| it.starts_with(&line));
        assert!(
            line.is_some_and(|it| it.contains("reads up to version 1")),
            "{}",
            refused.told
        );
    }

    // Readers first, one of them beside the old one, then those who decide; until the last of
    // them, the old version is written.
    deployment.replace(&app.projector, How::Killed).await;
    let hows = [How::Asked, How::Killed, How::Asked];
    for (place, (role, how)) in deployment.nodes().zip(hows).enumerate() {
        if place == 2 {
            let alone = |it: &Ended| it.in_the_way().len() == 1;
            let refused = deployment.until_told("the last one is in the way", alone);
            let refused = refused.await;
            let last = role.address.to_string();
            assert!(refused.in_the_way()[0].contains(&last), "{}", refused.told);
        }
        deployment.replace(role, how).await;
        load.until_more(30).await;
    }
    assert_eq!(
        deployment.created_by_schema().len(),
        1,
        "the old version is written still"
    );

    // Nobody would have the blanks back from version 1.
    let padded = json!({ "title": "  padded", "jira_id": "AVRO-12" });
    let padded = mia.command("/v1/tasks").json(padded);
    let refused = padded.until_answered().await;
    refused.is_problem(409, "not-active");

    let activated = deployment.until_told("nobody is in the way", |it| it.code == Some(0));
    assert!(activated.await.told.contains("from now on"));
    let written = eventually("every owner writes the new version", async || {
        let answer = padded.until_answered().await;
        answer.is_success().then_some(answer)
    });
    let mut lives = vec![(padded.clone(), written.await)];
    let id = lives[0].1.id();
    for command in [mia.assign(&id, "polly"), polly.complete(&id)] {
        let answer = command.until_answered().await.succeeded();
        lives.push((command, answer));
    }
    load.until_more(60).await;
    deployment.replace(&deployment.nodes[0], How::Killed).await;
    load.until_more(60).await;

    // Who cannot read it does not come back.
    let old = app.another_command_service();
    app.run_of(Release::Previous, &old);
    let status = old.running().ended().await;
    assert!(!status.success());
    let said = old.running().stderr();
    assert!(
        said.contains("TaskCreated was activated in version 2"),
        "{said}"
    );

    let mut done = commands(load.end().await, app.commands.address);
    done.extend(lives);
    let created = deployment.created_by_schema();
    assert_eq!(
        created.len(),
        2,
        "both versions are in the log: {created:?}"
    );
    assert_eq!(created.values().sum::<usize>() * 3, done.len());
    let tasks = done.len() / 3;
    // The old projector has read version 2 as well, by the rule that leads back.
    eventually("every task is on both boards", async || {
        (deployment.done_on_boards().await? == [tasks, tasks]).then_some(())
    })
    .await;
    deployment.replace(&deployment.projector, How::Asked).await;
    assert_logged_once(app, &done);
    // Those of both releases have their answers still.
    let (first, last) = (&done[..50], &done[done.len() - 50..]);
    assert_repeatable(app, first).await;
    assert_repeatable(app, last).await;
}
