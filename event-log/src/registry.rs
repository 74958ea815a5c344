//! Asking a Confluent-compatible schema registry for ids.
//!
//! Own calls, two of them: `schema_registry_converter` has no look-up of a
//! schema's id and keeps error answers in its cache (docs/adr/0003).

use std::{fmt, time::Duration};

use reqwest::{Client, RequestBuilder, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

/// A registry, by its base address.
#[derive(Clone, Debug)]
pub struct RegistryClient {
    base: SecretBase,
    http: Client,
}

/// An address that may have a login in it, which is printed without.
#[derive(Clone)]
struct SecretBase(String);

impl fmt::Display for SecretBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("http", &self.0));
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        write!(f, "{scheme}://{place}")
    }
}

impl fmt::Debug for SecretBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why the registry gave no id.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("failed to reach the schema registry at {base}")]
    Unreachable {
        base: String,
        #[source]
        source: reqwest::Error,
    },
    #[error("the schema registry does not know this schema of {subject}: {message}")]
    Unknown { subject: String, message: String },
    #[error("the schema registry refused {subject}: {message} (error {code})")]
    Refused {
        subject: String,
        code: i64,
        message: String,
    },
    #[error("failed to set up the HTTP client for the schema registry")]
    Client(#[source] reqwest::Error),
}

impl RegistryError {
    /// Whether asking again later may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            // The registry's own codes have five digits; what stands before it answers in three.
            Self::Refused { code, .. } => {
                (50_000..60_000).contains(code) || (500..600).contains(code) || *code == 429
            }
            Self::Unknown { .. } | Self::Client(_) => false,
        }
    }
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: i64,
    message: String,
}

impl RegistryClient {
    pub fn new(base: &str) -> Result<Self, RegistryError> {
        let http = Client::builder()
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(RegistryError::Client)?;
        Ok(Self {
            base: SecretBase(base.trim_end_matches('/').into()),
            http,
        })
    }

    /// Registers a schema under its subject and answers its id; the same again answers the same.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let url = format!("{}/subjects/{subject}/versions", self.base.0);
        let request = self.http.post(url).json(&json!({ "schema": schema }));
        Ok(self.ask::<Registered>(subject, request).await?.id)
    }

    /// The id of a schema that is registered under this subject.
    pub async fn look_up(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let url = format!("{}/subjects/{subject}", self.base.0);
        let request = self.http.post(url).json(&json!({ "schema": schema }));
        Ok(self.ask::<Registered>(subject, request).await?.id)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        subject: &str,
        request: RequestBuilder,
    ) -> Result<T, RegistryError> {
        let unreachable = |source: reqwest::Error| RegistryError::Unreachable {
            base: self.base.to_string(),
            source: source.without_url(),
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status();
        if status.is_success() {
            return answer.json().await.map_err(unreachable);
        }
        let refusal = answer.json().await.unwrap_or_else(|_| Refusal {
            error_code: i64::from(status.as_u16()),
            message: status.to_string(),
        });
        Err(match status {
            StatusCode::NOT_FOUND => RegistryError::Unknown {
                subject: subject.into(),
                message: refusal.message,
            },
            _ => RegistryError::Refused {
                subject: subject.into(),
                code: refusal.error_code,
                message: refusal.message,
            },
        })
    }
}
