//! One server of the stack: started, asked until it answers, watched, and, for failure tests, killed, paused and
//! started again on the same port and data.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::child::{Child, Launch, is_running};
use crate::error::StackError;
use crate::{kafka, postgres};

const READY_WITHIN: Duration = Duration::from_secs(90);
const STOP_WITHIN: Duration = Duration::from_secs(20);
const BETWEEN_ASKING: Duration = Duration::from_millis(15);

/// A private Kafka or Postgres.
pub struct Server {
    kind: Kind,
    port: u16,
    launch: Launch,
    /// `None` while it is down on purpose.
    child: watch::Sender<Option<Child>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Kafka,
    Postgres,
}

impl Server {
    /// Starts it and returns when it answers.
    pub(crate) async fn launch(
        kind: Kind,
        port: u16,
        launch: Launch,
    ) -> Result<Server, StackError> {
        let server = Server {
            kind,
            port,
            launch,
            child: watch::channel(None).0,
        };
        server.start().await?;
        Ok(server)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Kafka's `host:port`, Postgres' URL.
    pub(crate) fn address(&self) -> String {
        match self.kind {
            Kind::Kafka => format!("127.0.0.1:{}", self.port),
            Kind::Postgres => format!(
                "postgres://{}@127.0.0.1:{}/postgres",
                postgres::USER,
                self.port
            ),
        }
    }

    pub fn log(&self) -> &Path {
        &self.launch.log
    }

    /// `None` while it is down on purpose.
    pub fn pid(&self) -> Option<u32> {
        self.child.borrow().as_ref().map(Child::pid)
    }

    /// Starts it again on the same port and data; returns when it answers. Nothing to do when it runs.
    pub async fn start(&self) -> Result<(), StackError> {
        if self
            .child
            .borrow()
            .as_ref()
            .is_some_and(|child| !child.has_exited())
        {
            return Ok(());
        }
        let child = self.launch.spawn()?;
        self.child.send_replace(Some(child.clone()));
        let ready = self.wait_until_ready(&child).await;
        if ready.is_err() {
            self.kill().await;
        }
        ready
    }

    /// Ends it at once, as a crash would: nothing is flushed, no client is told.
    pub async fn kill(&self) {
        let Some(child) = self.child.send_replace(None) else {
            return;
        };
        // It makes no more of them while they are counted.
        child.signal(Signal::STOP);
        let descendants = child.descendants();
        child.signal(Signal::KILL);
        for pid in &descendants {
            let _ = kill_process(*pid, Signal::KILL);
        }
        child.exited().await;
        // Postgres does not start again while a process of its own still holds the shared memory.
        while descendants
            .iter()
            .any(|pid| is_running(pid.as_raw_nonzero().get() as u32))
        {
            sleep(BETWEEN_ASKING).await;
        }
    }

    /// Stops it in its orderly way, data flushed; killed if that takes longer than 20 s.
    pub async fn stop(&self) {
        let Some(child) = self.child.borrow().clone() else {
            return;
        };
        self.resume();
        self.child.send_replace(None);
        child.signal(self.kind.stop_signal());
        if timeout(STOP_WITHIN, child.exited()).await.is_err() {
            self.child.send_replace(Some(child));
            self.kill().await;
        }
    }

    /// Freezes it: connections stay open and nobody answers.
    pub fn pause(&self) {
        if let Some(child) = &*self.child.borrow() {
            child.signal(Signal::STOP);
            for pid in child.descendants() {
                let _ = kill_process(pid, Signal::STOP);
            }
        }
    }

    pub fn resume(&self) {
        if let Some(child) = &*self.child.borrow() {
            for pid in child.descendants() {
                let _ = kill_process(pid, Signal::CONT);
            }
            child.signal(Signal::CONT);
        }
    }

    /// Resolves when the server has ended although nobody asked it to.
    pub async fn failed(&self) -> StackError {
        let mut children = self.child.subscribe();
        loop {
            let child = children.borrow_and_update().clone();
            let Some(child) = child else {
                let _ = children.changed().await;
                continue;
            };
            tokio::select! {
                biased;
                _ = children.changed() => {}
                status = child.exited() => {
                    // Whoever stops it takes it out first, so a look afterwards tells the two apart.
                    if self.pid() == Some(child.pid()) {
                        return self.launch.ended(self.kind.name(), status);
                    }
                }
            }
        }
    }

    async fn wait_until_ready(&self, child: &Child) -> Result<(), StackError> {
        let started = Instant::now();
        loop {
            if child.has_exited() {
                return Err(self.launch.ended(self.kind.name(), child.exited().await));
            }
            if self.kind.answers(self.port).await {
                return Ok(());
            }
            if started.elapsed() > READY_WITHIN {
                let (server, log) = (self.kind.name(), self.launch.log.clone());
                return Err(StackError::NotReady {
                    server,
                    seconds: READY_WITHIN.as_secs(),
                    log,
                });
            }
            sleep(BETWEEN_ASKING).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.resume();
        if let Some(child) = self.child.send_replace(None) {
            child.signal(self.kind.drop_signal());
        }
    }
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Kafka => "Kafka",
            Kind::Postgres => "Postgres",
        }
    }

    fn stop_signal(self) -> Signal {
        match self {
            Kind::Kafka => Signal::TERM,
            Kind::Postgres => Signal::INT,
        }
    }

    /// For when nobody waits: Kafka recovers from a kill; Postgres, on SIGQUIT, ends its children and recovers too.
    fn drop_signal(self) -> Signal {
        match self {
            Kind::Kafka => Signal::KILL,
            Kind::Postgres => Signal::QUIT,
        }
    }

    async fn answers(self, port: u16) -> bool {
        let answer = async {
            match self {
                Kind::Kafka => kafka::answers(port).await,
                Kind::Postgres => postgres::answers(port).await,
            }
        };
        matches!(timeout(Duration::from_secs(2), answer).await, Ok(Ok(true)))
    }
}
