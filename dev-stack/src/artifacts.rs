//! The servers' programs: fetched once by Maven as `pom.xml` pins them, kept in a cache that all stacks share.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::geteuid;

use crate::data_folder::check_free_space;
use crate::error::{StackError, failed_to};
use crate::stack::{OnProgress, Progress};

const POM: &str = include_str!("../pom.xml");
/// The artifacts, their unpacked form, and Maven's own copy.
const NEEDED_MB: u64 = 400;

#[derive(Clone, Debug)]
pub(crate) struct Artifacts {
    /// What holds the others; more that belongs to this version may be put there.
    pub folder: PathBuf,
    /// A folder of jars.
    pub kafka: PathBuf,
    /// A folder with `bin/postgres` and `bin/initdb`.
    pub postgres: PathBuf,
}

/// Where they are; fetched first when they are not there. Processes that need them at the same time wait for the one
/// that fetches, and a fetch that breaks off leaves nothing that the next one would take for complete.
pub(crate) async fn fetch(on_progress: &OnProgress) -> Result<Artifacts, StackError> {
    let on_progress = on_progress.clone();
    let fetch = move || fetch_into(&cache_folder()?, &on_progress);
    tokio::task::spawn_blocking(fetch)
        .await
        .expect("the fetch does not panic")
}

/// A version from `pom.xml`.
pub(crate) fn pinned(property: &str) -> &'static str {
    let value = POM
        .split_once(&format!("<{property}>"))
        .and_then(|(_, rest)| rest.split_once('<'));
    value
        .map(|(value, _)| value)
        .expect("pom.xml pins the versions by these names")
}

fn fetch_into(cache: &Path, on_progress: &OnProgress) -> Result<Artifacts, StackError> {
    let complete = cache.join(name()?);
    let artifacts = Artifacts {
        kafka: complete.join("kafka"),
        postgres: complete.join("postgres"),
        folder: complete.clone(),
    };
    if complete.exists() {
        return Ok(artifacts);
    }
    make_folder(cache)?;
    let lock = cache.join("lock");
    let lock = File::create(&lock)
        .and_then(|file| file.lock().map(|()| file))
        .map_err(failed_to("lock", &lock))?;
    if !complete.exists() {
        on_progress(Progress::Fetching);
        check_free_space(cache, NEEDED_MB)?;
        let unfinished = cache.join("unfinished");
        if unfinished.exists() {
            fs::remove_dir_all(&unfinished).map_err(failed_to("remove", &unfinished))?;
        }
        make_folder(&unfinished)?;
        run_maven(&unfinished, &cache.join("fetch.log"))?;
        unpack_postgres(&unfinished)?;
        fs::rename(&unfinished, &complete).map_err(failed_to("rename", &unfinished))?;
    }
    drop(lock);
    Ok(artifacts)
}

fn run_maven(into: &Path, log: &Path) -> Result<(), StackError> {
    fs::write(into.join("pom.xml"), POM).map_err(failed_to("write", into))?;
    let output = File::create(log).map_err(failed_to("create", log))?;
    let errors = output.try_clone().map_err(failed_to("create", log))?;
    let status = Command::new("mvn")
        .args(["--batch-mode", "--no-transfer-progress", "package"])
        .args([
            format!("-Dinto={}", into.display()),
            format!("-Dpostgres.platform={}", platform()?),
        ])
        .current_dir(into)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .status()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StackError::MavenMissing,
            _ => StackError::Io {
                doing: "run mvn".into(),
                source: error,
            },
        })?;
    if status.success() {
        return Ok(());
    }
    let text = fs::read_to_string(log).unwrap_or_default();
    let mut errors = text
        .lines()
        .filter_map(|line| Some(line.split_once("[ERROR]")?.1));
    let reason = errors.find(|error| !error.trim().is_empty());
    let reason = reason.map_or_else(|| "it gave no reason".into(), |reason| reason.trim().into());
    Err(StackError::Fetch {
        reason,
        log: log.to_path_buf(),
    })
}

/// The jar that Maven has opened holds one archive.
fn unpack_postgres(into: &Path) -> Result<(), StackError> {
    let jar = into.join("postgres-jar");
    let unpack = |reason: &str| StackError::Unpack {
        reason: reason.to_owned(),
    };
    let files = fs::read_dir(&jar).map_err(failed_to("read", &jar))?;
    let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
    let archive = paths.find(|path| path.extension().is_some_and(|extension| extension == "txz"));
    let archive = archive.ok_or_else(|| unpack("its jar holds no .txz"))?;
    let postgres = into.join("postgres");
    make_folder(&postgres)?;
    let output = Command::new("tar")
        .arg("-xJf")
        .arg(&archive)
        .arg("-C")
        .arg(&postgres)
        .output();
    let output = output.map_err(|error| unpack(&format!("tar: {error}")))?;
    if !output.status.success() {
        return Err(unpack(
            String::from_utf8_lossy(&output.stderr)
                .lines()
                .next()
                .unwrap_or("tar failed"),
        ));
    }
    fs::remove_dir_all(&jar).map_err(failed_to("remove", &jar))
}

/// `$ANNALS_CACHE`, or the user's cache folder; root's is one that Postgres' user can reach too.
fn cache_folder() -> Result<PathBuf, StackError> {
    let variable = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    if let Some(chosen) = variable("ANNALS_CACHE") {
        return std::path::absolute(&chosen).map_err(failed_to("read", &chosen));
    }
    if geteuid().is_root() {
        return Ok("/var/cache/annals".into());
    }
    let users = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    Ok(users.unwrap_or_else(std::env::temp_dir).join("annals"))
}

/// The versions, for people, and a fingerprint of the whole pom.
fn name() -> Result<String, StackError> {
    // Another Rust release may hash differently: then it is fetched once more.
    let mut fingerprint = DefaultHasher::new();
    (POM, platform()?).hash(&mut fingerprint);
    let (kafka, postgres) = (pinned("kafka.version"), pinned("postgres.version"));
    Ok(format!(
        "kafka-{kafka}-postgres-{postgres}-{:016x}",
        fingerprint.finish()
    ))
}

fn platform() -> Result<&'static str, StackError> {
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", "x86_64") => Ok("linux-amd64"),
        ("linux", "aarch64") => Ok("linux-arm64v8"),
        (os, arch) => Err(StackError::Platform {
            platform: format!("{os} on {arch}"),
        }),
    }
}

/// Open to all: as root, Postgres runs from here as another user.
fn make_folder(folder: &Path) -> Result<(), StackError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(failed_to("create", folder))
}
