//! The Java that runs Kafka.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::StackError;

const NEEDED: u32 = 17;

/// `$JAVA_HOME/bin/java`, or the `java` on the path, with its major version; checked to be new enough.
pub(crate) fn find() -> Result<PathBuf, StackError> {
    let home = std::env::var_os("JAVA_HOME")
        .map(|home| Path::new(&home).join("bin/java"))
        .filter(|java| java.exists());
    let program = home.unwrap_or_else(|| "java".into());
    check(&program)?;
    Ok(program)
}

fn check(program: &Path) -> Result<(), StackError> {
    let output = Command::new(program)
        .arg("-version")
        .output()
        .map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StackError::JavaMissing { needed: NEEDED },
            _ => StackError::Io {
                doing: format!("run {} -version", program.display()),
                source: error,
            },
        })?;
    match major_version(&String::from_utf8_lossy(&output.stderr)) {
        Some(found) if found >= NEEDED => Ok(()),
        found => {
            let (program, found) = (program.to_path_buf(), found.unwrap_or(0));
            Err(StackError::JavaTooOld {
                program,
                found,
                needed: NEEDED,
            })
        }
    }
}

/// From the first quoted word of `java -version`: `"17.0.15"`, `"21"`, `"23-ea"`, and `"1.8.0_412"` before Java 9.
fn major_version(output: &str) -> Option<u32> {
    let version = output.split('"').nth(1)?;
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(str::parse::<u32>);
    match numbers.next()?.ok()? {
        1 => numbers.next()?.ok(),
        major => Some(major),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn major_version_is_read_from_every_vendors_wording() {
        let read = |version: &str| {
            major_version(&format!(
                "openjdk version {version} 2025-04-15\nmore \"text\""
            ))
        };
        assert_eq!(read("\"17.0.15\""), Some(17));
        assert_eq!(read("\"21\""), Some(21));
        assert_eq!(read("\"23-ea\""), Some(23));
        assert_eq!(read("\"1.8.0_412\""), Some(8));
        assert_eq!(major_version("no such thing"), None);
    }
}
