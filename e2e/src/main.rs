//! `cargo run --release -p e2e -- chaos --minutes 5 --seed 1`: breaks an installation of its own for so long, says what
//! came of it, and fails when anything was lost, doubled or contradicted.

use std::{io::Write, process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use e2e::{
    chaos::{self, Plan, nemesis::FAULTS},
    projector_chaos,
};

#[derive(Parser)]
#[command(about = "Long runs of the whole system")]
struct Cli {
    #[command(subcommand)]
    run: Run,
}

#[derive(Subcommand)]
enum Run {
    /// Three brokers, command services and clients, while everything breaks
    Chaos {
        #[arg(long, default_value_t = 5.0)]
        minutes: f64,
        /// The same seed breaks the same things in the same order
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Command services
        #[arg(long, default_value_t = 3)]
        nodes: usize,
        #[arg(long, default_value_t = 64)]
        clients: usize,
        /// Each client waits up to so long between two operations
        #[arg(long, default_value_t = 60)]
        pause_ms: u64,
        /// Break brokers while something else is broken
        #[arg(long)]
        overlap: bool,
        /// Only these faults, by name
        #[arg(long)]
        only: Vec<String>,
    },
    /// Projectors and clients, while workers, Postgres and Kafka break
    ChaosProjector {
        #[arg(long, default_value_t = 5.0)]
        minutes: f64,
        /// The same seed breaks the same things in the same order
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 3)]
        workers: usize,
        #[arg(long, default_value_t = 16)]
        clients: usize,
        /// Who follow the board meanwhile
        #[arg(long, default_value_t = 4)]
        followers: usize,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    match Cli::parse().run {
        Run::Chaos {
            minutes,
            seed,
            nodes,
            clients,
            pause_ms,
            overlap,
            only,
        } => {
            let named = |fault: &str| only.is_empty() || only.iter().any(|name| name == fault);
            let faults: Vec<_> = FAULTS
                .into_iter()
                .filter(|fault| named(&format!("{fault:?}")))
                .collect();
            commands(&Plan {
                seed,
                duration: Duration::from_secs_f64(minutes * 60.0),
                nodes,
                clients,
                pause: Duration::from_millis(pause_ms),
                faults,
                overlap,
                trespass: true,
            })
            .await
        }
        Run::ChaosProjector {
            minutes,
            seed,
            workers,
            clients,
            followers,
        } => {
            projector(&projector_chaos::Plan {
                seed,
                duration: Duration::from_secs_f64(minutes * 60.0),
                workers,
                clients,
                followers,
            })
            .await
        }
    }
}

async fn commands(plan: &Plan) -> ExitCode {
    match chaos::run(plan).await {
        Ok(report) => {
            let _ = write!(std::io::stdout(), "{report}");
            match report.holds() {
                true => ExitCode::SUCCESS,
                false => ExitCode::FAILURE,
            }
        }
        Err(error) => broken(&error),
    }
}

async fn projector(plan: &projector_chaos::Plan) -> ExitCode {
    match projector_chaos::run(plan).await {
        Ok(report) => {
            let _ = write!(std::io::stdout(), "{report}");
            ExitCode::SUCCESS
        }
        Err(error) => broken(&error),
    }
}

fn broken(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("chaos: {}", service_kit::problem::Chain(error));
    ExitCode::from(2)
}
