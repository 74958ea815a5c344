//! What makes a schema this schema: its type, canonical text, references, metadata and rule set.
//! The same content has the same id under every subject.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::avro::{AvroSchema, push_sorted};
use crate::contract::{Metadata, RuleSet};
use crate::error::Error;
use crate::offload;
use crate::references::{self, Reference};
use crate::settings::Settings;
use crate::store::StoredSchema;
use crate::subject::Subject;

/// A schema as it comes in a request. What else a client sends beside it is not for us.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Submitted {
    #[serde(default)]
    pub schema: Option<String>,
    /// `AVRO` if absent; nothing else is known yet.
    pub schema_type: Option<String>,
    #[schema(value_type = Option<Vec<Reference>>)]
    pub references: Option<Value>,
    #[schema(value_type = Option<Metadata>)]
    pub metadata: Option<Value>,
    #[schema(value_type = Option<RuleSet>)]
    pub rule_set: Option<Value>,
    /// The id that the schema has elsewhere: for imports.
    pub id: Option<i64>,
    /// The version that it is to become, and no other.
    pub version: Option<i64>,
}

/// A submitted schema that has been read and found valid.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub avro: Arc<AvroSchema>,
    pub content: Content,
}

/// The content of a schema as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// Canonical text.
    pub schema: String,
    /// The canonical text without references, where it has any.
    pub resolved: Option<String>,
    pub references: Vec<Reference>,
    pub metadata: Option<Metadata>,
    pub rule_set: Option<RuleSet>,
}

pub(crate) type Fingerprint = [u8; 32];

impl Candidate {
    /// Reads what was submitted for the subject. What it refers to is looked for beside it.
    pub async fn read(
        connection: &mut PgConnection,
        subject: &Subject,
        submitted: Submitted,
    ) -> Result<Self, Error> {
        if let Some(other) = submitted.schema_type.filter(|name| name != "AVRO") {
            let other: String = other.chars().take(100).collect();
            return Err(Error::UnsupportedSchema(format!(
                "schema type {other} is not supported, AVRO is"
            )));
        }
        let not_null = |value: &Value| !value.is_null();
        let metadata = submitted.metadata.filter(not_null);
        let metadata = metadata.map(Metadata::from_request).transpose()?;
        let rule_set = submitted.rule_set.filter(not_null);
        let rule_set = rule_set.map(RuleSet::from_request).transpose()?;
        let mut references = references::from_request(submitted.references)?;
        let referenced = references::resolve(connection, subject, &mut references).await?;
        let text = submitted.schema.filter(|text| !text.trim().is_empty());
        let text =
            text.ok_or_else(|| Error::UnsupportedSchema("the schema is empty".to_owned()))?;
        let bytes = text.len() + referenced.iter().map(String::len).sum::<usize>();
        let (schema, resolved, avro) = offload::run(bytes, move || {
            AvroSchema::parse_with(&referenced, &text).map(|avro| {
                let resolved = (!referenced.is_empty()).then(|| avro.resolved());
                (avro.canonical(), resolved, avro)
            })
        })
        .await?
        .map_err(Error::InvalidSchema)?;
        let content = Content {
            schema,
            resolved,
            references,
            metadata,
            rule_set,
        };
        Ok(Self {
            avro: Arc::new(avro),
            content,
        })
    }
}

impl Content {
    /// Equal for contents that are the same in everything.
    pub fn fingerprint(&self) -> Fingerprint {
        let references = to_json(&self.references);
        let metadata = self.metadata.as_ref().map(to_json);
        hash(&self.schema, &references, Some((metadata, self.rules())))
    }

    /// Equal for contents of which one can be looked up by the other: the same with all references
    /// resolved, whatever they say of their own version.
    pub fn lookup_fingerprint(&self) -> Fingerprint {
        let metadata = self.metadata.clone().and_then(Metadata::without_version);
        let metadata = metadata.as_ref().map(to_json);
        hash(
            self.text(),
            &no_references(),
            Some((metadata, self.rules())),
        )
    }

    /// Equal for contents that differ in metadata, rule set and in what is by reference at most.
    pub fn schema_fingerprint(&self) -> Fingerprint {
        hash(self.text(), &no_references(), None)
    }

    /// The fingerprint as a name that fits everywhere.
    pub fn guid(&self) -> Uuid {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.fingerprint()[..16]);
        Uuid::from_bytes(bytes)
    }

    /// Completes metadata and rule set: what the settings give to everybody, under what the schema
    /// says itself (or the version before it, if it says nothing), under what the settings insist on.
    pub fn complete(&mut self, settings: &Settings, previous: Option<&StoredSchema>) {
        let metadata = self.metadata.take();
        let metadata = metadata.or_else(|| previous?.metadata.as_deref().cloned());
        let metadata = Metadata::merge(settings.default_metadata.clone(), metadata);
        self.metadata = Metadata::merge(metadata, settings.override_metadata.clone());
        let rules = self.rule_set.take();
        let rules = rules.or_else(|| previous?.rule_set.as_deref().cloned());
        let rules = RuleSet::merge(settings.default_rule_set.clone(), rules);
        self.rule_set = RuleSet::merge(rules, settings.override_rule_set.clone());
    }

    fn text(&self) -> &str {
        self.resolved.as_deref().unwrap_or(&self.schema)
    }

    fn rules(&self) -> Option<Value> {
        self.rule_set.as_ref().map(to_json)
    }
}

/// Line by line: none of the parts contains a line feed outside of an escape.
fn hash(
    schema: &str,
    references: &Value,
    contract: Option<(Option<Value>, Option<Value>)>,
) -> Fingerprint {
    let mut text = format!("AVRO\n{schema}\n");
    push_sorted(&mut text, references);
    if let Some((metadata, rules)) = contract {
        for part in [metadata, rules] {
            text.push('\n');
            push_sorted(&mut text, &part.unwrap_or_default());
        }
    }
    Sha256::digest(text).into()
}

/// Over JSON with sorted keys.
pub(crate) fn hash_json(value: &(impl serde::Serialize + ?Sized)) -> Fingerprint {
    let mut text = String::new();
    push_sorted(&mut text, &to_json(value));
    Sha256::digest(text).into()
}

pub(crate) fn hex(fingerprint: &Fingerprint) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(64);
    for byte in fingerprint {
        // Writing into a text does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn no_references() -> Value {
    Value::Array(Vec::new())
}

fn to_json(part: &(impl serde::Serialize + ?Sized)) -> Value {
    serde_json::to_value(part).expect("texts, numbers and lists of them have a form in JSON")
}
