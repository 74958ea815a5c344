//! Deleting versions and subjects: softly first, and then, if somebody insists, for good.

use super::Registry;
use super::change::Change;
use crate::error::Error;
use crate::journal::ScopeRecord;
use crate::store::{Deleted, Page, SubjectVersion, deletion, listing, settings};
use crate::subject::{Scope, Subject, VersionNumber};

impl Registry {
    /// Soft-deletes all versions of the subject and forgets its settings and mode, or removes what
    /// was soft-deleted before.
    pub async fn delete_subject(
        &self,
        subject: &Subject,
        permanent: bool,
    ) -> Result<Vec<i32>, Error> {
        let scope = Scope::from(subject);
        let mut change = self.begin_deleting(subject).await?;
        let versions = deletion::all_within(change.connection(), &scope).await?;
        if versions.is_empty() {
            return Err(Error::SubjectNotFound(subject.clone()));
        }
        let lives = versions.iter().any(|version| !version.deleted);
        match (permanent, lives) {
            (true, true) => return Err(Error::SubjectNotSoftDeleted(subject.clone())),
            (false, false) => return Err(Error::SubjectSoftDeleted(subject.clone())),
            _ => {}
        }
        let concerned: Vec<_> = versions
            .into_iter()
            .filter(|version| permanent || !version.deleted)
            .collect();
        let among = if permanent {
            Deleted::With
        } else {
            Deleted::Without
        };
        for version in &concerned {
            let number = Some(version.version);
            let referring =
                listing::referring(change.connection(), subject, number, among, Some(subject));
            if !referring.await?.is_empty() {
                return Err(Error::ReferenceExists(subject.clone(), version.version));
            }
        }
        let numbers = concerned.iter().map(|version| version.version).collect();
        for version in concerned {
            delete(&mut change, subject, version, permanent).await?;
        }
        if settings::delete(change.connection(), &scope).await? {
            let number = change.number().await?;
            change.record(ScopeRecord::settings(&scope, None, number));
        }
        if settings::delete_mode(change.connection(), &scope).await? {
            let number = change.number().await?;
            change.record(ScopeRecord::mode(&scope, None, number));
        }
        change.commit().await?;
        tracing::info!(%subject, permanent, "deleted subject {subject}");
        Ok(numbers)
    }

    /// Soft-deletes the version, or removes it if it was soft-deleted before.
    pub async fn delete_version(
        &self,
        subject: &Subject,
        version: VersionNumber,
        permanent: bool,
    ) -> Result<i32, Error> {
        let mut change = self.begin_deleting(subject).await?;
        let found = listing::version(change.connection(), subject, version, Deleted::With).await?;
        let Some(found) = found else {
            let page = Page {
                offset: 0,
                limit: 1,
            };
            let any =
                listing::version_numbers(change.connection(), subject, Deleted::With, page).await?;
            return Err(if any.is_empty() {
                Error::SubjectNotFound(subject.clone())
            } else {
                Error::VersionNotFound(version)
            });
        };
        match (permanent, found.deleted) {
            (true, false) => return Err(Error::VersionNotSoftDeleted(subject.clone(), version)),
            (false, true) => return Err(Error::VersionSoftDeleted(subject.clone(), version)),
            _ => {}
        }
        let among = if permanent {
            Deleted::With
        } else {
            Deleted::Without
        };
        let number = found.version;
        let referring = listing::referring(change.connection(), subject, Some(number), among, None);
        if !referring.await?.is_empty() {
            return Err(Error::ReferenceExists(subject.clone(), number));
        }
        delete(&mut change, subject, found, permanent).await?;
        change.commit().await?;
        tracing::info!(%subject, number, permanent, "deleted version {number} of {subject}");
        Ok(number)
    }

    async fn begin_deleting(&self, subject: &Subject) -> Result<Change, Error> {
        let mut change = Change::begin(self, subject.as_str()).await?;
        let mode = settings::mode_in_scope(change.connection(), &Scope::from(subject)).await?;
        if mode.is_read_only() {
            return Err(Error::NotPermitted(format!(
                "Subject {subject} is in read-only mode"
            )));
        }
        Ok(change)
    }
}

/// Marks or removes the version, and records it.
pub(super) async fn delete(
    change: &mut Change,
    subject: &Subject,
    version: SubjectVersion,
    permanent: bool,
) -> Result<(), Error> {
    let number = change.number().await?;
    let (id, version) = (version.id, version.version);
    if permanent {
        change.record_removal(subject, version, number).await?;
        deletion::remove(change.connection(), subject, version).await?;
        change.forget(id);
    } else {
        deletion::mark(change.connection(), subject, version, number).await?;
        change.record_version(subject, version, number).await?;
    }
    Ok(())
}
