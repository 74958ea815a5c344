//! Whether the versions of each stream rise by one, with bounded memory: of a partition with more
//! streams than fit, a part at a time is looked at, and the partition is read once for each part.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use event_log::Envelope;

use super::finding::Damage;

/// The streams of a partition whose hash falls into a part of all.
pub(super) struct Versions {
    hashers: [RandomState; 2],
    part: u64,
    parts: u64,
    /// At most so many streams are remembered.
    most: usize,
    /// By 128 bits of hash, so that two streams are not taken for one.
    versions: HashMap<(u64, u64), u64>,
    /// Streams that did not fit.
    overflown: bool,
    first_versions: u64,
}

impl Versions {
    pub(super) fn new(most: usize) -> Self {
        Self {
            hashers: [RandomState::new(), RandomState::new()],
            part: 0,
            parts: 1,
            most,
            versions: HashMap::new(),
            overflown: false,
            first_versions: 0,
        }
    }

    /// The next event; what its version shows.
    pub(super) fn take(&mut self, envelope: &Envelope) -> Option<(Damage, String)> {
        let version = envelope.version.0;
        self.first_versions += u64::from(version == 1);
        let stream = envelope.stream.as_str();
        let hash = self
            .hashers
            .each_ref()
            .map(|hasher| hasher.hash_one(stream));
        if self.overflown || hash[0] % self.parts != self.part {
            return None;
        }
        let key = (hash[0], hash[1]);
        let known = self.versions.get(&key).copied();
        if known.is_none() && self.versions.len() >= self.most {
            self.overflown = true;
            self.versions = HashMap::new();
            return None;
        }
        let before = known.unwrap_or(0);
        self.versions.insert(key, version.max(before));
        match version {
            _ if version == before + 1 => None,
            _ if version <= before => {
                let detail = format!("version {version} after version {before}");
                Some((Damage::RepeatedVersion, detail))
            }
            _ => Some((
                Damage::VersionGap,
                format!("version {version} after version {before}"),
            )),
        }
    }

    /// To be asked at the end of the partition.
    pub(super) fn next(self) -> Next {
        let seen = self.versions.len() as u64;
        if self.overflown {
            // As many as streams began, and some room as parts are not of one size.
            let streams = self.first_versions + self.first_versions / 4;
            let parts = (streams / self.most as u64 + 1).max(2 * self.parts);
            return Next::Again(Self {
                part: 0,
                parts,
                versions: HashMap::new(),
                overflown: false,
                first_versions: 0,
                ..self
            });
        }
        match self.part + 1 < self.parts {
            true => Next::Part(
                seen,
                Self {
                    part: self.part + 1,
                    versions: HashMap::new(),
                    first_versions: 0,
                    ..self
                },
            ),
            false => Next::Done(seen),
        }
    }
}

/// What is left to look at when the partition was read to its end.
pub(super) enum Next {
    /// So many streams were looked at, and these were all.
    Done(u64),
    /// So many streams were looked at, and there are others.
    Part(u64, Versions),
    /// There were too many: what was found out about versions is to be forgotten.
    Again(Versions),
}

#[cfg(test)]
mod tests {
    use event_log::Fingerprint;
    use kernel::{Actor, CommandId, StreamVersion};

    use super::*;

    fn event(stream: usize, version: u64) -> Envelope {
        let stream = format!("main/note/{stream}").parse().unwrap();
        Envelope {
            id: kernel::EventId::of(&stream, StreamVersion(version)),
            event_type: "x".into(),
            stream,
            version: StreamVersion(version),
            time: chrono::DateTime::UNIX_EPOCH,
            actor: Actor::User("ada".into()),
            command_id: CommandId::parse("key").unwrap(),
            fingerprint: Fingerprint([0; 16]),
            causation_id: None,
            correlation_id: "00000000-0000-0000-0000-000000000000".parse().unwrap(),
            index: 0,
            count: 1,
            term: 0,
            trace_parent: None,
        }
    }

    /// Reads the log as often as it takes; how often that was, the streams, and what was found.
    fn verify(log: &[Envelope], most: usize) -> (usize, u64, Vec<Damage>) {
        let mut versions = Versions::new(most);
        let (mut passes, mut streams, mut found) = (0, 0, Vec::new());
        loop {
            passes += 1;
            let mut now: Vec<_> = log
                .iter()
                .filter_map(|event| Some(versions.take(event)?.0))
                .collect();
            assert!(versions.versions.len() <= most);
            versions = match versions.next() {
                Next::Again(again) => again,
                Next::Part(seen, rest) => {
                    streams += seen;
                    found.append(&mut now);
                    rest
                }
                Next::Done(seen) => {
                    found.append(&mut now);
                    return (passes, streams + seen, found);
                }
            };
        }
    }

    #[test]
    fn gaps_and_repetitions_are_found_once_whatever_fits_into_memory() {
        let mut log: Vec<_> = (0..1_000)
            .flat_map(|stream| (1..=3).map(move |version| event(stream, version)))
            .collect();
        assert_eq!(verify(&log, 10_000), (1, 1_000, vec![]));
        log.push(event(7, 5));
        log.push(event(8, 2));
        log.push(event(2_000, 2));
        let all = vec![
            Damage::VersionGap,
            Damage::RepeatedVersion,
            Damage::VersionGap,
        ];
        assert_eq!(verify(&log, 10_000), (1, 1_001, all.clone()));
        let (passes, streams, mut found) = verify(&log, 100);
        assert!(passes > 5, "{passes}");
        assert_eq!(streams, 1_001);
        found.sort();
        let mut all = all;
        all.sort();
        assert_eq!(found, all);
    }

    #[test]
    fn a_gap_is_told_once_and_not_for_all_that_comes_after() {
        let log = [event(1, 1), event(1, 3), event(1, 4)];
        assert_eq!(verify(&log, 10).2, [Damage::VersionGap]);
        let log = [
            event(1, 1),
            event(1, 2),
            event(1, 1),
            event(1, 2),
            event(1, 3),
        ];
        assert_eq!(
            verify(&log, 10).2,
            [Damage::RepeatedVersion, Damage::RepeatedVersion]
        );
    }
}
