//! What comes of it.

use crate::{
    actions::Action,
    broker::{Partition, Produced, Record, TOPICS, Topic},
    coordinator::Transaction,
    mutations::Mutation,
    node::Entry,
    node::Node,
    serve::Outcome,
    system::{Shard, State, Stray},
};

impl Shard {
    /// Does it; `None` when nothing comes of it.
    pub fn step(&self, state: &mut State, action: &Action) -> Option<()> {
        let rules = self.rules;
        match *action {
            Action::Begin(n) => {
                state.budget.take_overs = state.budget.take_overs.saturating_sub(1);
                state.begun += 1;
                let ends = self.ends(state);
                state.nodes[n].begin(false, ends);
            }
            Action::Fence(n) => {
                let request = state.nodes[n].request(rules)?;
                let before = state.coordinator.clone();
                match state.coordinator.handle(request) {
                    Some(answer) => state.nodes[n].hear(answer, rules),
                    None if state.coordinator == before => return None,
                    // It has ended somebody's transaction. The group is asked whether that was
                    // right before it is done again, or two could do this to each other for ever.
                    None if self.scenario.assignment => state.nodes[n].depose(rules),
                    None => {}
                }
            }
            Action::FenceUnheard(n) => {
                let request = state.nodes[n].request(rules)?;
                let before = state.coordinator.clone();
                state.coordinator.handle(request);
                if state.coordinator == before {
                    return None;
                }
                state.budget.unheard -= 1;
            }
            Action::FenceLeftBehind(n) => {
                state.leave_behind(Stray::Fence(state.nodes[n].request(rules)?))?;
            }
            Action::Restore(n) => {
                let node = &state.nodes[n];
                state.nodes[n] = node.restored(&state.partitions, false, rules)?;
            }
            Action::RestoreFromOldLeader(n) => {
                let node = &state.nodes[n];
                state.nodes[n] = node.restored(&state.partitions, true, rules)?;
            }
            Action::GiveUp(n) => {
                let is_coming = matches!(state.coordinator.transaction, Transaction::Aborting(_));
                let marker = state.nodes[n].marker;
                let is_in = |partition: &Partition| {
                    let mut slots = partition.log.iter();
                    slots.any(|slot| slot.is_marker_of(marker))
                };
                if is_coming || state.partitions.iter().all(is_in) {
                    return None;
                }
                state.nodes[n].depose(rules);
            }
            Action::Ask(command, n) => {
                if state.nodes.iter().any(|node| node.holds(command)) {
                    state.budget.retries -= 1;
                }
                state.asked[usize::from(command)]
                    .floor
                    .get_or_insert(state.known);
                let at_once = state.nodes[n].decide(command, &self.scenario.commands, rules);
                self.answer(state, at_once);
            }
            Action::SendGroup(n) => {
                let at_once = state.nodes[n].send_group(rules);
                self.answer(state, at_once);
            }
            Action::Produce(n, topic, place) => {
                let partition = &mut state.partitions[topic as usize];
                let node = &mut state.nodes[n];
                let batch = &node.appenders[topic as usize].sent[place].batch;
                let produced = partition.produce(batch);
                match node.acknowledge(topic, place, produced, &partition.log, rules) {
                    Outcome::Answers(entries) => self.answer(state, entries),
                    Outcome::WrittenPast => state.written_past = true,
                    Outcome::Deposed | Outcome::Stopped => {}
                }
            }
            Action::ProduceUnheard(n, topic, place) => {
                let node = &mut state.nodes[n];
                let sent = &mut node.appenders[topic as usize].sent[place];
                sent.arrived = true;
                if !matches!(
                    state.partitions[topic as usize].produce(&sent.batch),
                    Produced::At(_)
                ) {
                    return None;
                }
                node.unheard(topic, place, rules);
                state.budget.unheard -= 1;
            }
            Action::ProduceLeftBehind(n, topic, place) => {
                let node = &mut state.nodes[n];
                let batch = node.appenders[topic as usize].sent[place].batch.clone();
                node.unheard(topic, place, rules);
                state.leave_behind(Stray::Produce(topic, batch))?;
            }
            Action::Renew(n) => {
                state.budget.renewals -= 1;
                let ends = self.ends(state);
                state.nodes[n].begin(true, ends);
            }
            Action::Wake(n) => state.nodes[n].wake(rules),
            Action::Crash(n) => {
                state.budget.crashes -= 1;
                state.nodes[n] = Node::default();
            }
            Action::Poll(n) => state.nodes[n].assigned = state.assigned == n,
            Action::HandOver(n) => state.nodes[n] = Node::default(),
            Action::LandMarker(topic) => state.land_marker(topic)?,
            Action::LandMarkerTwice(topic) => {
                let by = state.coordinator.current?;
                state.land_marker(topic)?;
                state.budget.late_markers -= 1;
                state.strays.push(Stray::Marker(topic, by));
            }
            Action::Arrive(place) => match state.strays.remove(place) {
                Stray::Produce(topic, batch) => {
                    state.partitions[topic as usize].produce(&batch);
                }
                Stray::Fence(request) => {
                    state.coordinator.handle(request);
                }
                Stray::Marker(topic, by) => state.partitions[topic as usize].mark(by),
            },
            Action::FailOver => {
                state.budget.coordinator_failovers -= 1;
                state.coordinator.fail_over();
            }
            Action::CompleteUnmarked => {
                state.budget.lost_markers -= 1;
                state.coordinator.complete_unmarked();
            }
            Action::TimeOut => {
                state.budget.transaction_timeouts -= 1;
                state.coordinator.abort_at_next_epoch();
            }
            Action::RestartBroker(topic) => {
                let before = state.partitions[topic as usize].clone();
                state.partitions[topic as usize].restart();
                if state.partitions[topic as usize] == before {
                    return None;
                }
                state.budget.broker_restarts -= 1;
            }
            Action::DeposeLeader => {
                state.budget.deposed_leaders -= 1;
                let events = &mut state.partitions[0];
                events.old_end = Some(events.end());
            }
            Action::LongTime(awake) => self.long_time(state, awake),
            Action::WriteUnfenced => {
                state.budget.foreign_writes -= 1;
                state.partitions[0].write_unfenced(Record::Foreign);
            }
            Action::Reassign(n) => {
                state.budget.reassignments -= 1;
                state.assigned = n;
            }
        }
        Some(())
    }

    fn long_time(&self, state: &mut State, awake: Option<usize>) {
        state.budget.long_times -= 1;
        state.strays.clear();
        let renewing = !self.rules.mutated(Mutation::FenceNotKeptAlive);
        let kept = awake
            .filter(|_| renewing)
            .map(|owner| state.nodes[owner].writer.pid);
        for partition in &mut state.partitions {
            partition.pass_long_time(kept);
        }
        if kept.is_none() {
            state.coordinator.forget();
        }
        for (n, node) in state.nodes.iter_mut().enumerate() {
            node.slept |= renewing && node.is_active() && Some(n) != awake;
        }
    }

    /// Only one mutation looks at these; elsewhere they would only multiply states.
    fn ends(&self, state: &State) -> [u8; 2] {
        let noted = self.rules.mutated(Mutation::RestoreToLastMessage);
        TOPICS.map(|topic| {
            if noted {
                state.partitions[topic as usize].end()
            } else {
                0
            }
        })
    }

    fn answer(&self, state: &mut State, entries: impl IntoIterator<Item = Entry>) {
        let log: Vec<_> = state.partitions[0].events().collect();
        let commands = &self.scenario.commands;
        for Entry { command, answer } in entries {
            let asked = &mut state.asked[usize::from(command)];
            let floor = asked.floor.unwrap_or_default();
            let judged = || answer.judge(&log, commands, command, floor);
            state.broken = state.broken.or_else(judged);
            // Who has an answer does not wait for another one.
            if asked.answer.is_none() {
                asked.answer = Some(answer);
                state.known = state.known.max(answer.knows());
            }
        }
    }
}

impl State {
    fn leave_behind(&mut self, stray: Stray) -> Option<()> {
        if self.strays.contains(&stray) {
            return None;
        }
        self.budget.strays -= 1;
        self.strays.push(stray);
        self.strays.sort();
        Some(())
    }

    fn land_marker(&mut self, topic: Topic) -> Option<()> {
        let by = self.coordinator.current?;
        let Transaction::Aborting(pending) = self.coordinator.transaction else {
            return None;
        };
        if !pending[topic as usize] {
            return None;
        }
        self.partitions[topic as usize].mark(by);
        self.coordinator.landed(topic as usize);
        Some(())
    }
}
