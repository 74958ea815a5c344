//! References: schemas that use types of other schemas by name. A reference names a version of a
//! subject; that version's own references come with it.

use std::collections::HashSet;

use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use utoipa::ToSchema;

use crate::error::Error;
use crate::store::{Deleted, listing};
use crate::subject::{Subject, VersionNumber};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reference {
    /// How the schema calls it: for Avro the full name of a type.
    pub name: String,
    pub subject: String,
    /// -1 means the newest, and becomes its number when the schema is registered.
    pub version: i32,
}

/// A schema that another one refers to, directly or not.
#[derive(Clone, Debug)]
pub(crate) struct Referenced {
    pub name: String,
    pub schema_type: String,
    pub text: String,
}

impl AsRef<str> for Referenced {
    fn as_ref(&self) -> &str {
        &self.text
    }
}

/// How many schemas one may stand on, directly or not.
const MOST: usize = 500;
const MOST_BYTES: usize = 4 * 1024 * 1024;
const DEEPEST: usize = 32;

pub(crate) fn from_request(value: Option<Value>) -> Result<Vec<Reference>, Error> {
    let Some(value) = value.filter(|value| !value.is_null()) else {
        return Ok(Vec::new());
    };
    let references: Vec<Reference> = serde_json::from_value(value)
        .map_err(|error| Error::UnsupportedSchema(format!("Invalid reference: {error}")))?;
    let odd = |text: &str| text.is_empty() || text.contains('\0');
    if let Some(bad) = references.iter().find(|it| odd(&it.name)) {
        return Err(Error::UnsupportedSchema(format!(
            "Invalid reference to subject \"{}\": it has no name",
            bad.subject
        )));
    }
    Ok(references)
}

/// All schemas that these references of a schema of `subject` lead to, each behind
/// those that it needs itself. The newest versions get their numbers.
pub(crate) async fn resolve(
    connection: &mut PgConnection,
    subject: &Subject,
    references: &mut [Reference],
) -> Result<Vec<Referenced>, Error> {
    let mut found = Found::default();
    found.follow(connection, subject, references, 1).await?;
    Ok(found.schemas)
}

#[derive(Default)]
struct Found {
    schemas: Vec<Referenced>,
    bytes: usize,
    names: HashSet<String>,
    versions: HashSet<(String, i32)>,
}

impl Found {
    fn follow<'a>(
        &'a mut self,
        connection: &'a mut PgConnection,
        subject: &'a Subject,
        references: &'a mut [Reference],
        depth: usize,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            if depth > DEEPEST {
                return Err(too_many());
            }
            for reference in references {
                self.follow_one(connection, subject, reference, depth)
                    .await?;
            }
            Ok(())
        })
    }

    async fn follow_one(
        &mut self,
        connection: &mut PgConnection,
        subject: &Subject,
        reference: &mut Reference,
        depth: usize,
    ) -> Result<(), Error> {
        let target = subject.sibling(&reference.subject)?;
        let version = match reference.version {
            -1 => VersionNumber::Latest,
            number @ 1.. => VersionNumber::Number(number),
            _ => return Err(missing(&target, reference.version)),
        };
        let stored = listing::version(&mut *connection, &target, version, Deleted::With).await?;
        let stored = stored.ok_or_else(|| missing(&target, reference.version))?;
        reference.version = stored.version;
        // Of two that are called the same the first counts, as for Java.
        let new = self.names.insert(reference.name.clone());
        if !new || !self.versions.insert((stored.subject, stored.version)) {
            return Ok(());
        }
        let mut own = stored.stored.references.0;
        self.follow(connection, &target, &mut own, depth + 1)
            .await?;
        self.bytes += stored.stored.schema.len();
        self.schemas.push(Referenced {
            name: reference.name.clone(),
            schema_type: stored.stored.schema_type,
            text: stored.stored.schema,
        });
        if self.schemas.len() > MOST || self.bytes > MOST_BYTES {
            return Err(too_many());
        }
        Ok(())
    }
}

fn missing(subject: &Subject, version: i32) -> Error {
    Error::UnsupportedSchema(format!(
        "No schema reference found for subject \"{subject}\" and version {version}"
    ))
}

fn too_many() -> Error {
    Error::UnsupportedSchema("it refers to too many or too large schemas".to_owned())
}
