//! Asking a Confluent-compatible schema registry for ids, schemas and the rules
//! that lead from one version to the next.
//!
//! Own calls: `schema_registry_converter` has no look-up of a schema's id, keeps
//! error answers in its cache and drops rules (docs/adr/0003).

use std::{fmt, time::Duration};

use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

use crate::{
    migration::{Migration, MigrationError, MigrationRule, with_attribute, without_attribute},
    schemas::SchemaFile,
};

/// A registry, by its base address.
#[derive(Clone)]
pub struct RegistryClient {
    /// May have a login in it.
    base: Url,
    http: Client,
}

/// Why the registry gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("the address of the schema registry, {base}, is not valid: {reason}")]
    Address { base: String, reason: String },
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
    #[error(
        "the schema registry has rules of {subject} version {version} that cannot be used: see \
         `annals schema history {event}`, and go back with `annals schema rollback {event} \
         --version {version}`",
        event = subject.rsplit('.').next().unwrap_or_default()
    )]
    Rules {
        subject: String,
        version: u32,
        #[source]
        source: Box<MigrationError>,
    },
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
            Self::Address { .. } | Self::Unknown { .. } | Self::Client(_) | Self::Rules { .. } => {
                false
            }
        }
    }
}

/// A version of a subject, and what leads to it from the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredVersion {
    pub version: u32,
    pub id: u32,
    /// Without the attribute that a migration may have travelled in.
    pub schema: String,
    /// The newest revision.
    pub migration: Option<Migration>,
}

/// Where a schema is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct Found {
    pub id: u32,
    pub version: u32,
}

#[derive(Deserialize)]
struct Registered {
    id: u32,
}

#[derive(Deserialize)]
struct Schema {
    schema: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    id: u32,
    version: u32,
    schema: String,
    rule_set: Option<RuleSet>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuleSet {
    migration_rules: Option<Vec<MigrationRule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Level {
    compatibility_level: String,
}

#[derive(Deserialize)]
struct Revision {
    revision: u32,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: i64,
    message: String,
}

impl RegistryClient {
    /// # Errors
    /// `Address` when it is not one of HTTP; nothing is asked yet.
    pub fn new(base: &str) -> Result<Self, RegistryError> {
        let invalid = |reason: String| RegistryError::Address {
            base: base.rsplit('@').next().unwrap_or_default().into(),
            reason,
        };
        let url = Url::parse(base).map_err(|error| invalid(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("it does not begin with http:// or https://".into()));
        }
        let http = Client::builder()
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(RegistryError::Client)?;
        Ok(Self { base: url, http })
    }

    /// Where it is, without a login.
    pub fn place(&self) -> String {
        let mut place = self.base.clone();
        // Refused only where there is no host, which an address of HTTP has.
        let _ = place.set_password(None);
        let _ = place.set_username("");
        place.as_str().trim_end_matches('/').to_owned()
    }

    /// Registers a schema under its subject and answers its id; the same again answers the same.
    pub async fn register(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let request = self.request(Method::POST, &["subjects", subject, "versions"]);
        let request = request.json(&json!({ "schema": schema }));
        Ok(self.ask::<Registered>(subject, request).await?.id)
    }

    /// The id of a schema that is registered under this subject.
    pub async fn look_up(&self, subject: &str, schema: &str) -> Result<u32, RegistryError> {
        let request = self.request(Method::POST, &["subjects", subject]);
        let request = request.json(&json!({ "schema": schema }));
        Ok(self.ask::<Registered>(subject, request).await?.id)
    }

    /// Id and version of a schema file, also where its migration travels inside of the schema.
    pub async fn find(&self, subject: &str, file: &SchemaFile) -> Result<Found, RegistryError> {
        let look_up = async |schema: &str| {
            let request = self.request(Method::POST, &["subjects", subject]);
            let request = request.json(&json!({ "schema": schema }));
            self.ask::<Found>(subject, request).await
        };
        match (look_up(&file.text).await, &file.migration) {
            (Err(RegistryError::Unknown { .. }), Some(migration)) => {
                look_up(&with_attribute(&file.text, migration)).await
            }
            (found, _) => found,
        }
    }

    /// Registers a file with its rules, and answers its id; the same again answers the same.
    /// Where rules carry what schemas alone would not, the registry is told to let it in.
    ///
    /// A registry that does not know revisions of rules may drop rules as well: there they travel
    /// inside of the schema, too.
    pub async fn register_file(
        &self,
        subject: &str,
        file: &SchemaFile,
    ) -> Result<u32, RegistryError> {
        match self.find(subject, file).await {
            Ok(found) => return Ok(found.id),
            Err(RegistryError::Unknown { .. }) => {}
            Err(error) => return Err(error),
        }
        let mut body = json!({ "schema": file.text });
        if file.version > 1 {
            // Said even when there are none: a version would inherit those of the one before.
            let rules = file.migration.as_ref();
            let rules = rules.map_or_else(Vec::new, |migration| migration.to_rules(file.version));
            body["ruleSet"] = json!({ "migrationRules": rules });
        }
        if let Some(migration) = &file.migration
            && !self.keeps_revisions(subject).await?
        {
            body["schema"] = with_attribute(&file.text, migration).into();
        }
        let register = async || {
            let request = self.request(Method::POST, &["subjects", subject, "versions"]);
            let request = request.json(&body);
            Ok(self.ask::<Registered>(subject, request).await?.id)
        };
        match register().await {
            // A registry goes by schemas alone; the rules have been checked otherwise.
            Err(RegistryError::Refused { code: 409, .. }) if file.migration.is_some() => {
                let level = self.own_level(subject).await?;
                self.set_level(subject, Some("NONE")).await?;
                let registered = register().await;
                self.set_level(subject, level.as_deref()).await?;
                registered
            }
            registered => registered,
        }
    }

    /// The subject's own compatibility level; none where it follows the others.
    pub async fn own_level(&self, subject: &str) -> Result<Option<String>, RegistryError> {
        let request = self.request(Method::GET, &["config", subject]);
        let level: Option<Level> = or_nothing(self.ask(subject, request).await)?;
        Ok(level.map(|it| it.compatibility_level))
    }

    /// Sets the subject's own compatibility level, or has it follow the others again.
    pub async fn set_level(&self, subject: &str, level: Option<&str>) -> Result<(), RegistryError> {
        let path = ["config", subject];
        let request = match level {
            Some(level) => self
                .request(Method::PUT, &path)
                .json(&json!({ "compatibility": level })),
            None => self.request(Method::DELETE, &path),
        };
        self.ask::<serde_json::Value>(subject, request)
            .await
            .map(drop)
    }

    /// Whether the registry is one that keeps rules, and every revision of them.
    async fn keeps_revisions(&self, subject: &str) -> Result<bool, RegistryError> {
        let revision = self.revision(subject, "latest").await;
        match revision {
            Ok(_) => Ok(true),
            Err(error) if error.is_temporary() => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// All versions of a subject, oldest first, with the newest revision of their rules.
    pub async fn versions(&self, subject: &str) -> Result<Vec<RegisteredVersion>, RegistryError> {
        let numbers = self.version_numbers(subject, false).await?;
        let mut versions = Vec::with_capacity(numbers.len());
        for number in numbers {
            versions.push(self.version(subject, number, number).await?);
        }
        Ok(versions)
    }

    /// The numbers of a subject's versions, ascending; `deleted`: also of those that are not
    /// removed for good.
    pub async fn version_numbers(
        &self,
        subject: &str,
        deleted: bool,
    ) -> Result<Vec<u32>, RegistryError> {
        let request = self.request(Method::GET, &["subjects", subject, "versions"]);
        let request = match deleted {
            true => request.query(&[("deleted", "true")]),
            false => request,
        };
        let mut numbers: Vec<u32> = self.ask(subject, request).await?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// One version of a subject. `names` is the version that the rules' names are to carry: the
    /// number of the schema file, which a foreign registry may have given another.
    pub async fn version(
        &self,
        subject: &str,
        number: u32,
        names: u32,
    ) -> Result<RegisteredVersion, RegistryError> {
        let written = number.to_string();
        let request = self.request(Method::GET, &["subjects", subject, "versions", &written]);
        let found: Version = self.ask(subject, request).await?;
        let unusable = |source| RegistryError::Rules {
            subject: subject.into(),
            version: number,
            source: Box::new(source),
        };
        let (schema, inside) = without_attribute(&found.schema).map_err(unusable)?;
        let rules = found.rule_set.and_then(|rules| rules.migration_rules);
        let beside = Migration::from_rules(&rules.unwrap_or_default(), names).map_err(unusable)?;
        let migration = match beside {
            Some(migration) => {
                let revision = match self.revision(subject, &written).await {
                    Ok(revision) => revision,
                    Err(error) if error.is_temporary() => return Err(error),
                    // Not every registry keeps revisions.
                    Err(_) => 1,
                };
                Some(migration.with_revision(revision))
            }
            None => inside,
        };
        Ok(RegisteredVersion {
            version: found.version,
            id: found.id,
            schema,
            migration,
        })
    }

    /// The newest revision of a version's rules.
    async fn revision(&self, subject: &str, version: &str) -> Result<u32, RegistryError> {
        let path = ["subjects", subject, "versions", version, "rules"];
        let request = self.request(Method::GET, &path);
        let revisions: Vec<Revision> = self.ask(subject, request).await?;
        Ok(revisions.last().map_or(1, |newest| newest.revision))
    }

    /// The schema that an id stands for.
    pub async fn schema_of_id(&self, id: u32) -> Result<String, RegistryError> {
        let request = self.request(Method::GET, &["schemas", "ids", &id.to_string()]);
        let found: Schema = self.ask(&format!("schema {id}"), request).await?;
        Ok(found.schema)
    }

    /// A request to a path of the API, for what this client has no call for.
    pub fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        // An address of HTTP has a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        self.http.request(method, url)
    }

    /// Sends a request and reads the answer. `subject` is what errors speak of.
    ///
    /// # Errors
    /// `Unknown` when there is no such thing.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        subject: &str,
        request: RequestBuilder,
    ) -> Result<T, RegistryError> {
        let unreachable = |source: reqwest::Error| RegistryError::Unreachable {
            base: self.place(),
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

impl fmt::Debug for RegistryClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RegistryClient")
            .field(&self.place())
            .finish()
    }
}

/// What is there, or nothing where the registry does not know of it.
pub fn or_nothing<T>(answer: Result<T, RegistryError>) -> Result<Option<T>, RegistryError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(RegistryError::Unknown { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_is_refused_without_its_login() {
        for (base, reason) in [
            ("127.0.0.1:8403", "relative URL without a base"),
            ("localhost:8403", "http://"),
            ("ada:secret@localhost:8403", "http://"),
            ("http://", "empty host"),
        ] {
            let refused = RegistryClient::new(base).unwrap_err().to_string();
            assert!(refused.contains(reason), "{base}: {refused}");
            assert!(!refused.contains("secret"), "{refused}");
        }
    }

    #[test]
    fn a_login_is_sent_and_never_shown() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = RegistryClient::new("http://ada:secret@localhost:8403/registry/").unwrap();
        assert_eq!(client.place(), "http://localhost:8403/registry");
        assert!(!format!("{client:?}").contains("secret"));
        let request = client.request(Method::GET, &["subjects", "a/b"]);
        let request = request.build().unwrap();
        assert_eq!(request.url().path(), "/registry/subjects/a%2Fb");
        assert!(request.headers().contains_key("authorization"));
    }
}
