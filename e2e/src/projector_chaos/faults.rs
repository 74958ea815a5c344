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
    process::ports_of,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A worker is killed in the middle of a batch, and comes back.
    WorkerKilled,
    /// A worker stands still in the middle of a batch until others have its partitions, and then
    /// believes that it has them.
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
        match fault {
            Fault::WorkerKilled => {
                let (worker, held_up) = in_a_batch(app, workers).await;
                worker.kill().await;
                let _ = held_up.close().await;
                sleep(dice.millis(0, 300)).await;
                app.run(worker);
            }
            Fault::WorkerStopped => {
                let (worker, held_up) = in_a_batch(app, workers).await;
                worker.running().signal(Signal::STOP);
                let _ = held_up.close().await;
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
        let Ok(mut postgres) = connect(self.app).await else {
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
            let mut postgres = connect(self.app).await.ok()?;
            sqlx::raw_sql(lost).execute(&mut postgres).await.ok()
        })
        .await;
    }
}

/// One that cannot end its batch of the board, whose checkpoint it has written, while the connection
/// is there.
async fn in_a_batch<'a>(app: &TestApp, workers: &[&'a Role]) -> (&'a Role, PgConnection) {
    let held_up = eventually("the board is locked", async || {
        let mut postgres = connect(app).await.ok()?;
        let lock = "begin; lock table rm_task_board_e1.tasks in exclusive mode";
        sqlx::raw_sql(lock).execute(&mut postgres).await.ok()?;
        Some(postgres)
    });
    let held_up = held_up.await;
    let worker = eventually("a worker waits for the board", async || {
        let mut postgres = connect(app).await.ok()?;
        let waiting = sqlx::query_scalar(
            "select client_port from pg_stat_activity
             where application_name = 'annals projector' and datname = current_database()
               and wait_event_type = 'Lock'",
        );
        let ports: Vec<i32> = waiting.fetch_all(&mut postgres).await.ok()?;
        let waits = |worker: &&&Role| {
            let own = ports_of(worker.running().pid());
            ports.iter().any(|port| own.contains(port))
        };
        workers.iter().find(waits).copied()
    });
    (worker.await, held_up)
}

async fn connect(app: &TestApp) -> Result<PgConnection, sqlx::Error> {
    let connecting = PgConnection::connect(app.setting("POSTGRES"));
    let connected = tokio::time::timeout(Duration::from_secs(5), connecting);
    connected.await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
}
