//! `dev-stack exec COMMAND…`: one stack for a whole test run. `dev-stack prepare`: fetch only.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use dev_stack::{
    DevStack, OnProgress, Options, Progress, forget_package, new_temporary_folder, prepare, wipe,
};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "usage: dev-stack exec [--data FOLDER] COMMAND [ARGUMENT…]
           starts Kafka and Postgres, runs the command with ANNALS_KAFKA and ANNALS_POSTGRES set,
           stops them, and ends with the command's exit code; without a folder, the data goes too
       dev-stack prepare
           fetches Kafka and Postgres into the cache";

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let verb = if arguments.is_empty() {
        OsString::new()
    } else {
        arguments.remove(0)
    };
    let outcome = match verb.to_str() {
        Some("exec") => match &arguments[..] {
            [option, folder, command @ ..] if option == "--data" && !command.is_empty() => {
                exec(folder.into(), command).await
            }
            [_, ..] => exec_on_temporary_folder(&arguments).await,
            [] => Err(USAGE.into()),
        },
        Some("prepare") => prepare(tell())
            .await
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        _ => Err(USAGE.into()),
    };
    outcome.unwrap_or_else(|error: Box<dyn std::error::Error>| {
        eprintln!("{error}");
        ExitCode::from(2)
    })
}

async fn exec_on_temporary_folder(command: &[OsString]) -> Outcome {
    let folder = new_temporary_folder();
    let code = exec(folder.clone(), command).await?;
    // After a failure it stays, as its logs are named; the next temporary stack removes it.
    wipe(&folder)?;
    Ok(code)
}

async fn exec(folder: PathBuf, command: &[OsString]) -> Outcome {
    let mut options = Options::new(folder);
    options.on_progress = tell();
    // From here on Ctrl-C is the command's, and the stack is stopped after it.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stack = tokio::select! {
        stack = DevStack::start(options) => stack?,
        _ = interrupt.recv() => return Ok(ExitCode::from(130)),
        _ = terminate.recv() => return Ok(ExitCode::from(143)),
    };

    let mut process = Command::new("setpriv");
    // It may be Cargo again.
    forget_package(process.as_std_mut());
    // Killed, this process would leave the command behind without its servers.
    let mut process = process
        .args(["--pdeathsig", "TERM", "--"])
        .args(command)
        .env("ANNALS_KAFKA", stack.kafka())
        .env("ANNALS_POSTGRES", stack.postgres())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("failed to run setpriv (install util-linux): {error}"))?;
    let code = loop {
        tokio::select! {
            status = process.wait() => break status?.code().unwrap_or(1) as u8,
            error = stack.failed() => {
                eprintln!("{error}");
                process.kill().await?;
                break 2;
            }
            _ = terminate.recv() => {
                process.kill().await?;
                break 143;
            }
            _ = interrupt.recv() => {}
        }
    };
    stack.stop().await;
    Ok(ExitCode::from(code))
}

fn tell() -> OnProgress {
    Arc::new(|progress| match progress {
        Progress::Fetching => eprintln!("fetching Kafka and Postgres (about 80 MB, once) …"),
        Progress::Starting { .. } => {}
        Progress::Ready { server, took } => {
            eprintln!("{server} is ready after {:.1} s", took.as_secs_f64())
        }
    })
}
