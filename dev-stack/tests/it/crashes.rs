//! Servers that are killed, frozen and stopped; parents that are killed.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use dev_stack::{DevStack, Options, Progress, Source, StackError, new_temporary_folder};

use crate::{dev_stack, is_running, kafka_answers, kafka_answers_within, stop_and_forget};

#[tokio::test]
async fn second_start_continues_on_the_data_of_the_first() {
    let folder = new_temporary_folder();
    let first = DevStack::start(Options::new(&folder)).await.unwrap();
    assert!(kafka_answers(first.kafka()));
    first.create_database("kept").await.unwrap();
    first.stop().await;

    let second = DevStack::start(Options::new(&folder)).await.unwrap();
    assert!(has_database(&second, "kept").await);
    assert!(kafka_answers(second.kafka()));
    stop_and_forget(second).await;
}

#[tokio::test]
async fn killed_servers_start_again_on_the_same_ports_and_data() {
    let stack = DevStack::temporary().await.unwrap();
    stack.create_database("kept").await.unwrap();
    let (kafka, postgres) = (stack.kafka_process(), stack.postgres_process());
    let pids = (kafka.pid().unwrap(), postgres.pid().unwrap());

    kafka.kill().await;
    postgres.kill().await;
    assert!(!is_running(pids.0) && !is_running(pids.1));
    assert!(!kafka_answers(stack.kafka()));
    assert!(stack.fresh_database().await.is_err());

    kafka.start().await.unwrap();
    postgres.start().await.unwrap();
    assert!(kafka_answers(stack.kafka()));
    assert!(has_database(&stack, "kept").await);
    assert!(kafka.pid().unwrap() != pids.0 && postgres.pid().unwrap() != pids.1);
    stop_and_forget(stack).await;
}

#[tokio::test]
async fn paused_servers_answer_when_they_go_on() {
    let stack = DevStack::temporary().await.unwrap();
    stack.kafka_process().pause();
    stack.postgres_process().pause();
    // Frozen: it accepts (the kernel does) and says nothing.
    let a_while = Duration::from_millis(500);
    assert!(!kafka_answers_within(a_while, stack.kafka()));
    let silent = tokio::time::timeout(a_while, stack.fresh_database()).await;
    assert!(silent.is_err());

    stack.kafka_process().resume();
    stack.postgres_process().resume();
    assert!(kafka_answers(stack.kafka()));
    stack.fresh_database().await.unwrap();
    stop_and_forget(stack).await;
}

#[tokio::test]
async fn server_that_ends_unasked_is_told_and_one_that_is_killed_on_purpose_is_not() {
    let stack = DevStack::temporary().await.unwrap();
    let pid = stack.postgres_process().pid().unwrap();

    let asked_to = async {
        stack.kafka_process().kill().await;
        stack.kafka_process().start().await.unwrap();
        Command::new("kill")
            .args(["-KILL", &pid.to_string()])
            .status()
            .unwrap();
        std::future::pending::<StackError>().await
    };
    let error = tokio::select! {
        error = stack.failed() => error,
        error = asked_to => error,
    };
    assert!(
        matches!(
            &error,
            StackError::Ended {
                server: "Postgres",
                ..
            }
        ),
        "{error}"
    );
    assert!(error.to_string().contains("postgres.log"), "{error}");
    stop_and_forget(stack).await;
}

#[tokio::test]
async fn servers_end_with_a_killed_parent_and_the_next_start_recovers() {
    let folder = new_temporary_folder();
    let mut parent = stack_in_another_process(&folder);
    let pids = pids_of(&mut parent);
    assert!(pids.iter().all(|pid| is_running(*pid)));
    parent.kill().unwrap();
    parent.wait().unwrap();

    // At once: what the killed parent left is still ending.
    let stack = DevStack::start(Options::new(&folder)).await.unwrap();
    assert!(pids.iter().all(|pid| !is_running(*pid)));
    assert!(kafka_answers(stack.kafka()));
    stack.fresh_database().await.unwrap();
    stop_and_forget(stack).await;
}

#[tokio::test]
async fn stale_postmaster_pid_of_another_program_is_no_obstacle() {
    let folder = new_temporary_folder();
    let stack = DevStack::start(Options::new(&folder)).await.unwrap();
    let postmaster_pid = folder.join("postgres/data/postmaster.pid");
    let left_behind = std::fs::read_to_string(&postmaster_pid).unwrap();
    stack.postgres_process().kill().await;
    stack.stop().await;
    // After a reboot the number may be anybody's: here, that of another Postgres of the same user.
    let mut options = Options::new(new_temporary_folder());
    options.kafka = Source::Existing("none".into());
    let another = DevStack::start(options).await.unwrap();
    let pid = another.postgres_process().pid().unwrap();
    let (_, rest) = left_behind.split_once('\n').unwrap();
    std::fs::write(&postmaster_pid, format!("{pid}\n{rest}")).unwrap();

    stop_and_forget(DevStack::start(Options::new(&folder)).await.unwrap()).await;
    stop_and_forget(another).await;
}

#[tokio::test]
async fn start_is_quick_once_the_servers_are_in_the_cache() {
    dev_stack::prepare(std::sync::Arc::new(|_| {}))
        .await
        .unwrap();
    let folder = new_temporary_folder();
    let mut options = Options::new(&folder);
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let telling = told.clone();
    options.on_progress = std::sync::Arc::new(move |step| telling.lock().unwrap().push(step));
    let stack = DevStack::start(options).await.unwrap();
    let servers = [stack.kafka_process(), stack.postgres_process()];
    let took = servers.map(|server| processor_time(server.pid().unwrap()));
    stop_and_forget(stack).await;
    // Of the processors, whatever else they have to do; a quiet machine with two is ready after 2.5 s.
    let took: Duration = took.iter().sum();
    assert!(took < Duration::from_secs(20), "{took:?}");
    let told = told.lock().unwrap();
    assert!(!told.contains(&Progress::Fetching), "{told:?}");
    let ready = |step: &&Progress| matches!(step, Progress::Ready { .. });
    assert_eq!(told.iter().filter(ready).count(), 2);
}

/// What the process itself has had of the processors so far.
fn processor_time(pid: u32) -> Duration {
    const TICKS_PER_SECOND: u64 = 100;
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // pid (name) state parent …, of which the 14th and the 15th are times.
    let (_, rest) = stat.rsplit_once(") ").unwrap();
    let times = rest.split(' ').skip(11).take(2);
    let ticks: u64 = times.map(|it| it.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

/// A name that is taken is refused.
async fn has_database(stack: &DevStack, name: &str) -> bool {
    let again = stack.create_database(name).await;
    again.is_err_and(|error| error.to_string().contains("already exists"))
}

/// A stack that lives until its process is killed: `dev-stack exec` with a command that prints the servers' ids.
fn stack_in_another_process(folder: &Path) -> Child {
    let script = "ps -o pid= --ppid $PPID; echo; exec sleep 600";
    let mut command = dev_stack();
    command
        .args(["exec", "--data"])
        .arg(folder)
        .args(["sh", "-c", script]);
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn pids_of(parent: &mut Child) -> Vec<u32> {
    let output = BufReader::new(parent.stdout.as_mut().unwrap());
    let lines = output
        .lines()
        .map(Result::unwrap)
        .take_while(|line| !line.is_empty());
    lines.map(|line| line.trim().parse().unwrap()).collect()
}
