//! Chaos for the read side: clients work and follow while projectors, Postgres and Kafka break;
//! afterwards the read models must equal a fold of the log, and each follower must have heard of
//! every event once and in order.

mod faults;
mod fold;
mod load;

use std::{fmt, time::Duration};

use dev_stack::{DevStack, StackError, wipe};
use futures::future::join_all;
use tokio::time::Instant;

use crate::{
    app::{Role, TestApp},
    chaos::seed::Dice,
    follower::{Follower, Way},
};
use faults::Nemesis;
use load::Load;

pub use faults::{FAULTS, Fault};

const A_DAY: Duration = Duration::from_secs(24 * 3_600);

/// What is to happen.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    /// For how long things break, one after the other; each at least once.
    pub duration: Duration,
    pub workers: usize,
    pub clients: usize,
    /// How many follow the board meanwhile, some over server-sent events and some by long-polls.
    pub followers: usize,
}

/// What has happened, when everything was as it must be.
#[derive(Clone, Debug)]
pub struct Report {
    pub faults: Vec<(Fault, usize)>,
    pub events: usize,
    pub commands: usize,
}

/// # Panics
/// When a read model differs from the fold, a follower has heard anything else, or something does
/// not recover.
pub async fn run(plan: &Plan) -> Result<Report, StackError> {
    let stack = DevStack::temporary().await?;
    let app = TestApp::on(&stack).await;
    app.start_all().await;
    let mut workers: Vec<Role> = Vec::new();
    workers.resize_with(plan.workers.saturating_sub(1), || app.another_projector());
    for worker in &workers {
        app.run(worker);
        worker.until_ready().await;
    }
    let mut all: Vec<&Role> = vec![&app.projector];
    all.extend(&workers);

    let company = app.new_company();
    let ways = [Way::EventStream, Way::LongPoll].into_iter().cycle();
    let followers = ways.take(plan.followers).map(|way| {
        let token = app.token(&company.tenant, "mia", &["manager"], A_DAY);
        Follower::start(app.queries.address, "/v1/tasks", token, way)
    });
    let followers = join_all(followers).await;
    let load = Load::begin(&company, plan.clients);
    let mut dice = Dice::new(plan.seed);
    let mut nemesis = Nemesis::new(&stack, &app, all);
    let end = Instant::now() + plan.duration;
    let mut happened = Vec::new();
    loop {
        let mut round = FAULTS;
        dice.shuffle(&mut round);
        for fault in round {
            if !happened.is_empty() && Instant::now() > end && happened.len() >= FAULTS.len() {
                break;
            }
            nemesis.cause(fault, &mut dice).await;
            happened.push(fault);
        }
        if Instant::now() > end {
            break;
        }
    }
    let commands = load.end().await;
    app.until_ready().await;
    let expected = fold::of_the_log(&app);
    fold::assert_equal(&app, &expected).await;
    for follower in followers {
        let heard = follower.heard(expected.events()).await;
        assert_eq!(heard, expected.versions());
    }

    let counted = FAULTS.map(|fault| {
        let times = happened.iter().filter(|it| **it == fault).count();
        (fault, times)
    });
    let report = Report {
        faults: counted.to_vec(),
        events: expected.events(),
        commands,
    };
    drop(workers);
    drop(app);
    let data = stack.data_dir().map(ToOwned::to_owned);
    stack.stop().await;
    if let Some(data) = data {
        wipe(&data)?;
    }
    Ok(report)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} commands, {} events: every read model equals the fold of the log, and every follower \
             has heard it",
            self.commands, self.events
        )?;
        for (fault, times) in &self.faults {
            writeln!(f, "  {times:4} × {fault:?}")?;
        }
        Ok(())
    }
}
