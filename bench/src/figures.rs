//! How figures are told: a table for people, or one JSON object a line.

use serde_json::json;

use crate::load::Measured;

/// What a figure must reach, and how far it got.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    AtLeast(f64),
    AtMost(f64),
}

/// Prints each figure as soon as it is known.
pub struct Figures {
    json: bool,
}

impl Figures {
    pub fn new(json: bool) -> Self {
        let figures = Self { json };
        if !json {
            figures.line(&format!(
                "{:32}{:>12}{:>10}{:>10}{:>10}",
                "", "per second", "p50 ms", "p99 ms", "p99.9 ms"
            ));
        }
        figures
    }

    /// Throughput and latency of one benchmark.
    pub fn measured(&self, bench: &str, measured: &Measured) {
        let per_second = measured.per_second();
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| measured.quantile_ms(share));
        if !self.json {
            self.line(&format!(
                "{bench:32}{per_second:>12.0}{p50:>10.3}{p99:>10.3}{p999:>10.3}"
            ));
            return self.cpu(measured);
        }
        self.object(bench, "per_second", per_second);
        self.object(bench, "p50_ms", p50);
        self.object(bench, "p99_ms", p99);
        self.object(bench, "p99_9_ms", p999);
        for (process, time) in measured.cpu_us() {
            self.object(bench, &format!("cpu_us_{process}"), time);
        }
    }

    /// Which process had how much work with one call.
    fn cpu(&self, measured: &Measured) {
        let seen = measured.cpu_us().filter(|(_, time)| *time >= 0.05);
        let each: Vec<_> = seen
            .map(|(process, time)| format!("{process} {time:.1}"))
            .collect();
        if !each.is_empty() {
            let (total, each) = (measured.total_cpu_us(), each.join(", "));
            self.line(&format!("  {:30}{total:>12.1}  ({each})", "cpu µs"));
        }
    }

    /// One more figure of a benchmark; one that misses its target says so, and that is all.
    pub fn figure(&self, bench: &str, metric: &str, value: f64, target: Option<Target>) {
        if self.json {
            self.object(bench, metric, value);
            if let Some(Target::AtLeast(target) | Target::AtMost(target)) = target {
                self.object(bench, &format!("{metric}_target"), target);
            }
            return;
        }
        let verdict = target.map(|target| {
            let (sign, limit, reached) = match target {
                Target::AtLeast(limit) => ("≥", limit, value >= limit),
                Target::AtMost(limit) => ("≤", limit, value <= limit),
            };
            let word = if reached { "reached" } else { "MISSED" };
            format!("  (target {sign} {limit:.2}: {word})")
        });
        let name = format!("  {}", metric.replace('_', " "));
        self.line(&format!(
            "{name:32}{value:>12.2}{}",
            verdict.unwrap_or_default()
        ));
    }

    fn object(&self, bench: &str, metric: &str, value: f64) {
        let object = json!({"bench": bench, "metric": metric, "value": value});
        self.line(&object.to_string());
    }

    #[allow(clippy::print_stdout, reason = "figures are what a benchmark is for")]
    fn line(&self, line: &str) {
        println!("{line}");
    }
}
