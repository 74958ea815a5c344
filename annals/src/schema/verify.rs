//! `annals schema verify`: every stored event through the candidate rules, and back.
//!
//! All partitions at the same time, each from its first record to where it ends now. What an event
//! is after it has gone to the newest version of the files, and back again, must be what it was,
//! but for what a rule says it drops.

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use event_log::{
    Envelope,
    batch::{BatchError, Record},
    cluster::Cluster,
};
use serde::{Deserialize, Serialize};

use super::{
    SchemaError,
    files::Files,
    plan::Plan,
    prover::Provers,
    reach,
    scan::{self, Look, Part, ScanError, event_type, framed, scan},
};
use crate::{context::Context, settings::Settings};

/// How many failures of a partition are told of, of each version.
const SAMPLES: u64 = 20;

/// What was looked at and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Report {
    format: Format,
    /// Fingerprint of the plan that this proves: `apply` takes it with no other.
    pub(super) plan: String,
    sound: bool,
    versions: Vec<VersionReport>,
    /// Events of these files with bytes that no version of the files accounts for.
    unknown: u64,
    /// Records that are no event of these files, which readers pass over.
    others: u64,
    failures: Vec<Failure>,
    /// What was read: `apply` begins where it ends.
    parts: Vec<Part>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Format {
    #[serde(rename = "annals-verification/1")]
    One,
}

/// How the stored events of one version fared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct VersionReport {
    event_type: String,
    version: u32,
    passed: u64,
    failed: u64,
}

/// An event that did not come through.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Failure {
    topic: String,
    partition: i32,
    offset: i64,
    stream: String,
    stream_version: u64,
    event_type: String,
    version: u32,
    reason: String,
    /// The event as it is stored, without what is personal.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<serde_json::Value>,
}

/// The whole log, or what came after a report.
pub(super) async fn verify(
    settings: &Settings,
    contexts: &[Context],
    files: &Files,
    plan: &Plan,
    after: Option<&Report>,
) -> Result<Report, SchemaError> {
    let provers = Arc::new(Provers::new(files, &plan.events, contexts)?);
    let log = reach::log(settings)?;
    let mut parts = scan::parts(&log, &files.contexts()).await?;
    if let Some(report) = after {
        for part in &mut parts {
            part.from = report.end(part);
            if part.from > part.end {
                return Err(SchemaError::Moved(format!(
                    "{} partition {} ended at {}, and ends at {} now: it is another log",
                    part.topic, part.partition, part.from, part.end
                )));
            }
        }
    }
    Ok(verify_parts(&log.cluster, parts, provers, &plan.fingerprint).await?)
}

/// Reads these parts of the log.
async fn verify_parts(
    cluster: &Cluster,
    parts: Vec<Part>,
    provers: Arc<Provers>,
    plan: &str,
) -> Result<Report, ScanError> {
    let looked = scan(cluster, parts, "verifying", |part| Verifier {
        part: part.clone(),
        provers: provers.clone(),
        counts: BTreeMap::new(),
        unknown: 0,
        others: 0,
        failures: Vec::new(),
    });
    let mut report = Report {
        format: Format::One,
        plan: plan.into(),
        sound: true,
        versions: Vec::new(),
        unknown: 0,
        others: 0,
        failures: Vec::new(),
        parts: Vec::new(),
    };
    let mut versions: BTreeMap<(String, u32), VersionReport> = BTreeMap::new();
    for (part, verifier) in looked.await? {
        for (id, counts) in verifier.counts {
            let Some(prover) = provers.by_id(id) else {
                continue;
            };
            let key = (prover.event_type.clone(), prover.version);
            let sum = versions.entry(key.clone()).or_default();
            (sum.event_type, sum.version) = key;
            sum.passed += counts.passed;
            sum.failed += counts.failed;
        }
        report.unknown += verifier.unknown;
        report.others += verifier.others;
        report.failures.extend(verifier.failures);
        report.parts.push(part);
    }
    report.versions = versions.into_values().collect();
    report.sound = report.failed() == 0;
    Ok(report)
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    passed: u64,
    failed: u64,
}

/// Looks at the records of one partition.
struct Verifier {
    part: Part,
    provers: Arc<Provers>,
    /// By schema id.
    counts: BTreeMap<u32, Counts>,
    unknown: u64,
    others: u64,
    failures: Vec<Failure>,
}

impl Look for Verifier {
    fn take(&mut self, record: &Record) {
        let value = record.value.as_deref().unwrap_or_default();
        let event_type = event_type(record).unwrap_or_default();
        let framed = framed(value);
        let prover = framed.and_then(|(id, _)| self.provers.of(event_type, id));
        let (Some((id, datum)), Some(prover)) = (framed, prover) else {
            match self.provers.knows(event_type) {
                true => self.unknown(record, framed.map(|it| it.0)),
                false => self.others += 1,
            }
            return;
        };
        let proved = prover.prove(datum);
        let counts = self.counts.entry(id).or_default();
        match proved {
            Ok(()) => counts.passed += 1,
            Err(reason) => {
                counts.failed += 1;
                if counts.failed <= SAMPLES {
                    let failure = self.failure(record, prover.version, reason);
                    let event = prover.shown(datum);
                    self.failures.push(Failure { event, ..failure });
                }
            }
        }
    }

    fn unreadable(&mut self, offset: i64, error: &BatchError) {
        self.unknown += 1;
        if self.unknown > SAMPLES {
            return;
        }
        self.failures.push(Failure {
            topic: self.part.topic.clone(),
            partition: self.part.partition,
            offset,
            stream: String::new(),
            stream_version: 0,
            event_type: String::new(),
            version: 0,
            reason: error.to_string(),
            event: None,
        });
    }
}

impl Verifier {
    fn unknown(&mut self, record: &Record, id: Option<u32>) {
        self.unknown += 1;
        if self.unknown <= SAMPLES {
            let reason = match id {
                None => "it is not in Confluent's wire format".into(),
                Some(id) => format!("its schema id {id} is of no version that the files have"),
            };
            let failure = self.failure(record, 0, reason);
            self.failures.push(failure);
        }
    }

    fn failure(&self, record: &Record, version: u32, reason: String) -> Failure {
        let envelope = Envelope::read(record.headers()).ok();
        let of = |it: &Envelope| (it.stream.to_string(), it.version.0);
        let (stream, stream_version) = envelope.as_ref().map(of).unwrap_or_default();
        Failure {
            topic: self.part.topic.clone(),
            partition: self.part.partition,
            offset: record.offset,
            stream,
            stream_version,
            event_type: event_type(record).unwrap_or_default().into(),
            version,
            reason,
            event: None,
        }
    }
}

impl Report {
    fn failed(&self) -> u64 {
        let failed = self.versions.iter().map(|it| it.failed);
        self.unknown + failed.sum::<u64>()
    }

    /// Where reading this part goes on.
    pub(super) fn end(&self, of: &Part) -> i64 {
        let same = |it: &&Part| it.topic == of.topic && it.partition == of.partition;
        self.parts.iter().find(same).map_or(0, |it| it.end)
    }

    pub(super) fn verdict(&self) -> Result<(), SchemaError> {
        match self.failed() {
            0 => Ok(()),
            failed => Err(SchemaError::NotSound {
                failed,
                all: self.unknown + self.looked_at(),
            }),
        }
    }

    fn looked_at(&self) -> u64 {
        self.versions.iter().map(|it| it.passed + it.failed).sum()
    }

    pub(super) fn text(&self) -> String {
        let rows: Vec<_> = self
            .versions
            .iter()
            .map(|it| {
                [
                    it.event_type.clone(),
                    format!("v{}", it.version),
                    it.passed.to_string(),
                    it.failed.to_string(),
                ]
            })
            .collect();
        let mut text = crate::table::table(["event", "version", "passed", "failed"], &rows);
        for failure in &self.failures {
            let Failure {
                topic,
                partition,
                offset,
                stream,
                stream_version,
                event_type,
                version,
                reason,
                event,
            } = failure;
            let _ = write!(
                text,
                "\n{topic}:{partition}@{offset} {stream} v{stream_version}, {event_type} v{version}: {reason}"
            );
            if let Some(event) = event {
                let _ = write!(text, "\n  {event}");
            }
        }
        if self.others > 0 {
            let _ = write!(text, "\n{} other records", self.others);
        }
        let _ = match self.failed() {
            0 => write!(text, "\nall {} events come through", self.looked_at()),
            failed => write!(
                text,
                "\n{} of {} events do not come through\n  → mend the rule, and verify again; or let \
                 it drop what it loses, with \"drops\"",
                failed,
                self.unknown + self.looked_at()
            ),
        };
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::files::testing;

    #[test]
    fn of_a_damaged_log_the_first_places_are_named_and_all_are_counted() {
        let event = testing::event(
            "tasks",
            "Done",
            &[(r#"{"type":"record","name":"Done","fields":[]}"#, None)],
        );
        let provers = Provers::new(&testing::files(event), &[], &[]).unwrap();
        let mut verifier = Verifier {
            part: Part {
                topic: "annals.tasks.events.1".into(),
                partition: 0,
                from: 0,
                end: 100,
            },
            provers: provers.into(),
            counts: BTreeMap::new(),
            unknown: 0,
            others: 0,
            failures: Vec::new(),
        };
        for offset in 0..100 {
            verifier.unreadable(offset, &BatchError::Checksum { offset });
        }
        assert_eq!(verifier.unknown, 100);
        assert_eq!(verifier.failures.len(), SAMPLES as usize);
        assert!(verifier.failures[0].reason.contains("checksum"));
    }
}
