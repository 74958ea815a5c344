//! All that may happen next.
//!
//! A request and its answer are one step: who acts late on an answer is the
//! same as who hears it late. A request whose answer is lost is another step,
//! and one that is left behind on a dead connection arrives at any time later.
//! What happens seldom has a budget, so that the model is finite.

use crate::{
    broker::{TOPICS, Topic},
    coordinator::Transaction,
    mutations::Mutation,
    node::{Node, Phase},
    system::{Shard, State},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Begin(usize),
    /// The coordinator handles the node's request.
    Fence(usize),
    FenceUnheard(usize),
    FenceLeftBehind(usize),
    Restore(usize),
    RestoreFromOldLeader(usize),
    /// The marker does not come.
    GiveUp(usize),
    Ask(u8, usize),
    SendGroup(usize),
    Produce(usize, Topic, usize),
    ProduceUnheard(usize, Topic, usize),
    ProduceLeftBehind(usize, Topic, usize),
    Renew(usize),
    Wake(usize),
    Crash(usize),
    Poll(usize),
    HandOver(usize),
    LandMarker(Topic),
    LandMarkerTwice(Topic),
    Arrive(usize),
    FailOver,
    CompleteUnmarked,
    TimeOut,
    RestartBroker(Topic),
    DeposeLeader,
    /// All but this owner, who renews, are asleep.
    LongTime(Option<usize>),
    WriteUnfenced,
    Reassign(usize),
}

impl Shard {
    pub fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        for n in 0..state.nodes.len() {
            self.node_actions(state, n, actions);
        }
        self.surroundings(state, actions);
    }

    fn node_actions(&self, state: &State, n: usize, actions: &mut Vec<Action>) {
        let node = &state.nodes[n];
        let budget = &state.budget;
        if node.is_active() && budget.crashes > 0 {
            actions.push(Action::Crash(n));
        }
        if self.scenario.assignment && node.assigned != (state.assigned == n) {
            actions.push(Action::Poll(n));
        }
        if self.may_begin(state, n) {
            actions.push(Action::Begin(n));
        }
        if node.slept {
            actions.push(Action::Wake(n));
            if !self.rules.mutated(Mutation::BarrierAfterLongPause) {
                return;
            }
        }
        match node.phase {
            Phase::Fencing(_) => {
                actions.push(Action::Fence(n));
                if budget.unheard > 0 {
                    actions.push(Action::FenceUnheard(n));
                }
                if budget.strays > 0 {
                    actions.push(Action::FenceLeftBehind(n));
                }
            }
            Phase::Restoring => {
                actions.push(Action::Restore(n));
                actions.push(Action::RestoreFromOldLeader(n));
                if !self.rules.mutated(Mutation::WaitForEver) {
                    actions.push(Action::GiveUp(n));
                }
            }
            Phase::Serving => {
                if node.admits() {
                    self.questions(state, n, actions);
                }
                if node.may_send_group(self.rules) {
                    actions.push(Action::SendGroup(n));
                }
                if node.admits() && node.is_quiet() && budget.renewals > 0 {
                    actions.push(Action::Renew(n));
                }
                let drained = node.is_quiet() && node.forming.is_empty();
                if self.scenario.assignment && !node.assigned && drained {
                    actions.push(Action::HandOver(n));
                }
            }
            Phase::Idle | Phase::Claiming | Phase::Stopped(_) => {}
        }
        for topic in TOPICS {
            if node.slept && topic == Topic::Events {
                continue;
            }
            for (place, sent) in node.appenders[topic as usize].sent.iter().enumerate() {
                // A connection keeps requests and answers in order.
                if place == 0 {
                    actions.push(Action::Produce(n, topic, place));
                }
                if budget.unheard > 0 {
                    actions.push(Action::ProduceUnheard(n, topic, place));
                }
                if budget.strays > 0 {
                    actions.push(Action::ProduceLeftBehind(n, topic, place));
                }
                if !sent.arrived {
                    break;
                }
            }
        }
    }

    fn may_begin(&self, state: &State, n: usize) -> bool {
        let node = &state.nodes[n];
        if node.phase != Phase::Idle {
            return false;
        }
        if self.scenario.assignment {
            return node.assigned;
        }
        // When nobody is left to answer, somebody takes over in the end.
        let forsaken = !state.nodes.iter().any(Node::is_active)
            && state.asked.iter().any(|asked| asked.answer.is_none())
            && state
                .nodes
                .iter()
                .position(|node| node.phase == Phase::Idle)
                == Some(n);
        state.budget.take_overs > 0 || forsaken
    }

    fn questions(&self, state: &State, n: usize, actions: &mut Vec<Action>) {
        if self.scenario.assignment && !state.nodes[n].assigned {
            return;
        }
        for (command, asked) in (0..).zip(&state.asked) {
            let held = state.nodes.iter().any(|node| node.holds(command));
            let again = held && state.budget.retries > 0 && !state.nodes[n].holds(command);
            if asked.answer.is_none() && (!held || again) {
                actions.push(Action::Ask(command, n));
            }
        }
    }

    fn surroundings(&self, state: &State, actions: &mut Vec<Action>) {
        let budget = &state.budget;
        let aborting = match state.coordinator.transaction {
            Transaction::Aborting(pending) => Some(pending),
            Transaction::Empty | Transaction::Ongoing | Transaction::Aborted => None,
        };
        for (topic, pending) in TOPICS.into_iter().zip(aborting.unwrap_or_default()) {
            if pending {
                actions.push(Action::LandMarker(topic));
                if budget.late_markers > 0 {
                    actions.push(Action::LandMarkerTwice(topic));
                }
            }
        }
        if aborting.is_some() && budget.lost_markers > 0 {
            actions.push(Action::CompleteUnmarked);
        }
        if aborting.is_some_and(|pending| pending != [true; 2]) && budget.coordinator_failovers > 0
        {
            actions.push(Action::FailOver);
        }
        if state.coordinator.transaction == Transaction::Ongoing && budget.transaction_timeouts > 0
        {
            actions.push(Action::TimeOut);
        }
        actions.extend((0..state.strays.len()).map(Action::Arrive));
        if budget.broker_restarts > 0 {
            actions.extend(TOPICS.map(Action::RestartBroker));
        }
        if budget.deposed_leaders > 0 {
            actions.push(Action::DeposeLeader);
        }
        if budget.foreign_writes > 0 {
            actions.push(Action::WriteUnfenced);
        }
        if budget.reassignments > 0 {
            let others = (0..state.nodes.len()).filter(|n| *n != state.assigned);
            actions.extend(others.map(Action::Reassign));
        }
        if budget.long_times > 0 && aborting.is_none() {
            if !self.rules.mutated(Mutation::FenceNotKeptAlive) {
                actions.push(Action::LongTime(None));
            }
            let owner = state.nodes.iter().position(|node| {
                node.phase == Phase::Serving
                    && !node.slept
                    && state.coordinator.current == Some(node.writer)
            });
            actions.extend(owner.map(|owner| Action::LongTime(Some(owner))));
        }
    }
}
