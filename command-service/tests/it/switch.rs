//! The write switch: what is activated decides what is written, and who may decide.

use std::time::Duration;

use command_service::{CommandError, StartError};
use event_log::{
    cluster::Cluster,
    control::ControlLog,
    topics::{Generation, TopicOptions},
};
use service_kit::Readiness;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::world::{World, generation, service};

const COUNTED: &str = "annals.counting.Counted";
/// Far above what any condition here takes; it ends a test that waits in vain.
const AT_MOST: Duration = Duration::from_secs(90);

/// As another release writes it. All tests write into one topic of control, and may be in each
/// other's way.
async fn activate(kafka: &Cluster, generation: &Generation, version: u32) {
    let control = ControlLog::new(kafka, generation);
    let activated = async {
        loop {
            let activated = async {
                control.ensure(TopicOptions::default()).await?;
                control.activate(COUNTED, version, "a test").await
            };
            match activated.await {
                Err(error) if error.is_temporary() => {}
                activated => return activated,
            }
        }
    };
    timeout(AT_MOST, activated).await.unwrap().unwrap();
}

fn assert_names_the_event(ended: Result<(), StartError>) {
    let error = ended.unwrap_err();
    assert!(matches!(error, StartError::Switch(_)), "{error}");
    let told = error.to_string();
    for expected in [COUNTED, "version 2", "up to version 1"] {
        assert!(told.contains(expected), "{told}");
    }
}

#[tokio::test]
async fn a_node_that_does_not_know_what_is_active_refuses_to_start() {
    let stack = dev_stack::shared().await;
    let service = service(stack, generation()).await;
    activate(&service.kafka, &service.generation, 2).await;
    let (_, running) = service
        .start(&Readiness::new(), CancellationToken::new())
        .unwrap();
    assert_names_the_event(timeout(AT_MOST, running).await.unwrap());
}

#[tokio::test]
async fn taking_it_back_does_not_let_a_node_in_that_cannot_read_the_log() {
    let stack = dev_stack::shared().await;
    let service = service(stack, generation()).await;
    for version in [2, 1] {
        activate(&service.kafka, &service.generation, version).await;
    }
    let (_, running) = service
        .start(&Readiness::new(), CancellationToken::new())
        .unwrap();
    assert_names_the_event(timeout(AT_MOST, running).await.unwrap());
}

#[tokio::test]
async fn a_node_that_does_not_know_what_is_activated_later_ends() {
    let stack = dev_stack::shared().await;
    let service = service(stack, generation()).await;
    let (kafka, generation) = (service.kafka.clone(), service.generation.clone());
    let readiness = Readiness::new();
    let (_commands, running) = service.start(&readiness, CancellationToken::new()).unwrap();
    let running = tokio::spawn(running);
    timeout(AT_MOST, readiness.until_ready()).await.unwrap();
    activate(&kafka, &generation, 2).await;
    assert_names_the_event(timeout(AT_MOST, running).await.unwrap().unwrap());
}

#[tokio::test]
async fn an_owner_that_serves_learns_what_is_activated() {
    let stack = dev_stack::shared().await;
    let generation = generation();
    activate(&Cluster::new(stack.kafka()), &generation, 0).await;
    let world = World::start(stack, generation).await;
    let refused = world.add("a", "1", 1).await;
    let not_active = |answer: &Result<_, CommandError>| {
        matches!(answer, Err(CommandError::NotActive { active: 0, event_type, .. })
            if event_type == COUNTED)
    };
    assert!(not_active(&refused), "{refused:?}");
    activate(&world.kafka, &world.generation, 1).await;
    let written = timeout(AT_MOST, async {
        loop {
            match world.add("a", "1", 1).await {
                answer if not_active(&answer) => {
                    tokio::time::sleep(Duration::from_millis(20)).await
                }
                answer => return answer.unwrap(),
            }
        }
    });
    assert_eq!(written.await.unwrap().version.0, 1);
    world.stop().await;
}
