//! The law: however the events are cut into batches, and however often a worker crashes or meets
//! another, the rows are those of a straight fold.

use std::collections::BTreeMap;

use projector::model;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};

use crate::{
    exactly_once::fold,
    models::{Note, Tally, written},
    world::{Running, World},
};

#[derive(Clone, Debug)]
enum Step {
    Append { stream: u8, weights: Vec<i64> },
    TakeOver,
    StartWorker,
    CrashWorker,
    CatchUp,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0_u8..4, vec(0_i64..100, 1..30))
            .prop_map(|(stream, weights)| Step::Append { stream, weights }),
        1 => Just(Step::TakeOver),
        2 => Just(Step::StartWorker),
        2 => Just(Step::CrashWorker),
        1 => Just(Step::CatchUp),
    ]
}

#[test]
fn any_batching_and_any_crash_give_the_straight_fold() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = Config {
        cases: 12,
        // Every try takes a log and a database of its own.
        max_shrink_iters: 40,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(config)
        .run(&vec(step(), 1..40), |steps| {
            runtime.block_on(holds_for(steps));
            Ok(())
        })
        .unwrap();
}

async fn holds_for(steps: Vec<Step>) {
    let (world, mut log) = World::new().await;
    let mut expected: BTreeMap<String, Vec<Note>> = BTreeMap::new();
    let mut workers = Vec::new();
    for step in steps {
        match step {
            Step::Append { stream, weights } => {
                let stream = format!("s{stream}");
                let events: Vec<_> = weights
                    .iter()
                    .map(|weight| written(&weight.to_string(), *weight))
                    .collect();
                log.append(&stream, &events).await;
                expected.entry(stream).or_default().extend(events);
            }
            Step::TakeOver => log.own_again().await,
            Step::StartWorker if workers.len() < 2 => {
                workers.push(start(&world, workers.len()));
            }
            Step::StartWorker => {}
            Step::CrashWorker => drop(workers.pop()),
            // A take-over's marker may be the end, where no checkpoint comes to.
            Step::CatchUp if !workers.is_empty() => await_rows(&world, &expected).await,
            Step::CatchUp => {}
        }
    }
    workers.push(start(&world, workers.len()));
    await_rows(&world, &expected).await;
    for worker in workers {
        worker.stop().await;
    }
    for (stream, events) in expected {
        assert_eq!(world.tally(&stream).await, Some(fold(&events)), "{stream}");
    }
}

/// One that crashes comes back under its name, so that its partitions wait for it.
fn start(world: &World, place: usize) -> Running {
    world.start_as(&format!("worker-{place}"), vec![model::<Tally>()])
}

/// Waits for as many events as there must be; whether they are the right ones is asked at the end.
async fn await_rows(world: &World, expected: &BTreeMap<String, Vec<Note>>) {
    for (stream, events) in expected {
        crate::world::until("every event is projected", async || {
            world.edition("tally").await.is_some()
                && world
                    .tally(stream)
                    .await
                    .is_some_and(|tally| tally.0 >= events.len() as i64)
        })
        .await;
    }
}
