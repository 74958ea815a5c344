//! The stack of the tests: one for all that run together, apart from the tests that kill their own.

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::sync::OnceCell;

use crate::data_folder::wipe;
use crate::error::StackError;
use crate::postgres_wire::{Session, WireError};
use crate::stack::{DevStack, Options, Source};

/// The servers that `ANNALS_KAFKA` and `ANNALS_POSTGRES` name (`./test` sets them), otherwise a private stack that
/// ends with this process. Tests keep apart by generations, groups and databases of their own.
///
/// # Panics
/// When the stack cannot be had, with what to do about it: no test could go on.
pub async fn shared() -> &'static DevStack {
    static SHARED: OnceCell<DevStack> = OnceCell::const_new();
    let start = || async {
        let named = |variable| {
            std::env::var(variable)
                .ok()
                .filter(|value| !value.is_empty())
                .map(Source::Existing)
        };
        let mut options = Options::new(new_temporary_folder());
        options.kafka = named("ANNALS_KAFKA").unwrap_or(options.kafka);
        options.postgres = named("ANNALS_POSTGRES").unwrap_or(options.postgres);
        DevStack::start(options).await
    };
    SHARED
        .get_or_try_init(start)
        .await
        .unwrap_or_else(|error| panic!("no stack for the tests: {error}"))
}

impl DevStack {
    /// A private stack on a new folder, for tests that kill and pause servers. [`DevStack::stop`] leaves the folder
    /// behind; the next temporary stack of any process removes it.
    pub async fn temporary() -> Result<DevStack, StackError> {
        DevStack::start(Options::new(new_temporary_folder())).await
    }

    /// Makes an empty database under a name of its own and returns its URL.
    ///
    /// # Errors
    /// As of [`DevStack::create_database`].
    pub async fn fresh_database(&self) -> Result<String, StackError> {
        let random = RandomState::new().hash_one(0_u8);
        self.create_database(&format!("test_{}_{random:016x}", std::process::id()))
            .await
    }

    /// Makes an empty database and returns its URL.
    ///
    /// # Errors
    /// When the server is not there, has such a database, or wants a password: it must trust connections from this
    /// machine.
    pub async fn create_database(&self, name: &str) -> Result<String, StackError> {
        let server = self.postgres();
        let malformed = || StackError::Address(server.to_owned());
        let rest = server
            .strip_prefix("postgres://")
            .or_else(|| server.strip_prefix("postgresql://"));
        let (user, rest) = rest
            .and_then(|rest| rest.split_once('@'))
            .ok_or_else(malformed)?;
        let (address, database) = rest.split_once('/').ok_or_else(malformed)?;

        let create = async {
            let mut session = Session::open(address, user, database).await?;
            session
                .execute(&format!("create database \"{name}\""))
                .await?;
            session.close().await;
            Ok(())
        };
        create
            .await
            .map_err(|error: WireError| StackError::CreateDatabase {
                name: name.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(format!("postgres://{user}@{address}/{name}"))
    }
}

const PREFIX: &str = "annals-stack-";

/// `<temporary folder>/annals-stack-<process>-<n>`; those of processes that are gone are removed on the way.
pub fn new_temporary_folder() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let parent = std::env::temp_dir();
    for entry in fs::read_dir(&parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| {
            name.strip_prefix(PREFIX)?
                .split('-')
                .next()?
                .parse::<u32>()
                .ok()
        });
        // Its lock tells whether it is really out of use.
        if pid.is_some_and(|pid| !crate::child::is_running(pid)) {
            let _ = wipe(&entry.path());
        }
    }
    parent.join(format!(
        "{PREFIX}{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ))
}
