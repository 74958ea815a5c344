//! Where changes are read: the table `changes` of a model's edition, or the index of all streams.
//! One statement sees checkpoints and changes at one moment.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use kernel::{EventId, StreamVersion, Tenant};
use sqlx::{AssertSqlSafe, FromRow, PgPool, Postgres, postgres::PgArguments, query::QueryAs};
use uuid::Uuid;

use super::{change::Change, interest::Interest, place::Place};
use crate::{
    history::StreamEvent,
    read_side::{Opening, Served},
};

/// Whose changes are read.
pub(crate) enum Filter<'a> {
    Everybody,
    Tenants(&'a [String]),
    One(&'a Tenant, &'a Interest),
}

/// Where to begin in partitions that a place does not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Otherwise {
    AtTheStart,
    Now,
}

/// What was found between a place and the checkpoints.
#[derive(Debug)]
pub(crate) struct Found {
    /// In each partition in the order of the log.
    pub facts: Vec<Fact>,
    /// Up to where everything was found.
    pub to: Place,
    /// There was no more.
    pub whole: bool,
    /// Changes after the place are not in the table any more.
    pub pruned: bool,
}

/// What one event changed.
#[derive(Debug)]
pub(crate) struct Fact {
    pub topic: Arc<str>,
    pub partition: i32,
    pub offset: i64,
    /// Who has heard it goes on here: behind it, but where more was told of at its offset.
    pub next_offset: i64,
    pub tenant: String,
    /// By which it is followed.
    pub keys: Vec<String>,
    pub change: Change,
}

#[derive(FromRow)]
struct Row {
    topic: String,
    partition: i32,
    next_offset: i64,
    changes_from: i64,
    since: i64,
    offset: Option<i64>,
    tenant: Option<String>,
    keys: Option<Vec<String>>,
    stream: Option<String>,
    version: Option<i64>,
    event_type: Option<String>,
    time: Option<DateTime<Utc>>,
    actor: Option<String>,
    command_id: Option<String>,
    correlation_id: Option<Uuid>,
    causation_id: Option<Uuid>,
}

const SPANS: &str = r#"
    with spans as (
        select k.topic, k.partition, k.next_offset, k.changes_from, coalesce(p.since, $6) as since
          from annals.checkpoints as k
          left join unnest($3::text[], $4::int[], $5::bigint[]) as p (topic, partition, since)
               on (p.topic, p.partition) = (k.topic, k.partition)
         where k.model = $1 and k.edition = $2
    )
    select * from spans left join lateral ("#;

const WITHIN_THE_SPAN: &str = r#"
         where c.topic = spans.topic and c.partition = spans.partition
           and c."offset" >= spans.since and c."offset" < spans.next_offset "#;

const IN_ORDER: &str = r#"
    ) as found on true
    order by spans.topic, spans.partition, found."offset", found.version"#;

/// Changes after `from`, at most `limit` of each partition.
pub(crate) async fn read(
    postgres: &PgPool,
    model: Served,
    opening: &Opening,
    filter: Filter<'_>,
    from: &Place,
    otherwise: Otherwise,
    limit: i64,
) -> Result<Found, sqlx::Error> {
    let (mut topics, mut partitions, mut since) = (Vec::new(), Vec::new(), Vec::new());
    for (topic, partition, next) in from.iter() {
        topics.push(topic.to_string());
        partitions.push(partition);
        since.push(next);
    }
    let query = sqlx::query_as(AssertSqlSafe(statement(model, opening, &filter)))
        .bind(&opening.edition.model)
        .bind(opening.edition.number)
        .bind(topics)
        .bind(partitions)
        .bind(since)
        .bind(match otherwise {
            Otherwise::AtTheStart => 0,
            Otherwise::Now => i64::MAX,
        })
        .bind(limit);
    let rows = bound(query, filter).fetch_all(postgres).await?;
    Ok(found(model, from, rows, limit))
}

fn bound<'q>(
    query: QueryAs<'q, Postgres, Row, PgArguments>,
    filter: Filter<'q>,
) -> QueryAs<'q, Postgres, Row, PgArguments> {
    match filter {
        Filter::Everybody => query,
        Filter::Tenants(tenants) => query.bind(tenants),
        Filter::One(tenant, interest) => {
            let query = query.bind(tenant.as_str());
            match interest {
                Interest::All => query,
                Interest::Key(text) | Interest::Stream(text) => query.bind(text),
                Interest::Correlation(id) => query.bind(*id),
            }
        }
    }
}

/// Names no text of a client: what is asked for is bound.
fn statement(model: Served, opening: &Opening, filter: &Filter<'_>) -> String {
    let schema = &opening.schema;
    let of_whom = match filter {
        Filter::Everybody => "",
        Filter::Tenants(_) => "and c.tenant = any($8)",
        Filter::One(_, Interest::All) => "and c.tenant = $8",
        Filter::One(_, Interest::Key(_)) => {
            "and c.tenant = $8 and hashtext(c.key) = hashtext($9) and c.key = $9"
        }
        Filter::One(_, Interest::Stream(_)) => "and c.tenant = $8 and c.stream = $9",
        Filter::One(_, Interest::Correlation(_)) => "and c.tenant = $8 and c.correlation_id = $9",
    };
    let found = match model.is_stream_index() {
        false => format!(
            // What was let out of quarantine lies at the offset of an event of another stream.
            r#"select c."offset", c.tenant, array_agg(c.key order by c.key) as keys,
                      c.stream, c.version,
                      null::text as event_type, null::timestamptz as time, null::text as actor,
                      null::text as command_id, null::uuid as correlation_id,
                      null::uuid as causation_id
                 from {schema}.changes as c {WITHIN_THE_SPAN} {of_whom}
                group by c."offset", c.tenant, c.stream, c.version
                order by c."offset" fetch first $7 rows with ties"#
        ),
        true => format!(
            r#"select c."offset", c.tenant, array[c.stream, c.correlation_id::text] as keys,
                      c.stream, c.version, c.event_type, c.time, c.actor, c.command_id,
                      c.correlation_id, c.causation_id
                 from {schema}.stream_index as c {WITHIN_THE_SPAN} {of_whom}
                order by c."offset" limit $7"#
        ),
    };
    format!("{SPANS}{found}{IN_ORDER}")
}

fn found(model: Served, from: &Place, rows: Vec<Row>, limit: i64) -> Found {
    let mut found = Found {
        facts: Vec::new(),
        // A database that is being built anew may not have the partitions yet.
        to: from.clone(),
        whole: true,
        pruned: false,
    };
    for rows in rows.chunk_by(|a, b| (&a.topic, a.partition) == (&b.topic, b.partition)) {
        let Some(last) = rows.last() else {
            continue;
        };
        let topic: Arc<str> = last.topic.as_str().into();
        let filled = rows.len() as i64 >= limit;
        let reached = match last.offset {
            Some(offset) if filled => offset + 1,
            // Nothing more below the checkpoint, which on a standby may be behind the place.
            _ if last.since == i64::MAX => last.next_offset,
            _ => last.next_offset.max(last.since),
        };
        found.to.advance(&topic, last.partition, reached);
        found.whole &= !filled;
        found.pruned |= !model.is_stream_index() && last.since < last.changes_from;
        let after = rows[1..].iter().map(|row| row.offset).chain([None]);
        let facts = rows.iter().zip(after);
        let facts = facts.filter_map(|(row, after)| row.fact(&topic, after == row.offset));
        found.facts.extend(facts);
    }
    found
}

impl Row {
    fn fact(&self, topic: &Arc<str>, more_there: bool) -> Option<Fact> {
        let stream = self.stream.clone()?;
        let version = self.version?;
        let change = match &self.event_type {
            None => Change::Keys {
                keys: self.keys.clone()?,
                stream,
                version,
            },
            Some(event_type) => Change::Event(Box::new(StreamEvent {
                id: EventId::of(&stream.parse().ok()?, StreamVersion(version as u64)).0,
                event_type: event_type.clone(),
                stream,
                version,
                time: self.time?,
                actor: self.actor.clone()?,
                command_id: self.command_id.clone()?,
                correlation_id: self.correlation_id?,
                causation_id: self.causation_id,
                topic: topic.to_string(),
                partition: self.partition,
                offset: self.offset?,
                data: None,
                data_error: None,
            })),
        };
        Some(Fact {
            topic: topic.clone(),
            partition: self.partition,
            offset: self.offset?,
            next_offset: self.offset? + i64::from(!more_there),
            tenant: self.tenant.clone()?,
            keys: self.keys.clone()?,
            change,
        })
    }
}
