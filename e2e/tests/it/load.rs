//! Clients that send commands one after the other, each until it is answered, and what must be
//! true of the log afterwards, whatever happened in between.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use e2e::{Answer, Command, TestApp, User, eventually};
use futures::future::join_all;
use tokio::task::JoinHandle;

use crate::{idempotency::assert_same, raw_log};

/// Each sends a task's whole life, again and again.
const CLIENTS: usize = 12;

pub(crate) struct Load {
    answered: Arc<AtomicUsize>,
    unanswered: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<(Command, Answer)>>>,
}

impl Load {
    /// Begins to send three commands for each of so many tasks of each client.
    pub fn begin(manager: &User, worker: &User, tasks: usize) -> Self {
        let [answered, unanswered] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let clients = (0..CLIENTS).map(|_| {
            let client = Client {
                manager: manager.clone(),
                worker: worker.clone(),
                answered: answered.clone(),
                unanswered: unanswered.clone(),
                done: Vec::new(),
            };
            tokio::spawn(client.live(tasks))
        });
        Self {
            clients: clients.collect(),
            answered,
            unanswered,
        }
    }

    pub async fn until_unanswered(&self, attempts: usize) {
        eventually("a client gets no answer", async || {
            (self.unanswered() >= attempts).then_some(())
        })
        .await;
    }

    /// How often a command had to be sent again, as there was no answer or 503.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Relaxed)
    }

    pub async fn until_answered(&self, commands: usize) {
        let what = format!("{commands} commands are answered");
        eventually(&what, async || {
            (self.answered.load(Ordering::Relaxed) >= commands).then_some(())
        })
        .await;
    }

    /// All commands with their answers.
    pub async fn end(self) -> Vec<(Command, Answer)> {
        let clients = join_all(self.clients).await;
        clients.into_iter().flat_map(Result::unwrap).collect()
    }
}

struct Client {
    manager: User,
    worker: User,
    answered: Arc<AtomicUsize>,
    unanswered: Arc<AtomicUsize>,
    done: Vec<(Command, Answer)>,
}

impl Client {
    async fn live(mut self, tasks: usize) -> Vec<(Command, Answer)> {
        for _ in 0..tasks {
            let id = self.send(self.manager.create_task("x")).await.id();
            self.send(self.manager.assign(&id, "polly")).await;
            self.send(self.worker.complete(&id).if_match(2)).await;
        }
        self.done
    }

    async fn send(&mut self, command: Command) -> Answer {
        let answer = eventually("an answer", async || {
            let answer = command.attempt().await.ok().filter(|it| it.status != 503);
            let unanswered = usize::from(answer.is_none());
            self.unanswered.fetch_add(unanswered, Ordering::Relaxed);
            answer
        });
        let answer = answer.await.succeeded();
        self.answered.fetch_add(1, Ordering::Relaxed);
        self.done.push((command, answer.clone()));
        answer
    }
}

/// Every acknowledged command is in the log once; streams have no gaps; a repeat of any command
/// gets the first answer and appends nothing.
pub(crate) async fn assert_exactly_once(app: &TestApp, commands: &[(Command, Answer)]) {
    assert_logged_once(app, commands);
    assert_repeatable(app, commands).await;
}

/// Every acknowledged command is in the log once; streams have no gaps.
pub(crate) fn assert_logged_once(app: &TestApp, commands: &[(Command, Answer)]) {
    let mut of_command: HashMap<(String, String), u64> = HashMap::new();
    let mut of_stream: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in raw_log::read(app, "tasks") {
        let (stream, command) = (event.stream().to_owned(), event.command_id().to_owned());
        of_stream
            .entry(stream.clone())
            .or_default()
            .push(event.version());
        *of_command.entry((stream, command)).or_default() += 1;
    }
    for (stream, versions) in &of_stream {
        assert_eq!(versions, &[1, 2, 3], "{stream}");
    }
    assert_eq!(of_stream.len() * 3, commands.len());
    for (command, answer) in commands {
        let logged = (
            answer.text("stream").to_owned(),
            command.command_id().to_owned(),
        );
        assert_eq!(of_command.get(&logged), Some(&1), "{answer:?}");
    }
}

/// A repeat of any command gets the first answer and appends nothing.
pub(crate) async fn assert_repeatable(app: &TestApp, commands: &[(Command, Answer)]) {
    let end = raw_log::Ends::new(app, &["tasks"]);
    let before = end.sum();
    for (command, first) in commands {
        let again = command.until_answered().await;
        assert!(again.is_replayed(), "{again:?}");
        assert_same(&again, first);
    }
    assert_eq!(end.sum(), before, "a repeat has appended something");
}

/// The board shows each of these tasks as done.
pub(crate) async fn assert_all_on_board(user: &User, commands: &[(Command, Answer)]) {
    for (_, answer) in commands.iter().filter(|(_, it)| it.number("version") == 3) {
        let path = format!("/v1/tasks/{}", answer.id());
        let shown = user.read(path).after(answer).send().await.succeeded();
        assert_eq!(shown.text("status"), "done", "{shown:?}");
        assert_eq!(shown.body["history"].as_array().unwrap().len(), 3);
    }
}
