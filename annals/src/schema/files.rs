//! The schema files: a folder of them, or what this binary was built with.

use std::{
    io,
    path::{Path, PathBuf},
};

use event_log::{
    migration::History,
    schemas::{ContextSchemas, SchemaFile, SchemaFileError},
};

use super::{
    SchemaError,
    finding::{Finding, Level, Rule},
    outline::Outline,
    output::count,
};
use crate::context::Context;

/// Where the files are when nobody says.
const USUAL_FOLDER: &str = "schemas";

/// Which files are meant, and how the answer is to look.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Source {
    /// The folder with <context>/<Event>.v<N>.avsc; ./schemas if it is there, otherwise what this
    /// binary was built with
    #[arg(long, value_name = "DIR")]
    pub(super) schemas: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// The events of all contexts, by their full names.
pub(crate) struct Files {
    /// Unset: those of this binary.
    pub(super) folder: Option<PathBuf>,
    pub(super) events: Vec<EventFiles>,
}

/// All versions of one event, from 1 on without a gap.
#[derive(Debug)]
pub(crate) struct EventFiles {
    pub(super) context: String,
    /// Such as `TaskCreated`.
    pub(super) event: String,
    /// Such as `annals.tasks.TaskCreated`: full name, and subject in the registry.
    pub(super) subject: String,
    pub(super) versions: Vec<SchemaFile>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{file} cannot be used")]
    File {
        /// Within the folder.
        file: String,
        #[source]
        source: Box<SchemaFileError>,
    },
    #[error("{} has no schema files: name the folder with --schemas", place.display())]
    None { place: PathBuf },
    #[error("there is no event {event}; there are {known}")]
    UnknownEvent { event: String, known: String },
    #[error("{event} has no version {version}; its newest is {newest}")]
    UnknownVersion {
        event: String,
        version: u32,
        newest: u32,
    },
    #[error("the files lie in this binary; name the folder to write to with --schemas")]
    NoFolder,
}

/// A file that cannot be used.
#[derive(Debug)]
pub(super) struct Broken {
    error: FilesError,
    /// Within the folder, and those that cannot be looked at without it.
    files: Vec<String>,
}

impl Files {
    pub(crate) fn load(source: &Source, contexts: &[Context]) -> Result<Self, FilesError> {
        let (files, broken) = Self::load_what_can_be(source, contexts)?;
        match broken.into_iter().next() {
            None => Ok(files),
            Some(broken) => Err(broken.error),
        }
    }

    /// Leaves out what cannot be used, and says what that is.
    pub(super) fn load_what_can_be(
        source: &Source,
        contexts: &[Context],
    ) -> Result<(Self, Vec<Broken>), FilesError> {
        let usual = || Some(PathBuf::from(USUAL_FOLDER)).filter(|it| it.is_dir());
        match source.schemas.clone().or_else(usual) {
            Some(folder) => Self::read(&folder),
            None => Ok((Self::built_in(contexts), Vec::new())),
        }
    }

    /// Those of this binary.
    pub(super) fn built_in(contexts: &[Context]) -> Self {
        let mut events: Vec<_> = contexts
            .iter()
            .flat_map(|context| events_of(&context.schemas))
            .collect();
        events.sort_by(|one, other| one.subject.cmp(&other.subject));
        Self {
            folder: None,
            events,
        }
    }

    fn read(folder: &Path) -> Result<(Self, Vec<Broken>), FilesError> {
        let (mut events, mut broken) = (Vec::new(), Vec::new());
        for context in entries(folder)?.into_iter().filter(|it| it.is_dir()) {
            let texts = read_texts(&context)?;
            let schemas = usable(&file_name(&context), texts, &mut broken);
            events.extend(events_of(&schemas));
        }
        if events.is_empty() && broken.is_empty() {
            return Err(FilesError::None {
                place: folder.into(),
            });
        }
        events.sort_by(|one, other| one.subject.cmp(&other.subject));
        let files = Self {
            folder: Some(folder.into()),
            events,
        };
        Ok((files, broken))
    }

    /// The event of this name, full or not.
    pub(super) fn event(&self, name: &str) -> Result<&EventFiles, FilesError> {
        let named = |it: &&EventFiles| it.subject == name || it.event == name;
        self.events.iter().find(named).ok_or_else(|| {
            let known: Vec<_> = self.events.iter().map(|it| &*it.event).collect();
            FilesError::UnknownEvent {
                event: name.into(),
                known: known.join(", "),
            }
        })
    }

    /// These events; all of them when none is named.
    pub(super) fn events(&self, names: &[String]) -> Result<Vec<&EventFiles>, FilesError> {
        match names {
            [] => Ok(self.events.iter().collect()),
            names => names.iter().map(|name| self.event(name)).collect(),
        }
    }

    /// The contexts that have events.
    pub(super) fn contexts(&self) -> Vec<&str> {
        let mut contexts: Vec<_> = self.events.iter().map(|it| &*it.context).collect();
        contexts.sort_unstable();
        contexts.dedup();
        contexts
    }

    /// Where files may be written.
    pub(super) fn folder(&self) -> Result<&Path, FilesError> {
        self.folder.as_deref().ok_or(FilesError::NoFolder)
    }

    /// For people.
    pub(super) fn place(&self) -> String {
        match &self.folder {
            Some(folder) => folder.display().to_string(),
            None => "this binary".into(),
        }
    }
}

impl EventFiles {
    pub(super) fn version(&self, version: u32) -> Result<&SchemaFile, FilesError> {
        let found = self.versions.iter().find(|it| it.version == version);
        found.ok_or_else(|| FilesError::UnknownVersion {
            event: self.event.clone(),
            version,
            newest: self.newest().version,
        })
    }

    pub(super) fn newest(&self) -> &SchemaFile {
        let newest = self.versions.last();
        newest.unwrap_or_else(|| unreachable!("an event without a file is not known"))
    }

    /// Each version with the one before it.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&SchemaFile, &SchemaFile)> {
        self.versions.iter().zip(self.versions.iter().skip(1))
    }

    /// All versions, ready to be read by one another.
    pub(super) fn history(&self) -> Result<History, SchemaError> {
        let mut history = History::default();
        for file in &self.versions {
            let pushed = history.push(&file.text, file.migration.as_deref().cloned());
            pushed.map_err(|source| SchemaError::Unusable {
                file: self.path(file.version),
                source,
            })?;
        }
        Ok(history)
    }

    pub(super) fn outline(&self, file: &SchemaFile) -> Result<Outline, SchemaError> {
        Outline::read(&file.text).map_err(|source| SchemaError::Invalid {
            file: self.path(file.version),
            source,
        })
    }

    /// Path of the version's file within the folder.
    pub(super) fn path(&self, version: u32) -> String {
        format!("{}/{}.v{version}.avsc", self.context, self.event)
    }

    pub(super) fn migration_path(&self, version: u32) -> String {
        format!("{}/{}.v{version}.migration.json", self.context, self.event)
    }
}

/// The context's files without those that are broken, and what cannot be without them: a version's
/// rules, and every later version.
fn usable(
    context: &str,
    mut texts: Vec<(String, String)>,
    broken: &mut Vec<Broken>,
) -> ContextSchemas {
    loop {
        let files = texts.iter().map(|(file, text)| (&**file, &**text));
        let source = match ContextSchemas::load(context, files) {
            Ok(schemas) => return schemas,
            Err(source) => source,
        };
        let (file, from) = match &source {
            SchemaFileError::Name { file } | SchemaFileError::Stray { file } => {
                (file.clone(), None)
            }
            SchemaFileError::Json { file, .. }
            | SchemaFileError::Record { file, .. }
            | SchemaFileError::Migration { file, .. } => (file.clone(), event_and_version(file)),
            SchemaFileError::Gap { event, missing } => (
                format!("{event}.v{missing}.avsc"),
                Some((event.clone(), *missing)),
            ),
        };
        let goes = |it: &str| match (&from, event_and_version(it)) {
            (Some((event, from)), Some((of, version))) => of == *event && version >= *from,
            _ => it == file,
        };
        let (gone, rest): (Vec<_>, Vec<_>) = texts.into_iter().partition(|it| goes(&it.0));
        texts = rest;
        let gone = gone
            .into_iter()
            .map(|(file, _)| format!("{context}/{file}"));
        broken.push(Broken {
            files: gone.collect(),
            error: FilesError::File {
                file: format!("{context}/{file}"),
                source: source.into(),
            },
        });
    }
}

/// Of `TaskCreated.v2.avsc` and `TaskCreated.v2.migration.json`.
fn event_and_version(file: &str) -> Option<(String, u32)> {
    let (event, rest) = file.split_once(".v")?;
    let (version, _) = rest.split_once('.')?;
    Some((event.into(), version.parse().ok()?))
}

impl Broken {
    pub(super) fn has(&self, file: &str) -> bool {
        self.files.iter().any(|it| it == file)
    }

    pub(super) fn finding(&self) -> Finding {
        let FilesError::File { file, source } = &self.error else {
            unreachable!("a broken file is told of as one");
        };
        let later = self.files.len().saturating_sub(1);
        Finding {
            level: Level::Error,
            rule: Rule::Avro,
            file: file.clone(),
            path: String::new(),
            message: service_kit::problem::Chain(&**source).to_string(),
            advice: match later {
                0 => "mend the file".into(),
                later => format!(
                    "mend the file; {} that build on it were not looked at",
                    count(later, "file")
                ),
            },
        }
    }
}

fn events_of(schemas: &ContextSchemas) -> Vec<EventFiles> {
    let mut events: Vec<EventFiles> = Vec::new();
    for file in schemas.files() {
        match events.last_mut() {
            Some(last) if last.event == file.event => last.versions.push(file.clone()),
            _ => events.push(EventFiles {
                context: schemas.context().into(),
                event: file.event.clone(),
                subject: schemas.full_name(&file.event),
                versions: vec![file.clone()],
            }),
        }
    }
    events
}

fn read_texts(context: &Path) -> Result<Vec<(String, String)>, FilesError> {
    let mut texts = Vec::new();
    for file in entries(context)?.into_iter().filter(|it| it.is_file()) {
        let name = file_name(&file);
        if name.ends_with(".avsc") || name.ends_with(".migration.json") {
            let text = std::fs::read_to_string(&file);
            texts.push((
                name,
                text.map_err(|source| FilesError::Read { path: file, source })?,
            ));
        }
    }
    Ok(texts)
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, FilesError> {
    let failed = |source| FilesError::Read {
        path: folder.into(),
        source,
    };
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        entries.push(entry.map_err(failed)?.path());
    }
    entries.sort();
    Ok(entries)
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
pub(super) mod testing {
    use event_log::migration::Migration;

    use super::*;

    /// An event of so many versions, each with its schema and what leads to it.
    pub fn event(context: &str, event: &str, versions: &[(&str, Option<&str>)]) -> EventFiles {
        let versions = (1..)
            .zip(versions)
            .map(|(version, (text, rule))| SchemaFile {
                event: event.into(),
                version,
                text: (*text).into(),
                migration: rule.map(|it| Migration::parse(it).unwrap().into()),
            });
        EventFiles {
            context: context.into(),
            event: event.into(),
            subject: format!("annals.{context}.{event}"),
            versions: versions.collect(),
        }
    }

    pub fn files(event: EventFiles) -> Files {
        Files {
            folder: None,
            events: vec![event],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_broken_file_is_named_and_the_others_are_looked_at() {
        let record = |name: &str| {
            format!(r#"{{"type":"record","namespace":"annals.tasks","name":"{name}","fields":[]}}"#)
        };
        let file = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        let texts = vec![
            file("Done.v1.avsc", &record("Done")),
            file("Done.v2.avsc", "{\n  \"type\": what"),
            file("Done.v2.migration.json", "{}"),
            file("Done.v3.avsc", &record("Done")),
            file("Gone.v2.avsc", &record("Gone")),
            file("Kept.v1.avsc", &record("Kept")),
            file("Nested.v1.avsc", &"[".repeat(200)),
            file("Odd.avsc", &record("Odd")),
        ];
        let mut broken = Vec::new();
        let schemas = usable("tasks", texts, &mut broken);
        let kept: Vec<_> = schemas.files().map(|it| (&*it.event, it.version)).collect();
        assert_eq!(kept, [("Done", 1), ("Kept", 1)]);
        let findings: Vec<_> = broken.iter().map(|it| it.finding().to_string()).collect();
        assert_eq!(findings.len(), 4, "{findings:?}");
        for expected in [
            "tasks/Done.v2.avsc: schema file Done.v2.avsc is not JSON: expected value at line 2 column 11\n  → mend the file; 2 files that build on it",
            "tasks/Gone.v1.avsc: Gone has no version 1",
            "tasks/Nested.v1.avsc: schema file Nested.v1.avsc is not JSON: recursion limit exceeded at line 1 column",
            "tasks/Odd.avsc: schema file Odd.avsc is not named",
        ] {
            assert!(
                findings.iter().any(|it| it.contains(expected)),
                "{findings:?}"
            );
        }
        assert!(broken.iter().any(|it| it.has("tasks/Done.v3.avsc")));
    }
}
