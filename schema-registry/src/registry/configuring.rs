//! Settings and modes.

use super::Registry;
use super::change::Change;
use super::deleting::delete;
use crate::error::Error;
use crate::journal::ScopeRecord;
use crate::mode::Mode;
use crate::settings::{Settings, SettingsUpdate};
use crate::store::{Deleted, deletion, listing, settings};
use crate::subject::{Scope, Subject};

impl Registry {
    /// The scope's own settings; with `default_to_global`, what it has not set itself comes from
    /// those above it.
    pub async fn settings(
        &self,
        scope: &Scope,
        default_to_global: bool,
    ) -> Result<Settings, Error> {
        let mut connection = self.connection().await?;
        if default_to_global || scope.is_global() {
            return Ok(settings::in_scope(&mut *connection, scope).await?);
        }
        let own = settings::find(&mut *connection, scope).await?;
        own.ok_or_else(|| Error::NoSubjectConfig(scope.clone()))
    }

    /// Changes the settings of the scope itself.
    pub async fn set(&self, scope: &Scope, update: &SettingsUpdate) -> Result<(), Error> {
        let mut change = Change::begin(self, scope.key()).await?;
        let own = settings::find(change.connection(), scope).await?;
        let changed = update
            .apply(&own.unwrap_or_default())
            .map_err(Error::UnexpectedJson)?;
        let number = change.number().await?;
        settings::put(change.connection(), scope, &changed, number).await?;
        change.record(ScopeRecord::settings(scope, Some(changed), number));
        change.commit().await
    }

    /// Removes the settings, so that those above them hold; answers with what they were.
    pub async fn delete_settings(&self, scope: &Scope) -> Result<Settings, Error> {
        let mut change = Change::begin(self, scope.key()).await?;
        let own = settings::find(change.connection(), scope).await?;
        if own.is_none() && !scope.is_global() {
            return Err(Error::ScopeNotFound(scope.clone()));
        }
        if settings::delete(change.connection(), scope).await? {
            let number = change.number().await?;
            change.record(ScopeRecord::settings(scope, None, number));
        }
        change.commit().await?;
        let own = own.unwrap_or_default();
        Ok(if scope.is_global() {
            own.or_default()
        } else {
            own
        })
    }

    /// The scope's own mode, or with `default_to_global` the one that holds in it.
    pub async fn mode(&self, scope: &Scope, default_to_global: bool) -> Result<Mode, Error> {
        let mut connection = self.connection().await?;
        if default_to_global || scope.is_global() {
            return Ok(settings::mode_in_scope(&mut *connection, scope).await?);
        }
        let own = settings::find_mode(&mut *connection, scope).await?;
        own.ok_or_else(|| Error::NoSubjectMode(scope.clone()))
    }

    /// Sets the mode. Where there are schemas already, `IMPORT` is refused unless it is forced:
    /// their ids might be those of what is imported. Soft-deleted ones are removed for it.
    pub async fn set_mode(&self, scope: &Scope, mode: Mode, force: bool) -> Result<(), Error> {
        // An import may remove what is soft-deleted, of all subjects.
        let mut change = Change::begin_alone(self).await?;
        let before = settings::mode_in_scope(change.connection(), scope).await?;
        if mode == Mode::Import && before != Mode::Import && !force {
            let versions = deletion::all_within(change.connection(), scope).await?;
            if versions.iter().any(|version| !version.deleted) {
                return Err(Error::NotPermitted(
                    "Cannot import since found existing subjects".to_owned(),
                ));
            }
            for version in versions.into_iter().rev() {
                let subject = Subject::parse(&version.subject)?;
                let number = Some(version.version);
                let referring =
                    listing::referring(change.connection(), &subject, number, Deleted::With, None);
                if !referring.await?.is_empty() {
                    return Err(Error::ReferenceExists(subject, version.version));
                }
                delete(&mut change, &subject, version, true).await?;
            }
        }
        let number = change.number().await?;
        settings::put_mode(change.connection(), scope, mode, number).await?;
        change.record(ScopeRecord::mode(scope, Some(mode), number));
        change.commit().await?;
        tracing::info!(%scope, "set the mode of '{scope}' to {}", mode.name());
        Ok(())
    }

    /// Removes the mode, so that the one above holds; answers with what it was.
    pub async fn delete_mode(&self, scope: &Scope) -> Result<Mode, Error> {
        let mut change = Change::begin(self, scope.key()).await?;
        let own = settings::find_mode(change.connection(), scope).await?;
        if own.is_none() && !scope.is_global() {
            return Err(Error::ScopeNotFound(scope.clone()));
        }
        if settings::delete_mode(change.connection(), scope).await? {
            let number = change.number().await?;
            change.record(ScopeRecord::mode(scope, None, number));
        }
        change.commit().await?;
        Ok(own.unwrap_or(Mode::ReadWrite))
    }
}
