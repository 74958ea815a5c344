//! What makes a schema this schema: its type, canonical text, references, metadata and rule set.
//! The same content has the same id under every subject.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::types::Json;

use crate::avro::{AvroSchema, push_sorted};
use crate::error::Error;
use crate::level::Earlier;
use crate::offload;

/// A schema as it comes in a request. What else a client sends beside it is not for us.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Submitted {
    #[serde(default)]
    pub schema: Option<String>,
    /// `AVRO` if absent; nothing else is known yet.
    pub schema_type: Option<String>,
    pub references: Option<Vec<Value>>,
    pub metadata: Option<Value>,
    pub rule_set: Option<Value>,
    /// An id or version that the client wants the schema to have, which is for imports.
    pub id: Option<i64>,
    pub version: Option<i64>,
}

/// A submitted schema that has been read and found valid.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub(crate) avro: Arc<AvroSchema>,
    pub(crate) content: Content,
}

/// The content of a schema as it is stored.
#[derive(Clone, Debug)]
pub(crate) struct Content {
    /// Canonical text.
    pub schema: String,
    pub references: Value,
    pub metadata: Option<Value>,
    pub rule_set: Option<Value>,
}

impl Candidate {
    pub async fn read(submitted: Submitted) -> Result<Self, Error> {
        if let Some(other) = submitted.schema_type.filter(|name| name != "AVRO") {
            let other: String = other.chars().take(100).collect();
            return Err(Error::UnsupportedSchema(format!(
                "schema type {other} is not supported, AVRO is"
            )));
        }
        if submitted
            .references
            .is_some_and(|references| !references.is_empty())
        {
            return Err(Error::UnsupportedSchema(
                "references are not supported yet".to_owned(),
            ));
        }
        let metadata = submitted.metadata.filter(|metadata| !metadata.is_null());
        if metadata
            .as_ref()
            .is_some_and(|metadata| !metadata.is_object())
        {
            return Err(Error::UnsupportedSchema(
                "metadata is not an object".to_owned(),
            ));
        }
        let rule_set = submitted.rule_set.filter(|rules| !rules.is_null());
        rule_set.as_ref().map_or(Ok(()), check_rule_set)?;
        if [&metadata, &rule_set].into_iter().flatten().any(has_nul) {
            return Err(Error::UnsupportedSchema(
                "metadata and rules must not contain U+0000".to_owned(),
            ));
        }
        let text = submitted.schema.filter(|text| !text.trim().is_empty());
        let text =
            text.ok_or_else(|| Error::UnsupportedSchema("the schema is empty".to_owned()))?;
        let (schema, avro) = offload::run(text.len(), move || {
            AvroSchema::parse(&text).map(|avro| (avro.canonical(), avro))
        })
        .await?
        .map_err(Error::InvalidSchema)?;
        let content = Content {
            schema,
            references: Value::Array(Vec::new()),
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
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut text = self.identifying_text();
        for part in [&self.metadata, &self.rule_set] {
            text.push('\n');
            push_sorted(&mut text, part.as_ref().unwrap_or(&Value::Null));
        }
        Sha256::digest(text).into()
    }

    /// Equal for contents that differ in metadata and rule set at most.
    pub fn schema_fingerprint(&self) -> [u8; 32] {
        Sha256::digest(self.identifying_text()).into()
    }

    /// Takes metadata and rule set from the version before where it has none itself.
    pub fn inherit(&mut self, previous: &Earlier) {
        if self.metadata.is_none() {
            self.metadata = previous
                .metadata
                .as_ref()
                .map(|Json(metadata)| metadata.clone());
        }
        if self.rule_set.is_none() {
            self.rule_set = previous.rule_set.as_ref().map(|Json(rules)| rules.clone());
        }
    }

    /// Line by line: none of the parts contains a line feed outside of an escape.
    fn identifying_text(&self) -> String {
        let mut text = format!("AVRO\n{}\n", self.schema);
        push_sorted(&mut text, &self.references);
        text
    }
}

/// Postgres cannot hold this character in `jsonb`.
fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(object) => object
            .iter()
            .any(|(key, value)| key.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// The form of Confluent's data contracts, as far as the registry cares: who executes the rules
/// judges the rest.
fn check_rule_set(rule_set: &Value) -> Result<(), Error> {
    let object = rule_set
        .as_object()
        .ok_or(Error::InvalidRuleSet("it is not an object"))?;
    for kind in ["domainRules", "migrationRules", "encodingRules"] {
        let rules = match object.get(kind) {
            None | Some(Value::Null) => continue,
            Some(rules) => rules
                .as_array()
                .ok_or(Error::InvalidRuleSet("rules are not in an array"))?,
        };
        if rules.iter().any(|rule| {
            rule.get("name")
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
        }) {
            return Err(Error::InvalidRuleSet("a rule has no name"));
        }
    }
    Ok(())
}
