//! The schema files: a folder of them, or what this binary was built with.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use event_log::schemas::{ContextSchemas, SchemaFileError};

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
    pub(super) versions: Vec<VersionFile>,
}

#[derive(Debug)]
pub(crate) struct VersionFile {
    pub(super) version: u32,
    pub(super) schema: String,
    /// How it comes from the version before, and goes back to it, where that needs a rule.
    pub(super) migration: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FilesError {
    #[error("failed to read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the schema files of {context} cannot be used")]
    Context {
        context: String,
        #[source]
        source: SchemaFileError,
    },
    #[error("{} has no schema files: name the folder with --schemas", place.display())]
    None { place: PathBuf },
    #[error("{file} leads to a version that has no schema file: {event}.v{version}.avsc")]
    StrayMigration {
        file: String,
        event: String,
        version: u32,
    },
    #[error("{file} is not named <Event>.v<N>.migration.json")]
    MigrationName { file: String },
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

impl Files {
    pub(crate) fn load(source: &Source, contexts: &[Context]) -> Result<Self, FilesError> {
        let usual = || Some(PathBuf::from(USUAL_FOLDER)).filter(|it| it.is_dir());
        match source.schemas.clone().or_else(usual) {
            Some(folder) => Self::read(&folder),
            None => Self::built_in(contexts),
        }
    }

    /// Those of this binary.
    pub(super) fn built_in(contexts: &[Context]) -> Result<Self, FilesError> {
        let mut events = Vec::new();
        for context in contexts {
            events.extend(events_of(&context.schemas, &Migrations::new())?);
        }
        Ok(Self {
            folder: None,
            events,
        })
    }

    fn read(folder: &Path) -> Result<Self, FilesError> {
        let mut events = Vec::new();
        for context in entries(folder)?.into_iter().filter(|it| it.is_dir()) {
            let texts = read_texts(&context)?;
            let name = file_name(&context);
            let texts: Vec<_> = texts
                .iter()
                .map(|(file, text)| (&**file, &**text))
                .collect();
            let schemas = ContextSchemas::load(&name, texts.iter().copied()).map_err(|source| {
                FilesError::Context {
                    context: name,
                    source,
                }
            })?;
            events.extend(events_of(&schemas, &migrations(texts)?)?);
        }
        if events.is_empty() {
            return Err(FilesError::None {
                place: folder.into(),
            });
        }
        events.sort_by(|one, other| one.subject.cmp(&other.subject));
        Ok(Self {
            folder: Some(folder.into()),
            events,
        })
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
    pub(super) fn version(&self, version: u32) -> Result<&VersionFile, FilesError> {
        let found = self.versions.iter().find(|it| it.version == version);
        found.ok_or_else(|| FilesError::UnknownVersion {
            event: self.event.clone(),
            version,
            newest: self.newest().version,
        })
    }

    pub(super) fn newest(&self) -> &VersionFile {
        let newest = self.versions.last();
        newest.unwrap_or_else(|| unreachable!("an event without a file is not known"))
    }

    /// Each version with the one before it.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&VersionFile, &VersionFile)> {
        self.versions.iter().zip(self.versions.iter().skip(1))
    }

    /// Path of the version's file within the folder.
    pub(super) fn path(&self, version: u32) -> String {
        format!("{}/{}.v{version}.avsc", self.context, self.event)
    }

    pub(super) fn migration_path(&self, version: u32) -> String {
        format!("{}/{}.v{version}.migration.json", self.context, self.event)
    }
}

/// Texts of the migration files, by event and version.
pub(crate) type Migrations = BTreeMap<(String, u32), String>;

/// The migrations among a context's files, given as (file name, text).
pub(crate) fn migrations<'a>(
    files: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<Migrations, FilesError> {
    let mut migrations = Migrations::new();
    for (file, text) in files {
        let Some(stem) = file.strip_suffix(".migration.json") else {
            continue;
        };
        let named = stem
            .split_once(".v")
            .and_then(|(event, version)| Some((event.to_owned(), version.parse().ok()?)));
        let named = named.ok_or_else(|| FilesError::MigrationName { file: file.into() })?;
        migrations.insert(named, text.into());
    }
    Ok(migrations)
}

fn events_of(
    schemas: &ContextSchemas,
    migrations: &Migrations,
) -> Result<Vec<EventFiles>, FilesError> {
    let mut events: Vec<EventFiles> = Vec::new();
    for file in schemas.files() {
        let key = (file.event.clone(), file.version);
        let version = VersionFile {
            version: file.version,
            schema: file.text.clone(),
            migration: migrations.get(&key).cloned(),
        };
        match events.last_mut() {
            Some(last) if last.event == file.event => last.versions.push(version),
            _ => events.push(EventFiles {
                context: schemas.context().into(),
                event: file.event.clone(),
                subject: schemas.full_name(&file.event),
                versions: vec![version],
            }),
        }
    }
    for (event, version) in migrations.keys() {
        let known = events.iter().find(|it| it.event == *event);
        // The first version comes from nowhere.
        if *version < 2 || known.is_none_or(|it| it.newest().version < *version) {
            return Err(FilesError::StrayMigration {
                file: format!("{event}.v{version}.migration.json"),
                event: event.clone(),
                version: *version,
            });
        }
    }
    Ok(events)
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
