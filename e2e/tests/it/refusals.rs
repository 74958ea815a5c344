//! What cannot start says in one line what to do, and ends with a failure.

use std::{
    ffi::OsString,
    fs,
    net::TcpListener,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use e2e::{Process, TestApp, annals, free_port};
use tempfile::{TempDir, tempdir};

/// What the command says in the end, when it ends with a failure.
async fn refusal(command: Command) -> String {
    let process = Process::start(command);
    let status = process.ended().await;
    let said = process.stderr();
    assert!(!status.success(), "{said}");
    let line = said.lines().last().unwrap_or_default();
    let line = line.strip_prefix("annals: ");
    let line = line.unwrap_or_else(|| panic!("not one line of annals: {said}"));
    line.to_owned()
}

/// `annals up` in a folder of its own, at ports that are free.
fn up(folder: &Path) -> Command {
    let mut command = annals();
    command.arg("up").current_dir(folder);
    for role in ["COMMANDS", "PROJECTOR", "QUERIES", "SCHEMA_REGISTRY"] {
        command.env(format!("ANNALS_{role}__ADDRESS"), free_port().to_string());
    }
    command
}

#[tokio::test]
async fn a_port_in_use_is_told_by_its_address() {
    let app = TestApp::on(dev_stack::shared().await).await;
    for (verb, role) in [
        ("registry", &app.registry),
        ("command-service", &app.commands),
        ("projector", &app.projector),
        ("query-service", &app.queries),
        // Where somebody else's Kafka and Postgres are used, nothing is started before.
        ("up", &app.queries),
    ] {
        let _taken = TcpListener::bind(role.address).unwrap();
        let mut command = app.annals();
        if verb == "up" {
            command.env_remove("ANNALS_REGISTRY");
        }
        command.arg(verb);
        let told = refusal(command).await;
        let expected = format!(
            "{} is in use by another process; end that one",
            role.address
        );
        assert!(told.starts_with(&expected), "{verb}: {told}");
    }
}

#[tokio::test]
async fn another_number_of_partitions_than_the_generations_is_refused() {
    let app = TestApp::start().await;
    app.commands.kill().await;
    let mut command = app.annals();
    command.arg("command-service").env("ANNALS_PARTITIONS", "6");
    let told = refusal(command).await;
    assert!(
        told.contains("has 4 partitions, but this generation has 6")
            && told.contains("start with ANNALS_PARTITIONS=4"),
        "{told}"
    );
}

#[tokio::test]
async fn settings_that_are_missing_or_wrong_are_told_by_name() {
    let folder = tempdir().unwrap();
    let told = async |verb: &str, settings: &[(&str, &str)]| {
        let mut command = annals();
        command.arg(verb).current_dir(folder.path());
        command.envs(settings.iter().copied());
        refusal(command).await
    };
    let missing = told("command-service", &[]).await;
    assert!(missing.contains("set ANNALS_KAFKA"), "{missing}");
    let missing = told("query-service", &[]).await;
    assert!(missing.contains("set ANNALS_POSTGRES"), "{missing}");
    let wrong = told("up", &[("ANNALS_PARTITIONS", "many")]).await;
    assert!(wrong.contains("ANNALS_PARTITIONS"), "{wrong}");
    let wrong = told("up", &[("ANNALS_LOG__FILTER", "=loud=")]).await;
    assert!(wrong.contains("is not a log filter"), "{wrong}");

    fs::write(folder.path().join("annals.toml"), "kafak = \"x\"\n").unwrap();
    let unknown = told("up", &[]).await;
    assert!(unknown.contains("unknown setting `kafak` in"), "{unknown}");
}

#[tokio::test]
async fn a_data_folder_of_another_version_or_of_somebody_else_is_left_alone() {
    let folder = tempdir().unwrap();
    let data = folder.path().join(".annals");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("version"), "layout 0, Kafka 2.8, Postgres 9\n").unwrap();
    let told = refusal(up(folder.path())).await;
    assert!(
        told.contains("was written by layout 0, Kafka 2.8, Postgres 9")
            && told.contains("annals down --wipe"),
        "{told}"
    );

    fs::remove_file(data.join("version")).unwrap();
    fs::create_dir(data.join("postgres")).unwrap();
    let told = refusal(up(folder.path())).await;
    assert!(told.contains("is not a data folder of Annals"), "{told}");
    let mut wipe = annals();
    wipe.args(["down", "--wipe"]).current_dir(folder.path());
    let told = refusal(wipe).await;
    assert!(told.contains("is not a data folder of Annals"), "{told}");
    assert!(data.join("postgres").exists());
}

#[tokio::test]
async fn a_java_that_is_missing_or_too_old_is_told_with_what_to_install() {
    let folder = tempdir().unwrap();
    let programs = tempdir().unwrap();
    for program in ["setpriv", "sh"] {
        symlink(
            Path::new("/usr/bin").join(program),
            programs.path().join(program),
        )
        .unwrap();
    }
    let with = async |path: &[&Path]| {
        let mut command = up(folder.path());
        command.env("PATH", std::env::join_paths(path).unwrap());
        command.env_remove("JAVA_HOME");
        refusal(command).await
    };
    // What is fetched once is there, as other tests run on it.
    dev_stack::prepare(std::sync::Arc::new(|_| {}))
        .await
        .unwrap();
    let told = with(&[programs.path()]).await;
    assert!(
        told.contains("install a Java runtime 17 or newer"),
        "{told}"
    );
    let old = program("java", "echo 'openjdk version \"11.0.2\" 2019-01-15' >&2");
    let told = with(&[old.path(), programs.path()]).await;
    assert!(
        told.contains("is Java 11, Kafka needs 17 or newer"),
        "{told}"
    );
}

fn program(name: &str, script: &str) -> TempDir {
    let folder = tempdir().unwrap();
    let file = folder.path().join(OsString::from(name));
    fs::write(&file, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}
