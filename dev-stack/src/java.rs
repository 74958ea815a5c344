//! The Java that runs Kafka.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::StackError;

const NEEDED: u32 = 17;

pub(crate) struct Java {
    pub program: PathBuf,
    /// What `java -version` prints: tells one build of Java from another.
    pub version: String,
}

/// `$JAVA_HOME/bin/java`, or the `java` on the path; checked to be new enough.
pub(crate) fn find() -> Result<Java, StackError> {
    let home = std::env::var_os("JAVA_HOME").map(|home| Path::new(&home).join("bin/java"));
    let program = home
        .filter(|java| java.exists())
        .unwrap_or_else(|| "java".into());
    let output = Command::new(&program).arg("-version").output();
    let output = output.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StackError::JavaMissing { needed: NEEDED },
        _ => StackError::Io {
            doing: format!("run {} -version", program.display()),
            source: error,
        },
    })?;
    let version = String::from_utf8_lossy(&output.stderr).into_owned();
    match major_version(&version) {
        Some(found) if found >= NEEDED => Ok(Java { program, version }),
        found => Err(StackError::JavaTooOld {
            program,
            found: found.unwrap_or(0),
            needed: NEEDED,
        }),
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
