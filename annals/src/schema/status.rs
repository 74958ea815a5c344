//! `annals schema status`: which versions the log has, who reads and writes which, and which could
//! be retired.

use std::collections::BTreeMap;

use event_log::{
    batch::{BatchError, Record},
    control::{ActiveVersions, ControlLog},
};
use serde::Serialize;

use super::{
    SchemaError,
    files::{EventFiles, Files},
    reach,
    scan::{self, Look, event_type, framed},
    standing::{EventStanding, Standing, standing},
};
use crate::{announcing::Announcement, settings::Settings, table::table};

pub(super) async fn status(
    settings: &Settings,
    files: &Files,
    no_log: bool,
) -> Result<Status, SchemaError> {
    let registry = reach::registry(settings)?;
    let mut events = Vec::new();
    for event in &files.events {
        events.push((event, standing(&registry, event).await?));
    }
    let log = reach::log(settings)?;
    let stored = match no_log {
        true => None,
        false => {
            let parts = scan::parts(&log, &files.contexts()).await?;
            let counted = scan::scan(&log.cluster, parts, "counting", |_| Stored::default());
            let mut sum = Stored::default();
            counted.await?.into_iter().for_each(|(_, it)| sum.add(it));
            Some(sum)
        }
    };
    let control = ControlLog::new(&log.cluster, &log.generation);
    let active = control.catch_up_if_there().await?;
    let members = reach::members(settings).await?;
    Ok(Status::new(&events, stored.as_ref(), &active, &members))
}

#[derive(Debug, Serialize)]
pub(super) struct Status {
    events: Vec<EventStatus>,
    /// Events in the log with a schema id that no version of the files has.
    unknown: Vec<Unknown>,
}

#[derive(Debug, Serialize)]
struct EventStatus {
    subject: String,
    /// What is written from now on, as `activate` has it; unset while nothing was ever activated.
    active: Option<u32>,
    versions: Vec<VersionStatus>,
    members: Vec<Announcement>,
}

#[derive(Debug, Serialize)]
struct VersionStatus {
    version: u32,
    #[serde(flatten)]
    standing: Standing,
    /// Unset when the log was not looked at.
    stored: Option<u64>,
    /// How many read it at present.
    readers: usize,
    /// Who writes it at present.
    written_by: Vec<String>,
    /// Nobody writes it, no stored event has it, and it is not the newest: nobody needs to read it.
    may_be_retired: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct Unknown {
    event_type: String,
    id: u32,
    stored: u64,
}

/// How many records there are of each type and schema id.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored(BTreeMap<(String, u32), u64>);

impl Look for Stored {
    fn take(&mut self, record: &Record) {
        let value = record.value.as_deref().unwrap_or_default();
        let Some((event_type, (id, _))) = event_type(record).zip(framed(value)) else {
            return;
        };
        // Types are few, and the same one after another.
        match self
            .0
            .iter_mut()
            .find(|((known, of), _)| known == event_type && *of == id)
        {
            Some((_, count)) => *count += 1,
            None => {
                self.0.insert((event_type.to_owned(), id), 1);
            }
        }
    }

    fn unreadable(&mut self, _: i64, _: &BatchError) {}
}

impl Stored {
    pub(super) fn add(&mut self, other: Self) {
        for (key, count) in other.0 {
            *self.0.entry(key).or_default() += count;
        }
    }

    fn of(&self, event_type: &str, id: u32) -> u64 {
        self.0
            .get(&(event_type.to_owned(), id))
            .copied()
            .unwrap_or_default()
    }
}

impl Status {
    pub(super) fn new(
        events: &[(&EventFiles, EventStanding)],
        stored: Option<&Stored>,
        active: &ActiveVersions,
        members: &[Announcement],
    ) -> Self {
        let statuses = events.iter().map(|(event, standing)| {
            let newest = event.newest().version;
            let active = active.of(&event.subject).map(|it| it.version);
            let members: Vec<_> = members
                .iter()
                .filter(|it| it.event_type == event.subject)
                .cloned()
                .collect();
            let versions = standing.versions.iter().map(|it| {
                let id = standing.id(it.version);
                let stored = stored.map(|stored| id.map_or(0, |id| stored.of(&event.subject, id)));
                let reads = |by: &&Announcement| by.reads_up_to >= it.version && !by.expired;
                let writers = members.iter().filter(|by| by.writes == Some(it.version));
                let written_by: Vec<_> = writers.map(|by| by.member.clone()).collect();
                let is_needed = it.version == newest || active == Some(it.version);
                VersionStatus {
                    version: it.version,
                    standing: it.standing.clone(),
                    may_be_retired: !is_needed && stored == Some(0) && written_by.is_empty(),
                    stored,
                    readers: members.iter().filter(reads).count(),
                    written_by,
                }
            });
            EventStatus {
                subject: event.subject.clone(),
                active,
                versions: versions.collect(),
                members,
            }
        });
        let is_known = |event_type: &str, id: u32| {
            events.iter().any(|(event, standing)| {
                event.subject == event_type
                    && standing
                        .versions
                        .iter()
                        .any(|it| standing.id(it.version) == Some(id))
            })
        };
        let unknown = stored.map(|it| &it.0).into_iter().flatten();
        let unknown = unknown
            .filter(|((event_type, id), _)| !is_known(event_type, *id))
            .map(|((event_type, id), stored)| Unknown {
                event_type: event_type.clone(),
                id: *id,
                stored: *stored,
            });
        Self {
            events: statuses.collect(),
            unknown: unknown.collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let mut rows = Vec::new();
        for event in &self.events {
            for version in &event.versions {
                let mut notes = Vec::new();
                if event.active == Some(version.version) {
                    notes.push("active".to_owned());
                }
                if version.may_be_retired {
                    notes.push("may be retired".into());
                }
                rows.push([
                    event.subject.clone(),
                    format!("v{}", version.version),
                    version.standing.to_string(),
                    version
                        .stored
                        .map_or_else(|| "?".into(), |it| it.to_string()),
                    version.readers.to_string(),
                    version.written_by.join(", "),
                    notes.join(", "),
                ]);
            }
        }
        let head = [
            "event",
            "version",
            "registry",
            "stored",
            "readers",
            "written by",
            "",
        ];
        let mut lines = vec![table(head, &rows)];
        for Unknown {
            event_type,
            id,
            stored,
        } in &self.unknown
        {
            lines.push(format!(
                "{stored} events {event_type} have schema id {id}, which no file has: see `annals schema history`, and take a newer release"
            ));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use event_log::{control::Active, schemas::SchemaFile};

    use super::*;
    use crate::{announcing::Part, schema::standing::VersionStanding};

    const DONE: &str = "annals.tasks.Done";

    fn event(versions: u32) -> (EventFiles, EventStanding) {
        let files = (1..=versions).map(|version| SchemaFile {
            event: "Done".into(),
            version,
            text: String::new(),
            migration: None,
        });
        let standings = (1..=versions).map(|version| VersionStanding {
            version,
            schema: String::new(),
            rules: String::new(),
            standing: Standing::There { id: version + 6 },
        });
        let files = EventFiles {
            context: "tasks".into(),
            event: "Done".into(),
            subject: DONE.into(),
            versions: files.collect(),
        };
        let standing = EventStanding {
            subject: DONE.into(),
            versions: standings.collect(),
            unknown: Vec::new(),
            level: None,
        };
        (files, standing)
    }

    fn writes(version: u32) -> Announcement {
        Announcement {
            role: Part::CommandService,
            member: "a".into(),
            event_type: DONE.into(),
            reads_up_to: version,
            writes: Some(version),
            release: "1".into(),
            announced_at: DateTime::UNIX_EPOCH,
            expired: false,
        }
    }

    /// The versions that nobody needs, of four, the third of which is active.
    fn check(stored: &[(u32, u64)], members: &[Announcement], expected: &[u32]) {
        let (files, standing) = event(4);
        let stored = stored
            .iter()
            .map(|(id, count)| ((DONE.to_owned(), *id), *count));
        let stored = Stored(stored.collect());
        let active = Active {
            version: 3,
            highest: 3,
        };
        let active = [(DONE.to_owned(), active)].into_iter().collect();
        let status = Status::new(&[(&files, standing)], Some(&stored), &active, members);
        let versions = status.events[0].versions.iter();
        let retired = versions.filter(|it| it.may_be_retired).map(|it| it.version);
        assert_eq!(retired.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn what_nobody_stores_writes_or_is_about_to_write_may_be_retired() {
        check(&[], &[], &[1, 2]);
        check(&[(7, 1)], &[], &[2]);
        check(&[(7, 1)], &[writes(2)], &[]);
    }

    #[test]
    fn without_the_log_nothing_is_said_of_it() {
        let (files, standing) = event(2);
        let status = Status::new(&[(&files, standing)], None, &ActiveVersions::default(), &[]);
        assert!(
            status.events[0]
                .versions
                .iter()
                .all(|it| !it.may_be_retired)
        );
        assert!(
            status.text().contains("registered, id 7  ?"),
            "{}",
            status.text()
        );
    }

    #[test]
    fn ids_that_no_file_has_are_told_of() {
        let (files, standing) = event(1);
        let stored = Stored([((DONE.to_owned(), 99), 2)].into());
        let active = ActiveVersions::default();
        let status = Status::new(&[(&files, standing)], Some(&stored), &active, &[]);
        assert_eq!(status.unknown[0].id, 99);
        assert!(
            status
                .text()
                .contains("2 events annals.tasks.Done have schema id 99")
        );
    }
}
