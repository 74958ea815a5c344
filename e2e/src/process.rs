//! A process of the binary under test: watched, asked to end, and killed.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use crate::eventually::eventually;

/// Runs until it ends by itself or this is dropped, which kills it.
pub struct Process {
    pid: Pid,
    exit: watch::Receiver<Option<ExitStatus>>,
    stdout: Output,
    stderr: Output,
}

#[derive(Clone, Default)]
struct Output(Arc<Mutex<String>>);

impl Process {
    /// The parent-death signal is tied to the thread that starts the process, so that thread
    /// stays, and waits for it.
    pub fn start(mut command: Command) -> Self {
        let (started, start) = mpsc::channel();
        let (exited, exit) = watch::channel(None);
        let (stdout, stderr) = (Output::default(), Output::default());
        let outputs = (stdout.clone(), stderr.clone());
        thread::spawn(move || {
            let mut child = command
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                // A Ctrl-C at the tests is not meant for it.
                .process_group(0)
                .spawn()
                .expect("setpriv (of util-linux) is there");
            let readers = [
                outputs.0.take(child.stdout.take()),
                outputs.1.take(child.stderr.take()),
            ];
            let _ = started.send(child.id());
            let status = child.wait().ok();
            for reader in readers {
                let _ = reader.join();
            }
            let _ = exited.send(status);
        });
        let pid = start.recv().expect("the process has started");
        Self {
            pid: Pid::from_raw(pid as i32).expect("a process has an id above zero"),
            exit,
            stdout,
            stderr,
        }
    }

    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get() as u32
    }

    pub fn has_ended(&self) -> bool {
        self.exit.borrow().is_some() || self.exit.has_changed().is_err()
    }

    pub fn signal(&self, signal: Signal) {
        if !self.has_ended() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// How it ended, once it has.
    pub async fn ended(&self) -> ExitStatus {
        eventually(
            &format!("the end of a process that said {}", self.stderr()),
            async || *self.exit.borrow(),
        )
        .await
    }

    /// As a crash: nothing is flushed, nobody is told.
    pub async fn kill(&self) {
        self.signal(Signal::KILL);
        self.ended().await;
    }

    /// Asks it to end in its orderly way.
    pub async fn stop(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Waits until a line of its standard error contains this text, and returns that line.
    pub async fn said(&self, text: &str) -> String {
        let what = format!("a line with {text:?}");
        eventually(&what, async || {
            // In this order: it may say it last of all.
            let ended = self.has_ended();
            let said = self.stderr();
            let line = said.lines().find(|line| line.contains(text));
            if line.is_none() && ended {
                panic!("the process ended and never said {text:?}, but:\n{said}");
            }
            line.map(str::to_owned)
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl Output {
    fn take(self, from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<()> {
        thread::spawn(move || {
            let Some(from) = from else { return };
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let mut text = self.0.lock().expect("nothing panics while it is held");
                text.push_str(&line);
                text.push('\n');
            }
        })
    }

    fn text(&self) -> String {
        let text = self.0.lock().expect("nothing panics while it is held");
        text.clone()
    }
}

/// A process and all that it has started, and theirs.
pub fn family_of(pid: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").expect("/proc is there");
    let all: Vec<(u32, u32)> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| Some((pid, stat(pid)?.1)))
        .collect();
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(member) = family.get(next).copied() {
        let children = all.iter().filter(|(_, parent)| *parent == member);
        family.extend(children.map(|(pid, _)| *pid));
        next += 1;
    }
    family
}

/// Its ends of TCP connections (IPv4).
pub fn ports_of(pid: u32) -> BTreeSet<i32> {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    let links = open.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let sockets: BTreeSet<_> = links
        .filter_map(|link| {
            let inode = link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let table = fs::read_to_string(format!("/proc/{pid}/net/tcp")).unwrap_or_default();
    let port = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, port) = fields.get(1)?.split_once(':')?;
        let is_own = sockets.contains(*fields.get(9)?);
        i32::from_str_radix(port, 16).ok().filter(|_| is_own)
    };
    table.lines().filter_map(port).collect()
}

/// A process that has ended and only waits to be reaped does not run.
pub fn is_running(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// State and parent, from `pid (name) state parent …`, where a name may hold blanks.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text[text.rfind(')')? + 1..].split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
