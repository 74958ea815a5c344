//! A server's process: started so that it cannot outlive this one, signalled by its id, reaped by a thread of its own.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::sync::watch;

use crate::error::{StackError, failed_to};

/// What to start, and how it is to end.
pub(crate) struct Launch {
    pub name: &'static str,
    pub program: PathBuf,
    pub arguments: Vec<String>,
    pub environment: Vec<(&'static str, String)>,
    pub run_as: Option<RunAs>,
    /// Gets what the process prints; appended to.
    pub log: PathBuf,
    /// What the kernel sends to the process when this one ends, however it ends: a name that `setpriv` knows.
    pub on_parents_death: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunAs {
    pub user: String,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct Child {
    pid: Pid,
    exit: watch::Receiver<Option<ExitStatus>>,
}

impl Launch {
    /// The command under `setpriv`, which sets the parent-death signal and the user and then becomes the program:
    /// both would need unsafe code here. A process group of its own keeps Ctrl-C on a terminal away from the
    /// servers, so that they are stopped after what uses them.
    pub fn command(&self) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", self.on_parents_death]);
        if let Some(RunAs { uid, gid, .. }) = &self.run_as {
            command.args([
                format!("--reuid={uid}"),
                format!("--regid={gid}"),
                "--clear-groups".into(),
            ]);
        }
        command.arg("--").arg(&self.program).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).process_group(0);
        command
    }

    /// Starts the process. The parent-death signal is tied to the *thread* that starts it, so that thread stays: it
    /// waits for the process, and so reaps it too.
    pub fn spawn(&self) -> Result<Child, StackError> {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(failed_to("open", &self.log))?;
        let for_errors = log.try_clone().map_err(failed_to("open", &self.log))?;
        let mut command = self.command();
        command.stdout(log).stderr(for_errors);

        let (started, start) = mpsc::channel();
        let (exited, exit) = watch::channel(None);
        let keeper = move || match command.spawn() {
            Ok(mut process) => {
                let _ = started.send(Ok(process.id()));
                let _ = exited.send(process.wait().ok());
            }
            Err(error) => {
                let _ = started.send(Err(error));
            }
        };
        let failure = |source| StackError::Io {
            doing: format!("start {}", self.name),
            source,
        };
        thread::Builder::new()
            .name(format!("keeper of {}", self.name))
            .spawn(keeper)
            .map_err(failure)?;

        let start = start
            .recv()
            .expect("the keeper tells how the start went before it waits");
        let pid = start.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StackError::ProgramMissing {
                program: "setpriv",
                package: "util-linux",
            },
            _ => failure(error),
        })?;
        let pid = Pid::from_raw(pid as i32).expect("a started process has an id above zero");
        Ok(Child { pid, exit })
    }

    /// Runs a command that ends by itself. It is killed, with what it has started, when nobody waits for it any more.
    pub async fn run_to_the_end(&self, what: &'static str) -> Result<(), StackError> {
        struct KilledWhenDropped(Child);
        impl Drop for KilledWhenDropped {
            fn drop(&mut self) {
                if !self.0.has_exited() {
                    let _ = kill_process_group(self.0.pid, Signal::KILL);
                }
            }
        }
        let child = KilledWhenDropped(self.spawn()?);
        match child.0.exited().await {
            Some(status) if status.success() => Ok(()),
            status => Err(self.ended(what, status)),
        }
    }

    pub fn ended(&self, server: &'static str, status: Option<ExitStatus>) -> StackError {
        StackError::Ended {
            server,
            status: status.map_or_else(|| "unknown status".into(), |status| status.to_string()),
            last_lines: last_lines(&self.log),
            log: self.log.clone(),
        }
    }
}

impl Child {
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    /// Sends a signal, unless the process has ended: its id may belong to somebody else by now.
    pub fn signal(&self, signal: Signal) {
        if !self.has_exited() {
            let _ = kill_process(self.pid, signal);
        }
    }

    pub fn has_exited(&self) -> bool {
        self.exit.borrow().is_some() || self.exit.has_changed().is_err()
    }

    /// Resolves when the process has ended and was reaped.
    pub async fn exited(&self) -> Option<ExitStatus> {
        let mut exit = self.exit.clone();
        exit.wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|status| *status)
    }

    /// The processes that this one has started, and theirs.
    pub fn descendants(&self) -> Vec<Pid> {
        let parents = parents_of_all();
        let mut family = vec![self.pid()];
        let mut next = 0;
        while let Some(member) = family.get(next).copied() {
            family.extend(
                parents
                    .iter()
                    .filter(|(_, parent)| *parent == member)
                    .map(|(pid, _)| *pid),
            );
            next += 1;
        }
        family[1..]
            .iter()
            .filter_map(|pid| Pid::from_raw(*pid as i32))
            .collect()
    }
}

pub(crate) fn is_running(pid: u32) -> bool {
    // A zombie has ended: it only waits to be reaped.
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// The last lines of a log that say something, in one line. The frames of a Java stack trace do not.
fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text[text.len().saturating_sub(4096)..]).into_owned();
    let says_something = |line: &&str| !line.is_empty() && !line.starts_with("at ");
    let lines: Vec<_> = text.lines().map(str::trim).filter(says_something).collect();
    match lines[lines.len().saturating_sub(3)..].join(" | ") {
        nothing if nothing.is_empty() => "it printed nothing".into(),
        lines => lines,
    }
}

/// (process, its parent)
fn parents_of_all() -> Vec<(u32, u32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?.1))).collect()
}

/// State and parent of a process, from `/proc/<pid>/stat`: `pid (name) state parent …`, where a name may hold blanks.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
