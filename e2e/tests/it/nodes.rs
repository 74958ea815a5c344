//! Several command services on one log: each stream has one owner, and any node answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use e2e::{Answer, Command, Process, Role, TestApp, User, eventually};
use event_log::router::partition_of;
use futures::future::join_all;
use rustix::process::Signal;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::load::{assert_all_on_board, assert_exactly_once};

/// When something hangs. How long hand-over and failover take is told, not asserted: the machine
/// has other things to do.
const HANGS: Duration = Duration::from_secs(100);
/// Of owners that nobody is to take for lost.
const LONG_SESSION: (&str, &str) = ("COMMANDS__SESSION_MS", "300000");
const CLIENTS: usize = 12;
const ATTEMPT: Duration = Duration::from_secs(4);

/// An installation with this node and others.
struct Nodes {
    app: TestApp,
    others: Vec<Role>,
}

impl Nodes {
    async fn start(count: usize) -> Self {
        Self::of(TestApp::start().await, count).await
    }

    async fn of(app: TestApp, count: usize) -> Self {
        let others: Vec<_> = (1..count).map(|_| app.another_command_service()).collect();
        for node in &others {
            app.run(node);
        }
        let nodes = Self { app, others };
        nodes.until_all_share().await;
        nodes
    }

    fn all(&self) -> impl Iterator<Item = &Role> {
        std::iter::once(&self.app.commands).chain(&self.others)
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.all().map(|node| node.address).collect()
    }

    async fn until_all_share(&self) {
        for node in self.all() {
            node.until_ready().await;
        }
    }
}

/// Clients that send whole lives of tasks, each command to the next node, until told to stop.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Done>>>,
}

pub(crate) struct Done {
    command: Command,
    answer: Answer,
    took: Duration,
}

impl Load {
    pub(crate) fn begin(manager: &User, worker: &User, nodes: Vec<SocketAddr>) -> Self {
        let (stop, answered) = (Arc::default(), Arc::<AtomicUsize>::default());
        let clients = (0..CLIENTS).map(|first| {
            let client = Client {
                nodes: nodes.clone(),
                next: first,
                stop: Arc::clone(&stop),
                answered: answered.clone(),
                done: Vec::new(),
            };
            tokio::spawn(client.live(manager.clone(), worker.clone()))
        });
        Self {
            clients: clients.collect(),
            stop,
            answered,
        }
    }

    pub(crate) async fn until_more(&self, commands: usize) {
        let before = self.answered.load(Ordering::Relaxed);
        eventually("more commands are answered", async || {
            (self.answered.load(Ordering::Relaxed) >= before + commands).then_some(())
        })
        .await;
    }

    pub(crate) async fn end(self) -> Vec<Done> {
        self.stop.store(true, Ordering::Relaxed);
        let clients = join_all(self.clients).await;
        clients.into_iter().flat_map(Result::unwrap).collect()
    }
}

struct Client {
    nodes: Vec<SocketAddr>,
    next: usize,
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    done: Vec<Done>,
}

impl Client {
    async fn live(mut self, manager: User, worker: User) -> Vec<Done> {
        while !self.stop.load(Ordering::Relaxed) {
            let id = self.send(manager.create_task("x")).await.id();
            self.send(manager.assign(&id, "polly")).await;
            self.send(worker.complete(&id).if_match(2)).await;
        }
        self.done
    }

    /// To one node after the other until one has an answer; as long as it is asked to wait, it does.
    async fn send(&mut self, command: Command) -> Answer {
        let began = Instant::now();
        loop {
            self.next += 1;
            let node = self.nodes[self.next % self.nodes.len()];
            let command = command.clone().to(node);
            // A node that stands still would keep a client for ever.
            let attempt = timeout(ATTEMPT, command.attempt()).await;
            let Ok(attempt) = attempt else { continue };
            match attempt {
                Ok(answer) if answer.status == 503 => {
                    let seconds = answer.header("retry-after").expect("503 says when").parse();
                    sleep(Duration::from_secs(seconds.unwrap())).await;
                }
                Ok(answer) => {
                    let answer = answer.succeeded();
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    self.done.push(Done {
                        command,
                        answer: answer.clone(),
                        took: began.elapsed(),
                    });
                    return answer;
                }
                Err(_) => sleep(Duration::from_millis(20)).await,
            }
        }
    }
}

fn slowest(done: &[Done]) -> Duration {
    done.iter().map(|it| it.took).max().unwrap()
}

/// Each command with its answer, for whoever is alive.
pub(crate) fn commands(done: Vec<Done>, node: SocketAddr) -> Vec<(Command, Answer)> {
    let commands = done.into_iter();
    commands
        .map(|it| (it.command.to(node), it.answer))
        .collect()
}

#[tokio::test]
async fn any_node_answers_for_every_stream() {
    let nodes = Nodes::start(3).await;
    let company = nodes.app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let load = Load::begin(&mia, &polly, nodes.addresses());
    load.until_more(300).await;
    let done = commands(load.end().await, nodes.app.commands.address);
    assert_exactly_once(&nodes.app, &done).await;
    assert_all_on_board(&mia, &done).await;

    // The same command, wherever it is sent, has one answer.
    let command = mia.create_task("once");
    let first = command.send().await.succeeded();
    for node in nodes.addresses() {
        let again = command.clone().to(node).send().await.succeeded();
        assert!(again.is_replayed(), "{again:?}");
        assert_eq!(again.body, first.body);
        // And another command with its key is refused everywhere.
        let other = mia.create_task("twice").key(command.command_id()).to(node);
        other.send().await.is_problem(422, "idempotency-key-reused");
    }
}

#[tokio::test]
async fn the_shards_of_a_killed_owner_are_served_by_others_within_seconds() {
    let nodes = Nodes::start(3).await;
    let company = nodes.app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let survivors = nodes.addresses()[..2].to_vec();
    let mut tasks = tasks_on_every_shard(&nodes, &mia).await;
    let load = Load::begin(&mia, &polly, nodes.addresses());
    load.until_more(100).await;

    nodes.others[1].kill().await;
    let killed = Instant::now();
    send_to_all(&mut tasks, |id| mia.assign(id, "polly").to(survivors[0])).await;
    let failover = killed.elapsed();
    println!("killed owner: every shard answered after {failover:.1?}");
    assert!(failover <= HANGS, "{failover:?}");

    load.until_more(100).await;
    send_to_all(&mut tasks, |id| polly.complete(id).to(survivors[1])).await;
    let mut done = commands(load.end().await, survivors[0]);
    done.extend(tasks.into_iter().flat_map(|task| task.done));
    assert_exactly_once(&nodes.app, &done).await;
}

#[tokio::test]
async fn an_owner_that_was_stopped_for_a_while_contradicts_nobody() {
    let nodes = Nodes::start(2).await;
    let company = nodes.app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let [healthy, zombie] = [&nodes.app.commands, &nodes.others[0]];
    let load = Load::begin(&mia, &polly, nodes.addresses());
    load.until_more(100).await;

    let mut tasks = tasks_on_every_shard(&nodes, &mia).await;
    zombie.running().signal(Signal::STOP);
    // When each has an answer, all shards are the other's.
    send_to_all(&mut tasks, |id| mia.assign(id, "polly").to(healthy.address)).await;
    zombie.running().signal(Signal::CONT);
    let stale = tasks.iter().map(async |task| {
        // By the state that the zombie remembers it would be accepted.
        let stale = mia.assign(&task.id, "bo").if_match(1).to(zombie.address);
        stale
            .until_answered()
            .await
            .is_problem(412, "stale-version");
    });
    join_all(stale).await;
    load.until_more(200).await;
    zombie.until_ready().await;
    send_to_all(&mut tasks, |id| polly.complete(id).to(zombie.address)).await;
    let mut done = commands(load.end().await, zombie.address);
    done.extend(tasks.into_iter().flat_map(|task| task.done));
    assert_exactly_once(&nodes.app, &done).await;
}

#[tokio::test]
async fn during_a_rolling_restart_every_command_is_answered_soon() {
    let nodes = Nodes::start(3).await;
    let company = nodes.app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let load = Load::begin(&mia, &polly, nodes.addresses());
    load.until_more(100).await;
    for node in nodes.all() {
        let asked = Instant::now();
        let status = node.running().stop().await;
        assert!(status.success(), "{}", node.running().stderr());
        println!(
            "a node has handed over and ended after {} ms",
            asked.elapsed().as_millis()
        );
        nodes.app.run(node);
        node.until_ready().await;
        load.until_more(100).await;
    }
    let done = load.end().await;
    let slowest = done.iter().map(|it| it.took).max().unwrap();
    println!(
        "rolling restart: {} commands, the slowest took {} ms",
        done.len(),
        slowest.as_millis()
    );
    assert!(slowest <= HANGS, "{slowest:?}");
    let done = commands(done, nodes.app.commands.address);
    assert_exactly_once(&nodes.app, &done).await;
}

#[tokio::test]
async fn a_planned_hand_over_is_hardly_noticed() {
    let nodes = Nodes::start(2).await;
    let company = nodes.app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let staying = nodes.app.commands.address;
    for _ in 0..3 {
        // Asked are only nodes that stay: what is measured is the hand-over.
        let load = Load::begin(&mia, &polly, vec![staying]);
        load.until_more(50).await;
        assert!(nodes.others[0].running().stop().await.success());
        load.until_more(50).await;
        let away = slowest(&load.end().await);
        let load = Load::begin(&mia, &polly, vec![staying]);
        load.until_more(50).await;
        nodes.app.run(&nodes.others[0]);
        nodes.others[0].until_ready().await;
        load.until_more(50).await;
        let back = slowest(&load.end().await);
        println!("planned hand-over: the slowest command took {away:.0?} away, {back:.0?} back");
        assert!(away.max(back) <= HANGS, "{away:?} {back:?}");
    }
}

#[tokio::test]
async fn a_node_that_is_killed_and_started_again_has_its_shards_before_its_session_ends() {
    let app = TestApp::start_with(&[LONG_SESSION]).await;
    let nodes = Nodes::of(app, 2).await;
    let company = nodes.app.new_company();
    let mia = company.manager("mia");
    let mut tasks = tasks_on_every_shard(&nodes, &mia).await;
    nodes.app.commands.kill().await;
    let killed = Instant::now();
    nodes.app.run(&nodes.app.commands);
    send_to_all(&mut tasks, |id| mia.assign(id, "polly")).await;
    let took = killed.elapsed();
    println!("killed and started again: every shard answered after {took:.1?}");
    assert!(took < HANGS, "{took:?}");
}

#[tokio::test]
async fn the_address_of_another_node_is_refused() {
    let nodes = Nodes::start(1).await;
    let taken = nodes.app.commands.address;
    let mut command = nodes.app.annals();
    command
        .arg("command-service")
        .env("ANNALS_COMMANDS__ADDRESS", e2e::free_port().to_string())
        .env("ANNALS_COMMANDS__ADVERTISE", taken.to_string());
    let process = Process::start(command);
    let status = process.ended().await;
    let said = process.stderr();
    assert!(!status.success(), "{said}");
    let line = said.lines().last().unwrap_or_default();
    let expected = format!("{taken} is the address of another node");
    assert!(line.contains(&expected), "{said}");
    // The one that was there first goes on.
    nodes.app.commands.until_ready().await;
    let mia = nodes.app.new_company().manager("mia");
    mia.create_task("x").send().await.succeeded();
}

#[tokio::test]
async fn any_node_tells_what_became_of_a_command() {
    let nodes = Nodes::start(2).await;
    let company = nodes.app.new_company();
    for number in 0..8 {
        let key = format!("k-{number}");
        let mia = company.manager("mia");
        let made = mia.create_task("x").key(&key).send().await.succeeded();
        for node in nodes.addresses() {
            // Its stream follows from the key, or is named; which shard that is, nobody needs to know.
            for path in [
                format!("/v1/commands/{key}"),
                format!("/v1/commands/{key}?stream={}", made.text("stream")),
            ] {
                let told = mia.at(node).recall(&path).await.succeeded();
                assert_eq!(told.body, made.body, "{path}");
            }
            let unknown = mia.at(node).recall("/v1/commands/unknown").await;
            unknown.is_problem(404, "unknown-command");
        }
    }
}

#[tokio::test]
async fn operators_see_every_shard_of_every_node() {
    let nodes = Nodes::of(TestApp::start_with(&[LONG_SESSION]).await, 2).await;
    let mia = nodes.app.new_company().manager("mia");
    tasks_on_every_shard(&nodes, &mia).await;
    let addresses: Vec<_> = nodes
        .addresses()
        .iter()
        .map(SocketAddr::to_string)
        .collect();
    for address in &addresses {
        let view = until_shown(&nodes.app, address, &[]).await;
        let shards = view["shards"].as_array().unwrap();
        assert_eq!(shards.len(), 4, "{view}");
        for (number, shard) in shards.iter().enumerate() {
            assert_eq!(shard["shard"], number, "{view}");
            assert_eq!(shard["status"], "serving", "{view}");
            assert!(shard["term"].as_u64() > Some(0), "{view}");
            assert!(shard["last_commit"].is_string(), "{view}");
        }
        for owner in &addresses {
            let owned = shards.iter().filter(|it| it["owner"] == owner.as_str());
            assert_eq!(owned.count(), 2, "{view}");
        }
    }
    let table = nodes.app.annals().arg("shards").output().unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert_eq!(table.lines().count(), 1 + 4 + 2, "{table}");

    // One that stands still is named, with what it had claimed.
    nodes.others[0].running().signal(Signal::STOP);
    let view = until_shown(&nodes.app, &addresses[0], &addresses[1..]).await;
    assert_eq!(view["shards"].as_array().unwrap().len(), 4, "{view}");

    // And nobody else sees it.
    let refused = mia.recall("/v1/shards").await;
    assert_eq!(refused.status, 403, "{refused:?}");
}

#[tokio::test]
async fn who_is_not_the_owner_of_a_request_that_was_sent_on_names_the_owner() {
    let nodes = Nodes::start(2).await;
    let mia = nodes.app.new_company().manager("mia");
    let addresses = nodes.addresses();
    let mut misdirected = 0;
    for _ in 0..12 {
        let made = mia.create_task("x").until_answered().await.succeeded();
        let assign = mia.assign(&made.id(), "polly");
        for (at, other) in [(0, 1), (1, 0)] {
            let sent_on = assign.clone().to(addresses[at]);
            let sent_on = sent_on.header("annals-forwarded-by", "somebody");
            let owner = addresses[other].to_string();
            // A node hears of the others' claims a moment after they were made.
            let answer = eventually("the owner is named, or answers", async || {
                let answer = sent_on.until_answered().await;
                let named = answer.header("annals-owner").unwrap_or_default();
                (answer.status != 421 || named.starts_with(&owner)).then_some(answer)
            });
            let answer = answer.await;
            if answer.status != 421 {
                answer.succeeded();
                continue;
            }
            misdirected += 1;
            let hint = answer.header("annals-owner").unwrap().to_owned();
            answer.is_problem(421, "misdirected");
            let (named, term) = hint.split_once(' ').unwrap();
            assert_eq!(named, owner);
            assert!(term.parse::<u64>().is_ok(), "{hint}");
            // Not marked so, it is answered by the same node, which asks the owner.
            let again = assign.clone().to(addresses[at]).until_answered().await;
            again.succeeded();
        }
    }
    assert_eq!(misdirected, 12, "each task has one owner");
}

#[tokio::test]
async fn operators_can_count_what_becomes_of_commands() {
    let nodes = Nodes::start(1).await;
    let company = nodes.app.new_company();
    let (mia, polly) = (company.manager("mia"), company.worker("polly"));
    let created = mia.create_task("x");
    let id = created.send().await.succeeded().id();
    created.send().await.succeeded();
    mia.assign(&id, "polly").if_match(7).send().await;
    polly.complete(&id).send().await;
    let counted = metrics(nodes.app.commands.address).await;
    for outcome in ["accepted", "repeated", "stale", "conflict"] {
        let name = format!("annals_answers_total{{outcome=\"{outcome}\"}}");
        assert_eq!(counted.get(&name), Some(&1.0), "{name} in {counted:#?}");
    }
    assert!(counted["annals_take_overs_total"] >= 4.0);
    assert_eq!(counted["annals_group_commands_count"], 4.0);
    assert_eq!(counted["annals_group_commands_sum"], 4.0);
    assert_eq!(counted["annals_append_seconds_count"], 1.0);
    assert!(counted["annals_append_seconds_sum"] > 0.0);

    // Another one takes half of the shards.
    let other = nodes.app.another_command_service();
    nodes.app.run(&other);
    other.until_ready().await;
    eventually("the shards that were taken are counted", async || {
        let counted = metrics(nodes.app.commands.address).await;
        (counted.get("annals_failovers_total") >= Some(&2.0)).then_some(())
    })
    .await;
    // What is counted, and what is not yet, is explained.
    let explained = include_str!("../../../docs/metrics.md");
    for name in metrics(nodes.app.commands.address).await.keys() {
        let family = name.split('{').next().unwrap();
        let family = ["_count", "_sum", "_bucket"]
            .iter()
            .fold(family, |name, suffix| name.trim_end_matches(suffix));
        let is_ours = family.starts_with("annals_");
        assert!(
            !is_ours || explained.contains(family),
            "{family} is not explained"
        );
    }
}

/// By name and labels.
async fn metrics(node: SocketAddr) -> BTreeMap<String, f64> {
    let url = format!("http://{node}/metrics");
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// What this node shows once these have not answered it, and no other: on a busy machine, anybody
/// may be late.
async fn until_shown(app: &TestApp, node: &str, silent: &[String]) -> serde_json::Value {
    eventually(&format!("{node} hears of all but {silent:?}"), async || {
        let mut command = app.annals();
        command.args(["shards", "--json", "--node", node]);
        let shown = Process::start(command);
        if !shown.ended().await.success() {
            return None;
        }
        let view: serde_json::Value = serde_json::from_str(&shown.stdout()).unwrap();
        (view["silent"] == serde_json::json!(silent)).then_some(view)
    })
    .await
}

/// A task whose commands are sent one at a time, between the other clients'.
struct Task {
    id: String,
    done: Vec<(Command, Answer)>,
}

impl Task {
    async fn create(user: &User) -> Self {
        let mut task = Self {
            id: String::new(),
            done: Vec::new(),
        };
        task.id = task.send(user.create_task("x")).await.id();
        task
    }

    fn stream(&self) -> &str {
        self.done[0].1.text("stream")
    }

    async fn send(&mut self, command: Command) -> Answer {
        let answer = command.until_answered().await.succeeded();
        self.done.push((command, answer.clone()));
        answer
    }
}

/// Their ids are random, so there are as many as it takes.
async fn tasks_on_every_shard(nodes: &Nodes, user: &User) -> Vec<Task> {
    let shards = nodes.app.partitions();
    let (mut tasks, mut with_tasks) = (Vec::new(), BTreeSet::new());
    while with_tasks.len() < shards {
        let more = join_all((0..24).map(|_| Task::create(user))).await;
        let streams = more.iter().map(|task| task.stream().parse().unwrap());
        with_tasks.extend(streams.map(|stream| partition_of(&stream, shards as i32)));
        tasks.extend(more);
    }
    tasks
}

/// Each of these tasks gets this command, all at the same time.
async fn send_to_all(tasks: &mut [Task], command: impl Fn(&str) -> Command) {
    let sent = tasks.iter_mut().map(|task| {
        let command = command(&task.id);
        task.send(command)
    });
    join_all(sent).await;
}
