//! Answers that are recorded although nothing happened.

use command_service::{Acceptance, CommandError};

use crate::world::{Add, Counter, SNAPSHOT_EVERY, World, counter, generation, submission};

/// As a process sends it.
async fn send(world: &World, key: &str, by: i32) -> Result<Acceptance, CommandError> {
    let mut submission = submission("a", key, by);
    submission.record_answer = true;
    world
        .commands()
        .submit::<Counter>(submission, Add(by))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_hears_the_same_rejection_from_every_owner() {
    let stack = dev_stack::shared().await;
    let generation = generation();
    let mut world = World::start(stack, generation.clone()).await;
    world.add("a", "fill", 60).await.unwrap();
    let rejected = send(&world, "process", 50).await.unwrap_err();
    assert!(
        matches!(rejected, CommandError::Rejected { code: "full", .. }),
        "{rejected:?}"
    );
    world.add("a", "person", 50).await.unwrap_err();
    world.add("a", "empty", -60).await.unwrap();

    // By now it would be accepted, as a person's is who asks again.
    assert_eq!(send(&world, "process", 50).await, Err(rejected.clone()));
    assert!(!world.add("a", "person", 50).await.unwrap().repeated);
    let reused = send(&world, "process", 51).await;
    assert_eq!(reused, Err(CommandError::KeyReused));

    // A later owner reads it from the log, and one that goes on from a snapshot as well.
    for key in 0..=SNAPSHOT_EVERY {
        world.add("b", &key.to_string(), 1).await.unwrap();
    }
    for _ in 0..2 {
        world.stop().await;
        world = World::start(stack, generation.clone()).await;
        assert_eq!(send(&world, "process", 50).await, Err(rejected.clone()));
    }
    let read = world.commands().read::<Counter>(&counter("a")).await;
    assert_eq!(read.unwrap().state.0, 50);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejections_of_many_at_once_are_each_recorded() {
    let stack = dev_stack::shared().await;
    let generation = generation();
    let world = World::start(stack, generation.clone()).await;
    world.add("a", "fill", 60).await.unwrap();
    let all = |world: World| async move {
        let keys: Vec<_> = (0..300).map(|key| key.to_string()).collect();
        let sent = keys.iter().map(|key| send(&world, key, 50));
        let answers = futures::future::join_all(sent).await;
        (world, answers)
    };
    let (world, first) = all(world).await;
    assert!(first.iter().all(Result::is_err));
    world.add("a", "empty", -60).await.unwrap();
    let (world, again) = all(world).await;
    assert_eq!(again, first);
    world.stop().await;
    let world = World::start(stack, generation).await;
    let (world, later) = all(world).await;
    assert_eq!(later, first);
    world.stop().await;
}
