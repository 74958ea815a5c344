//! What the registry does, each use case once: the routes call these, and so may a program that
//! has the registry inside of it.
//!
//! Here is what is asked; `change` is the way that all changes take, `registering`, `deleting`,
//! `configuring` and `mending` are the changes.

mod change;
mod configuring;
mod deleting;
mod mending;
mod registering;

use std::collections::BTreeMap;
use std::sync::Arc;

use sqlx::Postgres;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::PgPool;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::contract::Metadata;
use crate::error::Error;
use crate::journal::{Journal, RestoreError};
use crate::memory::{Memory, Question};
use crate::offload;
use crate::references;
use crate::schema::{Schema, SchemaType};
use crate::store::{Deleted, Page, Place, Prefix, StoredSchema, SubjectVersion, listing, settings};
use crate::subject::{Scope, Subject, VersionNumber};

pub use mending::MendedRules;
pub use registering::Registered;

/// The schema registry. What counts is in the database: any number of registries may work on one.
#[derive(Clone, Debug)]
pub struct Registry {
    pool: PgPool,
    /// Changes under way: they leave connections to those who only ask.
    turns: Arc<Semaphore>,
    /// Where each change is written before it is answered.
    journal: Option<Journal>,
    memory: Memory,
}

impl Registry {
    /// A registry that keeps everything in the database alone.
    pub fn new(pool: PgPool) -> Self {
        let most_changes = (pool.options().get_max_connections() as usize * 3 / 4).max(1);
        Self {
            pool,
            turns: Arc::new(Semaphore::new(most_changes)),
            journal: None,
            memory: Memory::new(),
        }
    }

    /// The same, with a topic that every change is written to before it is answered. It answers
    /// nothing until [`restore`](Self::restore) has worked once.
    pub(crate) fn with_journal(self, journal: Journal) -> Self {
        Self {
            journal: Some(journal),
            ..self
        }
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

    pub(crate) fn has_topic(&self) -> bool {
        self.journal.is_some()
    }

    /// Brings database and topic to the same state; see [`Journal::restore`].
    pub(crate) async fn restore(&self) -> Result<(), RestoreError> {
        match &self.journal {
            Some(journal) => journal.restore(&self.pool).await,
            None => Ok(()),
        }
    }

    pub async fn subjects(
        &self,
        prefix: &Prefix,
        deleted: Deleted,
        page: Page,
    ) -> Result<Vec<String>, Error> {
        Ok(listing::subjects(&mut *self.connection().await?, prefix, deleted, page).await?)
    }

    /// The contexts that have subjects; the default one, `.`, always does.
    pub async fn contexts(&self) -> Result<Vec<String>, Error> {
        let mut contexts = vec![".".to_owned()];
        contexts.extend(listing::contexts(&mut *self.connection().await?).await?);
        Ok(contexts)
    }

    /// The numbers of the subject's versions; an error if there are none.
    pub async fn versions(
        &self,
        subject: &Subject,
        deleted: Deleted,
        page: Page,
    ) -> Result<Vec<i32>, Error> {
        let mut connection = self.connection().await?;
        let versions = listing::version_numbers(&mut *connection, subject, deleted, page).await?;
        if versions.is_empty() && !listing::exists(&mut *connection, subject, deleted).await? {
            return Err(Error::SubjectNotFound(subject.clone()));
        }
        Ok(versions)
    }

    pub async fn version(
        &self,
        subject: &Subject,
        version: VersionNumber,
        deleted: Deleted,
    ) -> Result<SubjectVersion, Error> {
        let question = Question::Version(subject.clone(), version, deleted);
        let found = async {
            let mut connection = self.connection().await?;
            let found = listing::version(&mut *connection, subject, version, deleted).await?;
            match found {
                Some(found) => Ok(found),
                None if listing::exists(&mut *connection, subject, deleted).await? => {
                    Err(Error::VersionNotFound(version))
                }
                None => Err(Error::SubjectNotFound(subject.clone())),
            }
        };
        self.memory.or_remembered(question, Box::pin(found)).await
    }

    /// The newest version of the subject whose metadata have all of these properties.
    pub async fn version_with(
        &self,
        subject: &Subject,
        properties: BTreeMap<String, String>,
        deleted: Deleted,
    ) -> Result<SubjectVersion, Error> {
        let wanted = Metadata {
            properties: Some(properties),
            ..Metadata::default()
        };
        let mut connection = self.connection().await?;
        match listing::newest_with(&mut *connection, subject, wanted, deleted).await? {
            Some(found) => Ok(found),
            None if listing::exists(&mut *connection, subject, deleted).await? => {
                Err(Error::SchemaNotFound)
            }
            None => Err(Error::SubjectNotFound(subject.clone())),
        }
    }

    /// All versions of all subjects with the prefix, or the newest of each; with `rule_type` those
    /// that have rules of this type.
    pub async fn schemas(
        &self,
        prefix: &Prefix,
        deleted: Deleted,
        latest_only: bool,
        rule_type: Option<&str>,
        page: Page,
    ) -> Result<Vec<SubjectVersion>, Error> {
        let mut connection = self.connection().await?;
        let found = listing::schemas(
            &mut *connection,
            prefix,
            deleted,
            latest_only,
            rule_type,
            page,
        );
        Ok(found.await?)
    }

    /// The schema of an id. What an id stands for never changes, so for a moment it is answered
    /// without asking the database again; and when that is away, for as long as it is remembered.
    pub async fn schema_by_id(&self, id: i32) -> Result<Arc<StoredSchema>, Error> {
        if let Some(known) = self.memory.fresh_schema(id) {
            return Ok(known);
        }
        let found = async {
            let mut connection = self.connection().await?;
            let found = listing::schema_by_id(&mut *connection, id).await?;
            found.ok_or(Error::IdNotFound(id))
        };
        let found = Box::pin(found);
        self.memory.schema_or_remembered(id, found).await
    }

    /// The id of the schema with this guid, which is the same in all contexts.
    pub async fn id_of_guid(&self, guid: Uuid) -> Result<i32, Error> {
        let mut connection = self.connection().await?;
        let id = listing::id_of_guid(&mut *connection, guid).await?;
        id.ok_or(Error::GuidNotFound(guid))
    }

    /// The highest id that is in use.
    pub async fn highest_id(&self) -> Result<i32, Error> {
        Ok(listing::highest_id(&mut *self.connection().await?).await?)
    }

    /// The schema's text with what it refers to where it is used first.
    pub async fn resolved(
        &self,
        subject: &Subject,
        stored: &StoredSchema,
    ) -> Result<String, Error> {
        let mut references = stored.references.0.clone();
        let mut connection = self.connection().await?;
        let referenced = references::resolve(&mut connection, subject, &mut references).await?;
        drop(connection);
        let text = stored.schema.clone();
        let type_ = SchemaType::parse(Some(&stored.schema_type))?;
        let bytes = text.len() + referenced.iter().map(|it| it.text.len()).sum::<usize>();
        offload::run(bytes, move || {
            let schema = Schema::parse(type_, &referenced, &text)?;
            Ok(schema.resolved().unwrap_or(text))
        })
        .await?
    }

    /// The subjects and versions that have the schema.
    pub async fn places(&self, id: i32, deleted: Deleted) -> Result<Vec<Place>, Error> {
        let mut connection = self.connection().await?;
        let places = listing::places(&mut *connection, id, deleted).await?;
        if places.is_empty() {
            // A schema of which all versions are soft-deleted is there, but nowhere.
            let found = listing::schema_by_id(&mut *connection, id).await?;
            found.ok_or(Error::IdNotFound(id))?;
        }
        Ok(places)
    }

    /// The ids of the schemas that refer to the version.
    pub async fn referring(
        &self,
        subject: &Subject,
        version: VersionNumber,
        deleted: Deleted,
    ) -> Result<Vec<i32>, Error> {
        let found = self.version(subject, version, Deleted::With).await?;
        let mut connection = self.connection().await?;
        let version = Some(found.version);
        Ok(listing::referring(&mut *connection, subject, version, deleted, None).await?)
    }

    /// The subject that is meant by this name: another one, if that is its alias.
    pub async fn meant(&self, named: Subject) -> Result<Subject, Error> {
        let alias = match self.memory.fresh_alias(&named) {
            Some(alias) => alias,
            None => {
                let found = async {
                    let scope = Scope::from(&named);
                    let own = settings::find(&mut *self.connection().await?, &scope).await?;
                    Ok(own.and_then(|own| own.alias))
                };
                let found = Box::pin(found);
                self.memory.alias_or_remembered(&named, found).await?
            }
        };
        match alias {
            Some(alias) => named.sibling(&alias),
            None => Ok(named),
        }
    }

    /// Which registry this is: the same for all instances on one database, and for one that was
    /// restored from its topic.
    pub async fn identity(&self) -> Result<Uuid, Error> {
        let identity = sqlx::query_scalar("select identity from registry.identity")
            .fetch_one(&mut *self.connection().await?)
            .await?;
        Ok(identity)
    }

    /// Whether the tables can be read.
    pub async fn ping(&self) -> Result<(), Error> {
        sqlx::query("select from registry.settings limit 1")
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    async fn connection(&self) -> Result<PoolConnection<Postgres>, Error> {
        if let Some(journal) = &self.journal
            && !journal.is_restored()
        {
            return Err(Error::NotRestored);
        }
        Ok(self.pool.acquire().await?)
    }
}
