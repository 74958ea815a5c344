//! From the answer to a command to a read that shows what the command did.

use std::time::Duration;

use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};

use crate::{
    Result,
    http::{Assigner, Connection, create_task, get},
    load::Measured,
    role::Role,
    world::World,
};

/// Commands a second: a modest rate, at which nothing queues.
pub const RATE: u32 = 200;
const CLIENTS: u32 = 20;
const GENERATION: &str = "reads";

pub struct Visible {
    /// From the request of the command to its answer.
    pub commands: Measured,
    /// From the answer of the command to the answer of the read that waited for it.
    pub reads: Measured,
}

/// One that sends a command at its appointed times, and then reads.
struct Client {
    assigner: Assigner,
    queries: Connection,
    token: String,
}

pub async fn measure(world: &World, rate: u32, lasts: Duration) -> Result<Visible> {
    let commands = Role::start(world, "command-service", GENERATION).await?;
    let projector = Role::start(world, "projector", GENERATION).await?;
    let queries = Role::start(world, "query-service", GENERATION).await?;
    let token = world.token();
    let mut creator = Connection::open(commands.address).await?;
    let begin = Instant::now() + Duration::from_secs(1);
    let mut clients = JoinSet::new();
    for turn in 0..CLIENTS {
        let mut own = Vec::new();
        for _ in 0..10 {
            own.push(create_task(&mut creator, &token).await?);
        }
        let client = Client {
            assigner: Assigner::connect(commands.address, &token, own).await?,
            queries: Connection::open(queries.address).await?,
            token: token.clone(),
        };
        let first = begin + Duration::from_secs(1) * turn / rate;
        let every = Duration::from_secs(1) * CLIENTS / rate;
        clients.spawn(client.run(first, every, lasts));
    }
    let (mut sent, mut seen) = (Vec::new(), Vec::new());
    while let Some(ended) = clients.join_next().await {
        for (command, read) in ended?? {
            sent.push(command.as_nanos() as u64);
            seen.push(read.as_nanos() as u64);
        }
    }
    for role in [queries, projector, commands] {
        role.stop().await?;
    }
    Ok(Visible {
        commands: Measured::of(sent, lasts),
        reads: Measured::of(seen, lasts),
    })
}

impl Client {
    /// How long each command, and each read after it, took; the first quarter is a warm-up.
    async fn run(
        mut self,
        first: Instant,
        every: Duration,
        lasts: Duration,
    ) -> Result<Vec<(Duration, Duration)>> {
        sleep_until(first).await;
        let mut turns = interval(every);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let counted = first + lasts / 4;
        let mut took = Vec::new();
        while first.elapsed() < lasts + lasts / 4 {
            turns.tick().await;
            let began = Instant::now();
            let (command, read) = self.assign_and_read().await?;
            if began >= counted {
                took.push((command, read));
            }
        }
        Ok(took)
    }

    async fn assign_and_read(&mut self) -> Result<(Duration, Duration)> {
        let began = Instant::now();
        let path = format!("/v1/tasks/{}", self.assigner.assign().await?);
        let answered = Instant::now();
        let answer = &self.assigner.connection;
        let position = answer.header("annals-position").ok_or("no position")?;
        let version = answer.header("etag").ok_or("no version")?;
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", &*bearer), ("annals-position", position)];
        let status = self.queries.ask(&get(&path, &headers)).await?;
        let took = (answered - began, answered.elapsed());
        self.queries.expect(200, status)?;
        // Nobody else assigns this task: the read must show just this.
        if self.queries.header("etag") != Some(version) {
            return Err(format!("a read does not show version {version}").into());
        }
        Ok(took)
    }
}
