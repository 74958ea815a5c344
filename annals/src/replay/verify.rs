//! `annals replay verify`: whether the whole log is as its owners have written it.
//!
//! All partitions at the same time, each from its first record to where it ended at the start.
//! Memory is bounded by the number of streams that are remembered at a time; of more than these,
//! a partition is read several times.

mod checks;
mod finding;
mod versions;

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use serde::Serialize;
use tokio::task::JoinSet;

use super::{
    ReplayError,
    kinds::Kinds,
    log::{Extent, Log, LogError},
    meter::Meter,
};
use checks::Checks;
use event_log::fetch::FetchError;
use finding::{Damage, Finding, Findings};
use versions::{Next, Versions};

#[derive(Clone, Debug, clap::Args)]
pub(crate) struct VerifyArgs {
    /// Only the log of this context; of several, name each
    #[arg(long = "context", value_name = "CONTEXT")]
    pub(super) contexts: Vec<String>,
    /// How many streams are remembered at a time, about 50 bytes each; with more, the log is read
    /// several times
    #[arg(long, default_value_t = 4_000_000, value_name = "STREAMS")]
    remember: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What was looked at and what was found.
#[derive(Debug, Serialize)]
struct Report {
    sound: bool,
    partitions: Vec<Verified>,
    /// How much of each kind of damage there is.
    damage: BTreeMap<Damage, u64>,
    /// The first thousand of each partition.
    findings: Vec<Finding>,
}

/// What one partition has.
#[derive(Debug, Serialize)]
struct Verified {
    topic: String,
    partition: i32,
    end: i64,
    records: u64,
    events: u64,
    streams: u64,
    /// Marks of take-overs.
    markers: u64,
    /// Records that are not Annals', which readers pass over.
    foreign: u64,
    /// How often it was read.
    passes: u64,
}

/// What to print, and whether the log is sound.
pub(crate) async fn verify(
    log: &Log,
    kinds: &Kinds,
    contexts: &[&str],
    args: &VerifyArgs,
) -> Result<(String, bool), ReplayError> {
    let extents = log.extents(contexts).await?;
    let goal = extents.iter().map(|extent| extent.end as u64).sum();
    let meter = Arc::new(Meter::new("verifying", goal));
    let remember = (args.remember / extents.len().max(1)).max(1);
    let mut tasks = JoinSet::new();
    for extent in extents.clone() {
        let partitions = extents.iter().filter(|it| it.topic == extent.topic).count() as i32;
        let (log, kinds, meter) = (log.clone(), kinds.clone(), meter.clone());
        tasks.spawn(async move {
            verify_partition(&log, &kinds, extent, partitions, remember, &meter).await
        });
    }
    let mut report = Report {
        sound: true,
        partitions: Vec::new(),
        damage: BTreeMap::new(),
        findings: Vec::new(),
    };
    let mut findings = Findings::default();
    while let Some(verified) = tasks.join_next().await {
        let verified = verified.unwrap_or_else(|bug| std::panic::resume_unwind(bug.into_panic()));
        let (partition, found) = verified?;
        report.partitions.push(partition);
        findings.append(found);
    }
    report
        .partitions
        .sort_by(|one, other| (&one.topic, one.partition).cmp(&(&other.topic, other.partition)));
    findings.listed.sort_by(|one, other| {
        let place = |it: &Finding| (it.topic.clone(), it.partition, it.offset, it.damage);
        place(one).cmp(&place(other))
    });
    report.sound = findings.counts.is_empty();
    report.damage = findings.counts;
    report.findings = findings.listed;
    let text = match args.json {
        true => super::json(&report),
        false => report.text(),
    };
    Ok((text, report.sound))
}

async fn verify_partition(
    log: &Log,
    kinds: &Kinds,
    extent: Extent,
    partitions: i32,
    remember: usize,
    meter: &Meter,
) -> Result<(Verified, Findings), LogError> {
    let Extent {
        topic,
        partition,
        end,
    } = &extent;
    let mut findings = Findings::default();
    let mut versions = Versions::new(remember);
    let (mut passes, mut streams, mut seen) = (0, 0, None);
    let seen = loop {
        passes += 1;
        let mut checks = Checks::new(kinds, topic, *partition, partitions);
        let (mut others, mut of_versions) = (Findings::default(), Findings::default());
        let mut found = |finding: Finding| match finding.damage.is_of_versions() {
            true => of_versions.push(finding),
            false => others.push(finding),
        };
        let read = log
            .read_through(&extent, |batch| {
                match batch {
                    Ok(batch) => {
                        meter.add((batch.last_offset + 1 - batch.base_offset) as u64);
                        checks.take(batch, &mut versions, &mut found);
                    }
                    Err(error) => found(checks.unreadable(&error)),
                }
                Ok(())
            })
            .await;
        match read {
            Ok(()) => {}
            // What comes after it is not there.
            Err(LogError::Fetch(error @ FetchError::OutOfRange { .. })) => {
                found(checks.unreadable(&error));
            }
            Err(error) => return Err(error),
        }
        // The other checks are the same in each pass.
        let first = seen.is_none();
        let seen = *seen.get_or_insert(checks.seen);
        if first {
            findings.append(others);
        }
        versions = match versions.next() {
            Next::Again(again) => again,
            Next::Part(looked_at, rest) => {
                streams += looked_at;
                findings.append(of_versions);
                rest
            }
            Next::Done(looked_at) => {
                streams += looked_at;
                findings.append(of_versions);
                break seen;
            }
        };
    };
    let verified = Verified {
        topic: topic.clone(),
        partition: *partition,
        end: *end,
        records: seen.records,
        events: seen.events,
        streams,
        markers: seen.markers,
        foreign: seen.foreign,
        passes,
    };
    Ok((verified, findings))
}

impl Report {
    fn text(&self) -> String {
        let rows: Vec<_> = self.partitions.iter().map(Verified::cells).collect();
        let head = [
            "topic",
            "partition",
            "records",
            "events",
            "streams",
            "markers",
            "foreign",
        ];
        let mut text = crate::table::table(head, &rows);
        for finding in &self.findings {
            let _ = write!(
                text,
                "\n{} partition {} offset {}: {}",
                finding.topic,
                finding.partition,
                finding.offset,
                word(finding.damage)
            );
            if let Some(stream) = &finding.stream {
                let _ = write!(text, " in {stream}");
            }
            let _ = write!(text, ": {}", finding.detail);
        }
        let listed = self.findings.len() as u64;
        let all: u64 = self.damage.values().sum();
        if all > listed {
            let _ = write!(text, "\n… and {} more", all - listed);
        }
        let _ = match self.sound {
            true => write!(text, "\nthe log is sound"),
            false => {
                let counts = self.damage.iter();
                let counts = counts.map(|(damage, count)| format!("{count} × {}", word(*damage)));
                let counts = counts.collect::<Vec<_>>().join(", ");
                write!(text, "\nthe log is damaged: {counts}")
            }
        };
        text
    }
}

impl Verified {
    fn cells(&self) -> [String; 7] {
        [
            self.topic.clone(),
            self.partition.to_string(),
            self.records.to_string(),
            self.events.to_string(),
            self.streams.to_string(),
            self.markers.to_string(),
            self.foreign.to_string(),
        ]
    }
}

fn word(damage: Damage) -> String {
    match serde_json::to_value(damage) {
        Ok(serde_json::Value::String(word)) => word,
        _ => unreachable!("kinds of damage are words"),
    }
}
