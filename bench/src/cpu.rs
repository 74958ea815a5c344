//! CPU time, process by process. A machine that others use too changes how long a call takes,
//! but hardly how much work it is.

use std::{collections::BTreeMap, fs, time::Duration};

use crate::Result;

/// Linux counts CPU time for `/proc` in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// This process and those that it has started.
pub struct Processes(Vec<Process>);

struct Process {
    id: u32,
    name: String,
}

/// CPU time by name of process.
pub type CpuTime = BTreeMap<String, Duration>;

impl Processes {
    pub fn of_this_run() -> Result<Self> {
        let mut parents = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            // What has ended since is of no interest.
            if let Some(id) = name.to_str().and_then(|name| name.parse().ok())
                && let Ok(stat) = Stat::of(id)
            {
                parents.insert(id, stat.parent);
            }
        }
        let this = std::process::id();
        let descends = |id: u32| {
            let line = std::iter::successors(Some(id), |id| parents.get(id).copied());
            line.take_while(|id| *id > 1).any(|id| id == this)
        };
        let ours = parents.keys().filter(|id| descends(**id)).map(|&id| {
            let name = match id == this {
                true => "bench".into(),
                false => name_of(id),
            };
            Process { id, name }
        });
        Ok(Self(ours.collect()))
    }

    /// What they have used so far.
    pub fn cpu_time(&self) -> CpuTime {
        let mut used = CpuTime::new();
        for process in &self.0 {
            if let Ok(stat) = Stat::of(process.id) {
                *used.entry(process.name.clone()).or_default() += TICK * stat.ticks;
            }
        }
        used
    }
}

/// What was used between the two.
pub fn between(before: &CpuTime, after: &CpuTime) -> CpuTime {
    let used = after.iter().map(|(name, time)| {
        let before = before.get(name).copied().unwrap_or_default();
        (name.clone(), time.saturating_sub(before))
    });
    used.collect()
}

/// A role by the name that it was started with, another program by its own.
fn name_of(id: u32) -> String {
    let line = fs::read_to_string(format!("/proc/{id}/cmdline")).unwrap_or_default();
    let mut words = line.split('\0');
    let program = words.next().unwrap_or_default();
    let program = program.rsplit('/').next().unwrap_or_default();
    match program.split([' ', ':']).next().unwrap_or_default() {
        "java" => "kafka".into(),
        "postgres" => "postgres".into(),
        _ => words.next().unwrap_or("unknown").into(),
    }
}

struct Stat {
    parent: u32,
    /// In user and in system mode.
    ticks: u32,
}

impl Stat {
    fn of(id: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
        // The second field is a name in parentheses, which may have any characters.
        let (_, fields) = stat.rsplit_once(") ").ok_or("a stat without a name")?;
        let fields: Vec<_> = fields.split(' ').collect();
        let number = |at: usize| -> Result<u32> {
            Ok(fields.get(at).ok_or("a stat that is too short")?.parse()?)
        };
        Ok(Self {
            parent: number(1)?,
            ticks: number(11)? + number(12)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_this_process_is_counted() {
        let ours = Processes::of_this_run().unwrap();
        let before = ours.cpu_time();
        loop {
            let used = between(&before, &ours.cpu_time());
            if used["bench"] >= TICK * 5 {
                break;
            }
        }
    }
}
