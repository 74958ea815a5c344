//! What can go wrong with the stack, each told in one line that says what to do about it.

use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub enum StackError {
    #[error(
        "java not found: install a Java runtime {needed} or newer (Debian: apt-get install openjdk-17-jre-headless), or set JAVA_HOME"
    )]
    JavaMissing { needed: u32 },

    #[error(
        "{program} is Java {found}, Kafka needs {needed} or newer: install it (Debian: apt-get install openjdk-17-jre-headless), or set JAVA_HOME"
    )]
    JavaTooOld {
        program: PathBuf,
        found: u32,
        needed: u32,
    },

    #[error(
        "mvn not found: install Maven, which fetches Kafka and Postgres once (Debian: apt-get install maven)"
    )]
    MavenMissing,

    #[error("Maven could not fetch Kafka and Postgres: {reason}; check the network and Maven's settings, the whole log is {log}", log = .log.display())]
    Fetch { reason: String, log: PathBuf },

    #[error(
        "could not unpack Postgres: {reason} (tar and xz are needed; Debian: apt-get install tar xz-utils)"
    )]
    Unpack { reason: String },

    #[error(
        "there is no Postgres for {platform} in the development stack: name a server of your own in ANNALS_POSTGRES"
    )]
    Platform { platform: String },

    #[error("{program} not found: install {package}")]
    ProgramMissing {
        program: &'static str,
        package: &'static str,
    },

    #[error(
        "port {port} on 127.0.0.1 is in use: stop what listens there, or name another port for {server}"
    )]
    PortInUse { server: &'static str, port: u16 },

    #[error("the disk is full: {dir} has {free_mb} MB free, {needed_mb} MB are needed", dir = .dir.display())]
    DiskFull {
        dir: PathBuf,
        free_mb: u64,
        needed_mb: u64,
    },

    #[error(
        "the data folder {dir} was written by {found}, this build runs {expected}: use the build that wrote it, or forget the data (annals down --wipe)", dir = .dir.display()
    )]
    OtherVersion {
        dir: PathBuf,
        found: String,
        expected: String,
    },

    #[error("{dir} is not a data folder of Annals, and not empty: name another folder", dir = .dir.display())]
    NotOurs { dir: PathBuf },

    #[error("the data folder {dir} is in use by process {pid}: stop it, or name another folder", dir = .dir.display())]
    InUse { dir: PathBuf, pid: String },

    #[error("an earlier Postgres, process {pid}, still runs on {dir}: end it (kill {pid}) and start again", dir = .dir.display())]
    EarlierPostgres { dir: PathBuf, pid: u32 },

    #[error(
        "Postgres refuses to run as root, and neither user postgres nor nobody exists: run as another user"
    )]
    NoUnprivilegedUser,

    #[error(
        "user {user}, as whom Postgres runs, cannot reach {dir}: set {variable} to a folder that everybody may enter", dir = .dir.display()
    )]
    Unreachable {
        user: String,
        dir: PathBuf,
        variable: &'static str,
    },

    #[error("{server} ended ({status}): {last_lines}; its log is {log}", log = .log.display())]
    Ended {
        server: &'static str,
        status: String,
        last_lines: String,
        log: PathBuf,
    },

    #[error("{server} did not answer within {seconds} s; its log is {log}", log = .log.display())]
    NotReady {
        server: &'static str,
        seconds: u64,
        log: PathBuf,
    },

    #[error("{0} must be 'host:port' or 'postgres://user@host:port/database'")]
    Address(String),

    #[error("could not create database {name}: {reason}")]
    CreateDatabase { name: String, reason: String },

    #[error("failed to {doing}")]
    Io {
        doing: String,
        #[source]
        source: io::Error,
    },
}

/// `.map_err(failed_to("read", path))`
pub(crate) fn failed_to(doing: &str, path: &Path) -> impl FnOnce(io::Error) -> StackError {
    let doing = format!("{doing} {}", path.display());
    move |source| StackError::Io { doing, source }
}
