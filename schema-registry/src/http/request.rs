//! What comes with a request: a JSON body, and the parameters of the query.

use std::time::Duration;

use axum::extract::{FromRequest, Request};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::media;
use super::path::InPath;
use crate::Error;
use crate::store::{Deleted, Page, Prefix};

/// A JSON body. It is read up to the limit of [`MostBytes`].
pub(super) struct Body<T>(pub T);

#[derive(Clone, Copy)]
pub(super) struct MostBytes(pub usize);

/// A client that takes longer to send its body is not waited for.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Each takes half a kilobyte once it is read. Those within a schema are text here.
const MOST_OBJECTS: usize = 20_000;

impl<T: DeserializeOwned, S: Sync> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self, Error> {
        if !media::is_readable(request.headers()) {
            return Err(Error::UnsupportedMediaType);
        }
        let limit = request.extensions().get();
        let most = limit.map_or(super::DEFAULT_MOST_BYTES, |MostBytes(most)| *most);
        let bytes = tokio::time::timeout(BODY_TIMEOUT, read(request, most))
            .await
            .map_err(|_| Error::BodyTooSlow)??;
        if objects(&bytes) > MOST_OBJECTS {
            let text = format!("it has more than {MOST_OBJECTS} objects");
            return Err(Error::UnexpectedJson(serde::de::Error::custom(text)));
        }
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok(Self(value)),
            Err(error) if error.classify() == Category::Data => Err(Error::UnexpectedJson(error)),
            Err(error) => Err(Error::MalformedJson(error)),
        }
    }
}

/// How many objects there are in the JSON: braces outside of strings.
fn objects(json: &[u8]) -> usize {
    let (mut count, mut in_string, mut escaped) = (0, false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

async fn read(request: Request, most: usize) -> Result<Vec<u8>, Error> {
    /// How far a body that is too long is read and thrown away, so that a client that is still
    /// sending sees the answer instead of a connection reset.
    const DISCARDED: usize = 8 * 1024 * 1024;
    let mut body = request.into_body().into_data_stream();
    let mut bytes = Vec::new();
    let mut length = 0_usize;
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(Error::BrokenBody)?;
        length += chunk.len();
        match length {
            _ if length <= most => bytes.extend_from_slice(&chunk),
            _ if length <= most + DISCARDED => bytes = Vec::new(),
            _ => break,
        }
    }
    if length <= most {
        Ok(bytes)
    } else {
        Err(Error::BodyTooLarge { most })
    }
}

/// The parameters of all routes; each takes notice of its own, as Confluent's registry does.
#[derive(Debug, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Parameters {
    #[serde(deserialize_with = "flag")]
    deleted: bool,
    #[serde(deserialize_with = "flag")]
    deleted_only: bool,
    #[serde(deserialize_with = "flag")]
    pub deleted_as_negative: bool,
    #[serde(deserialize_with = "flag")]
    pub permanent: bool,
    #[serde(deserialize_with = "flag")]
    pub verbose: bool,
    #[serde(deserialize_with = "flag")]
    pub latest_only: bool,
    #[serde(deserialize_with = "flag")]
    pub default_to_global: bool,
    #[serde(deserialize_with = "flag")]
    pub fetch_max_id: bool,
    #[serde(deserialize_with = "flag")]
    pub force: bool,
    /// A subject whose context is meant.
    pub subject: String,
    pub context_prefix: String,
    rule_type: String,
    format: String,
    subject_prefix: Option<String>,
    offset: i64,
    limit: i64,
}

impl Default for Parameters {
    fn default() -> Self {
        Self {
            deleted: false,
            deleted_only: false,
            deleted_as_negative: false,
            permanent: false,
            verbose: false,
            latest_only: false,
            default_to_global: false,
            fetch_max_id: false,
            force: false,
            subject: String::new(),
            context_prefix: String::new(),
            rule_type: String::new(),
            format: String::new(),
            subject_prefix: None,
            offset: 0,
            limit: -1,
        }
    }
}

impl Parameters {
    pub fn deleted(&self) -> Deleted {
        match self {
            Self {
                deleted_only: true, ..
            } => Deleted::Only,
            Self { deleted: true, .. } => Deleted::With,
            _ => Deleted::Without,
        }
    }

    /// How the names of subjects begin; `otherwise` where the request says nothing.
    pub fn prefix(&self, path: &InPath, otherwise: &str) -> Result<Prefix, Error> {
        let said = match &self.subject_prefix {
            Some(said) => said.as_str(),
            None if path.has_context() => "",
            None => otherwise,
        };
        let prefix = path.qualified(said)?;
        if prefix.contains('\0') {
            return Err(Error::InvalidSubject(prefix.chars().take(100).collect()));
        }
        Ok(Prefix::parse(&prefix))
    }

    /// Whether types of other schemas are to stand where they are used first.
    pub fn resolve(&self) -> bool {
        self.format.eq_ignore_ascii_case("resolved")
    }

    pub fn rule_type(&self) -> Option<&str> {
        (!self.rule_type.is_empty() && !self.rule_type.contains('\0')).then_some(&self.rule_type)
    }

    pub fn page(&self) -> Page {
        Page {
            offset: self.offset.max(0),
            limit: self.limit,
        }
    }

    /// The part of a list that is asked for.
    pub fn cut<T>(&self, list: impl Iterator<Item = T>) -> Vec<T> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let offset = usize::try_from(self.offset).unwrap_or(0);
        list.skip(offset).take(limit).collect()
    }
}

/// True for `true` in any case; Python's clients used to send `True`.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    String::deserialize(deserializer).map(|text| text.eq_ignore_ascii_case("true"))
}
