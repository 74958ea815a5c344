//! Postgres on loopback, sized for a developer's machine. Data and durability as in production: `fsync` stays on.

mod place;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use tokio::time::sleep;

pub(crate) use self::place::wipe;
use self::place::{place, refuse_unreachable, unprivileged_user};
use crate::artifacts::Artifacts;
use crate::child::{Launch, RunAs, is_running};
use crate::error::{StackError, failed_to};
use crate::ports::Port;
use crate::postgres_wire::{Session, WireError};
use crate::server::{Kind, Server};

pub(crate) const USER: &str = "postgres";
const EARLIER_ONE_ENDS_WITHIN: Duration = Duration::from_secs(30);

/// Starts Postgres on the data in `home`, which is initialised first when it is new.
pub(crate) async fn start(
    artifacts: &Artifacts,
    home: &Path,
    log: PathBuf,
    port: Port,
) -> Result<Server, StackError> {
    let port = port.number();
    let run_as = if geteuid().is_root() {
        Some(unprivileged_user()?)
    } else {
        None
    };
    if let Some(user) = &run_as {
        refuse_unreachable(&artifacts.postgres, user, "ANNALS_CACHE")?;
    }
    let home = place(home, run_as.as_ref())?;
    let data = home.join("data");
    let postgres = Programs {
        artifacts,
        run_as,
        log,
    };
    if data.exists() {
        wait_for_an_earlier_one(&data).await?;
    } else {
        postgres.initialise(&home, &data).await?;
    }
    Server::launch(
        Kind::Postgres,
        port,
        postgres.launch("postgres", server_arguments(&data, port)),
    )
    .await
}

/// Whether the server lets a session in; it does not while it recovers.
pub(crate) async fn answers(port: u16) -> io::Result<bool> {
    match Session::open(&format!("127.0.0.1:{port}"), USER, "postgres").await {
        Ok(session) => {
            session.close().await;
            Ok(true)
        }
        Err(WireError::Refused(_)) => Ok(false),
        Err(WireError::Io(error)) => Err(error),
    }
}

struct Programs<'a> {
    artifacts: &'a Artifacts,
    run_as: Option<RunAs>,
    log: PathBuf,
}

impl Programs<'_> {
    fn launch(&self, program: &str, arguments: Vec<String>) -> Launch {
        Launch {
            name: "Postgres",
            program: self.artifacts.postgres.join("bin").join(program),
            arguments,
            environment: vec![("LC_ALL", "C".into()), ("TZ", "UTC".into())],
            run_as: self.run_as.clone(),
            log: self.log.clone(),
            // Fast shutdown: sessions end, what was committed is flushed.
            on_parents_death: "INT",
        }
    }

    /// In a folder beside, renamed when it is complete: whoever interrupts it leaves nothing that looks like data.
    async fn initialise(&self, home: &Path, data: &Path) -> Result<(), StackError> {
        let unfinished = home.join("data.unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(failed_to("remove", &unfinished))?;
        }
        let arguments = [
            &format!("--pgdata={}", unfinished.display()),
            &format!("--username={USER}"),
            "--auth=trust",
            "--encoding=UTF8",
            // The builtin provider sorts by code point on every machine, and needs no locale of the system.
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            // The empty database is not worth syncing; everything written to it later is.
            "--no-sync",
            "--no-instructions",
        ];
        let initdb = self.launch("initdb", arguments.map(String::from).to_vec());
        initdb.run_to_the_end("Postgres' initdb").await?;
        fs::rename(&unfinished, data).map_err(failed_to("rename", &unfinished))
    }
}

fn server_arguments(data: &Path, port: u16) -> Vec<String> {
    let settings = [
        "listen_addresses=127.0.0.1",
        &format!("port={port}"),
        "unix_socket_directories=",
        "max_connections=200",
        "shared_buffers=128MB",
        "max_wal_size=512MB",
        "jit=off",
        "log_checkpoints=off",
        "log_timezone=UTC",
        "timezone=UTC",
    ];
    let mut arguments = vec!["-D".to_owned(), data.display().to_string()];
    arguments.extend(
        settings
            .iter()
            .flat_map(|setting| ["-c".to_owned(), (*setting).to_owned()]),
    );
    arguments
}

/// A killed parent leaves a Postgres that is still flushing; one that merely left its `postmaster.pid` behind, with
/// an id that another program has got since, would be mistaken for running by Postgres itself.
async fn wait_for_an_earlier_one(data: &Path) -> Result<(), StackError> {
    let file = data.join("postmaster.pid");
    let Ok(text) = fs::read_to_string(&file) else {
        return Ok(());
    };
    let Some(pid) = text
        .lines()
        .next()
        .and_then(|line| line.trim().parse::<u32>().ok())
    else {
        return Ok(());
    };
    let started = Instant::now();
    while is_running(pid) && is_postgres_on(pid, data) {
        if started.elapsed() > EARLIER_ONE_ENDS_WITHIN {
            return Err(StackError::EarlierPostgres {
                dir: data.to_path_buf(),
                pid,
            });
        }
        sleep(Duration::from_millis(20)).await;
    }
    match fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(failed_to("remove", &file)(error))
        }
        _ => Ok(()),
    }
}

fn is_postgres_on(pid: u32, data: &Path) -> bool {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command
        .split(|byte| *byte == 0)
        .any(|argument| argument == data.as_os_str().as_encoded_bytes())
}
