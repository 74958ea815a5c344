//! What happened to a stream, or because of one request: routes of the platform, from the index
//! of all streams.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chrono::{DateTime, Utc};
use kernel::{EventId, StreamId, StreamVersion};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use service_kit::{Identity, Problem, extract::Path};
use sqlx::{FromRow, Row, postgres::PgRow};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    failure::not_found,
    following::{Changes, followed},
    page::{Listed, Page, PageParams},
    parameters::Query,
    read_side::Served,
    reader::{Access, Reads},
};

/// An event, as its envelope and its place in the log tell it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct StreamEvent {
    pub id: Uuid,
    #[serde(rename = "type")]
    #[schema(example = "annals.tasks.TaskCreated")]
    pub event_type: String,
    /// `tenant/kind/id`
    #[schema(example = "main/task/7")]
    pub stream: String,
    /// From 1.
    pub version: i64,
    pub time: DateTime<Utc>,
    #[schema(example = "user:ada")]
    pub actor: String,
    pub command_id: String,
    /// The same for everything that came of one request.
    pub correlation_id: Uuid,
    /// The event that led to this one, if one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Uuid>,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// The event's fields, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Value>,
    /// Why there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_error: Option<String>,
}

/// One of the events that came of a request.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(transparent)]
struct CorrelatedEvent(StreamEvent);

impl FromRow<'_, PgRow> for CorrelatedEvent {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        StreamEvent::from_row(row).map(Self)
    }
}

impl FromRow<'_, PgRow> for StreamEvent {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let stream: String = row.try_get("stream")?;
        let version: i64 = row.try_get("version")?;
        let malformed = |error: kernel::Malformed| sqlx::Error::ColumnDecode {
            index: "stream".into(),
            source: error.to_string().into(),
        };
        let id: StreamId = stream.parse().map_err(malformed)?;
        Ok(Self {
            id: EventId::of(&id, StreamVersion(version as u64)).0,
            event_type: row.try_get("event_type")?,
            stream,
            version,
            time: row.try_get("time")?,
            actor: row.try_get("actor")?,
            command_id: row.try_get("command_id")?,
            correlation_id: row.try_get("correlation_id")?,
            causation_id: row.try_get("causation_id")?,
            topic: row.try_get("topic")?,
            partition: row.try_get("partition")?,
            offset: row.try_get("offset")?,
            data: None,
            data_error: None,
        })
    }
}

impl Listed for StreamEvent {
    const LIST: &'static str = "events-of-a-stream";
    type Key = i64;

    fn key(&self) -> i64 {
        self.version
    }
}

impl Listed for CorrelatedEvent {
    const LIST: &'static str = "events-of-a-correlation";
    type Key = (DateTime<Utc>, String, i32, i64);

    fn key(&self) -> Self::Key {
        let event = &self.0;
        (
            event.time,
            event.topic.clone(),
            event.partition,
            event.offset,
        )
    }
}

pub(crate) fn queries() -> OpenApiRouter<Reads> {
    let index = Served::STREAM_INDEX;
    let of_stream = followed(routes!(list_stream_events), index, Changes::OfStream);
    let of_correlation = followed(
        routes!(list_correlated_events),
        index,
        Changes::OfCorrelation,
    );
    OpenApiRouter::new()
        .routes(of_stream)
        .routes(of_correlation)
}

/// One request's access to the index of all streams: for whom the configuration names, since it
/// shows what the contexts' own queries may not show to everybody.
struct IndexReader {
    caller: Identity,
    access: Access,
    reads: Reads,
}

impl FromRequestParts<Reads> for IndexReader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, reads: &Reads) -> Result<Self, Problem> {
        let (caller, access) = Access::of(parts, reads, Served::STREAM_INDEX).await?;
        let roles: Vec<_> = reads.history_roles().iter().map(String::as_str).collect();
        caller.require_any(&roles)?;
        Ok(Self {
            caller,
            access,
            reads: reads.clone(),
        })
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Beginning {
    /// The first version to show.
    #[serde(default = "first")]
    #[param(minimum = 1, default = 1)]
    from: Version,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Detail {
    /// Whether to show what the events say, which is read from Kafka.
    #[serde(default)]
    #[param(default = false)]
    data: bool,
}

#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(try_from = "String")]
struct Version(i64);

fn first() -> Version {
    Version(1)
}

impl TryFrom<String> for Version {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        let version = text.parse().ok().filter(|version| *version >= 1);
        version
            .map(Self)
            .ok_or("expected a stream version, a number from 1")
    }
}

/// The events of a stream, oldest first
///
/// For the roles that the service is configured with, `admin` unless told.
#[utoipa::path(
    get,
    path = "/v1/streams/{kind}/{id}/events",
    tag = "streams",
    params(
        ("kind" = String, Path, description = "The stream's kind, such as `task`"),
        ("id" = String, Path, description = "The stream's id"),
        Beginning,
        Detail,
        PageParams<StreamEvent>,
    ),
    responses(
        (status = 200, description = "A page of events", body = Page<StreamEvent>),
        (status = 403, description = "`role-required`"),
        (status = 404, description = "`no-such-stream`"),
    ),
)]
async fn list_stream_events(
    reader: IndexReader,
    Path((kind, id)): Path<(String, String)>,
    Query(Beginning { from }): Query<Beginning>,
    Query(Detail { data }): Query<Detail>,
    page: PageParams<StreamEvent>,
) -> Result<Page<StreamEvent>, Problem> {
    let stream = StreamId::new(&reader.caller.tenant, &kind, &id).map_err(|_| no_such_stream())?;
    let mut snapshot = reader.access.snapshot().await?;
    let events: Vec<StreamEvent> = snapshot
        .query_as(
            r#"select stream, version, event_type, time, actor, command_id, correlation_id,
                      causation_id, topic, partition, "offset"
                 from stream_index
                where tenant = $1 and stream = $2 and version >= $3
                  and ($4::bigint is null or version > $4)
                order by version limit $5"#,
        )
        .bind(stream.as_str())
        .bind(from.0)
        .bind(page.after)
        .bind(page.rows())
        .fetch_all()
        .await?;
    if events.is_empty() {
        let (known,): (bool,) = snapshot
            .query_as("select exists (select from stream_index where tenant = $1 and stream = $2)")
            .bind(stream.as_str())
            .fetch_one()
            .await?;
        if !known {
            return Err(no_such_stream());
        }
    }
    let mut page = snapshot.page(&page, events).await?;
    drop(snapshot);
    if data {
        reader.reads.event_data()?.tell(&mut page.items).await?;
    }
    Ok(page)
}

/// All events that came of one request, in the order of their times
///
/// For the roles that the service is configured with, `admin` unless told. Nobody knows whether
/// more will come, so an id that is not known has no events.
#[utoipa::path(
    get,
    path = "/v1/correlations/{id}/events",
    tag = "streams",
    params(
        ("id" = Uuid, Path, description = "The correlation id"),
        Detail,
        PageParams<CorrelatedEvent>,
    ),
    responses(
        (status = 200, description = "A page of events", body = Page<StreamEvent>),
        (status = 403, description = "`role-required`"),
        (status = 404, description = "`no-such-correlation`: it is no UUID"),
    ),
)]
async fn list_correlated_events(
    reader: IndexReader,
    Path(id): Path<String>,
    Query(Detail { data }): Query<Detail>,
    page: PageParams<CorrelatedEvent>,
) -> Result<Page<CorrelatedEvent>, Problem> {
    let id: Uuid = id.parse().map_err(|_| no_such_correlation())?;
    let (time, topic, partition, offset) = match page.after.clone() {
        Some((time, topic, partition, offset)) => {
            (Some(time), Some(topic), Some(partition), Some(offset))
        }
        None => (None, None, None, None),
    };
    let mut snapshot = reader.access.snapshot().await?;
    let events: Vec<CorrelatedEvent> = snapshot
        .query_as(
            r#"select stream, version, event_type, time, actor, command_id, correlation_id,
                      causation_id, topic, partition, "offset"
                 from stream_index
                where tenant = $1 and correlation_id = $2
                  and ($3::timestamptz is null
                       or (time, topic, partition, "offset") > ($3, $4, $5, $6))
                order by time, topic, partition, "offset" limit $7"#,
        )
        .bind(id)
        .bind(time)
        .bind(topic)
        .bind(partition)
        .bind(offset)
        .bind(page.rows())
        .fetch_all()
        .await?;
    let mut page = snapshot.page(&page, events).await?;
    drop(snapshot);
    if data {
        let events = page.items.iter_mut().map(|event| &mut event.0);
        reader.reads.event_data()?.tell(events).await?;
    }
    Ok(page)
}

pub(crate) fn no_such_stream() -> Problem {
    not_found("no-such-stream", "There is no such stream")
}

pub(crate) fn no_such_correlation() -> Problem {
    not_found("no-such-correlation", "A correlation id is a UUID")
}
