//! Registering a schema, looking one up, and asking whether one could be registered.

use std::sync::Arc;

use serde::Serialize;
use sqlx::PgConnection;
use sqlx::types::Json;
use utoipa::ToSchema;

use super::Registry;
use super::change::Change;
use crate::avro::{Steps, TooComplex};
use crate::content::{Candidate, Content, Submitted};
use crate::contract::{Metadata, VERSION_PROPERTY};
use crate::error::Error;
use crate::level::{Earlier, Level};
use crate::memory::Question;
use crate::mode::Mode;
use crate::offload;
use crate::references;
use crate::settings::Settings;
use crate::store::registration::Outline;
use crate::store::{Deleted, StoredSchema, SubjectVersion, listing, registration, settings};
use crate::subject::{Scope, Subject, VersionNumber};

/// What a registration answers: the id, and the version of the subject that has it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Registered {
    pub id: i32,
    pub version: i32,
    #[serde(flatten)]
    pub stored: StoredSchema,
}

impl From<SubjectVersion> for Registered {
    fn from(found: SubjectVersion) -> Self {
        Self {
            id: found.id,
            version: found.version,
            stored: found.stored,
        }
    }
}

/// What a registration wants beside the schema.
struct Wish {
    id: Option<i32>,
    /// Unset: the subject's version that has the schema already, or else the next one. `Latest`:
    /// the next one in any case, which then says of itself which it is. A number: that one.
    version: Option<VersionNumber>,
}

impl Registry {
    /// Makes the schema the newest version of the subject, if it is compatible with the earlier
    /// ones at the subject's level. A schema that the subject has already stays what it is.
    ///
    /// A schema without metadata or rules takes those of the version before it. A version that is
    /// asked for and is not the next one is refused, which lets a client compare and set. In mode
    /// `IMPORT` the client says the id, and nothing is compared.
    pub async fn register(
        &self,
        subject: &Subject,
        submitted: Submitted,
    ) -> Result<Registered, Error> {
        let wish = Wish::of(&submitted)?;
        let scope = Scope::from(subject);
        let mut connection = self.connection().await?;
        let mode = settings::mode_in_scope(&mut *connection, &scope).await?;
        wish.check(subject, mode)?;
        let candidate = Candidate::read(&mut connection, subject, submitted).await?;
        if mode == Mode::Import {
            drop(connection);
            return self.import(subject, candidate.content, &wish).await;
        }
        if wish.version.is_none() {
            let found = find_live(&mut connection, subject, &candidate.content).await?;
            if let Some(found) = found {
                return Ok(found.into());
            }
        }
        drop(connection);
        self.append(subject, candidate, &wish).await
    }

    async fn append(
        &self,
        subject: &Subject,
        mut candidate: Candidate,
        wish: &Wish,
    ) -> Result<Registered, Error> {
        let mut change = Change::begin(self, subject.as_str()).await?;
        let scope = Scope::from(subject);
        // Asked again, now that nobody else changes the subject.
        let mode = settings::mode_in_scope(change.connection(), &scope).await?;
        wish.check(subject, mode)?;
        let settings = settings::in_scope(change.connection(), &scope).await?;
        let latest = VersionNumber::Latest;
        let previous =
            listing::version(change.connection(), subject, latest, Deleted::Without).await?;
        let stored = previous.as_ref().map(|newest| &newest.stored);
        candidate.content.complete(&settings, stored);
        if wish.version.is_none() {
            let found = find_live(change.connection(), subject, &candidate.content).await?;
            if let Some(found) = found {
                return Ok(found.into());
            }
        }
        let next = registration::next_version(change.connection(), subject).await?;
        let numbered = candidate
            .content
            .metadata
            .as_ref()
            .is_some_and(|metadata| metadata.property(VERSION_PROPERTY).is_some());
        if wish.version.is_some() || numbered {
            let metadata = candidate.content.metadata.get_or_insert_default();
            metadata.set_version(next);
        }
        if matches!(wish.version, Some(VersionNumber::Number(number)) if number != next) {
            return Err(Error::UnsupportedSchema(format!(
                "Version is not one more than previous version: the next is {next}"
            )));
        }
        let mut steps = Steps::new();
        let heard = Against::All { newest: previous }
            .heard(
                change.connection(),
                subject,
                &settings,
                &candidate.content,
                &mut steps,
            )
            .await?;
        let objections = objections(&settings, &candidate, heard, steps).await?;
        if !objections.is_empty() {
            return Err(Error::Incompatible {
                subject: subject.clone(),
                objections,
            });
        }
        put(change, subject, candidate.content, next, None).await
    }

    async fn import(
        &self,
        subject: &Subject,
        content: Content,
        wish: &Wish,
    ) -> Result<Registered, Error> {
        let mut change = Change::begin(self, subject.as_str()).await?;
        let wanted = wish.id.ok_or_else(|| {
            Error::NotPermitted(format!("Subject {subject} is not in read-write mode"))
        })?;
        match registration::id_of(change.connection(), &content).await? {
            Some(id) if id != wanted => return Err(Error::IdDoesNotMatch { id, wanted }),
            Some(_) => {}
            None if registration::is_taken(change.connection(), wanted).await? => {
                return Err(Error::NotPermitted(format!(
                    "Overwrite new schema with id {wanted} is not permitted."
                )));
            }
            None => {}
        }
        let version = match wish.version {
            Some(VersionNumber::Number(number)) => number,
            _ => registration::next_version(change.connection(), subject).await?,
        };
        let number = VersionNumber::Number(version);
        let there =
            listing::version(change.connection(), subject, number, Deleted::Without).await?;
        match there {
            Some(there) if there.id == wanted => Ok(there.into()),
            Some(_) => Err(Error::NotPermitted(format!(
                "Overwrite version {version} of subject {subject} is not permitted."
            ))),
            None => put(change, subject, content, version, Some(wanted)).await,
        }
    }

    /// The version of the subject that has this schema: exactly, or completed as registering would
    /// complete it, or else the newest that differs in metadata and rules only, if the schema says
    /// nothing about these.
    pub async fn look_up(
        &self,
        subject: &Subject,
        submitted: Submitted,
        deleted: Deleted,
    ) -> Result<SubjectVersion, Error> {
        let question = Question::look_up(subject, &submitted, deleted);
        let found = async {
            let mut connection = self.connection().await?;
            let candidate = Candidate::read(&mut connection, subject, submitted).await?;
            look_up(&mut connection, subject, candidate.content, deleted).await
        };
        self.memory.or_remembered(question, Box::pin(found)).await
    }

    /// Why the schema could not become the next version of the subject, nothing if it could: held
    /// against the one version that is named, or else against those that registering looks at.
    pub async fn objections(
        &self,
        subject: &Subject,
        version: Option<VersionNumber>,
        submitted: Submitted,
    ) -> Result<Vec<String>, Error> {
        let mut connection = self.connection().await?;
        let near = version.unwrap_or(VersionNumber::Latest);
        let near = listing::version(&mut *connection, subject, near, Deleted::Without).await?;
        let against = match (version, near) {
            (Some(VersionNumber::Number(number)), None) => {
                return Err(Error::VersionNotFound(VersionNumber::Number(number)));
            }
            (Some(_), named) => Against::Named(named),
            (None, newest) => Against::All { newest },
        };
        let candidate = Candidate::read(&mut connection, subject, submitted).await?;
        let settings = settings::in_scope(&mut *connection, &Scope::from(subject)).await?;
        let mut steps = Steps::new();
        let heard = against
            .heard(
                &mut connection,
                subject,
                &settings,
                &candidate.content,
                &mut steps,
            )
            .await?;
        drop(connection);
        objections(&settings, &candidate, heard, steps).await
    }
}

impl Wish {
    fn of(submitted: &Submitted) -> Result<Self, Error> {
        let id = match submitted.id {
            None | Some(..0) => None,
            Some(id) => match i32::try_from(id) {
                Ok(id @ 1..) => Some(id),
                _ => return Err(Error::UnsupportedSchema(format!("{id} is not a valid id"))),
            },
        };
        let version = match submitted.version {
            None | Some(0) => None,
            Some(-1) => Some(VersionNumber::Latest),
            Some(number) => Some(VersionNumber::parse(&number.to_string())?),
        };
        Ok(Self { id, version })
    }

    fn check(&self, subject: &Subject, mode: Mode) -> Result<(), Error> {
        let missing = match (mode, self.id) {
            (mode, _) if mode.is_read_only() => {
                return Err(Error::NotPermitted(format!(
                    "Subject {subject} is in read-only mode"
                )));
            }
            (Mode::Import, None) => "read-write",
            (Mode::Import, Some(_)) | (_, None) => return Ok(()),
            (_, Some(_)) => "import",
        };
        Err(Error::NotPermitted(format!(
            "Subject {subject} is not in {missing} mode"
        )))
    }
}

/// Gives the content its id and the subject its version, and says so.
async fn put(
    mut change: Change,
    subject: &Subject,
    content: Content,
    version: i32,
    wanted: Option<i32>,
) -> Result<Registered, Error> {
    let id = registration::intern(change.connection(), subject, &content, wanted).await?;
    let number = change.number().await?;
    registration::put_version(change.connection(), subject, version, id, number).await?;
    let registered = Registered {
        id,
        version,
        stored: StoredSchema {
            guid: content.guid(),
            schema_type: content.schema_type.name().to_owned(),
            schema: content.schema.clone(),
            references: Json(content.references.clone()),
            metadata: content.metadata.clone().map(Json),
            rule_set: content.rule_set.clone().map(Json),
        },
    };
    change.record_version(subject, version, number).await?;
    change.commit().await?;
    metrics::counter!("registry_registrations_total").increment(1);
    tracing::info!(%subject, version, id, "registered version {version} of {subject} with id {id}");
    Ok(registered)
}

async fn find_live(
    connection: &mut PgConnection,
    subject: &Subject,
    content: &Content,
) -> Result<Option<SubjectVersion>, Error> {
    Ok(listing::look_up(connection, subject, content, Deleted::Without).await?)
}

async fn look_up(
    connection: &mut PgConnection,
    subject: &Subject,
    mut content: Content,
    deleted: Deleted,
) -> Result<SubjectVersion, Error> {
    let found = listing::look_up(&mut *connection, subject, &content, deleted).await?;
    if let Some(found) = found {
        return Ok(found);
    }
    let plain = content.metadata.is_none() && content.rule_set.is_none();
    let settings = settings::in_scope(&mut *connection, &Scope::from(subject)).await?;
    let newest = listing::version(
        &mut *connection,
        subject,
        VersionNumber::Latest,
        Deleted::Without,
    );
    let newest = newest.await?;
    content.complete(&settings, newest.as_ref().map(|newest| &newest.stored));
    let mut found = listing::look_up(&mut *connection, subject, &content, deleted).await?;
    if found.is_none() && plain {
        found = listing::look_up_plain(&mut *connection, subject, &content, deleted).await?;
    }
    match found {
        Some(found) => Ok(found),
        None if listing::exists(&mut *connection, subject, deleted).await? => {
            Err(Error::SchemaNotFound)
        }
        None => Err(Error::SubjectNotFound(subject.clone())),
    }
}

/// What a schema is held against.
enum Against {
    /// The one version that is named, if it is there.
    Named(Option<SubjectVersion>),
    /// Those that registering looks at.
    All { newest: Option<SubjectVersion> },
}

impl Against {
    /// Those of the versions, newest first, that have a say about the content: of its compatibility
    /// group, and only the newest of these unless the level is a transitive one.
    async fn heard(
        self,
        connection: &mut PgConnection,
        subject: &Subject,
        settings: &Settings,
        content: &Content,
        steps: &mut Steps,
    ) -> Result<Vec<Earlier>, Error> {
        let level = settings.level();
        let group = settings.compatibility_group.as_deref();
        let value = |metadata: Option<&Metadata>| {
            let value = metadata?.property(group?)?;
            Some(value.to_owned())
        };
        let own = value(content.metadata.as_ref());
        let found = match self {
            _ if level == Level::None => Vec::new(),
            Self::Named(named) => named
                .into_iter()
                .filter(|named| value(named.stored.metadata.as_deref()) == own)
                .collect(),
            Self::All { newest } if group.is_none() && !level.is_transitive() => {
                newest.into_iter().collect()
            }
            Self::All { .. } => {
                let most = (!level.is_transitive()).then_some(1);
                let group = group.map(|group| (group, own.as_deref()));
                let live =
                    registration::live_versions(&mut *connection, subject, group, most).await?;
                // Nothing is fetched that could not be compared.
                if live.len() > 1 {
                    Steps::new()
                        .spend_on_text(live.iter().map(Outline::bytes).sum())
                        .map_err(|_| Error::TooManyVersions {
                            versions: live.len(),
                        })?;
                }
                let numbers: Vec<i32> = live.iter().map(|one| one.version).collect();
                registration::versions(&mut *connection, subject, &numbers).await?
            }
        };
        let versions = found.len();
        let mut heard = Vec::with_capacity(versions);
        for one in found {
            let earlier = earlier(&mut *connection, one).await?;
            steps
                .spend_on_text(earlier.bytes())
                .map_err(|error| too_complex(error, versions))?;
            heard.push(earlier);
        }
        Ok(heard)
    }
}

fn too_complex(error: TooComplex, versions: usize) -> Error {
    if versions > 1 {
        Error::TooManyVersions { versions }
    } else {
        Error::TooComplex(error)
    }
}

async fn earlier(connection: &mut PgConnection, found: SubjectVersion) -> Result<Earlier, Error> {
    let subject = Subject::parse(&found.subject)?;
    let mut references = found.stored.references.0;
    Ok(Earlier {
        version: found.version,
        schema_type: found.stored.schema_type,
        schema: found.stored.schema,
        referenced: references::resolve(connection, &subject, &mut references).await?,
    })
}

async fn objections(
    settings: &Settings,
    candidate: &Candidate,
    earlier: Vec<Earlier>,
    mut steps: Steps,
) -> Result<Vec<String>, Error> {
    let level = settings.level();
    let schema = Arc::clone(&candidate.schema);
    let bytes = schema.text_bytes() + earlier.iter().map(Earlier::bytes).sum::<usize>();
    let versions = earlier.len();
    offload::run(bytes, move || {
        level.objections(&schema, &earlier, &mut steps)
    })
    .await?
    .map_err(|error| too_complex(error, versions))
}
