//! Who does not read what is to be written.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use event_log::{control::KnownVersions, group::Present};
use serde::Serialize;

use crate::announcing::{Announcement, Part};

/// A process, by its part and its name in Kafka's groups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Who {
    pub role: Part,
    pub member: String,
}

impl Who {
    /// `owners`: the group of those who decide; the others are of read models.
    pub fn of(present: &Present, owners: &str) -> Self {
        Self {
            role: match present.group == owners {
                true => Part::CommandService,
                false => Part::Projector,
            },
            member: present.instance.clone(),
        }
    }
}

/// A process that keeps a version from being written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Obstacle {
    pub role: Part,
    pub member: String,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Why {
    /// It says so itself; 0: it does not know the event.
    ReadsUpTo {
        version: u32,
        release: String,
        /// It is in its group, but has not said so lately.
        silent: bool,
    },
    /// It is in its group, and has announced nothing.
    Unannounced,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { role, member, why } = self;
        write!(f, "{} {member} ", role.name())?;
        match why {
            Why::Unannounced => f.write_str(
                "is in its consumer group and has announced nothing: it is of an older release, or \
                 cannot reach Postgres",
            ),
            Why::ReadsUpTo {
                version,
                release,
                silent,
            } => {
                match version {
                    0 => write!(f, "(release {release}) does not know the event")?,
                    _ => write!(f, "(release {release}) reads up to version {version}")?,
                }
                match silent {
                    true => {
                        f.write_str("; it was not heard of lately, but is in its consumer group")
                    }
                    false => Ok(()),
                }
            }
        }
    }
}

/// Everybody who is there and does not read the event in this version. There is who has announced
/// something that holds, and who is in a consumer group; who is neither is gone.
pub(super) fn obstacles(
    announced: &[Announcement],
    present: &[Who],
    context: &KnownVersions,
    event_type: &str,
    version: u32,
) -> Vec<Obstacle> {
    let present: BTreeSet<_> = present.iter().collect();
    let mut by_process: BTreeMap<Who, Vec<&Announcement>> = BTreeMap::new();
    for announcement in announced {
        let who = Who {
            role: announcement.role,
            member: announcement.member.clone(),
        };
        by_process.entry(who).or_default().push(announcement);
    }
    let mut found = Vec::new();
    for who in &present {
        if !by_process.contains_key(who) {
            found.push(Obstacle {
                role: who.role,
                member: who.member.clone(),
                why: Why::Unannounced,
            });
        }
    }
    for (who, said) in by_process {
        let expired = said.iter().all(|it| it.expired);
        let of_the_context = said.iter().any(|it| context.has(&it.event_type));
        // What is none of its business may be written as it will.
        if (expired && !present.contains(&who)) || !of_the_context {
            continue;
        }
        let own = said.iter().find(|it| it.event_type == event_type);
        let reads = own.map_or(0, |it| it.reads_up_to);
        if reads < version {
            found.push(Obstacle {
                role: who.role,
                member: who.member,
                why: Why::ReadsUpTo {
                    version: reads,
                    release: said
                        .first()
                        .map_or_else(String::new, |it| it.release.clone()),
                    silent: expired,
                },
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use event_log::schemas::ContextSchemas;

    use super::*;

    const CREATED: &str = "annals.tasks.Created";

    fn tasks() -> KnownVersions {
        let text = |event: &str| {
            format!(
                r#"{{"type":"record","namespace":"annals.tasks","name":"{event}","fields":[]}}"#
            )
        };
        let (created, done) = (text("Created"), text("Done"));
        let files = [
            ("Created.v1.avsc", &*created),
            ("Created.v2.avsc", &created),
            ("Done.v1.avsc", &done),
        ];
        KnownVersions::of(&ContextSchemas::load("tasks", files).unwrap())
    }

    fn says(member: &str, event_type: &str, reads_up_to: u32, expired: bool) -> Announcement {
        Announcement {
            role: Part::CommandService,
            member: member.into(),
            event_type: event_type.into(),
            reads_up_to,
            writes: None,
            release: "1.0".into(),
            announced_at: DateTime::UNIX_EPOCH,
            expired,
        }
    }

    fn is_present(member: &str) -> Who {
        Who {
            role: Part::CommandService,
            member: member.into(),
        }
    }

    fn in_the_way(announced: &[Announcement], present: &[Who]) -> Vec<(String, Why)> {
        let found = obstacles(announced, present, &tasks(), CREATED, 2);
        found.into_iter().map(|it| (it.member, it.why)).collect()
    }

    fn reads_up_to(version: u32, silent: bool) -> Why {
        Why::ReadsUpTo {
            version,
            release: "1.0".into(),
            silent,
        }
    }

    #[test]
    fn nobody_is_in_the_way_when_everybody_reads_it() {
        let announced = [says("a", CREATED, 2, false), says("b", CREATED, 3, false)];
        assert_eq!(in_the_way(&announced, &[is_present("a")]), []);
    }

    #[test]
    fn who_is_there_and_reads_older_versions_only_is_in_the_way() {
        let announced = [says("a", CREATED, 2, false), says("b", CREATED, 1, false)];
        let expected = [("b".to_owned(), reads_up_to(1, false))];
        assert_eq!(in_the_way(&announced, &[]), expected);
    }

    #[test]
    fn who_has_not_renewed_its_announcement_is_gone_unless_it_is_in_its_group() {
        let announced = [says("b", CREATED, 1, true)];
        assert_eq!(in_the_way(&announced, &[]), []);
        let expected = [("b".to_owned(), reads_up_to(1, true))];
        assert_eq!(in_the_way(&announced, &[is_present("b")]), expected);
    }

    #[test]
    fn a_projector_of_the_same_name_is_another_process() {
        let announced = [says("b", CREATED, 1, true)];
        let projector = Who {
            role: Part::Projector,
            member: "b".into(),
        };
        let expected = [("b".to_owned(), Why::Unannounced)];
        assert_eq!(in_the_way(&announced, &[projector]), expected);
    }

    #[test]
    fn who_is_in_a_group_and_has_announced_nothing_is_in_the_way() {
        let expected = [("old".to_owned(), Why::Unannounced)];
        assert_eq!(in_the_way(&[], &[is_present("old")]), expected);
    }

    #[test]
    fn who_knows_the_context_but_not_the_event_is_in_the_way() {
        let announced = [says("b", "annals.tasks.Done", 1, false)];
        let expected = [("b".to_owned(), reads_up_to(0, false))];
        assert_eq!(in_the_way(&announced, &[]), expected);
    }

    #[test]
    fn who_has_nothing_to_do_with_the_context_is_not_waited_for() {
        let announced = [says("b", "annals.accounts.Done", 1, false)];
        assert_eq!(in_the_way(&announced, &[is_present("b")]), []);
    }

    #[test]
    fn the_refusal_says_who_and_why() {
        let obstacle = Obstacle {
            role: Part::Projector,
            member: "127.0.0.1:8404".into(),
            why: reads_up_to(1, true),
        };
        let told = obstacle.to_string();
        for expected in ["projector 127.0.0.1:8404", "version 1", "not heard of"] {
            assert!(told.contains(expected), "{told}");
        }
    }
}
