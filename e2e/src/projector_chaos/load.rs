//! Clients who live through one task after the other until they are told to end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use futures::future::join_all;
use tokio::task::JoinHandle;

use crate::{app::Company, user::User};

pub(super) struct Load {
    ending: Arc<AtomicBool>,
    clients: Vec<JoinHandle<usize>>,
}

impl Load {
    pub(super) fn begin(company: &Company<'_>, clients: usize) -> Self {
        let (mia, polly) = (company.manager("mia"), company.worker("polly"));
        let ending = Arc::new(AtomicBool::new(false));
        let clients = (0..clients).map(|number| {
            let live = live(number, mia.clone(), polly.clone(), ending.clone());
            tokio::spawn(live)
        });
        Self {
            clients: clients.collect(),
            ending,
        }
    }

    /// How many commands were answered.
    pub(super) async fn end(self) -> usize {
        self.ending.store(true, Relaxed);
        let ended = join_all(self.clients).await;
        let commands = ended.into_iter().map(|it| it.expect("a client lives on"));
        commands.sum()
    }
}

async fn live(number: usize, manager: User, worker: User, ending: Arc<AtomicBool>) -> usize {
    let mut commands = 0;
    while !ending.load(Relaxed) {
        let title = format!("task {commands} of {number}");
        let created = manager.create_task(&title).until_answered().await;
        let id = created.succeeded().id();
        for assignee in ["bob", "cy", "polly"] {
            let assigned = manager.assign(&id, assignee).until_answered().await;
            assigned.succeeded();
        }
        worker.complete(&id).until_answered().await.succeeded();
        commands += 5;
    }
    commands
}
