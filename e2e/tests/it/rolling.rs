//! A rolling deploy, from a release that knows version 1 of `TaskCreated` to one that writes
//! version 2: under load, with some processes killed on the way.

use std::{collections::BTreeMap, net::SocketAddr};

use e2e::{Process, Release, Role, TestApp, eventually};

use crate::{
    load::assert_exactly_once,
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

    /// The same release again, or this one instead of the one before.
    async fn replace(&self, role: &Role, how: How) {
        match how {
            How::Asked => assert!(role.running().stop().await.success()),
            How::Killed => role.kill().await,
        }
        self.app.run(role);
        role.until_ready().await;
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

    /// Who is in the way, by what was told of each.
    fn in_the_way(&self) -> Vec<&str> {
        assert_eq!(self.code, Some(4), "{}", self.told);
        let lines = self.told.lines().filter_map(|line| line.strip_prefix("  "));
        lines.collect()
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
    let refused = eventually("everybody has announced what it reads", async || {
        let refused = deployment.activate(2).await;
        let announced = refused.in_the_way().len() == 5 && !refused.told.contains("nothing");
        announced.then_some(refused)
    });
    let refused = refused.await;
    for role in deployment.nodes().chain(deployment.projectors()) {
        let expected = format!("{} ", role.address);
        let named = refused.in_the_way();
        let named = named.iter().find(|line| line.contains(&expected));
        assert!(
            named.is_some_and(|it| it.contains("reads up to version 1")),
            "{}",
            refused.told
        );
    }

    // Readers first, then those who decide; until the last of them, the old version is written.
    let hows = [How::Killed, How::Asked];
    for (role, how) in deployment.projectors().zip(hows) {
        deployment.replace(role, how).await;
    }
    let hows = [How::Asked, How::Killed, How::Asked];
    for (place, (role, how)) in deployment.nodes().zip(hows).enumerate() {
        if place == 2 {
            let refused = eventually("the last of the release before is in the way", async || {
                let refused = deployment.activate(2).await;
                (refused.in_the_way().len() == 1).then_some(refused)
            });
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

    let activated = eventually("nobody is in the way", async || {
        let activated = deployment.activate(2).await;
        (activated.code == Some(0)).then_some(activated)
    });
    assert!(activated.await.told.contains("from now on"));
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

    let done = commands(load.end().await, app.commands.address);
    let created = deployment.created_by_schema();
    assert_eq!(
        created.len(),
        2,
        "both versions are in the log: {created:?}"
    );
    assert_eq!(created.values().sum::<usize>() * 3, done.len());
    assert_exactly_once(app, &done).await;
}
