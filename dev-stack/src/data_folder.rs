//! The data folder of a stack: whose it is, which versions wrote it, and who uses it now.
//!
//! ```text
//! <data folder>/version    the layout and the servers that wrote it
//!               lock       held by the process that runs the stack, whose id is in it
//!               kafka/     settings and data
//!               postgres/  data, or a link to it
//!               logs/
//! ```
//! `annals up` adds the development key, and `running.json` with the servers' addresses while it runs.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;

use crate::artifacts;
use crate::error::{StackError, failed_to};
use crate::postgres;

const LAYOUT: &str = "layout 1";
/// A fresh stack takes 100 MB; the rest is for Postgres' log of at most 512 MB and some data.
const NEEDED_MB: u64 = 1_000;

/// A data folder, held by this process until this is dropped.
#[derive(Debug)]
pub(crate) struct DataFolder {
    path: PathBuf,
    _lock: File,
}

impl DataFolder {
    /// Opens or makes the folder. Refused: a folder in use, of another version, of somebody else, on a full disk.
    pub fn open(path: &Path) -> Result<DataFolder, StackError> {
        let (path, lock) = take(path)?;
        check_version(&path)?;
        check_free_space(&path, NEEDED_MB)?;
        let logs = path.join("logs");
        fs::create_dir_all(&logs).map_err(failed_to("create", &logs))?;
        Ok(DataFolder { path, _lock: lock })
    }

    /// Absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn log(&self, name: &str) -> PathBuf {
        self.path.join("logs").join(name)
    }
}

/// Forgets a stack's data: removes the folder with everything in it. Nothing to do when there is none.
///
/// # Errors
/// When a stack runs on it, or when it is not a data folder of Annals.
pub fn wipe(path: &Path) -> Result<(), StackError> {
    if !path.exists() {
        return Ok(());
    }
    if !path.join("version").exists() {
        return Err(StackError::NotOurs {
            dir: path.to_path_buf(),
        });
    }
    let (path, _lock) = take(path)?;
    postgres::wipe(&path.join("postgres"))?;
    fs::remove_dir_all(&path).map_err(failed_to("remove", &path))
}

/// Whether a stack runs on this folder now.
pub fn is_in_use(path: &Path) -> bool {
    let lock = File::open(path.join("lock"));
    lock.is_ok_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The lock goes with the process, however it ends.
fn take(path: &Path) -> Result<(PathBuf, File), StackError> {
    // Others may pass through: as root, Postgres runs as another user.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(failed_to("create", path))?;
    let path = path.canonicalize().map_err(failed_to("read", path))?;
    let file = path.join("lock");
    let mut lock = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&file)
        .map_err(failed_to("open", &file))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let _ = lock.read_to_string(&mut pid);
            return Err(StackError::InUse {
                dir: path,
                pid: pid.trim().into(),
            });
        }
        Err(TryLockError::Error(error)) => return Err(failed_to("lock", &file)(error)),
    }
    lock.set_len(0).map_err(failed_to("write", &file))?;
    writeln!(lock, "{}", std::process::id()).map_err(failed_to("write", &file))?;
    Ok((path, lock))
}

fn check_version(path: &Path) -> Result<(), StackError> {
    let file = path.join("version");
    let expected = format!(
        "{LAYOUT}, Kafka {}, Postgres {}",
        compatible(artifacts::pinned("kafka.version"), 2),
        compatible(artifacts::pinned("postgres.version"), 1)
    );
    match fs::read_to_string(&file) {
        Ok(found) if found.trim() == expected => Ok(()),
        Ok(found) => Err(StackError::OtherVersion {
            dir: path.to_path_buf(),
            found: found.trim().to_owned(),
            expected,
        }),
        Err(_) if path.join("kafka").exists() || path.join("postgres").exists() => {
            Err(StackError::NotOurs {
                dir: path.to_path_buf(),
            })
        }
        Err(_) => fs::write(&file, expected + "\n").map_err(failed_to("write", &file)),
    }
}

/// The part of a version within which data stays readable: `4.3` of Kafka's `4.3.0`, `18` of Postgres' `18.3.0`.
fn compatible(version: &str, parts: usize) -> String {
    version.split('.').take(parts).collect::<Vec<_>>().join(".")
}

pub(crate) fn check_free_space(dir: &Path, needed_mb: u64) -> Result<(), StackError> {
    let disk =
        statvfs(dir).map_err(|errno| failed_to("ask for the free space of", dir)(errno.into()))?;
    let free_mb = disk.f_bavail * disk.f_frsize / 1_000_000;
    if free_mb >= needed_mb {
        Ok(())
    } else {
        Err(StackError::DiskFull {
            dir: dir.to_path_buf(),
            free_mb,
            needed_mb,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn folder_in_use_is_refused_by_the_process_that_uses_it() {
        let dir = folder();
        assert!(!is_in_use(dir.path()));
        let first = DataFolder::open(dir.path()).unwrap();
        assert!(is_in_use(dir.path()));
        let refusal = DataFolder::open(dir.path()).unwrap_err();
        assert!(
            matches!(&refusal, StackError::InUse { pid, .. } if *pid == std::process::id().to_string()),
            "{refusal}"
        );
        assert!(matches!(wipe(dir.path()), Err(StackError::InUse { .. })));
        drop(first);
        assert!(!is_in_use(dir.path()));
        DataFolder::open(dir.path()).unwrap();
    }

    #[test]
    fn folder_of_another_version_is_refused_and_left_alone() {
        let dir = folder();
        drop(DataFolder::open(dir.path()).unwrap());
        let version = dir.path().join("version");
        let older = fs::read_to_string(&version)
            .unwrap()
            .replace("Kafka 4.3", "Kafka 4.2");
        fs::write(&version, &older).unwrap();
        let refusal = DataFolder::open(dir.path()).unwrap_err();
        assert!(
            matches!(&refusal, StackError::OtherVersion { found, .. } if found.contains("Kafka 4.2")),
            "{refusal}"
        );
        assert_eq!(fs::read_to_string(&version).unwrap(), older);
    }

    #[test]
    fn folder_of_somebody_else_is_neither_used_nor_wiped() {
        let dir = folder();
        fs::create_dir(dir.path().join("kafka")).unwrap();
        assert!(matches!(
            DataFolder::open(dir.path()),
            Err(StackError::NotOurs { .. })
        ));
        assert!(matches!(wipe(dir.path()), Err(StackError::NotOurs { .. })));
        assert!(dir.path().join("kafka").exists());
    }

    #[test]
    fn full_disk_is_refused_with_what_is_needed() {
        let dir = folder();
        let refusal = check_free_space(dir.path(), u64::MAX).unwrap_err();
        assert!(matches!(
            refusal,
            StackError::DiskFull {
                needed_mb: u64::MAX,
                ..
            }
        ));
        check_free_space(dir.path(), 1).unwrap();
    }

    #[test]
    fn wiped_folder_is_gone_and_can_be_wiped_again() {
        let dir = folder();
        let data = dir.path().join("data");
        drop(DataFolder::open(&data).unwrap());
        wipe(&data).unwrap();
        assert!(!data.exists());
        wipe(&data).unwrap();
    }
}
