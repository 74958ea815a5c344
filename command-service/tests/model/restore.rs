//! Restoring: what a node knows when it has taken over, and whether it may serve.

use crate::{
    broker::{Event, Partition, Record, Slot, Topic},
    mutations::{Mutation, Rules},
    node::{Node, Phase, Stop},
};

impl Node {
    /// Reads both partitions up to the take-over's own marker; `None` while one
    /// of them does not show it. A leader of the events that was deposed shows
    /// an old end of the log, without a word.
    pub fn restored(
        &self,
        partitions: &[Partition; 2],
        from_old_leader: bool,
        rules: Rules,
    ) -> Option<Self> {
        let mut shown = partitions.each_ref().map(|partition| &partition.log[..]);
        if from_old_leader {
            shown[0] = &shown[0][..usize::from(partitions[0].old_end?)];
        }
        for (log, noted) in shown.iter_mut().zip(self.ends_at_first) {
            let end = match rules.mutation {
                Some(Mutation::FirstInitAlone | Mutation::RestoreWithoutMarker) => log.len(),
                Some(Mutation::RestoreToLastMessage) => usize::from(noted).min(log.len()),
                _ => log.iter().position(|slot| slot.is_marker_of(self.marker))? + 1,
            };
            *log = &log[..end];
        }
        Some(self.restored_from(shown, partitions[0].time, rules))
    }

    fn restored_from(&self, logs: [&[Slot]; 2], now: u8, rules: Rules) -> Self {
        let mut node = self.clone();
        let markers = (logs.iter().copied().flatten()).filter(|slot| slot.record == Record::Marker);
        node.known_pids.extend(markers.map(|slot| slot.by.pid));
        for (appender, log) in node.appenders.iter_mut().zip(logs) {
            appender.next_offset = log.len() as u8;
            appender.next_sequence = 0;
        }
        if !self.renewing {
            if !self.predecessor_is_fenced(logs, now, rules) {
                node.phase = Phase::Stopped(Stop::Unfenced);
                return node;
            }
            node.acknowledged = replay(logs[0]);
        }
        if self.renewing && rules.mutated(Mutation::RenewalWithoutClaim) {
            node.phase = Phase::Serving;
            node.renewing = false;
            return node;
        }
        node.phase = Phase::Claiming;
        node.send(Topic::Owners, vec![Record::Claim], Vec::new());
        node
    }

    /// The newest claim names who may still be able to append. Our markers
    /// fence it when they carry its producer id; otherwise somebody's must, or
    /// it must have been silent for so long that it takes over before it appends.
    fn predecessor_is_fenced(&self, logs: [&[Slot]; 2], now: u8, rules: Rules) -> bool {
        let claim = logs[1].iter().rfind(|slot| slot.record == Record::Claim);
        let Some(&Slot { by: claimed, .. }) = claim else {
            return true;
        };
        if rules.mutated(Mutation::TrustAnyFirstInit) {
            return true;
        }
        if rules.mutated(Mutation::TrustEpochAboveZero) {
            return self.marker.epoch > 0;
        }
        let fences = |slot: &Slot| {
            slot.record == Record::Marker
                && slot.by.pid == claimed.pid
                && slot.by.epoch > claimed.epoch
        };
        let mut slots = logs.iter().copied().flatten();
        let silent = slots.all(|slot| slot.by.pid != claimed.pid || slot.time < now);
        claimed.pid == self.marker.pid
            || logs.iter().all(|log| log.iter().any(fences))
            || silent && !rules.mutated(Mutation::DowntimeLocksOut)
    }
}

/// The fold of what was read; what a deposed owner wrote after its successor does not count.
fn replay(log: &[Slot]) -> Vec<Event> {
    let mut highest = 0;
    let mut events = Vec::new();
    for slot in log {
        if let Record::Event(event) = slot.record
            && event.term >= highest
        {
            highest = event.term;
            events.push(event);
        }
    }
    events
}
