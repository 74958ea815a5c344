//! An event's headers: CloudEvents in Kafka's binary mode, and what Annals adds.
//!
//! All values are text, so that a foreign consumer reads them without our code.

use std::{fmt, io::Write};

use chrono::{DateTime, SecondsFormat, Utc};
use kernel::{Actor, CommandId, EventId, Meta, StreamId, StreamVersion};
use uuid::Uuid;

use crate::{batch::HeaderWriter, position::Position};

/// Names of the headers.
pub mod header {
    /// How the names begin that nobody but Annals uses.
    pub const OURS: &str = "annals_";
    pub const SPEC_VERSION: &str = "ce_specversion";
    pub const ID: &str = "ce_id";
    pub const TYPE: &str = "ce_type";
    pub const SOURCE: &str = "ce_source";
    pub const SUBJECT: &str = "ce_subject";
    pub const TIME: &str = "ce_time";
    pub const STREAM_VERSION: &str = "annals_stream_version";
    pub const TENANT: &str = "annals_tenant";
    pub const ACTOR: &str = "annals_actor";
    pub const COMMAND_ID: &str = "annals_command_id";
    pub const FINGERPRINT: &str = "annals_fingerprint";
    pub const CAUSATION_ID: &str = "annals_causation_id";
    pub const CORRELATION_ID: &str = "annals_correlation_id";
    pub const INDEX: &str = "annals_index";
    pub const COUNT: &str = "annals_count";
    pub const TERM: &str = "annals_term";
    pub const TRACE_PARENT: &str = "traceparent";
}

/// What a command asked, in 16 bytes: a hash over actor, route, stream, body
/// and expected version. The same key with another fingerprint is a mistake.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Fingerprint {
    /// From the form in which it is displayed.
    pub fn parse(hex: &str) -> Option<Self> {
        // Rust would take a sign, too.
        (hex.len() == 32 && !hex.starts_with('+'))
            .then(|| u128::from_str_radix(hex, 16).ok())
            .flatten()
            .map(|number| Self(number.to_be_bytes()))
    }
}

/// An event's metadata, as read back from its record.
#[derive(Clone, Debug, PartialEq)]
pub struct Envelope {
    pub id: EventId,
    /// Full name of the event's Avro record, such as `annals.tasks.TaskCreated`.
    pub event_type: Box<str>,
    pub stream: StreamId,
    pub version: StreamVersion,
    /// When the command was taken up.
    pub time: DateTime<Utc>,
    pub actor: Actor,
    pub command_id: CommandId,
    pub fingerprint: Fingerprint,
    pub causation_id: Option<EventId>,
    pub correlation_id: Uuid,
    /// Place among the events of its command, from 0.
    pub index: u32,
    /// How many events the command has.
    pub count: u32,
    /// Offset of the owner's claim in the owners topic: who wrote this.
    pub term: u64,
    pub trace_parent: Option<Box<str>>,
}

/// An event as it lies in the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded<E> {
    pub envelope: Envelope,
    pub position: Position,
    pub event: E,
}

/// What the events of one command have in common.
#[derive(Debug)]
pub struct CommandHeaders<'a> {
    meta: &'a Meta,
    source: &'a str,
    fingerprint: Fingerprint,
    trace_parent: Option<&'a str>,
    count: usize,
    term: u64,
}

impl<'a> CommandHeaders<'a> {
    pub fn new(
        meta: &'a Meta,
        source: &'a str,
        fingerprint: Fingerprint,
        trace_parent: Option<&'a str>,
        count: usize,
        term: u64,
    ) -> Self {
        Self {
            meta,
            source,
            fingerprint,
            trace_parent,
            count,
            term,
        }
    }

    /// Writes the headers of the command's event number `index`.
    pub fn write(
        &self,
        headers: &mut HeaderWriter<'_>,
        event_type: &str,
        version: StreamVersion,
        index: usize,
    ) {
        let meta = self.meta;
        let id = EventId::of(&meta.stream, version);
        let time = meta.at.to_rfc3339_opts(SecondsFormat::Micros, true);
        headers.put(header::SPEC_VERSION, b"1.0");
        put_uuid(headers, header::ID, id.0);
        headers.put(header::TYPE, event_type.as_bytes());
        headers.put(header::SOURCE, self.source.as_bytes());
        headers.put(header::SUBJECT, meta.stream.as_str().as_bytes());
        headers.put(header::TIME, time.as_bytes());
        put_shown(headers, header::STREAM_VERSION, version);
        headers.put(header::TENANT, meta.tenant.as_str().as_bytes());
        put_shown(headers, header::ACTOR, &meta.actor);
        headers.put(header::COMMAND_ID, meta.command_id.as_str().as_bytes());
        headers.put_with(header::FINGERPRINT, |text| {
            self.fingerprint.0.iter().for_each(|byte| {
                text.push(HEX[usize::from(byte >> 4)]);
                text.push(HEX[usize::from(byte & 15)]);
            });
        });
        put_uuid(headers, header::CORRELATION_ID, meta.correlation_id);
        put_shown(headers, header::INDEX, index);
        put_shown(headers, header::COUNT, self.count);
        put_shown(headers, header::TERM, self.term);
        if let Some(causation_id) = meta.causation_id {
            put_uuid(headers, header::CAUSATION_ID, causation_id.0);
        }
        if let Some(trace_parent) = self.trace_parent {
            headers.put(header::TRACE_PARENT, trace_parent.as_bytes());
        }
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn put_uuid(headers: &mut HeaderWriter<'_>, name: &str, id: Uuid) {
    headers.put(name, id.hyphenated().encode_lower(&mut [0; 36]).as_bytes());
}

/// Straight into the record: each text on the way there would cost an allocation.
fn put_shown(headers: &mut HeaderWriter<'_>, name: &str, value: impl fmt::Display) {
    headers.put_with(name, |text| {
        let written = write!(text, "{value}");
        written.expect("there is no end to a vector");
    });
}

/// A record's headers are not an envelope of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("header {0} is missing")]
    Missing(&'static str),
    #[error("header {0} cannot be read")]
    Malformed(&'static str),
}

impl Envelope {
    /// Reads the envelope from a record's headers; unknown headers are left alone.
    pub fn read<'a>(
        headers: impl Iterator<Item = (&'a str, &'a [u8])>,
    ) -> Result<Self, EnvelopeError> {
        let mut fields = Fields::default();
        for (name, value) in headers {
            fields.take(name, value);
        }
        let stream: StreamId = fields.parse(header::SUBJECT, fields.subject)?;
        Ok(Self {
            id: EventId(fields.parse(header::ID, fields.id)?),
            event_type: fields.text(header::TYPE, fields.event_type)?.into(),
            version: StreamVersion(fields.parse(header::STREAM_VERSION, fields.version)?),
            time: fields.parse(header::TIME, fields.time)?,
            actor: fields.parse(header::ACTOR, fields.actor)?,
            command_id: CommandId::parse(fields.text(header::COMMAND_ID, fields.command_id)?)
                .map_err(|_| EnvelopeError::Malformed(header::COMMAND_ID))?,
            fingerprint: Fingerprint::parse(fields.text(header::FINGERPRINT, fields.fingerprint)?)
                .ok_or(EnvelopeError::Malformed(header::FINGERPRINT))?,
            causation_id: match fields.causation_id {
                None => None,
                some => Some(EventId(fields.parse(header::CAUSATION_ID, some)?)),
            },
            correlation_id: fields.parse(header::CORRELATION_ID, fields.correlation_id)?,
            index: fields.parse(header::INDEX, fields.index)?,
            count: fields.parse(header::COUNT, fields.count)?,
            term: fields.parse(header::TERM, fields.term)?,
            trace_parent: match fields.trace_parent {
                None => None,
                some => Some(fields.text(header::TRACE_PARENT, some)?.into()),
            },
            stream,
        })
    }

    /// The event's type without its namespace, such as `TaskCreated`.
    pub fn event_name(&self) -> &str {
        self.event_type
            .rsplit_once('.')
            .map_or(&self.event_type, |(_, name)| name)
    }
}

/// The raw values of the headers that we know.
#[derive(Clone, Copy, Default)]
struct Fields<'a> {
    id: Option<&'a [u8]>,
    event_type: Option<&'a [u8]>,
    subject: Option<&'a [u8]>,
    time: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    actor: Option<&'a [u8]>,
    command_id: Option<&'a [u8]>,
    fingerprint: Option<&'a [u8]>,
    causation_id: Option<&'a [u8]>,
    correlation_id: Option<&'a [u8]>,
    index: Option<&'a [u8]>,
    count: Option<&'a [u8]>,
    term: Option<&'a [u8]>,
    trace_parent: Option<&'a [u8]>,
}

impl<'a> Fields<'a> {
    fn take(&mut self, name: &str, value: &'a [u8]) {
        let field = match name {
            header::ID => &mut self.id,
            header::TYPE => &mut self.event_type,
            header::SUBJECT => &mut self.subject,
            header::TIME => &mut self.time,
            header::STREAM_VERSION => &mut self.version,
            header::ACTOR => &mut self.actor,
            header::COMMAND_ID => &mut self.command_id,
            header::FINGERPRINT => &mut self.fingerprint,
            header::CAUSATION_ID => &mut self.causation_id,
            header::CORRELATION_ID => &mut self.correlation_id,
            header::INDEX => &mut self.index,
            header::COUNT => &mut self.count,
            header::TERM => &mut self.term,
            header::TRACE_PARENT => &mut self.trace_parent,
            _ => return,
        };
        *field = Some(value);
    }

    fn text(&self, name: &'static str, value: Option<&'a [u8]>) -> Result<&'a str, EnvelopeError> {
        let value = value.ok_or(EnvelopeError::Missing(name))?;
        std::str::from_utf8(value).map_err(|_| EnvelopeError::Malformed(name))
    }

    fn parse<T: std::str::FromStr>(
        &self,
        name: &'static str,
        value: Option<&'a [u8]>,
    ) -> Result<T, EnvelopeError> {
        self.text(name, value)?
            .parse()
            .map_err(|_| EnvelopeError::Malformed(name))
    }
}

#[cfg(test)]
mod tests {
    use kernel::Tenant;

    use super::*;
    use crate::batch::{Batch, BatchBuilder, ProducerIdentity};

    fn meta() -> Meta {
        Meta {
            stream: "acme/task/7".parse().unwrap(),
            tenant: Tenant::parse("acme").unwrap(),
            actor: Actor::User("ada".into()),
            at: "2026-11-21T10:00:00.123456Z".parse().unwrap(),
            command_id: CommandId::parse("key-1").unwrap(),
            correlation_id: Uuid::from_u128(9),
            causation_id: Some(EventId(Uuid::from_u128(8))),
            written: Default::default(),
        }
    }

    #[test]
    fn an_envelope_is_read_back_as_it_was_written() {
        let meta = meta();
        let fingerprint = Fingerprint([1; 16]);
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let common = CommandHeaders::new(&meta, "/annals/tasks", fingerprint, Some(trace), 2, 77);
        let mut batch = BatchBuilder::default();
        batch.push(b"acme/task/7", Some(b"x"), |headers| {
            common.write(headers, "annals.tasks.TaskCreated", StreamVersion(4), 1);
        });
        let mut bytes = batch.seal(ProducerIdentity { id: 1, epoch: 1 }, 0, 0);
        let batch = Batch::read(&mut bytes).unwrap().unwrap();
        let record = batch.records().next().unwrap().unwrap();
        let envelope = Envelope::read(record.headers()).unwrap();
        let expected = Envelope {
            id: EventId::of(&meta.stream, StreamVersion(4)),
            event_type: "annals.tasks.TaskCreated".into(),
            stream: meta.stream,
            version: StreamVersion(4),
            time: meta.at,
            actor: meta.actor,
            command_id: meta.command_id,
            fingerprint,
            causation_id: meta.causation_id,
            correlation_id: meta.correlation_id,
            index: 1,
            count: 2,
            term: 77,
            trace_parent: Some(trace.into()),
        };
        assert_eq!(envelope, expected);
        assert_eq!(envelope.event_name(), "TaskCreated");
    }

    #[test]
    fn a_foreign_record_says_what_it_lacks() {
        let error = Envelope::read([("ce_subject", &b"main/task/7"[..])].into_iter()).unwrap_err();
        assert_eq!(error, EnvelopeError::Missing(header::ID));
        let error = Envelope::read([("ce_subject", &b"task"[..])].into_iter()).unwrap_err();
        assert_eq!(error, EnvelopeError::Malformed(header::SUBJECT));
    }
}
