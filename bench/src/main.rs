//! Benchmarks, each on a stack of its own and beside the limit that it is measured against:
//! `cargo run --release -p bench -- commands`.

mod bare_handler;
mod bare_log;
mod bare_rows;
mod codec;
mod commands;
mod cpu;
mod figures;
mod following;
mod http;
mod load;
mod memory;
mod pipeline;
mod projection;
mod reading;
mod reads;
mod registry;
mod restore;
mod role;
mod stored;
mod verify;
mod world;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tokio::runtime::Runtime;

type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

#[derive(Parser)]
#[command(about = "Benchmarks of Annals, each on a stack of its own")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// Commands, in process beside the bare log and over HTTP beside a bare handler
    Commands(commands::Options),
    /// Encoding and decoding, beside bare serde_avro_fast, and through migration rules
    Codec(codec::Options),
    /// How fast a service has its state again, beside a bare consumer
    Restore(reading::Options),
    /// Every event by a candidate rule and back, beside a bare consumer
    Verify(reading::Options),
    /// Events into rows, beside a loop that only copies and merges the same rows
    Projection(projection::Options),
    /// What followers cost, and how long a change takes to all of them
    Following(following::Options),
    /// What an idle stream takes in memory
    Memory(memory::Options),
    /// Look-ups and registrations of schemas, beside a bare look-up
    Registry(registry::Options),
    /// What the command HTTP API is measured against; started by `commands`
    #[command(hide = true)]
    BareHandler { address: String },
    /// The way of a command over HTTP, without the command; started by `commands`
    #[command(hide = true)]
    Stack { address: String, key: PathBuf },
    /// A schema registry; started by `registry`
    #[command(hide = true)]
    ServeRegistry {
        address: String,
        postgres: String,
        kafka: Option<String>,
    },
    /// What a look-up is measured against; started by `registry`
    #[command(hide = true)]
    BareLookUp { address: String, postgres: String },
}

fn main() -> ExitCode {
    // What is measured are processes of their own: this binary again, as `annals`.
    let first = std::env::args().nth(1).unwrap_or_default();
    if role::NAMES.contains(&first.as_str()) || first == "schema" {
        return annals::App::new([tasks::context()]).run();
    }
    let cli = Cli::parse();
    // reqwest is built without a provider of its own.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = Runtime::new()
        .map_err(Failure::from)
        .and_then(|runtime| runtime.block_on(perform(cli.bench)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {}", service_kit::problem::Chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn perform(bench: Bench) -> Result<()> {
    match bench {
        Bench::Commands(options) => commands::run(options).await,
        Bench::Codec(options) => codec::run(&options),
        Bench::Restore(options) => restore::run(options).await,
        Bench::Verify(options) => verify::run(options).await,
        Bench::Projection(options) => projection::run(options).await,
        Bench::Following(options) => following::run(options).await,
        Bench::Memory(options) => memory::run(options).await,
        Bench::Registry(options) => registry::run(options).await,
        Bench::ServeRegistry {
            address,
            postgres,
            kafka,
        } => registry::serve(address, &postgres, kafka.as_deref()).await,
        Bench::BareLookUp { address, postgres } => registry::serve_bare(&address, &postgres).await,
        Bench::BareHandler { address } => bare_handler::serve(&address).await,
        Bench::Stack { address, key } => bare_handler::serve_stack(&address, &key).await,
    }
}
