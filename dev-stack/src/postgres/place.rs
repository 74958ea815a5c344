//! Postgres refuses to run as root: whom it runs as then, and where that user can keep its data.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use crate::child::RunAs;
use crate::error::{StackError, failed_to};

/// Where the data lies: `home`, owned by the user that runs Postgres, or, where that user cannot get to it (a folder
/// below `/root`), a folder below `/var/lib/annals` with a link to it at `home`.
pub(super) fn place(home: &Path, run_as: Option<&RunAs>) -> Result<PathBuf, StackError> {
    if let Ok(elsewhere) = fs::read_link(home) {
        fs::create_dir_all(&elsewhere).map_err(failed_to("create", &elsewhere))?;
        own(&elsewhere, run_as)?;
        return Ok(elsewhere);
    }
    let parent = home.parent().expect("the data folder is not the root");
    let reachable = run_as.is_none_or(|user| obstacle(parent, user).is_none());
    let place = if reachable || home.exists() {
        home.to_path_buf()
    } else {
        let elsewhere = elsewhere(home);
        // Without its link, it belongs to a data folder that was removed by hand.
        if elsewhere.exists() {
            fs::remove_dir_all(&elsewhere).map_err(failed_to("remove", &elsewhere))?;
        }
        elsewhere
    };
    fs::create_dir_all(&place).map_err(failed_to("create", &place))?;
    own(&place, run_as)?;
    if place != home {
        if let Some(user) = run_as {
            refuse_unreachable(&place, user, "the data folder")?;
        }
        symlink(&place, home).map_err(failed_to("link", home))?;
    }
    Ok(place)
}

fn elsewhere(home: &Path) -> PathBuf {
    let readable = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let name: String = home.display().to_string().chars().map(readable).collect();
    // The fingerprint keeps `a/b` and `a-b` apart.
    let mut fingerprint = DefaultHasher::new();
    home.hash(&mut fingerprint);
    let name = format!(
        "{}-{:08x}",
        name.trim_matches('-'),
        fingerprint.finish() as u32
    );
    Path::new("/var/lib/annals").join(name)
}

/// Forgets the data, wherever it lies.
pub(crate) fn wipe(home: &Path) -> Result<(), StackError> {
    let elsewhere = fs::read_link(home).ok();
    for folder in elsewhere.iter().filter(|folder| folder.exists()) {
        fs::remove_dir_all(folder).map_err(failed_to("remove", folder))?;
    }
    Ok(())
}

fn own(folder: &Path, run_as: Option<&RunAs>) -> Result<(), StackError> {
    let Some(RunAs { uid, gid, .. }) = run_as else {
        return Ok(());
    };
    let owner = fs::metadata(folder)
        .map_err(failed_to("read", folder))?
        .uid();
    if owner != *uid {
        chown(folder, Some(*uid), Some(*gid)).map_err(failed_to("give away", folder))?;
    }
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
        .map_err(failed_to("set the mode of", folder))
}

/// `postgres` where there is one, otherwise `nobody`.
pub(super) fn unprivileged_user() -> Result<RunAs, StackError> {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let find = |wanted: &str| {
        users.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, uid, gid, ..] = fields[..] else {
                return None;
            };
            (name == wanted).then_some(RunAs {
                user: name.into(),
                uid: uid.parse().ok()?,
                gid: gid.parse().ok()?,
            })
        })
    };
    find("postgres")
        .or_else(|| find("nobody"))
        .ok_or(StackError::NoUnprivilegedUser)
}

pub(super) fn refuse_unreachable(
    dir: &Path,
    user: &RunAs,
    variable: &'static str,
) -> Result<(), StackError> {
    match obstacle(dir, user) {
        None => Ok(()),
        Some(dir) => Err(StackError::Unreachable {
            user: user.user.clone(),
            dir,
            variable,
        }),
    }
}

/// The first folder on the way to `dir`, itself included, that `user` may not enter.
fn obstacle(dir: &Path, user: &RunAs) -> Option<PathBuf> {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    let mut way: Vec<_> = dir.ancestors().collect();
    way.reverse();
    let closed = |folder: &&Path| {
        let Ok(metadata) = fs::metadata(folder) else {
            return true;
        };
        let enter = match (metadata.uid() == user.uid, metadata.gid() == user.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        metadata.mode() & enter == 0
    };
    way.into_iter().find(closed).map(Path::to_path_buf)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_below_a_closed_one_is_out_of_reach_of_another_user() {
        let open = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let stranger = RunAs {
            user: "stranger".into(),
            uid: 4_000_000,
            gid: 4_000_000,
        };
        let closed = open.path().join("closed");
        fs::create_dir_all(closed.join("data")).unwrap();
        assert_eq!(obstacle(&closed.join("data"), &stranger), None);

        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(
            obstacle(&closed.join("data"), &stranger),
            Some(closed.canonicalize().unwrap())
        );
    }
}
