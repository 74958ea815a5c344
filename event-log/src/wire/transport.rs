//! The bytes below the requests: TCP, or TLS over it.

use std::{io, sync::Arc};

use bytes::BytesMut;
use futures::FutureExt;
use rustls::{CertificateError, Error as TlsError, pki_types::ServerName};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use super::WireError;
use crate::cluster::security::Tls;

#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    pub(super) async fn open(address: &str, tls: Option<&Tls>) -> Result<Self, WireError> {
        let connect = async {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let stream = connect
            .await
            .map_err(|source: io::Error| WireError::Connect {
                address: address.into(),
                source: Arc::new(source),
            })?;
        let Some(tls) = tls else {
            return Ok(Self::Plain(stream));
        };
        let failed = |reason: String| WireError::Tls {
            address: address.into(),
            reason,
        };
        let host = address
            .rsplit_once(':')
            .map_or(address, |(host, _)| host)
            .trim_matches(['[', ']']);
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| failed(format!("{host:?} is no name that a certificate could have")))?;
        match tls.connector().connect(name, stream).await {
            Ok(stream) => Ok(Self::Tls(Box::new(stream))),
            Err(error) => Err(failed(reason(&error))),
        }
    }

    pub(super) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes).await,
            Self::Tls(stream) => {
                stream.write_all(bytes).await?;
                // TLS may keep the end of it back.
                stream.flush().await
            }
        }
    }

    pub(super) async fn read_buf(&mut self, into: &mut BytesMut) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read_buf(into).await,
            Self::Tls(stream) => stream.read_buf(into).await,
        }
    }

    /// Whether there is nothing to read at present, not even the end.
    pub(super) fn is_quiet(&mut self) -> bool {
        let mut byte = [0];
        match self {
            Self::Plain(stream) => stream.read(&mut byte).now_or_never().is_none(),
            Self::Tls(stream) => stream.read(&mut byte).now_or_never().is_none(),
        }
    }
}

/// What an operator can do something about, where it is known.
fn reason(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return "it hung up; it may not speak TLS on this port".into();
    }
    let cause = error.get_ref().and_then(|it| it.downcast_ref::<TlsError>());
    match cause {
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate comes from an authority that is not trusted here: name the \
             authority's file in ANNALS_KAFKA_SECURITY__CA_FILE"
                .into()
        }
        Some(TlsError::InvalidMessage(_)) => "it does not speak TLS on this port".into(),
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}
