//! How a cluster is reached: in the clear or over TLS, with a login or without.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, Mutex, PoisonError},
};

use rdkafka::ClientConfig;
use rustls::{
    RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use crate::wire::scram::{Hash, Keys, Proof, Scram};

/// Nothing by default: plain TCP and no login.
#[derive(Clone, Debug, Default)]
pub struct Security {
    pub tls: Option<Tls>,
    pub login: Option<Login>,
}

/// Encryption, and whom to take for a broker: the certificate must name the host.
#[derive(Clone)]
pub struct Tls {
    connector: TlsConnector,
    ca_file: Option<PathBuf>,
}

/// A user of the brokers (SASL).
#[derive(Clone)]
pub struct Login {
    pub(crate) mechanism: Mechanism,
    pub(crate) user: String,
    pub(crate) password: String,
    /// What SCRAM made of the password last; the same for all connections.
    keys: Arc<Mutex<Option<Keys>>>,
}

/// How the password is shown to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// It is sent: over TLS only, where it matters.
    Plain,
    ScramSha256,
    ScramSha512,
}

#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    #[error("failed to read the certificates in {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    #[error("{path} has no certificate in PEM form")]
    Empty { path: PathBuf },
    #[error("{path} has a certificate that cannot be used")]
    Certificate {
        path: PathBuf,
        #[source]
        source: rustls::Error,
    },
    #[error("the system has no certificates of authorities: name a file of them: {reason}")]
    NoRoots { reason: String },
    #[error("there is no mechanism {0:?}: take plain, scram-sha-256 or scram-sha-512")]
    Mechanism(String),
}

impl Tls {
    /// Trusts the authorities in the file (PEM); without one, those of the system.
    pub fn new(ca_file: Option<&Path>) -> Result<Self, SecurityError> {
        let mut roots = RootCertStore::empty();
        match ca_file {
            Some(path) => {
                for certificate in read(path)? {
                    roots
                        .add(certificate)
                        .map_err(|source| SecurityError::Certificate {
                            path: path.into(),
                            source,
                        })?;
                }
            }
            None => {
                let found = rustls_native_certs::load_native_certs();
                // Stores hold certificates of the last century that no client takes.
                roots.add_parsable_certificates(found.certs);
                if roots.is_empty() {
                    let reasons = found.errors.iter().map(ToString::to_string);
                    return Err(SecurityError::NoRoots {
                        reason: reasons.collect::<Vec<_>>().join(", "),
                    });
                }
            }
        }
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
            ca_file: ca_file.map(Path::to_owned),
        })
    }

    pub(crate) fn connector(&self) -> &TlsConnector {
        &self.connector
    }
}

fn read(path: &Path) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let failed = |source| SecurityError::Read {
        path: path.into(),
        source,
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    match certificates.is_empty() {
        true => Err(SecurityError::Empty { path: path.into() }),
        false => Ok(certificates),
    }
}

impl Login {
    pub fn new(mechanism: Mechanism, user: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            mechanism,
            user: user.into(),
            password: password.into(),
            keys: Arc::default(),
        }
    }

    pub(crate) fn prove(&self, scram: &Scram, challenge: &str) -> Result<Proof, &'static str> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        scram.prove(challenge, &self.password, &mut keys)
    }
}

impl Mechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }

    pub(crate) fn scram(self) -> Option<Hash> {
        match self {
            Self::Plain => None,
            Self::ScramSha256 => Some(Hash::Sha256),
            Self::ScramSha512 => Some(Hash::Sha512),
        }
    }
}

impl FromStr for Mechanism {
    type Err = SecurityError;

    fn from_str(text: &str) -> Result<Self, SecurityError> {
        [Self::Plain, Self::ScramSha256, Self::ScramSha512]
            .into_iter()
            .find(|mechanism| mechanism.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| SecurityError::Mechanism(text.into()))
    }
}

impl Security {
    /// The same for librdkafka.
    pub(crate) fn apply(&self, client: &mut ClientConfig) {
        let protocol = match (&self.tls, &self.login) {
            (None, None) => "plaintext",
            (Some(_), None) => "ssl",
            (None, Some(_)) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        client.set("security.protocol", protocol);
        if let Some(path) = self.tls.as_ref().and_then(|tls| tls.ca_file.as_deref()) {
            client.set("ssl.ca.location", path.to_string_lossy());
        }
        if let Some(login) = &self.login {
            client
                .set("sasl.mechanism", login.mechanism.name())
                .set("sasl.username", &login.user)
                .set("sasl.password", &login.password);
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("ca_file", &self.ca_file)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("mechanism", &self.mechanism)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}
