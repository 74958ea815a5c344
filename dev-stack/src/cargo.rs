//! Builds that are started from within what Cargo runs.

use std::{env, process::Command};

/// Keeps from the command what Cargo says about the package that is running.
///
/// Build scripts that look at it would run anew, and all that stands on their crates be compiled
/// again.
pub fn forget_package(command: &mut Command) {
    for (name, _) in env::vars_os() {
        let about_package = ["CARGO_PKG_", "CARGO_MANIFEST_"];
        let text = name.to_string_lossy();
        if about_package.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}
