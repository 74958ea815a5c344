//! A connection to one broker: requests out, answers in, in order.
//!
//! librdkafka hides the producer's epoch and sequence numbers, on which the
//! fenced append rests, so the append path speaks the protocol itself, with
//! the codecs of `kafka-protocol`.

use std::{io, time::Duration};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::{
    messages::{RequestHeader, ResponseHeader},
    protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Answers above this size are taken for a broken connection.
const MAX_ANSWER_BYTES: usize = 128 << 20;

/// Why a request has no answer. The connection is of no use afterwards, and
/// what the request asked for may or may not have happened.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("failed to connect to broker {address}")]
    Connect {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("lost the connection to broker {address}")]
    Lost {
        address: String,
        #[source]
        source: io::Error,
    },
    #[error("broker {address} did not answer within {after:?}")]
    TimedOut { address: String, after: Duration },
    #[error("broker {address} sent an answer that cannot be read: {reason}")]
    Garbled { address: String, reason: String },
}

/// One TCP connection with one request in flight.
#[derive(Debug)]
pub struct Connection {
    address: String,
    stream: TcpStream,
    correlation_id: i32,
    request: BytesMut,
    answer: BytesMut,
    answer_within: Duration,
    /// A call that failed or was dropped halfway leaves bytes behind that no
    /// later call could make sense of.
    in_order: bool,
}

impl Connection {
    /// Connects to `host:port`; every call must be answered within `answer_within`.
    pub async fn open(address: &str, answer_within: Duration) -> Result<Self, WireError> {
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = timeout(Duration::from_secs(5), connect)
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            .map_err(|source| WireError::Connect {
                address: address.into(),
                source,
            })?;
        Ok(Self {
            address: address.into(),
            stream,
            correlation_id: 0,
            request: BytesMut::with_capacity(64 << 10),
            answer: BytesMut::with_capacity(4 << 10),
            answer_within,
            in_order: true,
        })
    }

    /// Whether another call may succeed: no earlier one was given up, and the
    /// broker has not hung up, as it does after ten idle minutes.
    pub fn is_open(&self) -> bool {
        // Between calls there is nothing to read but the end, or bytes that nobody asked for.
        let nothing = |error: io::Error| error.kind() == io::ErrorKind::WouldBlock;
        self.in_order && self.stream.try_read(&mut [0]).is_err_and(nothing)
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
            return Err(WireError::Lost {
                address: self.address.clone(),
                source: io::Error::other("an earlier call was given up halfway"),
            });
        }
        self.encode(version, request)?;
        let limit = self.answer_within;
        let answer = match timeout(limit, self.exchange()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(source)) => {
                return Err(WireError::Lost {
                    address: self.address.clone(),
                    source,
                });
            }
            Err(_) => {
                return Err(WireError::TimedOut {
                    address: self.address.clone(),
                    after: limit,
                });
            }
        };
        let answer = self.decode::<R>(version, answer)?;
        self.in_order = true;
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

    async fn exchange(&mut self) -> io::Result<Bytes> {
        self.stream.write_all(&self.request).await?;
        // Small answers come in one read; the length says how much is missing.
        while self.answer.len() < 4 {
            self.read_some().await?;
        }
        let length = self.answer.get_i32();
        let length = usize::try_from(length)
            .ok()
            .filter(|length| *length <= MAX_ANSWER_BYTES)
            .ok_or(io::ErrorKind::InvalidData)?;
        self.answer
            .reserve(length.saturating_sub(self.answer.len()));
        while self.answer.len() < length {
            self.read_some().await?;
        }
        if self.answer.len() != length {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(self.answer.split().freeze())
    }

    async fn read_some(&mut self) -> io::Result<()> {
        match self.stream.read_buf(&mut self.answer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
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

    fn garbled(&self, reason: &dyn std::fmt::Display) -> WireError {
        WireError::Garbled {
            address: self.address.clone(),
            reason: reason.to_string(),
        }
    }
}
