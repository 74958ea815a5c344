//! `schemas/released.lock`: which files somebody may have written events with. These never change.
//!
//! In the format of `sha256sum`, so that `sha256sum --check released.lock` says the same without
//! this program.

use std::{collections::BTreeMap, fmt::Write, io, path::Path};

use sha2::{Digest, Sha256};

use super::{
    files::{EventFiles, Files, FilesError},
    finding::{Finding, Level, Rule},
};

pub(super) const LOCK: &str = "released.lock";

/// SHA-256 of the files' bytes, by their paths within the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Lock(BTreeMap<String, String>);

impl Lock {
    /// Of these files; nothing is released of those of a binary, which were checked when it was
    /// built.
    pub(super) fn of(files: &Files) -> Result<Self, FilesError> {
        let folder = files.folder.as_deref();
        folder.map_or_else(|| Ok(Self::default()), Self::read)
    }

    /// Without the file nothing is released.
    pub(super) fn read(folder: &Path) -> Result<Self, FilesError> {
        let path = folder.join(LOCK);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(FilesError::Read { path, source }),
        }
    }

    pub(super) fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once("  "));
        Self(lines.map(|(sum, file)| (file.into(), sum.into())).collect())
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (file, sum) in &self.0 {
            let _ = writeln!(text, "{sum}  {file}");
        }
        text
    }

    pub(super) fn has(&self, file: &str) -> bool {
        self.0.contains_key(file)
    }

    /// Adds every schema file that is not in it yet; answers which these are.
    pub(super) fn add(&mut self, files: &Files) -> Vec<String> {
        let mut added = Vec::new();
        for (file, text) in paths(&files.events) {
            if !self.has(&file) {
                self.0.insert(file.clone(), sum(text));
                added.push(file);
            }
        }
        added
    }

    /// What was released and is not what it was, and what should be released and is not.
    pub(super) fn check(&self, events: &[EventFiles]) -> Vec<Finding> {
        let mut findings = self.changed(events);
        findings.extend(self.missing(events));
        findings
    }

    /// What was released and is not what it was.
    pub(super) fn changed(&self, events: &[EventFiles]) -> Vec<Finding> {
        let there: BTreeMap<_, _> = paths(events).collect();
        let mut findings = Vec::new();
        for (file, released) in &self.0 {
            match there.get(file) {
                Some(text) if sum(text) == *released => {}
                Some(_) => findings.push(error(
                    Rule::Released,
                    file,
                    "is released, and has changed",
                    "take it back as it was; what shall be different goes into the next version: annals schema new",
                )),
                None => findings.push(error(
                    Rule::Released,
                    file,
                    "is released, and is gone",
                    "take it back: stored events are read with it",
                )),
            }
        }
        findings
    }

    /// What others build on and is not released.
    fn missing(&self, events: &[EventFiles]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for event in events {
            for (earlier, _) in event.steps() {
                let file = event.path(earlier.version);
                if !self.has(&file) {
                    findings.push(error(
                        Rule::Unreleased,
                        &file,
                        "has a version after it, and is not in released.lock",
                        "note it with `annals schema release`, or make one version of the two",
                    ));
                }
            }
        }
        findings
    }
}

fn error(rule: Rule, file: &str, message: &str, advice: &str) -> Finding {
    Finding {
        level: Level::Error,
        rule,
        file: file.into(),
        path: String::new(),
        message: message.into(),
        advice: advice.into(),
    }
}

fn paths(events: &[EventFiles]) -> impl Iterator<Item = (String, &str)> {
    events.iter().flat_map(|event| {
        let versions = event.versions.iter();
        versions.map(|it| (event.path(it.version), &*it.text))
    })
}

/// SHA-256 in hex.
pub(super) fn sum(text: &str) -> String {
    let mut hex = String::with_capacity(64);
    for byte in Sha256::digest(text) {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::files::testing;

    fn files(texts: &[&str]) -> Files {
        let versions: Vec<_> = texts.iter().map(|text| (*text, None)).collect();
        testing::files(testing::event("tasks", "Done", &versions))
    }

    fn rules(lock: &Lock, texts: &[&str]) -> Vec<(Rule, String)> {
        let findings = lock.check(&files(texts).events);
        findings.into_iter().map(|it| (it.rule, it.file)).collect()
    }

    #[test]
    fn a_released_file_stays_what_it_is() {
        let mut lock = Lock::default();
        assert_eq!(lock.add(&files(&["one"])), ["tasks/Done.v1.avsc"]);
        assert_eq!(lock.add(&files(&["one"])), [""; 0]);
        let lock = Lock::parse(&lock.text());
        let v1 = || "tasks/Done.v1.avsc".to_owned();
        assert_eq!(rules(&lock, &["one"]), []);
        assert_eq!(rules(&lock, &["one", "two"]), []);
        assert_eq!(rules(&lock, &["one "]), [(Rule::Released, v1())]);
        assert_eq!(rules(&lock, &[]), [(Rule::Released, v1())]);
        assert_eq!(
            rules(&Lock::default(), &["one", "two"]),
            [(Rule::Unreleased, v1())]
        );
    }

    #[test]
    fn the_lock_has_the_format_of_sha256sum() {
        let mut lock = Lock::default();
        lock.add(&files(&["one"]));
        assert_eq!(
            lock.text(),
            "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed  tasks/Done.v1.avsc\n"
        );
    }
}
