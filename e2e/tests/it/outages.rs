//! Kafka, Postgres and the registry go and come back: readiness and logs say so, commands are
//! answered 503 with Retry-After, and everything goes on by itself.

use dev_stack::{DevStack, wipe};
use e2e::{TestApp, User, eventually};

use crate::load::{Load, assert_all_on_board, assert_exactly_once};

/// A stack whose servers may be killed.
struct Fragile {
    stack: DevStack,
    app: TestApp,
}

impl Fragile {
    async fn new() -> Self {
        let stack = DevStack::temporary().await.unwrap();
        let app = TestApp::on(&stack).await;
        Self { stack, app }
    }

    async fn end(self) {
        let Self { stack, app } = self;
        drop(app);
        let data = stack.data_dir().unwrap().to_owned();
        stack.stop().await;
        wipe(&data).unwrap();
    }
}

#[tokio::test]
async fn everything_starts_without_kafka_and_goes_on_when_it_comes() {
    let fragile = Fragile::new().await;
    let Fragile { stack, app } = &fragile;
    app.run(&app.registry);
    app.registry.until_ready().await;
    assert!(app.register_schemas().status.success());
    app.registry.kill().await;
    let kafka = stack.kafka_process();
    kafka.kill().await;
    for role in app.roles() {
        app.run(role);
    }
    // What the registry has written to its topic it cannot know.
    app.registry.until_not_ready("").await;
    app.registry.running().said("is not ready").await;
    for role in [&app.commands, &app.projector] {
        role.until_not_ready("broker").await;
        role.running().said("is not ready").await;
    }
    let company = app.new_company();
    let mia = company.manager("mia");
    let command = mia.create_task("x");
    command.send().await.is_problem(503, "not-served");

    kafka.start().await.unwrap();
    app.until_ready().await;
    let answer = command.until_answered().await.succeeded();
    let board = mia.read("/v1/tasks").after(&answer).send().await;
    assert_eq!(board.succeeded().body["items"][0]["title"], "x");
    fragile.end().await;
}

#[tokio::test]
async fn kafka_that_dies_or_hangs_under_load_loses_and_doubles_nothing() {
    let fragile = Fragile::new().await;
    let Fragile { stack, app } = &fragile;
    app.start_all().await;
    let kafka = stack.kafka_process();
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let load = Load::begin(&mia, &polly, 20);

    load.until_answered(50).await;
    kafka.kill().await;
    until_refused(&mia).await;
    app.commands.until_not_ready("broker").await;
    app.commands.running().said("is not ready").await;
    kafka.start().await.unwrap();
    load.until_answered(300).await;
    app.until_ready().await;

    kafka.pause();
    until_refused(&mia).await;
    app.commands.until_not_ready("").await;
    kafka.resume();
    let commands = load.end().await;
    app.until_ready().await;
    assert_exactly_once(app, &commands).await;
    assert_all_on_board(&mia, &commands).await;
    fragile.end().await;
}

#[tokio::test]
async fn kafka_that_dies_while_shards_are_restored_is_waited_for() {
    let fragile = Fragile::new().await;
    let Fragile { stack, app } = &fragile;
    app.start_all().await;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let commands = Load::begin(&mia, &polly, 10).end().await;
    for step in ["taking over", "restoring from the log"] {
        app.commands.kill().await;
        app.run(&app.commands);
        app.commands.running().said(step).await;
        stack.kafka_process().kill().await;
        until_refused(&mia).await;
        stack.kafka_process().start().await.unwrap();
        app.commands.until_ready().await;
    }
    assert_exactly_once(app, &commands).await;
    fragile.end().await;
}

/// Waits for the answer of a command service that lacks something. What is asked changes nothing.
async fn until_refused(user: &User) {
    eventually("a command is answered 503", async || {
        let answer = user.complete("unknown").attempt().await.ok()?;
        let code = answer.body["code"].as_str()?.to_owned();
        (answer.status == 503).then(|| answer.is_problem(503, &code))
    })
    .await;
}

#[tokio::test]
async fn without_postgres_commands_go_on_and_reads_wait() {
    let fragile = Fragile::new().await;
    let Fragile { stack, app } = &fragile;
    app.start_all().await;
    let postgres = stack.postgres_process();
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));

    postgres.kill().await;
    let commands = Load::begin(&mia, &polly, 2).end().await;
    for role in [&app.registry, &app.projector, &app.queries] {
        role.until_not_ready("postgres").await;
        role.running().said("is not ready").await;
    }
    let read = mia.read("/v1/tasks").send().await;
    read.is_problem(503, "read-side-unavailable");
    let read = mia.read("/v1/tasks").after(&commands[0].1).attempt().await;
    read.unwrap().is_problem(503, "not-yet-visible");

    postgres.start().await.unwrap();
    app.until_ready().await;
    assert_all_on_board(&mia, &commands).await;
    fragile.end().await;
}

#[tokio::test]
async fn everything_starts_without_postgres_and_goes_on_when_it_comes() {
    let fragile = Fragile::new().await;
    let Fragile { stack, app } = &fragile;
    stack.postgres_process().kill().await;
    for role in app.roles() {
        app.run(role);
    }
    for role in [&app.registry, &app.projector, &app.queries] {
        role.until_not_ready("postgres").await;
    }
    app.commands.until_not_ready("registry").await;
    let company = app.new_company();
    let mia = company.manager("mia");
    let command = mia.create_task("x");
    command.send().await.is_problem(503, "not-served");

    stack.postgres_process().start().await.unwrap();
    app.registry.until_ready().await;
    assert!(app.register_schemas().status.success());
    app.until_ready().await;
    let answer = command.until_answered().await.succeeded();
    mia.read("/v1/tasks")
        .after(&answer)
        .send()
        .await
        .succeeded();
    fragile.end().await;
}

#[tokio::test]
async fn everything_starts_without_the_registry_and_goes_on_when_it_comes() {
    let app = TestApp::on(dev_stack::shared().await).await;
    for role in [&app.commands, &app.projector, &app.queries] {
        app.run(role);
    }
    for role in [&app.commands, &app.projector] {
        role.until_not_ready("registry").await;
        role.running().said("is not ready").await;
    }
    let company = app.new_company();
    let mia = company.manager("mia");
    let command = mia.create_task("x");
    command.send().await.is_problem(503, "not-served");

    app.run(&app.registry);
    app.registry.until_ready().await;
    // It is there, but knows no schema yet.
    app.commands.until_not_ready("does not know").await;
    assert!(app.register_schemas().status.success());
    app.until_ready().await;
    let answer = command.until_answered().await.succeeded();
    mia.read("/v1/tasks")
        .after(&answer)
        .send()
        .await
        .succeeded();

    // Once the schemas are known, nobody needs it.
    app.registry.kill().await;
    let answer = mia.create_task("y").send().await.succeeded();
    mia.read("/v1/tasks")
        .after(&answer)
        .send()
        .await
        .succeeded();
}
