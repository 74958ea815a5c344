//! What makes a schema this schema: its type, canonical text, references, metadata and rule set.
//! The same content has the same id under every subject.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::PgConnection;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::avro::push_sorted;
use crate::contract::{Metadata, RuleSet};
use crate::error::Error;
use crate::offload;
use crate::references::{self, Reference};
use crate::schema::{Schema, SchemaType};
use crate::settings::Settings;
use crate::store::StoredSchema;
use crate::subject::Subject;

/// A schema as it comes in a request. What else a client sends beside it is not for us.
#[derive(Clone, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Submitted {
    #[serde(default)]
    pub schema: Option<String>,
    /// `AVRO` if absent, or `JSON`.
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
    pub schema: Arc<Schema>,
    pub content: Content,
}

/// The content of a schema as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    pub schema_type: SchemaType,
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
        let schema_type = SchemaType::parse(submitted.schema_type.as_deref())?;
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
        let bytes = text.len() + referenced.iter().map(|it| it.text.len()).sum::<usize>();
        let (text, resolved, schema) = offload::run(bytes, move || {
            Schema::parse(schema_type, &referenced, &text).map(|schema| {
                let refers = !referenced.is_empty();
                let resolved = if refers { schema.resolved() } else { None };
                (schema.canonical(), resolved, schema)
            })
        })
        .await??;
        let content = Content {
            schema_type,
            schema: text,
            resolved,
            references,
            metadata,
            rule_set,
        };
        Ok(Self {
            schema: Arc::new(schema),
            content,
        })
    }
}

impl Content {
    /// Equal for contents that are the same in everything.
    pub fn fingerprint(&self) -> Fingerprint {
        let references = to_json(&self.references);
        let metadata = self.metadata.as_ref().map(to_json);
        self.hash(&self.schema, &references, Some((metadata, self.rules())))
    }

    /// Equal for contents of which one can be looked up by the other: the same with all references
    /// resolved, whatever they say of their own version.
    pub fn lookup_fingerprint(&self) -> Fingerprint {
        let metadata = self.metadata.clone().and_then(Metadata::without_version);
        let metadata = metadata.as_ref().map(to_json);
        let references = self.unresolved();
        self.hash(self.text(), &references, Some((metadata, self.rules())))
    }

    /// Equal for contents that differ in metadata, rule set and in what is by reference at most.
    pub fn schema_fingerprint(&self) -> Fingerprint {
        self.hash(self.text(), &self.unresolved(), None)
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

    /// Line by line: none of the parts contains a line feed outside of an escape.
    fn hash(
        &self,
        schema: &str,
        references: &Value,
        contract: Option<(Option<Value>, Option<Value>)>,
    ) -> Fingerprint {
        let mut text = format!("{}\n{schema}\n", self.schema_type.name());
        push_sorted(&mut text, references);
        if let Some((metadata, rules)) = contract {
            for part in [metadata, rules] {
                text.push('\n');
                push_sorted(&mut text, &part.unwrap_or_default());
            }
        }
        Sha256::digest(text).into()
    }

    /// The references that [`text`](Self::text) still has.
    fn unresolved(&self) -> Value {
        match self.resolved {
            Some(_) => Value::Array(Vec::new()),
            None => to_json(&self.references),
        }
    }

    fn text(&self) -> &str {
        self.resolved.as_deref().unwrap_or(&self.schema)
    }

    fn rules(&self) -> Option<Value> {
        self.rule_set.as_ref().map(to_json)
    }
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

fn to_json(part: &(impl serde::Serialize + ?Sized)) -> Value {
    serde_json::to_value(part).expect("texts, numbers and lists of them have a form in JSON")
}
