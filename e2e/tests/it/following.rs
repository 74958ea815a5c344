//! Following, from the command to whoever follows: over restarts of everything on the way.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use dev_stack::{DevStack, wipe};
use e2e::{Follower, Heard, TestApp, Way, eventually};
use event_log::PositionToken;
use futures::future::join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{app, load::Load};

const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(100);

#[tokio::test(flavor = "multi_thread")]
async fn followers_hear_of_everything_once_and_in_order_whatever_dies() {
    const TASKS: usize = 12;
    let stack = DevStack::temporary().await.unwrap();
    let app = TestApp::on(&stack).await;
    app.start_all().await;
    let company = app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let token = || app.token(&company.tenant, "mia", &["admin"], HOUR);
    let ways = [Way::EventStream, Way::EventStream, Way::LongPoll];
    let followers = ways.map(|way| Follower::start(app.queries.address, "/v1/tasks", token(), way));
    let followers = join_all(followers).await;

    let load = Load::begin(&mia, &polly, TASKS);
    load.until_answered(50).await;
    app.queries.kill().await;
    app.run(&app.queries);
    load.until_answered(120).await;
    stack.postgres_process().kill().await;
    load.until_answered(180).await;
    stack.postgres_process().start().await.unwrap();
    load.until_answered(250).await;
    app.projector.kill().await;
    app.run(&app.projector);
    // Orderly too: followers are told to come back.
    app.queries.running().stop().await;
    app.run(&app.queries);
    let commands = load.end().await;

    for follower in followers {
        let heard = follower.heard(commands.len()).await;
        for (stream, versions) in &heard {
            assert_eq!(versions, &[1, 2, 3], "{stream}");
        }
        assert_eq!(heard.len() * 3, commands.len());
    }
    drop(app);
    let data = stack.data_dir().unwrap().to_owned();
    stack.stop().await;
    wipe(&data).unwrap();
}

#[tokio::test]
async fn a_task_its_stream_and_its_request_are_followed_from_the_command_on() {
    let app = app().await;
    let company = app.new_company();
    let mia = company.user("mia", &["manager", "admin"]);
    let created = mia.create_task("x").send().await.succeeded();
    let task = format!("/v1/tasks/{}", created.id());
    let stream = format!("/v1/streams/task/{}/events", created.id());
    let events = mia.read(&*stream).after(&created).send().await.succeeded();
    let event = &events.body["items"][0];
    assert_eq!(event["type"], "annals.tasks.TaskCreated");
    assert_eq!(event["actor"], "user:mia");
    let request = event["correlation_id"].as_str().unwrap();
    let request = format!("/v1/correlations/{request}/events");
    mia.read(&*task).after(&created).send().await.succeeded();

    let token = || app.token(&company.tenant, "mia", &["admin"], HOUR);
    let paths = [&task, &stream, &request];
    let follow = |path| Follower::start(app.queries.address, path, token(), Way::EventStream);
    let mut followers = join_all(paths.map(|path| follow(path.as_str())))
        .await
        .into_iter();
    let mut next = || followers.next().unwrap();
    let (of_task, of_stream, of_request) = (next(), next(), next());
    let assigned = mia.assign(&created.id(), "polly").send().await.succeeded();
    let versions = |heard: Heard| heard.into_values().next().unwrap();
    assert_eq!(versions(of_task.heard(1).await), [2]);
    assert_eq!(versions(of_stream.heard(1).await), [2]);
    assert!(of_request.heard_so_far().is_empty());

    let events = mia.read(&*stream).after(&assigned).send().await.succeeded();
    assert_eq!(events.body["items"].as_array().unwrap().len(), 2);
    let of_request = mia.read(&*request).send().await.succeeded();
    assert_eq!(of_request.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_token_from_beyond_the_log_is_told_from_one_that_is_not_visible_yet() {
    let app = app().await;
    let company = app.new_company();
    let mia = company.manager("mia");
    let created = mia.create_task("x").send().await.succeeded();
    let mut token = PositionToken::decode(&created.position()).unwrap();
    token.marks[0].position.offset += 1_000_000;
    let path = format!("/v1/tasks?position={}", token.encode());
    // The end of the log is not always known in time.
    let refused = eventually("the position is judged", async || {
        let answer = mia.read(&*path).send().await;
        (answer.status != 503).then_some(answer)
    });
    refused.await.is_problem(400, "position-impossible");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_connections_from_one_address_cost_little_and_hear_why_they_are_refused() {
    const CONNECTIONS: usize = 10_000;
    // Half as many as the service refuses at a time: beyond those it cuts without a word.
    const AT_ONCE: usize = 32;
    service_kit::connection::raise_open_files();
    let app = TestApp::start().await;
    let company = app.new_company();
    let token = app.token(&company.tenant, "mia", &["admin"], HOUR);
    let queries = app.queries.address;
    let before = resident_megabytes(app.queries.running().pid());
    let mut open = Vec::new();
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..CONNECTIONS.div_ceil(AT_ONCE) {
        let knocking = (0..AT_ONCE).map(|_| knock(queries, &token));
        for knocked in join_all(knocking).await {
            let (answer, stream) = knocked;
            *answers.entry(answer).or_default() += 1;
            open.extend(stream);
        }
    }
    let after = resident_megabytes(app.queries.running().pid());
    assert_eq!(answers["200 "], 1_000, "{answers:?}");
    // Followers beyond their number, and connections beyond theirs.
    assert!(answers["429 too-many-followers"] >= 900, "{answers:?}");
    assert!(answers["429 too-many-connections"] >= 5_000, "{answers:?}");
    assert!(after - before < 300.0, "{before} MB, then {after} MB");
    drop(open);
    let mia = company.manager("mia");
    eventually("there is room again", async || {
        let answer = mia.read("/v1/tasks").attempt().await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// Asks to follow; what was answered, and the connection if it is open.
async fn knock(queries: SocketAddr, token: &str) -> (String, Option<TcpStream>) {
    let head = format!(
        "GET /v1/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         accept: text/event-stream\r\n\r\n"
    );
    let Ok(mut stream) = TcpStream::connect(queries).await else {
        return ("not let in".into(), None);
    };
    let mut answer = vec![0; 4096];
    let read = async {
        stream.write_all(head.as_bytes()).await?;
        stream.read(&mut answer).await
    };
    let read = timeout(PATIENCE, read).await.expect("something happens");
    let answer = String::from_utf8_lossy(&answer[..read.unwrap_or(0)]).into_owned();
    let status = answer.get(9..12).unwrap_or("cut");
    let code = answer.split(r#""code":""#).nth(1);
    let code = code.map_or("", |code| code.split('"').next().unwrap_or_default());
    (format!("{status} {code}"), Some(stream))
}

fn resident_megabytes(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<f64>().unwrap() / 1e3
}
