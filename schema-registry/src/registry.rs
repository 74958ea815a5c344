//! What the registry does, each use case once: the routes call these, and so may a program that
//! has the registry inside of it.

use std::sync::Arc;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::postgres::PgPool;

use crate::avro::AvroSchema;
use crate::content::{Candidate, Submitted};
use crate::error::Error;
use crate::level::{Earlier, Level};
use crate::offload;
use crate::settings::Settings;
use crate::store::{Deleted, Page, Place, Registered, StoredSchema, SubjectVersion};
use crate::store::{deletion, listing, registration, settings};
use crate::subject::{Subject, VersionNumber};

/// The schema registry. It keeps nothing but the pool: any number of them may work on one database.
#[derive(Clone, Debug)]
pub struct Registry {
    pool: PgPool,
}

impl Registry {
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Creates the tables or brings them up to date. Instances that start at once wait for one
    /// another; other migrators on the same database are not touched, since both our tables and
    /// the list of our migrations are in the schema `registry`.
    pub async fn migrate(&self) -> Result<(), MigrateError> {
        let mut migrator: Migrator = sqlx::migrate!("../migrations/registry");
        migrator.create_schema("registry");
        migrator.dangerous_set_table_name("registry.migrations");
        // Not returned to the pool: if a migration fails, the migrator leaves its lock behind.
        let mut connection = self.pool.acquire().await?.detach();
        // A migration may take as long as it takes.
        sqlx::query("set statement_timeout = 0")
            .execute(&mut connection)
            .await?;
        migrator.run_direct(None, &mut connection, false).await
    }

    /// Makes the schema the newest version of the subject, if it is compatible with the earlier
    /// ones at the subject's level. A schema that the subject has already stays what it is.
    ///
    /// A schema without metadata or rules takes those of the version before it.
    pub async fn register(
        &self,
        subject: &Subject,
        submitted: Submitted,
    ) -> Result<Registered, Error> {
        if [submitted.id, submitted.version]
            .into_iter()
            .flatten()
            .any(|number| number > 0)
        {
            return Err(Error::NotInImportMode(subject.clone()));
        }
        let mut candidate = Candidate::read(submitted).await?;
        if let Some(registered) =
            registration::find_registered(&self.pool, subject, &candidate.content).await?
        {
            return Ok(registered);
        }
        let mut transaction = self.pool.begin().await?;
        registration::lock_subject(&mut transaction, subject).await?;
        let level = effective_settings(&mut transaction, Some(subject))
            .await?
            .level();
        let earlier =
            registration::earlier(&mut *transaction, subject, level.is_transitive()).await?;
        if let Some(previous) = earlier.first() {
            candidate.content.inherit(previous);
        }
        if let Some(registered) =
            registration::find_registered(&mut *transaction, subject, &candidate.content).await?
        {
            return Ok(registered);
        }
        let objections = objections(level, &candidate.avro, earlier).await?;
        if !objections.is_empty() {
            return Err(Error::Incompatible {
                subject: subject.clone(),
                objections,
            });
        }
        let id = registration::intern(&mut transaction, &candidate.content).await?;
        let version = registration::append_version(&mut transaction, subject, id).await?;
        transaction.commit().await?;
        tracing::info!(%subject, version, id, "registered version {version} of {subject} with id {id}");
        Ok(Registered { id, version })
    }

    /// The version of the subject that has this schema.
    pub async fn look_up(
        &self,
        subject: &Subject,
        submitted: Submitted,
        deleted: Deleted,
    ) -> Result<SubjectVersion, Error> {
        let candidate = Candidate::read(submitted).await?;
        match listing::look_up(&self.pool, subject, &candidate.content, deleted).await? {
            Some(found) => Ok(found),
            None => {
                self.versions(subject, deleted).await?;
                Err(Error::SchemaNotFound)
            }
        }
    }

    pub async fn subjects(
        &self,
        prefix: &str,
        deleted: Deleted,
        page: Page,
    ) -> Result<Vec<String>, Error> {
        Ok(listing::subjects(&self.pool, prefix, deleted, page).await?)
    }

    /// The numbers of the subject's versions; an error if there are none.
    pub async fn versions(&self, subject: &Subject, deleted: Deleted) -> Result<Vec<i32>, Error> {
        match listing::version_numbers(&self.pool, subject, deleted).await? {
            versions if versions.is_empty() => Err(Error::SubjectNotFound(subject.clone())),
            versions => Ok(versions),
        }
    }

    pub async fn version(
        &self,
        subject: &Subject,
        version: VersionNumber,
        deleted: Deleted,
    ) -> Result<SubjectVersion, Error> {
        match listing::version(&self.pool, subject, version, deleted).await? {
            Some(found) => Ok(found),
            None => {
                self.versions(subject, deleted).await?;
                Err(Error::VersionNotFound(version))
            }
        }
    }

    /// All versions of all subjects with the prefix, or the newest of each.
    pub async fn schemas(
        &self,
        prefix: &str,
        deleted: Deleted,
        latest_only: bool,
        page: Page,
    ) -> Result<Vec<SubjectVersion>, Error> {
        Ok(listing::schemas(&self.pool, prefix, deleted, latest_only, page).await?)
    }

    pub async fn schema_by_id(&self, id: i32) -> Result<StoredSchema, Error> {
        listing::schema_by_id(&self.pool, id)
            .await?
            .ok_or(Error::IdNotFound(id))
    }

    /// The subjects and versions that have the schema.
    pub async fn places(&self, id: i32, deleted: Deleted) -> Result<Vec<Place>, Error> {
        match listing::places(&self.pool, id, deleted).await? {
            places if places.is_empty() => Err(Error::IdNotFound(id)),
            places => Ok(places),
        }
    }

    /// Why the schema could not become the next version of the subject, nothing if it could: held
    /// against the one version that is named, or else against those that registering looks at.
    pub async fn objections(
        &self,
        subject: &Subject,
        version: Option<VersionNumber>,
        submitted: Submitted,
    ) -> Result<Vec<String>, Error> {
        let candidate = Candidate::read(submitted).await?;
        let mut connection = self.pool.acquire().await?;
        let level = effective_settings(&mut connection, Some(subject))
            .await?
            .level();
        let earlier = match version {
            None => registration::earlier(&mut *connection, subject, level.is_transitive()).await?,
            Some(version) => {
                let found =
                    listing::version(&mut *connection, subject, version, Deleted::Without).await?;
                if found.is_none() && version != VersionNumber::Latest {
                    return Err(Error::VersionNotFound(version));
                }
                found.map(Earlier::from).into_iter().collect()
            }
        };
        drop(connection);
        objections(level, &candidate.avro, earlier).await
    }

    /// Soft-deletes all versions of the subject and forgets its settings, or removes what was
    /// soft-deleted before.
    pub async fn delete_subject(
        &self,
        subject: &Subject,
        permanent: bool,
    ) -> Result<Vec<i32>, Error> {
        let mut transaction = self.pool.begin().await?;
        registration::lock_subject(&mut transaction, subject).await?;
        if listing::version_numbers(&mut *transaction, subject, Deleted::With)
            .await?
            .is_empty()
        {
            return Err(Error::SubjectNotFound(subject.clone()));
        }
        let lives = !listing::version_numbers(&mut *transaction, subject, Deleted::Without)
            .await?
            .is_empty();
        let versions = match (permanent, lives) {
            (true, true) => return Err(Error::SubjectNotSoftDeleted(subject.clone())),
            (false, false) => return Err(Error::SubjectSoftDeleted(subject.clone())),
            (true, false) => deletion::remove(&mut transaction, subject, None).await?,
            (false, true) => deletion::mark(&mut transaction, subject, None).await?,
        };
        settings::delete(&mut *transaction, Some(subject)).await?;
        transaction.commit().await?;
        tracing::info!(%subject, permanent, "deleted subject {subject}");
        Ok(versions)
    }

    /// Soft-deletes the version, or removes it if it was soft-deleted before.
    pub async fn delete_version(
        &self,
        subject: &Subject,
        version: VersionNumber,
        permanent: bool,
    ) -> Result<i32, Error> {
        let mut transaction = self.pool.begin().await?;
        registration::lock_subject(&mut transaction, subject).await?;
        let Some(found) =
            listing::version(&mut *transaction, subject, version, Deleted::With).await?
        else {
            return Err(
                match listing::version_numbers(&mut *transaction, subject, Deleted::With).await? {
                    versions if versions.is_empty() => Error::SubjectNotFound(subject.clone()),
                    _ => Error::VersionNotFound(version),
                },
            );
        };
        match (permanent, found.deleted) {
            (true, false) => return Err(Error::VersionNotSoftDeleted(subject.clone(), version)),
            (false, true) => return Err(Error::VersionSoftDeleted(subject.clone(), version)),
            (true, true) => {
                deletion::remove(&mut transaction, subject, Some(found.version)).await?
            }
            (false, false) => {
                deletion::mark(&mut transaction, subject, Some(found.version)).await?
            }
        };
        transaction.commit().await?;
        tracing::info!(%subject, found.version, permanent, "deleted version {} of {subject}", found.version);
        Ok(found.version)
    }

    /// The settings of the whole registry.
    pub async fn global_settings(&self) -> Result<Settings, Error> {
        effective_settings(&mut *self.pool.acquire().await?, None).await
    }

    /// The subject's own settings; with `default_to_global`, what it has not set itself comes from
    /// the registry's.
    pub async fn subject_settings(
        &self,
        subject: &Subject,
        default_to_global: bool,
    ) -> Result<Settings, Error> {
        if default_to_global {
            return effective_settings(&mut *self.pool.acquire().await?, Some(subject)).await;
        }
        let own = settings::find(&self.pool, Some(subject)).await?;
        own.ok_or_else(|| Error::NoSubjectConfig(subject.clone()))
    }

    /// Adds to the settings of the subject, or of the registry if there is none.
    pub async fn set(&self, subject: Option<&Subject>, settings: &Settings) -> Result<(), Error> {
        Ok(settings::add(&self.pool, subject, settings).await?)
    }

    /// Removes the settings, so that those above them hold; answers with what they were.
    pub async fn delete_settings(&self, subject: Option<&Subject>) -> Result<Settings, Error> {
        let deleted = settings::delete(&self.pool, subject).await?;
        match (deleted, subject) {
            (Some(settings), Some(_)) => Ok(settings),
            (None, Some(subject)) => Err(Error::SubjectNotFound(subject.clone())),
            (settings, None) => Ok(settings.unwrap_or_default().or_default()),
        }
    }

    /// Whether the tables can be read.
    pub async fn ping(&self) -> Result<(), Error> {
        sqlx::query("select from registry.settings limit 1")
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

async fn effective_settings(
    connection: &mut sqlx::PgConnection,
    subject: Option<&Subject>,
) -> Result<Settings, Error> {
    let global = settings::find(&mut *connection, None)
        .await?
        .unwrap_or_default()
        .or_default();
    match subject {
        None => Ok(global),
        Some(_) => Ok(settings::find(connection, subject)
            .await?
            .unwrap_or_default()
            .or(&global)),
    }
}

async fn objections(
    level: Level,
    candidate: &Arc<AvroSchema>,
    earlier: Vec<Earlier>,
) -> Result<Vec<String>, Error> {
    let candidate = Arc::clone(candidate);
    let bytes = candidate.text_bytes() + earlier.iter().map(|one| one.schema.len()).sum::<usize>();
    offload::run(bytes, move || level.objections(&candidate, &earlier))
        .await?
        .map_err(Error::TooComplex)
}
