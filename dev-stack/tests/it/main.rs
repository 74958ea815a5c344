//! What the stack promises, on real servers: each test starts its own.

#![allow(clippy::unwrap_used)]

mod cluster;
mod crashes;
mod refusals;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use dev_stack::DevStack;

/// The `dev-stack` command of this build.
fn dev_stack() -> Command {
    Command::new(env!("CARGO_BIN_EXE_dev-stack"))
}

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Whether somebody accepts connections there and answers Kafka's ApiVersions (version 0).
fn kafka_answers(address: &str) -> bool {
    kafka_answers_within(PATIENCE, address)
}

fn kafka_answers_within(time: Duration, address: &str) -> bool {
    let ask = || {
        let mut broker = TcpStream::connect(address)?;
        broker.set_read_timeout(Some(time))?;
        broker.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])?;
        let mut size_and_correlation_id = [0; 8];
        broker.read_exact(&mut size_and_correlation_id)?;
        Ok::<bool, std::io::Error>(size_and_correlation_id[7] == 7)
    };
    ask().unwrap_or(false)
}

fn is_running(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap()..].starts_with(") Z"))
}

async fn stop_and_forget(stack: DevStack) {
    let data_dir = stack.data_dir().unwrap().to_path_buf();
    stack.stop().await;
    dev_stack::wipe(&data_dir).unwrap();
}
