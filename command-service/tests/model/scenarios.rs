//! Small worlds, each with a few of the things that may go wrong.

use crate::{
    clients::{Body, Command},
    node::Stop,
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
    /// Transactions that a coordinator completes without having marked every partition.
    pub lost_markers: u8,
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
            &mut self.lost_markers,
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

#[derive(Clone, Debug)]
pub struct Scenario {
    pub nodes: usize,
    /// Node 0 owns the shard already.
    pub owned: bool,
    pub commands: Vec<Command>,
    pub budget: Budget,
    /// Only who believes that the shard is assigned to it takes it over.
    pub assignment: bool,
    /// What the coordinator has given before; nothing, when it knows nothing.
    pub first_epoch: Option<i8>,
    pub highest_epoch: i8,
    pub exhausted_epoch: i8,
    pub most_take_overs: u8,
    /// The alarms that have a cause here.
    pub stops: &'static [Stop],
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            nodes: 2,
            owned: true,
            commands: Vec::new(),
            budget: Budget::default(),
            assignment: false,
            first_epoch: None,
            highest_epoch: 50,
            exhausted_epoch: 100,
            most_take_overs: 9,
            stops: &[],
        }
    }
}

impl Scenario {
    /// The same with one more of everything that may happen, and one more client.
    pub fn deeper(mut self) -> Self {
        self.budget.deepen();
        let (key, body) = ('z', Body::Read);
        self.commands.push(Command { key, body });
        self.most_take_overs *= 2;
        if self.stops.is_empty() {
            // More take-overs fail, and each uses epochs up; all of them together
            // must not come to the end of a producer id, or its owner stays unfenced.
            self.exhausted_epoch += 12;
        }
        self
    }
}

/// Each with a key of its own, in the order of the alphabet.
fn commands<const N: usize>(bodies: [Body; N]) -> Vec<Command> {
    ('a'..)
        .zip(bodies)
        .map(|(key, body)| Command { key, body })
        .collect()
}

/// Another node takes over while the owner appends; answers are lost, requests arrive late.
pub fn failover() -> Scenario {
    Scenario {
        commands: commands([Body::Add, Body::Read]),
        budget: Budget {
            take_overs: 1,
            unheard: 1,
            strays: 1,
            broker_restarts: 1,
            deposed_leaders: 1,
            ..Budget::default()
        },
        ..Scenario::default()
    }
}

/// The first take-over of all, by two at once.
pub fn first_owner() -> Scenario {
    Scenario {
        owned: false,
        commands: commands([Body::Add, Body::Add]),
        budget: Budget {
            take_overs: 3,
            unheard: 1,
            ..Budget::default()
        },
        ..Scenario::default()
    }
}

/// Two nodes want what a third one has; some commands are rejected.
pub fn contention() -> Scenario {
    Scenario {
        nodes: 3,
        commands: commands([Body::Once, Body::Once]),
        budget: Budget {
            take_overs: 2,
            unheard: 1,
            ..Budget::default()
        },
        ..Scenario::default()
    }
}

/// Whoever expects a version meets others who do.
pub fn expected_versions() -> Scenario {
    Scenario {
        commands: commands([Body::At(0), Body::At(0), Body::At(1)]),
        budget: Budget {
            take_overs: 1,
            ..Budget::default()
        },
        ..Scenario::default()
    }
}

/// A key comes again, with the same body and with another one, here and there.
pub fn retries() -> Scenario {
    let again = |body| Command { key: 'a', body };
    Scenario {
        commands: vec![again(Body::Once), again(Body::Once), again(Body::Add)],
        budget: Budget {
            take_overs: 1,
            retries: 1,
            unheard: 1,
            ..Budget::default()
        },
        ..Scenario::default()
    }
}

/// Groups follow each other quickly; answers are lost, and the broker restarts.
pub fn throughput() -> Scenario {
    Scenario {
        commands: commands([Body::Add, Body::Once, Body::Once, Body::Read]),
        budget: Budget {
            unheard: 2,
            strays: 1,
            broker_restarts: 1,
            ..Budget::default()
        },
        ..Scenario::default()
    }
}

/// The coordinator fails over between the steps, times out, and its markers come late and twice.
pub fn coordinator_trouble() -> Scenario {
    Scenario {
        commands: commands([Body::Add]),
        budget: Budget {
            take_overs: 1,
            unheard: 1,
            strays: 1,
            late_markers: 1,
            coordinator_failovers: 1,
            transaction_timeouts: 1,
            ..Budget::default()
        },
        ..Scenario::default()
    }
}

/// The coordinator is killed before it has marked a partition, and takes the transaction for done.
pub fn lost_markers() -> Scenario {
    Scenario {
        commands: commands([Body::Add, Body::Once]),
        budget: Budget {
            take_overs: 1,
            unheard: 1,
            renewals: 1,
            lost_markers: 1,
            ..Budget::default()
        },
        ..Scenario::default()
    }
}

/// Owners renew the fence, deposed or not.
pub fn renewal() -> Scenario {
    Scenario {
        commands: commands([Body::Add, Body::Read]),
        budget: Budget {
            take_overs: 1,
            renewals: 2,
            unheard: 1,
            ..Budget::default()
        },
        ..Scenario::default()
    }
}

/// A take-over comes to the end of a producer id's epochs, and gets another id.
pub fn rotation() -> Scenario {
    Scenario {
        commands: commands([Body::Add]),
        budget: Budget {
            take_overs: 1,
            crashes: 1,
            late_markers: 1,
            ..Budget::default()
        },
        ..few_epochs()
    }
}

/// Answers are lost until a producer id is used up, which fences nobody.
pub fn used_up_id() -> Scenario {
    Scenario {
        commands: commands([Body::Add, Body::Read]),
        budget: Budget {
            take_overs: 1,
            unheard: 3,
            renewals: 1,
            ..Budget::default()
        },
        // The owner that nobody fences finds markers of an id that it does not know.
        stops: &[Stop::Unfenced, Stop::WrittenPast],
        ..few_epochs()
    }
}

/// The owner has the last epoch with which it may serve.
fn few_epochs() -> Scenario {
    Scenario {
        first_epoch: Some(0),
        highest_epoch: 2,
        exhausted_epoch: 3,
        ..Scenario::default()
    }
}

/// Nodes sleep so long that brokers forget producers and transactional ids.
pub fn long_sleep() -> Scenario {
    Scenario {
        commands: commands([Body::Add, Body::Add]),
        budget: Budget {
            take_overs: 2,
            long_times: 1,
            ..Budget::default()
        },
        ..Scenario::default()
    }
}

/// A program that knows nothing of owners writes into the topic.
pub fn foreign_writer() -> Scenario {
    Scenario {
        commands: commands([Body::Add, Body::Read]),
        budget: Budget {
            take_overs: 1,
            unheard: 1,
            foreign_writes: 1,
            ..Budget::default()
        },
        stops: &[Stop::WrittenPast],
        ..Scenario::default()
    }
}

/// The consumer group moves the shard, and the nodes hear of it late.
pub fn reassignment() -> Scenario {
    Scenario {
        commands: commands([Body::Add]),
        budget: Budget {
            reassignments: 2,
            ..Budget::default()
        },
        assignment: true,
        most_take_overs: 4,
        ..Scenario::default()
    }
}
