//! The operator's part: letting a stream go. Its events are read from the log again, from the
//! poisoned one on, and brought into the rows while the partition's checkpoint is held; whatever
//! comes after it is the worker's again.

use event_log::{
    Position,
    avro::CodecError,
    consume::{DescribeError, describe_topics},
    schemas::ContextSchemas,
};
use kernel::StreamId;
use serde::Serialize;
use sqlx::{Connection, PgConnection, Postgres, Transaction};
use uuid::Uuid;

use super::{
    QuarantinedStream, SkippedEvent, keeping,
    keeping::Poison,
    list, skipped,
    stream_log::{ReadError, StreamLog},
};
use crate::{
    Config, Model, changes,
    commit::{self, CommitError, classify},
    failure::chain,
    projection::Gathered,
    read_side::Edition,
};

/// So many events are written at once, as long as none of them is at fault.
const MOST_AT_ONCE: usize = 1_000;

/// Where streams are let go: it has the models' code, and reaches the log and the tables.
#[derive(Debug)]
pub struct Desk {
    pub config: Config,
    pub models: Vec<Model>,
    /// Those of all contexts.
    pub schemas: Vec<ContextSchemas>,
}

/// Why an event is left out, and by whose decision.
#[derive(Clone, Debug)]
pub struct Skip {
    pub reason: String,
    pub by: String,
}

/// What became of a stream that was to be let go.
#[derive(Clone, Debug, Serialize)]
pub struct Released {
    pub model: String,
    pub edition: i32,
    pub stream: String,
    /// How many of its events were brought into the rows.
    pub applied: usize,
    /// The event that cannot be projected still, if there is one: the stream stays from there on.
    pub still: Option<QuarantinedStream>,
}

#[derive(Debug, thiserror::Error)]
pub enum QuarantineError {
    #[error("there is no read model {model}; there are {}", known.join(", "))]
    NoSuchModel { model: String, known: Vec<String> },
    #[error("{stream} is not in quarantine for {model}")]
    NotQuarantined { model: String, stream: String },
    #[error(
        "{text} is neither a stream, tenant/kind/id or kind/id of the tenant main, nor a record, topic:partition@offset"
    )]
    NoSuchPlace { text: String },
    #[error(
        "edition {edition} of {model} is of version {version}, and this binary has version {code}: \
         use one that has the same"
    )]
    OtherVersion {
        model: String,
        edition: i32,
        version: i32,
        code: i32,
    },
    #[error("{stream} of {model} was let go or tried by somebody else meanwhile")]
    Changed { model: String, stream: String },
    #[error("topic {topic} was deleted and made again: the held events are not in it")]
    Recreated { topic: String },
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Topics(#[from] DescribeError),
    #[error(transparent)]
    Log(#[from] ReadError),
    #[error("failed to {step}")]
    Postgres {
        step: &'static str,
        #[source]
        source: sqlx::Error,
    },
}

fn failed(step: &'static str) -> impl Fn(sqlx::Error) -> QuarantineError {
    move |source| QuarantineError::Postgres { step, source }
}

impl Desk {
    /// Tries to project the stream's events again, in every edition that holds it back.
    ///
    /// # Errors
    /// None of them has changed anything.
    pub async fn retry(&self, model: &str, stream: &str) -> Result<Vec<Released>, QuarantineError> {
        self.release(model, stream, None).await
    }

    /// Leaves the poisoned event out for good, in all editions of the model's version, and projects
    /// what comes after it.
    pub async fn skip(
        &self,
        model: &str,
        stream: &str,
        skip: &Skip,
    ) -> Result<Vec<Released>, QuarantineError> {
        self.release(model, stream, Some(skip)).await
    }

    /// Leaves a record out that names no stream, and so stops its partition.
    pub async fn skip_record(
        &self,
        model: &str,
        record: &Position,
        skip: &Skip,
    ) -> Result<(), QuarantineError> {
        let model = self.model(model)?;
        let mut connection = self.connect().await?;
        decide(&mut connection, model, record, None, skip).await
    }

    /// All of it, in the order in which it came, of this model if one is named.
    pub async fn list(
        &self,
        model: Option<&str>,
    ) -> Result<Vec<QuarantinedStream>, QuarantineError> {
        if let Some(model) = model {
            self.model(model)?;
        }
        list(&self.config.postgres, model)
            .await
            .map_err(failed("read what is in quarantine"))
    }

    /// What was left out by somebody's decision, of this model if one is named.
    pub async fn skipped(&self, model: Option<&str>) -> Result<Vec<SkippedEvent>, QuarantineError> {
        if let Some(model) = model {
            self.model(model)?;
        }
        skipped(&self.config.postgres, model)
            .await
            .map_err(failed("read what was left out"))
    }

    /// The editions of the model that hold this stream back.
    pub async fn show(
        &self,
        model: &str,
        stream: &str,
    ) -> Result<Vec<QuarantinedStream>, QuarantineError> {
        let mut found = self.list(Some(model)).await?;
        if stream.parse::<StreamId>().is_err() {
            return Err(QuarantineError::NoSuchPlace {
                text: stream.into(),
            });
        }
        found.retain(|it| it.stream == stream);
        match found.is_empty() {
            true => Err(QuarantineError::NotQuarantined {
                model: model.into(),
                stream: stream.into(),
            }),
            false => Ok(found),
        }
    }

    async fn release(
        &self,
        model: &str,
        stream: &str,
        skip: Option<&Skip>,
    ) -> Result<Vec<Released>, QuarantineError> {
        let found = self.show(model, stream).await?;
        let model = self.model(model)?;
        let mut released = Vec::new();
        for quarantined in found {
            released.push(self.release_from(model, quarantined, skip).await?);
        }
        Ok(released)
    }

    async fn release_from(
        &self,
        model: &Model,
        quarantined: QuarantinedStream,
        skip: Option<&Skip>,
    ) -> Result<Released, QuarantineError> {
        let mut connection = self.connect().await?;
        let edition = self.edition(model, &quarantined, &mut connection).await?;
        let schemas: Vec<_> = self
            .schemas
            .iter()
            .filter(|schemas| model.contexts.contain(schemas.context()))
            .collect();
        let code = model.connect(&schemas, &self.config.registry).await?;
        let mut skipped = keeping::skipped_from(&mut *connection, &edition, &quarantined)
            .await
            .map_err(failed("read what was left out"))?;
        if skip.is_some() {
            skipped.insert(quarantined.offset);
        }
        let mut log = StreamLog::new(&self.config.cluster, &quarantined, code.gather(), skipped);
        // Most of it before the checkpoint is held: the partition's other streams go on meanwhile.
        let (next_offset, _) = checkpoint(&mut connection, &quarantined, "").await?;
        log.read_to(next_offset).await?;

        let mut transaction = connection.begin().await.map_err(failed("begin"))?;
        let (next_offset, topic_id) =
            checkpoint(&mut transaction, &quarantined, "for update").await?;
        self.check_topic(&quarantined.topic, topic_id).await?;
        hold(&mut transaction, &quarantined).await?;
        log.read_to(next_offset).await?;
        if let Some(skip) = skip {
            let (position, stream) = (quarantined.position(), &quarantined.stream);
            decide(&mut transaction, model, &position, Some(stream), skip).await?;
        }
        edition
            .enter(&mut transaction)
            .await
            .map_err(failed("find the edition's tables"))?;
        let (applied, refused) = apply(&mut transaction, log.events()).await?;
        let since = quarantined.position();
        changes::tell_again(&mut transaction, &quarantined.stream, &since, next_offset)
            .await
            .map_err(failed("tell what has changed"))?;
        let still = refused.or_else(|| log.take_poison());
        let still = match still {
            Some(poison) => {
                let held = log.held_after(poison.offset);
                Some(stays(&mut transaction, &quarantined, poison, held).await?)
            }
            None => {
                goes(&mut transaction, &quarantined).await?;
                None
            }
        };
        let commit = transaction.commit().await;
        commit.map_err(failed("let the stream go"))?;
        Ok(Released {
            model: quarantined.model,
            edition: quarantined.edition,
            stream: quarantined.stream,
            applied,
            still,
        })
    }

    fn model(&self, name: &str) -> Result<&Model, QuarantineError> {
        let found = self.models.iter().find(|model| model.name == name);
        found.ok_or_else(|| QuarantineError::NoSuchModel {
            model: name.into(),
            known: self.models.iter().map(|it| it.name.into()).collect(),
        })
    }

    async fn connect(&self) -> Result<sqlx::pool::PoolConnection<Postgres>, QuarantineError> {
        let connection = self.config.postgres.acquire().await;
        connection.map_err(failed("reach Postgres"))
    }

    async fn edition(
        &self,
        model: &Model,
        quarantined: &QuarantinedStream,
        db: &mut PgConnection,
    ) -> Result<Edition, QuarantineError> {
        let version: i32 = sqlx::query_scalar(
            "select version from annals.editions where model = $1 and edition = $2",
        )
        .bind(&quarantined.model)
        .bind(quarantined.edition)
        .fetch_one(db)
        .await
        .map_err(failed("look the edition up"))?;
        match version == model.version {
            true => Ok(Edition {
                model: quarantined.model.clone(),
                number: quarantined.edition,
                version,
            }),
            false => Err(QuarantineError::OtherVersion {
                model: quarantined.model.clone(),
                edition: quarantined.edition,
                version,
                code: model.version,
            }),
        }
    }

    async fn check_topic(&self, topic: &str, id: Uuid) -> Result<(), QuarantineError> {
        let topics = describe_topics(&self.config.cluster, &[topic.to_owned()]).await?;
        match topics.iter().all(|found| found.id == id) {
            true => Ok(()),
            false => Err(QuarantineError::Recreated {
                topic: topic.into(),
            }),
        }
    }
}

/// Where the partition's checkpoint stands, and which topic that is of.
async fn checkpoint(
    db: &mut PgConnection,
    of: &QuarantinedStream,
    lock: &'static str,
) -> Result<(i64, Uuid), QuarantineError> {
    let select = "select next_offset, topic_id from annals.checkpoints
         where model = $1 and edition = $2 and topic = $3 and partition = $4";
    sqlx::query_as(sqlx::AssertSqlSafe(format!("{select} {lock}")))
        .bind(&of.model)
        .bind(of.edition)
        .bind(&of.topic)
        .bind(of.partition)
        .fetch_one(db)
        .await
        .map_err(failed("hold the checkpoint"))
}

/// Sees to it that nobody else lets the stream go, and that nobody has.
async fn hold(db: &mut PgConnection, of: &QuarantinedStream) -> Result<(), QuarantineError> {
    let offset: Option<i64> = sqlx::query_scalar(
        r#"select "offset" from annals.quarantine
           where model = $1 and edition = $2 and topic = $3 and stream = $4 for update"#,
    )
    .bind(&of.model)
    .bind(of.edition)
    .bind(&of.topic)
    .bind(&of.stream)
    .fetch_optional(db)
    .await
    .map_err(failed("hold the stream"))?;
    match offset == Some(of.offset) {
        true => Ok(()),
        false => Err(QuarantineError::Changed {
            model: of.model.clone(),
            stream: of.stream.clone(),
        }),
    }
}

async fn decide(
    db: &mut PgConnection,
    model: &Model,
    record: &Position,
    stream: Option<&str>,
    skip: &Skip,
) -> Result<(), QuarantineError> {
    sqlx::query(
        r#"insert into annals.skipped_events
               (model, version, topic, partition, "offset", stream, reason, skipped_by)
           values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict do nothing"#,
    )
    .bind(model.name)
    .bind(model.version)
    .bind(&record.topic)
    .bind(record.partition)
    .bind(record.offset)
    .bind(stream)
    .bind(&skip.reason)
    .bind(&skip.by)
    .execute(db)
    .await
    .map_err(failed("note the decision"))?;
    Ok(())
}

/// Brings events into the rows up to the first that Postgres refuses.
async fn apply(
    transaction: &mut Transaction<'_, Postgres>,
    events: &dyn Gathered,
) -> Result<(usize, Option<Poison>), QuarantineError> {
    let (mut done, mut at_once) = (0, MOST_AT_ONCE);
    while done < events.len() {
        let to = events.len().min(done + at_once);
        let mut attempt = transaction.begin().await.map_err(failed("begin"))?;
        let written = async {
            events.write(done, to, &mut attempt).await?;
            // What is deferred to the commit would show there, and no more say which event it was.
            sqlx::raw_sql("set constraints all immediate; set constraints all deferred")
                .execute(&mut *attempt)
                .await?;
            Ok(())
        };
        let error = match written.await.map_err(classify) {
            Ok(()) => {
                attempt.commit().await.map_err(failed("go on"))?;
                done = to;
                continue;
            }
            Err(CommitError::Unfit(error)) => error,
            Err(CommitError::Postgres(error)) => return Err(failed("write the rows")(error)),
        };
        attempt.rollback().await.map_err(failed("go back"))?;
        if to - done > 1 {
            at_once = (to - done) / 2;
            continue;
        }
        let code = commit::sqlstate(&error).filter(|code| commit::is_data_error(code));
        let Some(code) = code else {
            return Err(failed("write the rows")(error));
        };
        let envelope = events.envelope(done);
        let poison = Poison {
            stream: envelope.stream.clone(),
            offset: events.offset(done),
            event_type: None,
            version: None,
            code,
            reason: chain(&error),
        };
        return Ok((done, Some(poison.of(envelope))));
    }
    Ok((done, None))
}

async fn goes(db: &mut PgConnection, of: &QuarantinedStream) -> Result<(), QuarantineError> {
    sqlx::query(
        "delete from annals.quarantine
         where model = $1 and edition = $2 and topic = $3 and stream = $4",
    )
    .bind(&of.model)
    .bind(of.edition)
    .bind(&of.topic)
    .bind(&of.stream)
    .execute(db)
    .await
    .map_err(failed("let the stream go"))?;
    Ok(())
}

/// The stream stays from this event on.
async fn stays(
    db: &mut PgConnection,
    of: &QuarantinedStream,
    poison: Poison,
    held: i64,
) -> Result<QuarantinedStream, QuarantineError> {
    sqlx::query_as(
        r#"update annals.quarantine
              set "offset" = $5, event_type = $6, version = $7, code = $8, reason = $9, held = $10,
                  retries = retries + 1, retried_at = clock_timestamp()
            where model = $1 and edition = $2 and topic = $3 and stream = $4
           returning *"#,
    )
    .bind(&of.model)
    .bind(of.edition)
    .bind(&of.topic)
    .bind(&of.stream)
    .bind(poison.offset)
    .bind(poison.event_type)
    .bind(poison.version)
    .bind(poison.code)
    .bind(poison.reason)
    .bind(held)
    .fetch_one(db)
    .await
    .map_err(failed("keep the stream"))
}
