//! Clients that work whatever happens: each sends one thing after the other, again with the same key until there is an
//! answer, and writes down what it saw.

mod answers;
mod choice;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use reqwest::RequestBuilder;
use tokio::{sync::watch, task::JoinHandle, time::sleep};

use super::{
    history::{Answer, Ask, Attempt, Clock, Operation},
    seed::Dice,
    world::{TENANT, World},
};
use choice::{Board, Chosen};

pub const WORKERS: [&str; 4] = ["polly", "bo", "cy", "dee"];
pub const MANAGER: &str = "mia";
/// How long a client waits for one answer, unless it is one of the impatient.
const PATIENCE: Duration = Duration::from_secs(6);

pub struct Load {
    clients: Vec<JoinHandle<Vec<Operation>>>,
    phase: watch::Sender<Phase>,
    answered: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Working,
    /// What was begun is seen through.
    Finishing,
    GivingUp,
}

/// What all clients have in common.
struct Shared {
    http: reqwest::Client,
    nodes: Vec<SocketAddr>,
    queries: SocketAddr,
    tokens: Vec<(&'static str, String)>,
    board: Board,
    answered: Arc<AtomicU64>,
    clock: Clock,
    /// A client waits up to so long before it sends the next thing.
    pause: Duration,
}

impl Load {
    /// So many clients begin; each waits up to `pause` between two operations.
    pub fn begin(
        world: &World,
        clock: Clock,
        clients: usize,
        pause: Duration,
        dice: &mut Dice,
    ) -> Self {
        let answered = Arc::new(AtomicU64::new(0));
        let tokens = WORKERS.iter().map(|name| (*name, "worker"));
        let tokens = tokens.chain([(MANAGER, "manager")]);
        let shared = Arc::new(Shared {
            http: reqwest::Client::builder()
                .connect_timeout(Duration::from_secs(2))
                .build()
                .expect("nothing about it can be wrong"),
            nodes: world.nodes.iter().map(|node| node.address).collect(),
            queries: world.queries.address,
            tokens: tokens
                .map(|(name, role)| (name, world.token(name, role)))
                .collect(),
            board: Board::default(),
            answered: answered.clone(),
            clock,
            pause,
        });
        let (phase, watched) = watch::channel(Phase::Working);
        let run = dice.split().below(usize::MAX);
        let clients = (0..clients).map(|n| {
            let client = Client {
                name: format!("{run:x}-{n}"),
                sent: 0,
                shared: shared.clone(),
                phase: watched.clone(),
                dice: dice.split(),
                done: Vec::new(),
            };
            tokio::spawn(client.live())
        });
        Self {
            clients: clients.collect(),
            phase,
            answered,
        }
    }

    /// How many operations have their answers.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many operations have theirs.
    pub async fn until_answered(&self, operations: u64) {
        while self.answered() < operations {
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Lets every client finish what it has begun, for at most so long.
    pub async fn end(self, within: Duration) -> Vec<Operation> {
        self.phase.send_replace(Phase::Finishing);
        let phase = self.phase;
        let giving_up = tokio::spawn(async move {
            sleep(within).await;
            phase.send_replace(Phase::GivingUp);
            // The clients look at it until they end.
            phase.closed().await;
        });
        let mut history = Vec::new();
        for client in self.clients {
            history.extend(client.await.expect("a client does not panic"));
        }
        giving_up.abort();
        history
    }
}

struct Client {
    name: String,
    sent: u64,
    shared: Arc<Shared>,
    phase: watch::Receiver<Phase>,
    dice: Dice,
    done: Vec<Operation>,
}

impl Client {
    async fn live(mut self) -> Vec<Operation> {
        while *self.phase.borrow() == Phase::Working {
            let pause = self.shared.pause.as_millis() as u64;
            sleep(self.dice.millis(0, pause)).await;
            match self.choose() {
                Chosen::New(operation) => {
                    let operation = self.see_through(operation).await;
                    self.shared.board.learn(&operation);
                    self.done.push(operation);
                }
                Chosen::Again(index) => {
                    let operation = self.done.swap_remove(index);
                    let operation = self.see_through(operation).await;
                    self.done.push(operation);
                }
            }
            self.shared.answered.fetch_add(1, Ordering::Relaxed);
        }
        self.done
    }

    /// Sends it until there is an answer.
    async fn see_through(&mut self, mut operation: Operation) -> Operation {
        let twice_at_once = self.dice.percent(4);
        if twice_at_once {
            let (first, second) = (self.node(), self.node());
            let patience = self.patience();
            let (first, second) = tokio::join!(
                self.shared.attempt(&operation, first, patience),
                self.shared.attempt(&operation, second, PATIENCE),
            );
            operation.attempts.extend([first.0, second.0]);
            // The last one is the client's answer; if it is open, the other will not do.
            if second.1.is_none() {
                return operation;
            }
        }
        loop {
            let (node, patience) = (self.node(), self.patience());
            let attempt = self.shared.attempt(&operation, node, patience);
            let (attempt, again_after) = attempt.await;
            operation.attempts.push(attempt);
            let Some(again_after) = again_after else {
                return operation;
            };
            if *self.phase.borrow() == Phase::GivingUp {
                return operation;
            }
            sleep(again_after + self.dice.millis(0, 50)).await;
        }
    }

    fn node(&mut self) -> SocketAddr {
        let node = self.dice.one_of(&self.shared.nodes);
        *node.expect("there is a node")
    }

    /// Some give up early, and ask again while their first attempt is still under way.
    fn patience(&mut self) -> Duration {
        match self.dice.percent(3) {
            true => self.dice.millis(2, 150),
            false => PATIENCE,
        }
    }

    fn new_key(&mut self) -> String {
        self.sent += 1;
        format!("{}-{}", self.name, self.sent)
    }
}

impl Shared {
    /// One request; with it, after how long it makes sense to send another one.
    async fn attempt(
        &self,
        operation: &Operation,
        node: SocketAddr,
        patience: Duration,
    ) -> (Attempt, Option<Duration>) {
        const SOON: Duration = Duration::from_millis(20);
        let request = self.request(operation, node);
        let started = self.clock.now();
        let answered = tokio::time::timeout(patience, async {
            let answer = request.send().await?;
            let head = (answer.status().as_u16(), answer.headers().clone());
            Ok::<_, reqwest::Error>((head, answer.text().await?))
        });
        let (answer, again_after) = match answered.await {
            Ok(Ok(((status, headers), body))) => {
                let answer = answers::read(&operation.ask, status, &headers, &body);
                let seconds = headers.get("retry-after").and_then(|it| it.to_str().ok());
                let seconds = seconds.and_then(|it| it.parse().ok());
                (answer, seconds.map_or(SOON, Duration::from_secs))
            }
            Ok(Err(error)) if error.is_connect() => (Answer::Open("no connection".into()), SOON),
            Ok(Err(_)) => (Answer::Open("connection lost".into()), SOON),
            Err(_) => (Answer::Open("no answer in time".into()), SOON),
        };
        let again_after = (!answer.is_definite()).then_some(again_after);
        let attempt = Attempt {
            started,
            ended: self.clock.now(),
            answer,
        };
        (attempt, again_after)
    }

    fn request(&self, operation: &Operation, node: SocketAddr) -> RequestBuilder {
        let Operation {
            stream,
            actor,
            key,
            ask,
            expected,
            ..
        } = operation;
        let id = stream.rsplit('/').next().unwrap_or_default();
        let commands = format!("http://{node}/v1");
        let request = match ask {
            Ask::Create { title, assignee } => {
                let mut body = serde_json::json!({ "title": title });
                if let Some(assignee) = assignee {
                    body["assignee"] = assignee.as_str().into();
                }
                self.http.post(format!("{commands}/tasks")).json(&body)
            }
            Ask::Assign { to } => self
                .http
                .post(format!("{commands}/tasks/{id}/assign"))
                .json(&serde_json::json!({ "assignee": to })),
            Ask::Complete => self.http.post(format!("{commands}/tasks/{id}/complete")),
            Ask::Recall => self
                .http
                .get(format!("{commands}/commands/{key}"))
                .query(&[("stream", stream)]),
            Ask::StrongRead => self.http.get(format!("{commands}/tasks/{id}/state")),
            Ask::BoardRead { after, .. } => {
                let url = format!("http://{}/v1/tasks/{id}", self.queries);
                let token = answers::token(stream, after.as_ref());
                self.http.get(url).header("annals-position", token)
            }
        };
        let name = actor.trim_start_matches("user:");
        let token = self.tokens.iter().find(|(known, _)| *known == name);
        let token = token.map_or("", |(_, token)| token);
        let mut request = request.bearer_auth(token);
        if ask.is_command() {
            request = request.header("idempotency-key", key);
        }
        if let Some(expected) = expected {
            request = request.header("if-match", format!("\"{expected}\""));
        }
        request
    }
}

/// The stream of a task.
fn stream_of(id: &str) -> String {
    format!("{TENANT}/task/{id}")
}
