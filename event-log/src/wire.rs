//! A connection to one broker: requests out, answers in, in order.
//!
//! librdkafka hides the producer's epoch and sequence numbers, on which the
//! fenced append rests, so the append path speaks the protocol itself, with
//! the codecs of `kafka-protocol`.

mod api_versions;
mod login;
pub(crate) mod scram;
mod transport;

use std::{io, sync::Arc, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    ResponseError,
    messages::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use tokio::time::{Instant, timeout};

use crate::cluster::security::Security;
use api_versions::{ApiVersions, Lacking};
use transport::Transport;

/// Answers above this size are taken for a broken connection.
const MAX_ANSWER_BYTES: usize = 128 << 20;
/// How TLS says that it does not understand: an alert, version 3.
const TLS_ALERT: [u8; 2] = [0x15, 3];

/// How long a broker may take until it is ready for requests.
const OPEN_WITHIN: Duration = Duration::from_secs(5);

/// Why a request has no answer. The connection is of no use afterwards, and
/// what the request asked for may or may not have happened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WireError {
    #[error("failed to connect to broker {address}")]
    Connect {
        address: String,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("failed to agree on TLS with broker {address}: {reason}")]
    Tls { address: String, reason: String },
    #[error(
        "broker {address} speaks TLS on this port: set ANNALS_KAFKA_SECURITY__TLS=true, or take \
         its other port"
    )]
    WantsTls { address: String },
    #[error("failed to log in to broker {address} as {user}: {reason}")]
    Login {
        address: String,
        user: String,
        reason: String,
    },
    #[error(
        "broker {address} cannot serve Annals: it {}, and Annals needs versions {} to {}; Apache \
         Kafka 3.0 or newer has them",
        known(*.api, *.found), needed.0, needed.1
    )]
    Lacks {
        address: String,
        api: ApiKey,
        needed: (i16, i16),
        /// Oldest and newest version that the broker knows.
        found: Option<(i16, i16)>,
    },
    #[error(
        "broker {address} hung up on the first request: it may want a login or TLS \
         (ANNALS_KAFKA_SECURITY__…), or be about to end"
    )]
    HungUp { address: String },
    #[error("lost the connection to broker {address}")]
    Lost {
        address: String,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("broker {address} did not answer within {after:?}")]
    TimedOut { address: String, after: Duration },
    #[error("broker {address} sent an answer that cannot be read: {reason}")]
    Garbled { address: String, reason: String },
}

impl WireError {
    /// Whether trying again later may help, with nobody changing anything.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Connect { .. }
            | Self::HungUp { .. }
            | Self::Lost { .. }
            | Self::TimedOut { .. }
            | Self::Garbled { .. } => true,
            Self::Tls { .. } | Self::WantsTls { .. } | Self::Login { .. } | Self::Lacks { .. } => {
                false
            }
        }
    }
}

fn known(api: ApiKey, found: Option<(i16, i16)>) -> String {
    match found {
        Some((oldest, newest)) => format!("knows {api:?} in versions {oldest} to {newest}"),
        None => format!("does not know {api:?}"),
    }
}

/// One connection with one request in flight.
#[derive(Debug)]
pub struct Connection {
    address: String,
    transport: Transport,
    versions: Option<ApiVersions>,
    /// Whose login it is, for people.
    user: String,
    correlation_id: i32,
    request: BytesMut,
    answer: BytesMut,
    answer_within: Duration,
    /// A call that failed or was dropped halfway leaves bytes behind that no
    /// later call could make sense of.
    in_order: bool,
    /// Some request beyond the greeting was answered.
    accepted: bool,
    /// When the broker will want another login.
    ends_at: Option<Instant>,
}

impl Connection {
    /// Connects to `host:port`, logs in where that is asked for, and agrees on
    /// versions; every later call must be answered within `answer_within`.
    pub(crate) async fn open(
        address: &str,
        security: &Security,
        answer_within: Duration,
    ) -> Result<Self, WireError> {
        let opening = async {
            let transport = Transport::open(address, security.tls.as_ref()).await?;
            let mut connection = Self {
                address: address.into(),
                transport,
                versions: None,
                user: String::new(),
                correlation_id: 0,
                request: BytesMut::with_capacity(64 << 10),
                answer: BytesMut::with_capacity(4 << 10),
                answer_within,
                in_order: true,
                accepted: false,
                ends_at: None,
            };
            connection.agree_on_versions().await?;
            if let Some(login) = &security.login {
                connection.user.clone_from(&login.user);
                let lifetime = login::log_in(&mut connection, login).await?;
                // Well before, so that nothing is in flight when it happens.
                let used = |lifetime: Duration| Instant::now() + lifetime.mul_f64(0.8);
                connection.ends_at = lifetime.map(used);
            }
            connection.accepted = false;
            Ok(connection)
        };
        // Boxed: this happens seldom, and callers hold its future in theirs.
        let opened = timeout(OPEN_WITHIN, Box::pin(opening)).await;
        opened.unwrap_or_else(|_| {
            Err(WireError::TimedOut {
                address: address.into(),
                after: OPEN_WITHIN,
            })
        })
    }

    async fn agree_on_versions(&mut self) -> Result<(), WireError> {
        const NEWEST: i16 = 3;
        const OLDEST: i16 = 0;
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("annals"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        self.encode(NEWEST, &request)?;
        let answer = self.exchange().await?;
        // A broker that does not know this version answers in the oldest one.
        const CODE_AT: std::ops::Range<usize> = 4..6;
        let unsupported = ResponseError::UnsupportedVersion.code().to_be_bytes();
        let version = match answer.get(CODE_AT) {
            Some(code) if code == unsupported => OLDEST,
            _ => NEWEST,
        };
        let answer: ApiVersionsResponse = self.decode::<ApiVersionsRequest>(version, answer)?;
        let lacks = |Lacking { api, needed, found }| WireError::Lacks {
            address: self.address.clone(),
            api,
            needed,
            found,
        };
        self.versions = Some(ApiVersions::agree(&answer).map_err(lacks)?);
        Ok(())
    }

    /// Whether another call may succeed: no earlier one was given up, the
    /// broker has not hung up, as it does after ten idle minutes, and the
    /// login has not run out.
    pub fn is_open(&mut self) -> bool {
        // Between calls there is nothing to read but the end, or bytes that nobody asked for.
        self.in_order
            && self.ends_at.is_none_or(|end| Instant::now() < end)
            && self.transport.is_quiet()
    }

    /// Sends a request in the newest version that the broker and we know, and
    /// waits for the answer. Errors are those of [`call`](Self::call).
    pub async fn ask<R>(&mut self, request: &R) -> Result<R::Response, WireError>
    where
        R: Request + HeaderVersion,
        R::Response: HeaderVersion,
    {
        let versions = self.versions.expect("versions are agreed on when it opens");
        self.call(versions.of(R::KEY), request).await
    }

    /// Sends a request in the given version of its API and waits for the answer.
    ///
    /// After an error, or when the call was dropped before it answered, every
    /// later call fails: the caller opens a new connection.
    pub async fn call<R>(&mut self, version: i16, request: &R) -> Result<R::Response, WireError>
    where
        R: Request + HeaderVersion,
        R::Response: HeaderVersion,
    {
        let in_order = std::mem::replace(&mut self.in_order, false);
        if !in_order {
            return Err(self.lost(io::Error::other("an earlier call was given up halfway")));
        }
        self.encode(version, request)?;
        let limit = self.answer_within;
        let Ok(answer) = timeout(limit, self.exchange()).await else {
            return Err(WireError::TimedOut {
                address: self.address.clone(),
                after: limit,
            });
        };
        let answer = self.decode::<R>(version, answer?)?;
        self.in_order = true;
        self.accepted = true;
        Ok(answer)
    }

    fn encode<R: Request + HeaderVersion>(
        &mut self,
        version: i16,
        request: &R,
    ) -> Result<(), WireError> {
        self.correlation_id = self.correlation_id.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation_id)
            .with_client_id(Some(StrBytes::from_static_str("annals")));
        self.request.clear();
        self.request.put_i32(0);
        header
            .encode(&mut self.request, R::header_version(version))
            .and_then(|()| request.encode(&mut self.request, version))
            .map_err(|error| self.garbled(&error))?;
        let length = (self.request.len() - 4) as i32;
        self.request[..4].copy_from_slice(&length.to_be_bytes());
        Ok(())
    }

    async fn exchange(&mut self) -> Result<Bytes, WireError> {
        if let Err(error) = self.transport.write_all(&self.request).await {
            return Err(self.lost(error));
        }
        // Small answers come in one read; the length says how much is missing.
        while self.answer.len() < 4 {
            self.read_some().await?;
        }
        if self.answer.starts_with(&TLS_ALERT) {
            return Err(WireError::WantsTls {
                address: self.address.clone(),
            });
        }
        let length = self.answer.get_i32();
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_ANSWER_BYTES)
            .ok_or_else(|| self.lost(io::ErrorKind::InvalidData.into()))?;
        self.answer
            .reserve(length.saturating_sub(self.answer.len()));
        while self.answer.len() < length {
            self.read_some().await?;
        }
        if self.answer.len() != length {
            return Err(self.lost(io::ErrorKind::InvalidData.into()));
        }
        Ok(self.answer.split().freeze())
    }

    async fn read_some(&mut self) -> Result<(), WireError> {
        match self.transport.read_buf(&mut self.answer).await {
            Ok(0) | Err(_) if !self.accepted && self.answer.is_empty() => Err(WireError::HungUp {
                address: self.address.clone(),
            }),
            Ok(0) => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
            Ok(_) => Ok(()),
            Err(error) => Err(self.lost(error)),
        }
    }

    fn decode<R>(&self, version: i16, mut answer: Bytes) -> Result<R::Response, WireError>
    where
        R: Request + HeaderVersion,
        R::Response: HeaderVersion,
    {
        let header = ResponseHeader::decode(&mut answer, R::Response::header_version(version))
            .map_err(|error| self.garbled(&error))?;
        if header.correlation_id != self.correlation_id {
            return Err(self.garbled(&"it answers another request"));
        }
        R::Response::decode(&mut answer, version).map_err(|error| self.garbled(&error))
    }

    fn lost(&self, source: io::Error) -> WireError {
        WireError::Lost {
            address: self.address.clone(),
            source: Arc::new(source),
        }
    }

    fn not_logged_in(&self, reason: String) -> WireError {
        WireError::Login {
            address: self.address.clone(),
            user: self.user.clone(),
            reason,
        }
    }

    fn garbled(&self, reason: &dyn std::fmt::Display) -> WireError {
        WireError::Garbled {
            address: self.address.clone(),
            reason: reason.to_string(),
        }
    }
}
