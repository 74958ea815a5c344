//! What breaks, and is mended again before the next thing does.

use std::time::Duration;

use dev_stack::DevStack;
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};
use tokio::time::sleep;

use crate::{
    app::{Role, TestApp},
    chaos::seed::Dice,
    eventually::eventually,
};

/// In the middle of whatever they are doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A worker is killed, and comes back.
    WorkerKilled,
    /// A worker stands still until others have its partitions, and then believes that it has them.
    WorkerStopped,
    /// All workers lose their connections to Postgres.
    ConnectionsCut,
    PostgresRestarted,
    /// All that the projector has ever written is gone.
    PostgresLost,
    KafkaRestarted,
}

pub const FAULTS: [Fault; 6] = [
    Fault::WorkerKilled,
    Fault::WorkerStopped,
    Fault::ConnectionsCut,
    Fault::PostgresRestarted,
    Fault::PostgresLost,
    Fault::KafkaRestarted,
];

/// Longer than a worker's session in its group.
const STOPPED: (u64, u64) = (6_500, 8_000);

pub(super) struct Nemesis<'a> {
    stack: &'a DevStack,
    app: &'a TestApp,
    workers: Vec<&'a Role>,
}

impl<'a> Nemesis<'a> {
    pub(super) fn new(stack: &'a DevStack, app: &'a TestApp, workers: Vec<&'a Role>) -> Self {
        Self {
            stack,
            app,
            workers,
        }
    }

    /// Breaks something, mends it, and waits until every worker is ready again.
    pub(super) async fn cause(&mut self, fault: Fault, dice: &mut Dice) {
        // At no particular moment.
        sleep(dice.millis(50, 400)).await;
        let Self {
            stack,
            app,
            workers,
        } = self;
        let worker = workers[dice.below(workers.len())];
        match fault {
            Fault::WorkerKilled => {
                worker.kill().await;
                sleep(dice.millis(0, 300)).await;
                app.run(worker);
            }
            Fault::WorkerStopped => {
                worker.running().signal(Signal::STOP);
                sleep(dice.millis(STOPPED.0, STOPPED.1)).await;
                worker.running().signal(Signal::CONT);
            }
            Fault::ConnectionsCut => {
                for _ in 0..5 {
                    self.cut().await;
                    sleep(dice.millis(20, 150)).await;
                }
            }
            Fault::PostgresRestarted => {
                stack.postgres_process().kill().await;
                sleep(dice.millis(0, 500)).await;
                let started = stack.postgres_process().start().await;
                started.expect("Postgres starts");
            }
            Fault::PostgresLost => self.lose().await,
            Fault::KafkaRestarted => {
                stack.kafka_process().kill().await;
                sleep(dice.millis(0, 500)).await;
                let started = stack.kafka_process().start().await;
                started.expect("Kafka starts");
            }
        }
        for worker in &self.workers {
            worker.until_ready().await;
        }
    }

    async fn cut(&self) {
        let Ok(mut postgres) = self.connect().await else {
            return;
        };
        let cut = sqlx::query(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where application_name = 'annals projector' and datname = current_database()",
        );
        // It ends whoever it finds.
        let _ = cut.execute(&mut postgres).await;
    }

    /// The registry has the same database, and is no part of this.
    async fn lose(&self) {
        let lost = "do $$
            declare lost text;
            begin
                for lost in select nspname from pg_namespace
                    where nspname = 'annals' or nspname like 'rm\\_%'
                loop
                    execute format('drop schema %I cascade', lost);
                end loop;
            end $$";
        // Workers that are in the middle of a transaction may be in the way.
        eventually("everything is dropped", async || {
            let mut postgres = self.connect().await.ok()?;
            sqlx::raw_sql(lost).execute(&mut postgres).await.ok()
        })
        .await;
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let postgres = self.app.setting("POSTGRES");
        let connected =
            tokio::time::timeout(Duration::from_secs(5), PgConnection::connect(postgres));
        connected.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }
}
