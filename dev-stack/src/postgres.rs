//! Postgres on loopback, sized for a developer's machine. Data and durability as in production: `fsync` stays on.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::geteuid;
use tokio::time::sleep;

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

/// Forgets the data, wherever it lies.
pub(crate) fn wipe(home: &Path) -> Result<(), StackError> {
    let elsewhere = fs::read_link(home).ok();
    for folder in elsewhere.iter().filter(|folder| folder.exists()) {
        fs::remove_dir_all(folder).map_err(failed_to("remove", folder))?;
    }
    Ok(())
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

/// Where the data lies: `home`, owned by the user that runs Postgres, or, where that user cannot get to it (a folder
/// below `/root`), a folder below `/var/lib/annals` with a link to it at `home`.
fn place(home: &Path, run_as: Option<&RunAs>) -> Result<PathBuf, StackError> {
    if let Ok(elsewhere) = fs::read_link(home) {
        fs::create_dir_all(&elsewhere).map_err(failed_to("create", &elsewhere))?;
        own(&elsewhere, run_as)?;
        return Ok(elsewhere);
    }
    let parent = home.parent().expect("the data folder is not the root");
    let reachable = run_as.is_none_or(|user| obstacle(parent, user).is_none());
    let place = if reachable || home.exists() {
        home.to_path_buf()
    } else {
        elsewhere(home)
    };
    fs::create_dir_all(&place).map_err(failed_to("create", &place))?;
    own(&place, run_as)?;
    if place != home {
        if let Some(user) = run_as {
            refuse_unreachable(&place, user, "the data folder")?;
        }
        symlink(&place, home).map_err(failed_to("link", home))?;
    }
    Ok(place)
}

fn elsewhere(home: &Path) -> PathBuf {
    let name: String = home
        .display()
        .to_string()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    Path::new("/var/lib/annals").join(name.trim_matches('-'))
}

fn own(folder: &Path, run_as: Option<&RunAs>) -> Result<(), StackError> {
    let Some(RunAs { uid, gid, .. }) = run_as else {
        return Ok(());
    };
    let owner = fs::metadata(folder)
        .map_err(failed_to("read", folder))?
        .uid();
    if owner != *uid {
        chown(folder, Some(*uid), Some(*gid)).map_err(failed_to("give away", folder))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .map_err(failed_to("set the mode of", folder))
}

fn unprivileged_user() -> Result<RunAs, StackError> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |wanted: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, uid, gid, ..] = fields[..] else {
                return None;
            };
            (name == wanted).then_some(RunAs {
                user: name.into(),
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
            })
        })
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .ok_or(StackError::NoUnprivilegedUser)
}

fn refuse_unreachable(dir: &Path, user: &RunAs, variable: &'static str) -> Result<(), StackError> {
    match obstacle(dir, user) {
        None => Ok(()),
        Some(dir) => Err(StackError::Unreachable {
            user: user.user.clone(),
            dir,
            variable,
        }),
    }
}

/// The first folder on the way to `dir`, itself included, that `user` may not enter.
fn obstacle(dir: &Path, user: &RunAs) -> Option<PathBuf> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let mut way: Vec<_> = dir.ancestors().collect();
    way.reverse();
    let closed = |folder: &&Path| {
        let Ok(metadata) = fs::metadata(folder) else {
            return true;
        };
        let enter = match (metadata.uid() == user.uid, metadata.gid() == user.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        metadata.mode() & enter == 0
    };
    way.into_iter().find(closed).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_below_a_closed_one_is_out_of_reach_of_another_user() {
        let open = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let stranger = RunAs {
            user: "stranger".into(),
            uid: 4_000_000,
            gid: 4_000_000,
        };
        let closed = open.path().join("closed");
        fs::create_dir_all(closed.join("data")).unwrap();
        assert_eq!(obstacle(&closed.join("data"), &stranger), None);

        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(
            obstacle(&closed.join("data"), &stranger),
            Some(closed.canonicalize().unwrap())
        );
    }
}
