//! The binaries that are tested, built when they are not up to date.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Which of the binaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// `annals`, as it is to be released.
    This,
    /// `annals-previous`, which knows version 1 of `TaskCreated` only: see `e2e/previous`.
    Previous,
}

/// A command that runs the binary. It does not see this process's settings.
///
/// # Panics
/// When the binary cannot be built.
pub fn annals() -> Command {
    Release::This.command()
}

impl Release {
    /// A command that runs its binary. It does not see this process's settings.
    ///
    /// # Panics
    /// When the binary cannot be built.
    pub fn command(self) -> Command {
        static THIS: OnceLock<PathBuf> = OnceLock::new();
        static PREVIOUS: OnceLock<PathBuf> = OnceLock::new();
        let binary = match self {
            Self::This => THIS
                .get_or_init(|| named("ANNALS_BINARY").unwrap_or_else(|| build("app", "annals"))),
            Self::Previous => PREVIOUS.get_or_init(|| {
                let named = named("ANNALS_PREVIOUS_BINARY");
                named.unwrap_or_else(|| build("previous", "annals-previous"))
            }),
        };
        let mut command = Command::new("setpriv");
        // Ends with this process, however that ends. `setpriv` becomes the program.
        command.args(["--pdeathsig", "KILL", "--"]);
        command.arg(binary);
        for (name, _) in env::vars_os() {
            if name
                .to_str()
                .is_some_and(|name| name.starts_with("ANNALS_") && name != "ANNALS_CACHE")
            {
                command.env_remove(name);
            }
        }
        command
    }
}

/// The one that this variable names.
fn named(variable: &str) -> Option<PathBuf> {
    let named = env::var_os(variable).filter(|name| !name.is_empty());
    named.map(PathBuf::from)
}

/// The workspace's own.
///
/// Cargo builds binaries for the tests of their own package only, so ask it to: it takes a moment
/// when nothing has changed, and no test runs on yesterday's binary.
fn build(package: &str, binary: &str) -> PathBuf {
    let own = env::current_exe().expect("a program knows where it is");
    // Programs lie in target/<profile>, tests in its deps.
    let mut folders = own.ancestors().skip(1);
    let target = folders
        .find(|folder| !folder.ends_with("deps"))
        .expect("it lies in a folder");
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build
        .args(["build", "--quiet", "--package", package])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    dev_stack::forget_package(&mut build);
    if target.ends_with("release") {
        build.arg("--release");
    }
    let status = build.status().expect("cargo is there, as it built this");
    assert!(status.success(), "{binary} could not be built");
    target.join(binary)
}
