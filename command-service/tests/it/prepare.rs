//! Commands that gather facts before they are decided, and reads of the facts.

use std::sync::atomic::{AtomicUsize, Ordering};

use command_service::CommandError;
use futures::future::join_all;

use crate::world::{Add, Counter, World, counter, generation, submission};

#[tokio::test(flavor = "multi_thread")]
async fn a_command_is_prepared_once_and_a_repeat_gets_its_answer() {
    let world = World::start(dev_stack::shared().await, generation()).await;
    let prepared = AtomicUsize::new(0);
    let send = |key: &'static str| {
        let (world, prepared) = (&world, &prepared);
        let facts = async move {
            prepared.fetch_add(1, Ordering::SeqCst);
            // What another stream says is found out before, and recorded in the event.
            let other = world.commands().read::<Counter>(&counter("other")).await?;
            Ok::<_, CommandError>(Add(other.version.0 as i32))
        };
        world
            .commands()
            .submit_prepared::<Counter, _>(submission("a", key, 0), facts)
    };
    world.add("other", "1", 7).await.unwrap();
    world.add("other", "2", 7).await.unwrap();

    let answers = join_all((0..20).map(|_| send("k"))).await;
    world.add("other", "3", 7).await.unwrap();
    let later = send("k").await.unwrap();
    assert_eq!(prepared.load(Ordering::SeqCst), 1);
    assert!(later.repeated);
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!(
            (answer.version, answer.position),
            (later.version, later.position.clone())
        );
    }
    let read = world
        .commands()
        .read::<Counter>(&counter("a"))
        .await
        .unwrap();
    assert_eq!((read.version.0, read.state.0), (1, 2));

    send("another").await.unwrap();
    assert_eq!(prepared.load(Ordering::SeqCst), 2);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_prepared_is_not_decided() {
    let world = World::start(dev_stack::shared().await, generation()).await;
    let commands = world.commands();
    let fails = async { Err::<Add, _>(CommandError::Busy) };
    let answer = commands.submit_prepared::<Counter, _>(submission("a", "k", 0), fails);
    assert_eq!(answer.await, Err(CommandError::Busy));
    let works = async { Ok::<_, CommandError>(Add(3)) };
    let answer = commands.submit_prepared::<Counter, _>(submission("a", "k", 0), works);
    assert!(!answer.await.unwrap().repeated);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_has_what_was_answered_before() {
    let world = World::start(dev_stack::shared().await, generation()).await;
    let read = || async {
        world
            .commands()
            .read::<Counter>(&counter("a"))
            .await
            .unwrap()
    };
    assert_eq!((read().await.version.0, read().await.state.0), (0, 0));
    for number in 1..=5 {
        let answer = world.add("a", &number.to_string(), 2).await.unwrap();
        let read = read().await;
        assert_eq!((read.version, read.state.0), (answer.version, 2 * number));
        assert_eq!(read.position, answer.position);
    }
    world.stop().await;
}
