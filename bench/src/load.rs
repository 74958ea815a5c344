//! Closed loops: each caller sends its next call when the last one has been answered.

use std::time::{Duration, Instant};

use tokio::{task::JoinSet, time::sleep_until};

use crate::{
    Result,
    cpu::{CpuTime, Processes, between},
};

/// What one of several concurrent loops does again and again.
pub trait Caller: Send + 'static {
    /// One call, until its answer; says how many units of work it was.
    fn call(&mut self) -> impl Future<Output = Result<u32>> + Send;
}

/// What the calls of some time have come to.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// How long each call took, in nanoseconds; sorted.
    took: Vec<u64>,
    units: u64,
    lasted: Duration,
    cpu: CpuTime,
}

/// Lets all callers loop for `lasts`, after a warm-up of a quarter of it, and gives them back.
pub async fn load<C: Caller>(callers: &mut Vec<C>, lasts: Duration) -> Result<Measured> {
    let processes = Processes::of_this_run()?;
    let begin = Instant::now() + lasts / 4;
    let end = begin + lasts;
    let mut loops = JoinSet::new();
    for mut caller in callers.drain(..) {
        loops.spawn(async move {
            let mut took = Vec::with_capacity(1 << 12);
            let mut units = 0;
            let mut began = Instant::now();
            while began < end {
                let done = caller.call().await?;
                let answered = Instant::now();
                if began >= begin && answered <= end {
                    took.push((answered - began).as_nanos() as u64);
                    units += u64::from(done);
                }
                began = answered;
            }
            Ok::<_, crate::Failure>((caller, took, units))
        });
    }
    sleep_until(begin.into()).await;
    let before = processes.cpu_time();
    sleep_until(end.into()).await;
    let mut all = Measured {
        lasted: lasts,
        cpu: between(&before, &processes.cpu_time()),
        ..Measured::default()
    };
    while let Some(ended) = loops.join_next().await {
        let (caller, mut took, units) = ended??;
        callers.push(caller);
        all.took.append(&mut took);
        all.units += units;
    }
    all.took.sort_unstable();
    Ok(all)
}

impl Measured {
    pub fn of(mut took: Vec<u64>, lasted: Duration) -> Self {
        took.sort_unstable();
        Self {
            units: took.len() as u64,
            took,
            lasted,
            cpu: CpuTime::new(),
        }
    }

    /// Takes in another measurement of the same thing.
    pub fn add(&mut self, other: Self) {
        self.took.extend(other.took);
        self.took.sort_unstable();
        self.units += other.units;
        self.lasted += other.lasted;
        for (process, time) in other.cpu {
            *self.cpu.entry(process).or_default() += time;
        }
    }

    /// Units of work a second.
    pub fn per_second(&self) -> f64 {
        self.units as f64 / self.lasted.as_secs_f64()
    }

    /// CPU time of each process for one unit of work, in microseconds.
    pub fn cpu_us(&self) -> impl Iterator<Item = (&str, f64)> {
        let each = |time: &Duration| time.as_secs_f64() * 1e6 / self.units as f64;
        self.cpu
            .iter()
            .map(move |(process, time)| (process.as_str(), each(time)))
    }

    /// CPU time of all processes for one unit of work, in microseconds.
    pub fn total_cpu_us(&self) -> f64 {
        self.cpu_us().map(|(_, time)| time).sum()
    }

    /// The time in which this share of the calls was answered, in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        let last = self.took.len().saturating_sub(1);
        let place = (share * last as f64).round() as usize;
        self.took.get(place).map_or(f64::NAN, |ns| *ns as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_all_calls_taken_together() {
        let second = Duration::from_secs(1);
        let mut measured = Measured::of((51..=101).map(|ms| ms * 1_000_000).collect(), second);
        measured.add(Measured::of(
            (1..=50).map(|ms| ms * 1_000_000).collect(),
            second,
        ));
        assert_eq!(measured.quantile_ms(0.5), 51.0);
        assert_eq!(measured.quantile_ms(0.99), 100.0);
        assert_eq!(measured.quantile_ms(1.0), 101.0);
        assert_eq!(measured.per_second(), 50.5);
    }
}
