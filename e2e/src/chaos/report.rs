//! What a run tells: what was broken and how often, what the clients got, what the check found.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    fs,
    path::PathBuf,
    time::Duration,
};

use super::{
    Plan,
    checker::{Findings, Violation},
    history::{Answer, Moment, Operation},
    log::Log,
    nemesis::{Fault, Record},
    trespass::Trespasses,
    world::World,
};

pub struct Report {
    pub plan: Plan,
    pub record: Record,
    pub recovery: Recovery,
    pub log: LogFigures,
    pub clients: ClientFigures,
    pub findings: Findings,
    /// For each broker: through its proxy, and ended by it.
    pub connections: Vec<(u64, u64)>,
    /// What came of the trespasses, and what the check found after them.
    pub aftermath: Option<(Trespasses, Findings)>,
}

/// What happened once nothing was broken any more.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Every role was ready.
    pub ready_after: Duration,
    /// Every client had its last answer.
    pub answered_after: Duration,
    pub failed: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub struct LogFigures {
    pub events: usize,
    pub batches: usize,
    pub markers: usize,
    /// Different terms in which events were written, over all partitions.
    pub terms: usize,
}

#[derive(Clone, Debug, Default)]
pub struct ClientFigures {
    pub operations: usize,
    pub attempts: usize,
    /// Why attempts stayed open, by reason.
    pub open: BTreeMap<String, usize>,
    /// From the first attempt to the answer, sorted, with the moment of the first attempt.
    took: Vec<(Moment, Moment)>,
}

impl Report {
    /// Whether everything is as it was promised.
    pub fn holds(&self) -> bool {
        let aftermath = self.aftermath.as_ref();
        self.violations().next().is_none()
            && self.recovery.failed.is_empty()
            && aftermath.is_none_or(|(trespasses, _)| trespasses.failed.is_empty())
    }

    fn violations(&self) -> impl Iterator<Item = &Violation> {
        let aftermath = self.aftermath.iter().map(|(_, findings)| findings);
        let findings = [&self.findings].into_iter().chain(aftermath);
        findings.flat_map(|findings| &findings.violations)
    }

    /// Writes down what somebody needs who looks for the reason; says where.
    pub fn keep(&self, world: &World, log: &Log, history: &[Operation]) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("annals-chaos-{}", std::process::id()));
        let mut violations = String::new();
        for violation in self.violations() {
            let _ = writeln!(violations, "{:?}: {}", violation.rule, violation.what);
        }
        let mut files = vec![
            ("report.txt".to_owned(), self.to_string()),
            ("violations.txt".to_owned(), violations),
            ("log.txt".to_owned(), format!("{log:#?}")),
            ("history.txt".to_owned(), format!("{history:#?}")),
        ];
        for role in world.roles() {
            files.push((format!("{}.jsonl", role.name), role.said()));
        }
        let _ = fs::create_dir_all(&folder);
        for (name, text) in files {
            if let Err(error) = fs::write(folder.join(&name), text) {
                eprintln!("failed to write {name}: {error}");
            }
        }
        folder
    }
}

impl LogFigures {
    pub fn of(log: &Log) -> Self {
        let term = |record: &super::log::Record| record.headers.get("annals_term").cloned();
        let terms = log.events.iter().map(|partition| {
            let records = partition.batches.iter().flat_map(|batch| &batch.records);
            let terms: std::collections::BTreeSet<_> = records.filter_map(term).collect();
            terms.len()
        });
        let batches = log.events.iter().flat_map(|it| &it.batches);
        Self {
            events: log.records(),
            batches: batches.filter(|batch| !batch.control).count(),
            markers: log.markers(),
            terms: terms.sum(),
        }
    }
}

impl ClientFigures {
    pub fn of(history: &[Operation]) -> Self {
        let mut figures = Self {
            operations: history.len(),
            ..Self::default()
        };
        for operation in history {
            figures.attempts += operation.attempts.len();
            for attempt in &operation.attempts {
                if let Answer::Open(why) = &attempt.answer {
                    *figures.open.entry(why.clone()).or_default() += 1;
                }
            }
            // Of what was sent again later, the first answer counts.
            let began = operation.attempts.iter().map(|it| it.started).min();
            let answers = operation.attempts.iter();
            let answers = answers.filter(|it| it.answer.is_definite());
            let answered = answers.map(|it| it.ended).min();
            if let (Some(began), Some(answered)) = (began, answered)
                && operation.ask.is_command()
            {
                figures.took.push((answered - began, began));
            }
        }
        figures.took.sort_unstable();
        figures
    }

    fn quantile(&self, part: f64) -> Moment {
        let last = self.took.len().saturating_sub(1);
        let at = (last as f64 * part).round() as usize;
        self.took.get(at).map_or(0, |(took, _)| *took)
    }

    /// The longest that a command waited for its answer between these moments.
    fn longest(&self, began: Moment, ended: Moment) -> Moment {
        let waited = self.took.iter().map(|(took, from)| {
            let to = (from + took).min(ended);
            to.saturating_sub(*(from.max(&began)))
        });
        waited.max().unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            seed,
            duration,
            nodes,
            clients,
            overlap,
            ..
        } = &self.plan;
        let how = if *overlap { "overlapping, " } else { "" };
        let build = if cfg!(debug_assertions) {
            "debug"
        } else {
            "release"
        };
        writeln!(
            f,
            "chaos for {} s with seed {seed}, {how}{build}: 3 brokers, {nodes} command services, {clients} clients\n",
            duration.as_secs()
        )?;
        self.write_faults(f)?;
        self.write_clients(f)?;
        self.write_log(f)?;
        self.write_recovery(f)?;
        self.write_aftermath(f)?;
        for violation in self.violations().take(20) {
            writeln!(f, "VIOLATED {:?}: {}", violation.rule, violation.what)?;
        }
        if let more @ 1.. = self.violations().count().saturating_sub(20) {
            writeln!(f, "and {more} more violations")?;
        }
        writeln!(f, "{}", if self.holds() { "HOLDS" } else { "FAILS" })
    }
}

impl Report {
    fn write_faults(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.record.by_fault();
        writeln!(
            f,
            "{} faults; how often, and how long the most patient command waited meanwhile:",
            self.record.faults.len()
        )?;
        for fault in &self.plan.faults {
            let count = counts.get(fault).copied().unwrap_or_default();
            writeln!(
                f,
                "  {:26} {count:4}   {:8.2} s",
                format!("{fault:?}"),
                self.longest_during(*fault) as f64 / 1e6
            )?;
        }
        for (broker, (all, ended)) in self.connections.iter().enumerate() {
            let broker = broker + 1;
            writeln!(
                f,
                "  {all} connections to broker {broker}, {ended} of them cut"
            )?;
        }
        for oddity in &self.record.oddities {
            writeln!(f, "  odd: {oddity}")?;
        }
        Ok(())
    }

    fn longest_during(&self, fault: Fault) -> Moment {
        let faults = self.record.faults.iter().filter(|it| it.fault == fault);
        let longest = faults.map(|it| self.clients.longest(it.began, it.ended));
        longest.max().unwrap_or_default()
    }

    fn write_clients(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clients = &self.clients;
        writeln!(
            f,
            "\n{} operations, {} attempts; commands took p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} s, at most {:.1} s",
            clients.operations,
            clients.attempts,
            clients.quantile(0.5) as f64 / 1e3,
            clients.quantile(0.99) as f64 / 1e3,
            clients.quantile(0.999) as f64 / 1e6,
            clients.quantile(1.0) as f64 / 1e6,
        )?;
        for (kind, count) in &self.findings.answers_by_kind {
            writeln!(f, "  {count:8} {kind}")?;
        }
        for (why, count) in &clients.open {
            writeln!(f, "  {count:8} open: {why}")?;
        }
        Ok(())
    }

    fn write_log(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogFigures {
            events,
            batches,
            markers,
            terms,
        } = &self.log;
        let Findings {
            streams,
            commands_in_log,
            answers,
            refused_and_carried_out,
            ..
        } = &self.findings;
        writeln!(
            f,
            "\nlog: {events} events of {commands_in_log} commands on {streams} streams, in {batches} batches, \
             {terms} terms, {markers} markers\nchecked: {answers} answers; {refused_and_carried_out} commands \
             were carried out by one attempt and refused by another"
        )
    }

    fn write_recovery(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recovery = &self.recovery;
        writeln!(
            f,
            "once all was mended: ready after {:.1} s, last answer after {:.1} s",
            recovery.ready_after.as_secs_f64(),
            recovery.answered_after.as_secs_f64()
        )?;
        for failed in &recovery.failed {
            writeln!(f, "  FAILED: {failed}")?;
        }
        Ok(())
    }

    fn write_aftermath(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((trespasses, findings)) = &self.aftermath else {
            return Ok(());
        };
        writeln!(f, "\nsomebody wrote past the owners:")?;
        for trespass in &trespasses.all {
            let what = trespass.what;
            let place = &trespass.place;
            match &trespass.noticed {
                Some((after, said)) => writeln!(
                    f,
                    "  {what}, at {place}: noticed after {:.2} s: {said}",
                    after.as_secs_f64()
                )?,
                None => writeln!(f, "  {what}, at {place}: NOT NOTICED")?,
            }
        }
        writeln!(
            f,
            "meanwhile {} answers by the other shards; {} by these once they had been read anew\n\
             checked again: {} answers, {} commands in the log, {} foreign records passed over",
            trespasses.answered_elsewhere,
            trespasses.answered_again,
            findings.answers,
            findings.commands_in_log,
            findings.foreign
        )?;
        for failed in &trespasses.failed {
            writeln!(f, "  FAILED: {failed}")?;
        }
        Ok(())
    }
}
