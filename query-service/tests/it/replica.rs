//! The service on a standby: it cannot listen there, and shows what has been replayed.

use std::{
    net::TcpListener,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use dev_stack::{DevStack, Options, Source};
use reqwest::StatusCode;
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use tokio::time::{sleep, timeout};

use crate::{PATIENCE, board, follower::EventStream, problem, start_on, token, until};

const LIST: &str = "/v1/tasks";

/// A streaming standby of a private Postgres, by a copy of its data.
struct Standby {
    data: PathBuf,
    program: PathBuf,
    primary: u16,
    port: u16,
    process: Child,
}

impl Standby {
    async fn of(stack: &DevStack) -> Self {
        let server = stack.postgres_process();
        let pid = server.pid().unwrap();
        let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap();
        let from = std::fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
        let data = from.with_file_name("standby");

        let mut backup = PgConnection::connect(stack.postgres()).await.unwrap();
        sqlx::query("select pg_backup_start('standby', fast => true)")
            .execute(&mut backup)
            .await
            .unwrap();
        // Files vanish and grow while they are copied; what is written meanwhile is replayed.
        let copied = Command::new("cp").arg("-a").args([&from, &data]).output();
        assert!(data.join("PG_VERSION").exists(), "{copied:?}");
        let label: String =
            sqlx::query_scalar("select labelfile from pg_backup_stop(wait_for_archive => false)")
                .fetch_one(&mut backup)
                .await
                .unwrap();
        let _ = std::fs::remove_file(data.join("postmaster.pid"));
        for (file, text) in [("backup_label", label.as_str()), ("standby.signal", "")] {
            std::fs::write(data.join(file), text).unwrap();
        }
        // Whose server it was made by, which is not always who makes this.
        let owner = std::fs::metadata(&data).unwrap();
        for file in ["backup_label", "standby.signal"] {
            let ids = (Some(owner.uid()), Some(owner.gid()));
            std::os::unix::fs::chown(data.join(file), ids.0, ids.1).unwrap();
        }
        let port = free_port();
        let process = launch(&program, &data, server.port(), port);
        Self {
            data,
            program,
            primary: server.port(),
            port,
            process,
        }
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Returns when it lets one in. One that meets a process of the one before, which is about to
    /// end, ends at once.
    async fn start(&mut self, url: &str) {
        self.process = launch(&self.program, &self.data, self.primary, self.port);
        let up = async {
            while PgConnection::connect(url).await.is_err() {
                if self.process.try_wait().unwrap().is_some() {
                    self.process = launch(&self.program, &self.data, self.primary, self.port);
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, up).await.expect("the standby is up");
    }

    fn url(&self, of_primary: &str) -> String {
        of_primary.replace(&format!(":{}/", self.primary), &format!(":{}/", self.port))
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

/// Outside of the ports that the kernel gives to connections, and of those of the other servers: it
/// is kept by nobody while the standby is down.
fn free_port() -> u16 {
    let start = std::process::id() as u16;
    let mut ports = (0..2_000).map(|step| 10_000 + start.wrapping_add(step) % 2_000);
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    ports.find(is_free).expect("some port is free")
}

fn launch(program: &Path, data: &Path, primary: u16, port: u16) -> Child {
    let owner = std::fs::metadata(data).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if runs_as_root() {
        command.arg(format!("--reuid={}", owner.uid()));
        command.arg(format!("--regid={}", owner.gid()));
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program).arg("-D").arg(data);
    for setting in [
        "listen_addresses=127.0.0.1".to_owned(),
        "unix_socket_directories=".into(),
        "max_connections=200".into(),
        "hot_standby=on".into(),
        "wal_retrieve_retry_interval=100ms".into(),
        format!("port={port}"),
        format!("primary_conninfo=host=127.0.0.1 port={primary} user=postgres"),
    ] {
        command.args(["-c", &setting]);
    }
    command.env("LC_ALL", "C").env("TZ", "UTC");
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(Stdio::null()).spawn().unwrap()
}

fn runs_as_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

async fn connected(url: &str) -> PgPool {
    let pool = PgPool::connect_lazy(url).unwrap();
    until("the server lets one in", async || {
        sqlx::query("select 1").execute(&pool).await.is_ok()
    })
    .await;
    pool
}

#[tokio::test]
async fn reads_and_followers_on_a_standby_see_what_it_has_replayed_and_nothing_is_lost() {
    let mut options = Options::new(dev_stack::new_temporary_folder());
    // Nothing here asks for Kafka.
    options.kafka = Source::Existing("127.0.0.1:1".into());
    let stack = DevStack::start(options).await.unwrap();
    let url = stack.fresh_database().await.unwrap();
    let primary = PgPool::connect(&url).await.unwrap();
    projector::read_side::migrate(&primary).await.unwrap();
    board::build(&primary, 1).await;
    board::activate(&primary, 1).await;
    let mut standby = Standby::of(&stack).await;
    let replica = connected(&standby.url(&url)).await;
    let recovering: bool = sqlx::query_scalar("select pg_is_in_recovery()")
        .fetch_one(&replica)
        .await
        .unwrap();
    assert!(recovering);

    let running = start_on(&standby.url(&url), |config| {
        config.position_wait_ms = 2_000;
        config.following.heartbeat_ms = 100;
    })
    .await;
    running.ready().await;
    let mut stream = EventStream::open(&running, LIST, None).await;
    stream.expect("state").await;
    board::change(&primary, 0, &[1]).await;
    assert_eq!(stream.versions(1).await, [1]);
    let seen = running.get_waiting(LIST, 0).await;
    assert_eq!(seen.status(), StatusCode::OK);

    // What the primary has and the standby has not replayed is not visible here.
    replay(&replica, "pause").await;
    board::change(&primary, 0, &[2]).await;
    problem(running.get_waiting(LIST, 1).await, 503, "not-yet-visible").await;
    let ahead = format!("{LIST}?wait=1&since={}", token(board::TOPIC, 0, 1));
    let page = running.get_json(&ahead).await;
    assert_eq!(page["changes"].as_array().unwrap().len(), 0);
    replay(&replica, "resume").await;
    assert_eq!(stream.versions(1).await, [2]);
    let seen = running.get_waiting(LIST, 1).await;
    assert_eq!(seen.status(), StatusCode::OK);

    // The primary dies and comes back.
    stack.postgres_process().kill().await;
    stack.postgres_process().start().await.unwrap();
    let primary = connected(&url).await;
    board::change(&primary, 0, &[3]).await;
    assert_eq!(stream.versions(1).await, [3]);

    // The standby dies and comes back, under the same followers.
    standby.kill();
    board::change(&primary, 1, &[4]).await;
    board::change(&primary, 0, &[5]).await;
    until("the service notices", async || {
        !running.readiness.is_ready()
    })
    .await;
    standby.start(&standby.url(&url)).await;
    let mut versions = stream.versions(2).await;
    versions.sort();
    assert_eq!(versions, [1, 4]);
    running.stop().await;
    drop(standby);
    stack.stop().await;
}

async fn replay(standby: &PgPool, what: &str) {
    let statement = format!("select pg_wal_replay_{what}()");
    sqlx::query(AssertSqlSafe(statement))
        .execute(standby)
        .await
        .unwrap();
    let paused = what == "pause";
    until("the standby does as it is told", async || {
        let state: String = sqlx::query_scalar("select pg_get_wal_replay_pause_state()")
            .fetch_one(standby)
            .await
            .unwrap();
        (state == "paused") == paused
    })
    .await;
}
