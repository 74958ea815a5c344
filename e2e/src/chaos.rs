//! Chaos: clients work while everything around them breaks; afterwards the log and what they saw must agree.
//!
//! [`run`] starts a [`world`] of three brokers behind [`proxy`]s and some command services, lets the [`load`] begin and
//! the [`nemesis`] rage, mends everything, sees the clients' last operations through, and has the [`checker`] compare
//! the brokers' [`log`] with the clients' [`history`]. In the end come [`trespass`]es. The [`report`] says what
//! happened.

pub mod checker;
pub mod history;
mod kafka;
pub mod load;
pub mod log;
pub mod nemesis;
pub mod proxy;
pub mod report;
pub mod seed;
pub mod trespass;
pub mod world;

use std::time::Duration;

use tokio::time::{Instant, timeout};

use checker::check;
use history::Clock;
use load::Load;
use nemesis::{Fault, Nemesis};
use report::{Recovery, Report};
use seed::Dice;
use world::{World, WorldError};

/// What is to happen.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// For how long things break.
    pub duration: Duration,
    /// Command services.
    pub nodes: usize,
    pub clients: usize,
    /// Each client waits up to so long between two operations.
    pub pause: Duration,
    pub faults: Vec<Fault>,
    /// Whether brokers break while something else is broken.
    pub overlap: bool,
    /// Whether somebody else writes into our topics in the end.
    pub trespass: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum ChaosError {
    #[error("failed to start what is to be broken")]
    World(#[from] WorldError),
    #[error("failed to read the log afterwards")]
    Log(#[from] kafka::LogError),
}

/// How long everything may take to serve again once nothing is broken any more.
const RECOVERED_WITHIN: Duration = Duration::from_secs(120);
/// Operations of each client, without which a run would say little: on a busy machine, some of
/// them come after everything was mended.
const LEAST_OPERATIONS: u64 = 10;

pub async fn run(plan: &Plan) -> Result<Report, ChaosError> {
    let mut dice = Dice::new(plan.seed);
    let world = World::start(plan.nodes).await?;
    let clock = Clock::begin();
    let load = Load::begin(&world, clock, plan.clients, plan.pause, &mut dice);
    let nemesis = Nemesis::new(&world, clock, dice.split());
    let record = nemesis
        .rage(Instant::now() + plan.duration, &plan.faults, plan.overlap)
        .await;

    let mended = Instant::now();
    let mut recovery = Recovery::default();
    for role in world.roles() {
        if let Err(error) = role.until_ready(RECOVERED_WITHIN).await {
            recovery.failed.push(error.to_string());
        }
    }
    recovery.ready_after = mended.elapsed();
    let least = load.until_answered(LEAST_OPERATIONS * plan.clients as u64);
    if timeout(RECOVERED_WITHIN, least).await.is_err() {
        recovery.failed.push("the clients get no answers".into());
    }
    let mut history = load.end(RECOVERED_WITHIN).await;
    recovery.answered_after = mended.elapsed();

    let mut log = world.read_log().await?;
    let findings = check(&log, &history, &[]);
    let mut report = Report {
        plan: plan.clone(),
        record,
        recovery,
        log: report::LogFigures::of(&log),
        clients: report::ClientFigures::of(&history),
        findings,
        connections: world.proxies.iter().map(|it| it.connections()).collect(),
        aftermath: None,
    };
    if plan.trespass {
        let mut trespasses = world.trespass(clock, plan.clients, &mut dice).await;
        history.append(&mut trespasses.history);
        log = world.read_log().await?;
        let findings = check(&log, &history, &trespasses.places());
        report.aftermath = Some((trespasses, findings));
    }
    let kept = match report.holds() {
        true => None,
        false => Some(report.keep(&world, &log, &history)),
    };
    world.end(false).await;
    if let Some(kept) = kept {
        eprintln!("logs, log and history are kept in {}", kept.display());
    }
    Ok(report)
}
