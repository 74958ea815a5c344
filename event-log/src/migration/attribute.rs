//! A migration inside of its schema, for registries that drop what comes beside one.

use serde_json::Value as Json;

use super::{Migration, MigrationError, fingerprint::canonical};

/// The attribute of the record; readers pass over what they do not know.
const ATTRIBUTE: &str = "annals.migration";

/// The schema's text with the migration that leads to it as an attribute.
///
/// Only where rule sets are dropped: a schema is known by its text, so that this one is another,
/// and a mended rule would be one more.
pub fn with_attribute(schema: &str, migration: &Migration) -> String {
    let Ok(Json::Object(mut record)) = serde_json::from_str(schema) else {
        return schema.to_owned();
    };
    record.insert(ATTRIBUTE.into(), migration.to_text().into());
    Json::Object(record).to_string()
}

/// The schema without the attribute, and the migration that it held.
pub fn without_attribute(schema: &str) -> Result<(String, Option<Migration>), MigrationError> {
    let Ok(Json::Object(mut record)) = serde_json::from_str(schema) else {
        return Ok((schema.to_owned(), None));
    };
    match record.remove(ATTRIBUTE) {
        Some(Json::String(text)) => {
            let migration = Migration::parse(&text)?;
            Ok((Json::Object(record).to_string(), Some(migration)))
        }
        Some(other) => Err(MigrationError::Json(canonical(&other))),
        None => Ok((schema.to_owned(), None)),
    }
}
