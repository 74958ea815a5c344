//! A read model's law, for its tests: given these events, then these rows, however the partitions
//! lie between one another and wherever a batch ends.
//!
//! ```ignore
//! given::<TaskBoard>()
//!     .event("main/task/1", created("Sort the records"))
//!     .event("main/task/1", assigned("ada"))
//!     .then(&postgres, "select id, assignee from tasks", json!([{ "id": "1", "assignee": "ada" }]))
//!     .await;
//! ```

use std::time::Duration;

use chrono::{DateTime, Utc};
use event_log::{Envelope, Fingerprint, Position, Recorded, router::partition_of};
use kernel::{Actor, CommandId, EventId, StreamId, StreamVersion};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgConnection, PgPool};
use uuid::Uuid;

use crate::{ReadModel, read_side::Edition};

const PARTITIONS: i32 = 4;
/// How many arrangements are tried, beside the plain ones.
const SHUFFLES: u64 = 12;

/// The events that a model is given, in the order in which they happened.
pub struct Given<M: ReadModel> {
    events: Vec<Recorded<M::Event>>,
}

/// Nothing has happened yet.
pub fn given<M: ReadModel>() -> Given<M> {
    Given { events: Vec::new() }
}

impl<M: ReadModel> Given<M> {
    /// An event of this stream, `tenant/kind/id`, by `user:somebody`, a second after the last.
    pub fn event(self, stream: &str, event: M::Event) -> Self {
        self.event_by("user:somebody", stream, event)
    }

    /// The same by this actor.
    ///
    /// # Panics
    /// When stream or actor are none.
    pub fn event_by(mut self, actor: &str, stream: &str, event: M::Event) -> Self {
        let stream: StreamId = parsed(stream);
        let of_stream = |it: &&Recorded<M::Event>| it.envelope.stream == stream;
        let version = StreamVersion(self.events.iter().filter(of_stream).count() as u64 + 1);
        let partition = partition_of(&stream, PARTITIONS);
        let of_partition = |it: &&Recorded<M::Event>| it.position.partition == partition;
        let offset = self.events.iter().filter(of_partition).count() as i64;
        let number = self.events.len() as u64;
        self.events.push(Recorded {
            envelope: Envelope {
                id: EventId::of(&stream, version),
                event_type: event_type(&event).into(),
                version,
                time: self.time_of(number),
                actor: parsed::<Actor>(actor),
                command_id: parsed_command(&format!("command-{number}")),
                fingerprint: Fingerprint([0; 16]),
                causation_id: None,
                correlation_id: Uuid::from_u128(u128::from(number)),
                index: 0,
                count: 1,
                term: 0,
                trace_parent: None,
                stream,
            },
            position: Position {
                topic: "annals.test.events.1".into(),
                partition,
                offset,
            },
            event,
        });
        self
    }

    /// When the event of this number, counted from 0, happened.
    pub fn time_of(&self, number: u64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000 + number)
    }

    /// Projects the events in many arrangements, each into tables of its own, and compares what
    /// this statement selects with these rows, each an object of its columns. The content of all
    /// tables must be the same for all arrangements.
    ///
    /// # Panics
    /// When it is not so, with the arrangement that shows it.
    pub async fn then(&self, postgres: &PgPool, select: &str, rows: Value) {
        let mut first: Option<Value> = None;
        for arrangement in self.arrangements() {
            let (selected, content) = self
                .project(postgres, &arrangement, select)
                .await
                .unwrap_or_else(|error| panic!("{error}\nwith {}", tell(&arrangement)));
            assert_eq!(selected, rows, "with {}", tell(&arrangement));
            let expected = first.get_or_insert_with(|| content.clone());
            assert_eq!(content, *expected, "with {}", tell(&arrangement));
        }
    }

    /// Batches, each of events of one partition.
    fn arrangements(&self) -> Vec<Vec<Vec<usize>>> {
        let one_by_one = (0..self.events.len()).map(|index| vec![index]).collect();
        let by_partition = (0..PARTITIONS).map(|it| self.of_partition(it));
        let by_partition: Vec<_> = by_partition.filter(|batch| !batch.is_empty()).collect();
        let backwards = by_partition.iter().rev().cloned().collect();
        let mut all = vec![one_by_one, by_partition, backwards];
        all.extend((1..=SHUFFLES).map(|seed| self.shuffled(seed)));
        all
    }

    fn shuffled(&self, seed: u64) -> Vec<Vec<usize>> {
        let mut dice = Dice(seed);
        let partitions = (0..PARTITIONS).map(|it| self.of_partition(it));
        let mut left: Vec<_> = partitions.filter(|it| !it.is_empty()).collect();
        let mut batches = Vec::new();
        while !left.is_empty() {
            let partition = dice.below(left.len());
            let size = 1 + dice.below(left[partition].len());
            batches.push(left[partition].drain(..size).collect());
            left.retain(|events| !events.is_empty());
        }
        batches
    }

    fn of_partition(&self, partition: i32) -> Vec<usize> {
        let all = self.events.iter().enumerate();
        let own = all.filter(|(_, event)| event.position.partition == partition);
        own.map(|(index, _)| index).collect()
    }

    /// What the statement selects, and the content of all tables.
    async fn project(
        &self,
        postgres: &PgPool,
        batches: &[Vec<usize>],
        select: &str,
    ) -> Result<(Value, Value), sqlx::Error> {
        // Nothing of it is ever committed.
        let mut transaction = postgres.begin().await?;
        let edition = Edition {
            model: M::NAME.into(),
            number: 1,
            version: 1,
        };
        let create = format!("create schema {}", edition.schema());
        sqlx::raw_sql(AssertSqlSafe(create))
            .execute(&mut *transaction)
            .await?;
        edition.enter(&mut transaction).await?;
        sqlx::raw_sql(M::TABLES).execute(&mut *transaction).await?;
        for batch in batches {
            let events: Vec<_> = batch.iter().map(|it| self.events[*it].clone()).collect();
            M::project(&events, &mut transaction).await?;
        }
        let selected = objects(&mut transaction, select, "").await?;
        let tables: Vec<String> = sqlx::query_scalar(
            "select quote_ident(table_name) from information_schema.tables
             where table_schema = $1 order by table_name",
        )
        .bind(edition.schema())
        .fetch_all(&mut *transaction)
        .await?;
        let mut content = json!({});
        for table in tables {
            let all = format!("select * from {table}");
            content[&table] = objects(&mut transaction, &all, "order by to_jsonb(picked)").await?;
        }
        transaction.rollback().await?;
        Ok((selected, content))
    }
}

async fn objects(db: &mut PgConnection, select: &str, order: &str) -> Result<Value, sqlx::Error> {
    let objects = format!(
        "select coalesce(jsonb_agg(to_jsonb(picked) {order}), '[]') from ({select}) as picked"
    );
    sqlx::query_scalar(AssertSqlSafe(objects))
        .fetch_one(db)
        .await
}

/// As people read it: `[0] [1, 2]`, the numbers of the events.
fn tell(batches: &[Vec<usize>]) -> String {
    let batches: Vec<_> = batches.iter().map(|batch| format!("{batch:?}")).collect();
    format!("the batches {}", batches.join(" "))
}

fn parsed<T: std::str::FromStr>(text: &str) -> T {
    text.parse()
        .unwrap_or_else(|_| panic!("{text:?} is no {}", std::any::type_name::<T>()))
}

fn parsed_command(text: &str) -> CommandId {
    CommandId::parse(text).unwrap_or_else(|_| panic!("{text:?} is no command's id"))
}

/// serde knows the name of the variant.
fn event_type(event: &impl serde::Serialize) -> String {
    let name = match serde_json::to_value(event) {
        Ok(Value::Object(fields)) => fields.into_iter().next().map(|(name, _)| name),
        Ok(Value::String(name)) => Some(name),
        Ok(_) | Err(_) => None,
    };
    let name = name.unwrap_or_else(|| panic!("an event is an enum's variant"));
    format!("annals.test.{name}")
}

/// The same throws for the same seed: xorshift.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % bound
    }
}
