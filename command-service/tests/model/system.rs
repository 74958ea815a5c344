//! Everything together, and all that may happen next.
//!
//! A request and its answer are one step: who acts late on an answer is the
//! same as who hears it late. A request whose answer is lost is another step,
//! and one that is left behind on a dead connection arrives at any time later.
//! What happens seldom has a budget, so that the model is finite.

use stateright::{Model, Property};

use crate::{
    broker::{Batch, Identity, Partition, Produced, Record, TOPICS, Topic},
    clients::{Answer, Broken},
    coordinator::{Coordinator, FenceRequest, Transaction},
    mutations::{Mutation, Rules},
    node::{Entry, Node, Outcome, Phase},
    properties,
    scenarios::Scenario,
};

/// How often each of these may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    pub take_overs: u8,
    /// A command sent again while somebody still holds it.
    pub retries: u8,
    /// Answers that are lost.
    pub unheard: u8,
    /// Requests that arrive once more, later.
    pub strays: u8,
    /// Markers that arrive once more, later.
    pub late_markers: u8,
    pub coordinator_failovers: u8,
    pub transaction_timeouts: u8,
    pub broker_restarts: u8,
    pub deposed_leaders: u8,
    pub renewals: u8,
    pub crashes: u8,
    /// A time in which brokers forget silent producers and transactional ids.
    pub long_times: u8,
    pub foreign_writes: u8,
    pub reassignments: u8,
}

impl Budget {
    /// One more of each that there is.
    pub fn deepen(&mut self) {
        for times in [
            &mut self.take_overs,
            &mut self.retries,
            &mut self.unheard,
            &mut self.strays,
            &mut self.late_markers,
            &mut self.coordinator_failovers,
            &mut self.transaction_timeouts,
            &mut self.broker_restarts,
            &mut self.deposed_leaders,
            &mut self.renewals,
            &mut self.crashes,
            &mut self.long_times,
            &mut self.reassignments,
        ] {
            *times += u8::from(*times > 0);
        }
    }
}

/// A client's question, from its first sending to its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Asked {
    /// The version that clients knew of when this was first sent.
    pub floor: Option<u8>,
    pub answer: Option<Answer>,
}

/// A request that somebody has given up on, or repeated.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stray {
    Produce(Topic, Batch),
    Fence(FenceRequest),
    Marker(Topic, Identity),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    pub partitions: [Partition; 2],
    pub coordinator: Coordinator,
    pub nodes: Vec<Node>,
    pub strays: Vec<Stray>,
    pub asked: Vec<Asked>,
    /// The version that some client knows to be in the log.
    pub known: u8,
    pub broken: Option<Broken>,
    /// Whom the consumer group's coordinator gives the shard to.
    pub assigned: usize,
    pub begun: u8,
    pub budget: Budget,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    Begin(usize),
    /// The coordinator handles the node's request.
    Fence(usize),
    FenceUnheard(usize),
    FenceLeftBehind(usize),
    Restore(usize),
    RestoreFromOldLeader(usize),
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
    TimeOut,
    RestartBroker(Topic),
    DeposeLeader,
    /// All but this owner, who renews, are asleep.
    LongTime(Option<usize>),
    WriteUnfenced,
    Reassign(usize),
}

#[derive(Clone, Debug)]
pub struct Shard {
    pub scenario: Scenario,
    pub rules: Rules,
}

impl Shard {
    pub fn new(scenario: Scenario, mutation: Option<Mutation>) -> Self {
        let rules = Rules {
            highest_epoch: scenario.highest_epoch,
            mutation,
        };
        Self { scenario, rules }
    }

    fn start(&self) -> State {
        let scenario = &self.scenario;
        let first = scenario.first_epoch.map(|epoch| Identity { pid: 0, epoch });
        let mut state = State {
            partitions: Default::default(),
            coordinator: Coordinator::new(scenario.exhausted_epoch, first),
            nodes: vec![Node::default(); scenario.nodes],
            strays: Vec::new(),
            asked: vec![Asked::default(); scenario.commands.len()],
            known: 0,
            broken: None,
            assigned: 0,
            begun: 0,
            budget: scenario.budget,
        };
        if scenario.owned {
            self.serve_at_once(&mut state);
        }
        state
    }

    /// Node 0 takes over undisturbed, so that the model begins with an owner.
    fn serve_at_once(&self, state: &mut State) {
        let undisturbed = Self {
            rules: Rules {
                mutation: None,
                ..self.rules
            },
            ..self.clone()
        };
        state.nodes[0].assigned = true;
        state.nodes[0].begin(false, [0; 2]);
        while state.nodes[0].phase != Phase::Serving {
            undisturbed.step(state, &Action::Fence(0));
            undisturbed.step(state, &Action::LandMarker(Topic::Events));
            undisturbed.step(state, &Action::LandMarker(Topic::Owners));
            if state.nodes[0].phase == Phase::Restoring {
                undisturbed.step(state, &Action::Restore(0));
            }
            if state.nodes[0].phase == Phase::Claiming {
                undisturbed.step(state, &Action::Produce(0, Topic::Owners, 0));
            }
        }
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
                if self.rules.mutated(Mutation::RestoreFromOldLeader) {
                    actions.push(Action::RestoreFromOldLeader(n));
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

    /// Does it; `None` when nothing comes of it.
    fn step(&self, state: &mut State, action: &Action) -> Option<()> {
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
                    // It has ended somebody's transaction. Whether that was right is asked
                    // again, or two could do this to each other for ever.
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
                state.nodes[n] = state.nodes[n].restored(&state.partitions, rules)?;
            }
            Action::RestoreFromOldLeader(n) => {
                let node = &state.nodes[n];
                state.nodes[n] = node.restored_from_old_leader(&state.partitions, rules)?;
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
                if let Outcome::Answers(entries) =
                    node.acknowledge(topic, place, produced, &partition.log, rules)
                {
                    self.answer(state, entries);
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
            partition.forget_producers(kept);
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

impl Model for Shard {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for n in 0..state.nodes.len() {
            self.node_actions(state, n, actions);
        }
        self.surroundings(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.step(&mut next, &action)?;
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all()
    }

    /// Take-overs without end, in mutations.
    fn within_boundary(&self, state: &State) -> bool {
        state.begun <= 2 * self.scenario.most_take_overs
    }
}
