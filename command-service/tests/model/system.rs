//! Everything together: the state of the world, where it begins, and what must hold.

use stateright::{Model, Property};

use crate::{
    actions::Action,
    broker::{Batch, Identity, Partition, Topic},
    clients::{Answer, Broken},
    coordinator::{Coordinator, FenceRequest},
    mutations::{Mutation, Rules},
    node::{Node, Phase},
    properties,
    scenarios::{Budget, Scenario},
};

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
    /// An owner has found between its batches what it had not written.
    pub written_past: bool,
    /// Whom the consumer group's coordinator gives the shard to.
    pub assigned: usize,
    pub begun: u8,
    pub budget: Budget,
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
            written_past: false,
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
}

impl Model for Shard {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.start()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
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
