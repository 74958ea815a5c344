//! What is missing or in the way is said in one line that tells what to do.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use dev_stack::{DevStack, Options, Source, StackError, new_temporary_folder};
use tempfile::TempDir;

use crate::{dev_stack, stop_and_forget};

#[test]
fn missing_maven_is_told_with_the_package_to_install() {
    let cache = TempDir::new().unwrap();
    let told = refusal(&[], cache.path());
    assert!(told.starts_with("mvn not found: install Maven"), "{told}");
    assert!(!told.trim().contains('\n'), "{told}");
}

#[test]
fn failed_fetch_is_told_with_mavens_reason_and_leaves_no_half_cache() {
    let cache = TempDir::new().unwrap();
    let maven = program(
        "mvn",
        "mkdir kafka; echo '[INFO] fetching'; echo '[ERROR] no route to host'; exit 1",
    );
    let told = refusal(&[maven.path()], cache.path());
    assert!(
        told.contains("no route to host") && told.contains("fetch.log"),
        "{told}"
    );
    let complete = fs::read_dir(cache.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    assert!(
        !complete
            .into_iter()
            .any(|name| name.to_str().unwrap().starts_with("kafka-"))
    );
}

#[test]
fn missing_java_is_told_with_the_package_to_install() {
    let told = refusal_with_cache(&[]);
    assert!(
        told.starts_with("java not found: install a Java runtime 17 or newer"),
        "{told}"
    );
}

#[test]
fn old_java_is_told_with_its_version() {
    let java = program("java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2");
    let told = refusal_with_cache(&[java.path()]);
    assert!(
        told.contains("is Java 11, Kafka needs 17 or newer"),
        "{told}"
    );
}

#[tokio::test]
async fn port_in_use_is_told_by_its_number() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let folder = new_temporary_folder();
    let mut options = Options::new(&folder);
    options.postgres = Source::Private { port: Some(port) };
    let error = DevStack::start(options).await.err().unwrap();
    assert!(
        matches!(
            error,
            StackError::PortInUse {
                server: "Postgres",
                ..
            }
        ),
        "{error}"
    );
    dev_stack::wipe(&folder).unwrap();
}

#[tokio::test]
async fn server_that_ends_at_its_start_is_told_with_the_last_lines_of_its_log() {
    let folder = new_temporary_folder();
    let mut options = Options::new(&folder);
    options.kafka_settings = vec![("num.io.threads".into(), "no number".into())];
    let error = DevStack::start(options).await.err().unwrap().to_string();
    assert!(
        error.contains("num.io.threads") && error.contains("kafka.log"),
        "{error}"
    );
    dev_stack::wipe(&folder).unwrap();
}

#[tokio::test]
async fn data_below_a_closed_folder_is_kept_where_postgres_can_reach_it() {
    let closed = TempDir::new().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let folder = closed.path().join("data");
    let stack = DevStack::start(Options::new(&folder)).await.unwrap();
    let place = fs::canonicalize(folder.join("postgres")).unwrap();
    stack.fresh_database().await.unwrap();
    stop_and_forget(stack).await;
    assert!(!folder.exists() && !place.exists());
}

/// What `dev-stack prepare` says with no other programs on the path than these.
fn refusal(path: &[&Path], cache: &Path) -> String {
    let mut command = dev_stack();
    command
        .arg("prepare")
        .env("PATH", join(path))
        .env("ANNALS_CACHE", cache);
    failed(command)
}

/// What `dev-stack exec` says, with the servers in the cache and no other Java than these.
fn refusal_with_cache(path: &[&Path]) -> String {
    assert!(dev_stack().arg("prepare").status().unwrap().success());
    let programs = TempDir::new().unwrap();
    for program in ["setpriv", "sh"] {
        let original = Path::new("/usr/bin").join(program);
        std::os::unix::fs::symlink(original, programs.path().join(program)).unwrap();
    }
    let mut command = dev_stack();
    let path: Vec<_> = path.iter().copied().chain([programs.path()]).collect();
    command
        .args(["exec", "true"])
        .env("PATH", join(&path))
        .env_remove("JAVA_HOME");
    failed(command)
}

fn failed(mut command: std::process::Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    told.lines().last().unwrap_or_default().to_owned()
}

fn join(path: &[&Path]) -> std::ffi::OsString {
    std::env::join_paths(path.iter().copied().chain([Path::new("/nonexistent")])).unwrap()
}

fn program(name: &str, script: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join(name);
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
