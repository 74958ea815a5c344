//! The log gives one context no answer: the others go on, and nobody waits without bound.

use std::{sync::Arc, time::Duration};

use command_service::{CommandError, Commands, ContextStreams, Submission};
use dev_stack::DevStack;
use event_log::{Fingerprint, cluster::Cluster, schemas::ContextSchemas, topics::Generation};
use futures::future::join_all;
use kernel::{Decider, Meta, StreamId, Tenant};
use rdkafka::admin::{AdminClient, AdminOptions};
use serde::{Deserialize, Serialize};
use service_kit::Readiness;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::world::{Add, Count, Counter, Full, generation, service, submission};

const AT_MOST: Duration = Duration::from_secs(90);

/// The counter again, in a context of its own.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Tally(Counter);

impl Decider for Tally {
    const KIND: &'static str = "tally";
    type Command = Add;
    type Event = Count;
    type Rejection = Full;

    fn decide(&self, command: &Add, meta: &Meta) -> Result<Vec<Count>, Full> {
        self.0.decide(command, meta)
    }

    fn evolve(&mut self, event: &Count) {
        self.0.evolve(event);
    }
}

struct World {
    kafka: Cluster,
    generation: Generation,
    commands: Commands,
    readiness: Readiness,
}

impl World {
    /// Two contexts on one shard, which takes few commands at a time.
    async fn start() -> Self {
        Self::start_on(dev_stack::shared().await).await
    }

    async fn start_on(stack: &DevStack) -> Self {
        let generation = generation();
        let mut service = service(stack, generation.clone()).await;
        service.config.group = 1;
        service.config.queue = 2;
        let tallying = r#"{"type":"record","namespace":"annals.tallying","name":"Counted",
            "fields":[{"name":"by","type":"int"}]}"#;
        let schemas = ContextSchemas::load("tallying", [("Counted.v1.avsc", tallying)]).unwrap();
        let subject = schemas.full_name("Counted");
        while service.registry.register(&subject, tallying).await.is_err() {
            tokio::task::yield_now().await;
        }
        let tallying = ContextStreams::new(Arc::new(schemas)).stream::<Tally>();
        service.contexts.push(tallying);
        let kafka = service.kafka.clone();
        let readiness = Readiness::new();
        let (commands, running) = service.start(&readiness, CancellationToken::new()).unwrap();
        tokio::spawn(running);
        readiness.until_ready().await;
        Self {
            kafka,
            generation,
            commands,
            readiness,
        }
    }

    async fn count(&self, stream: &str, key: &str) -> Result<u64, CommandError> {
        let submission = submission(stream, key, 1);
        let answer = self.commands.submit::<Counter>(submission, Add(1)).await;
        answer.map(|answer| answer.version.0)
    }

    async fn tally(&self, key: &str, by: i32) -> Result<u64, CommandError> {
        let Submission { mut meta, .. } = submission("a", key, by);
        meta.stream = StreamId::new(&Tenant::default(), "tally", "a").unwrap();
        let submission = Submission::new(meta, Fingerprint([by as u8; 16]));
        let answer = self.commands.submit::<Tally>(submission, Add(by)).await;
        answer.map(|answer| answer.version.0)
    }

    /// From now on the log has no answer for the counters.
    async fn delete_counters(&self) {
        let admin: AdminClient<_> = self.kafka.client_config().create().unwrap();
        let topic = self.generation.events_topic("counting");
        let deleted = admin.delete_topics(&[&topic], &AdminOptions::new()).await;
        deleted.unwrap()[0].as_ref().unwrap();
    }

    async fn until(&self, told: impl Fn(Option<&str>) -> bool) {
        let until = async {
            loop {
                let report = self.readiness.report();
                if told(report.components["shards"].reason.as_deref()) {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(AT_MOST, until).await.unwrap();
    }
}

fn is_refused(answer: &Result<u64, CommandError>) -> bool {
    matches!(answer, Err(CommandError::NotServed { .. }))
}

#[tokio::test(flavor = "multi_thread")]
async fn trouble_of_one_context_keeps_no_other_from_its_answers() {
    let world = World::start().await;
    world.count("a", "before").await.unwrap();
    world.delete_counters().await;
    // Until the owner hears of it, some may still be in time.
    let pressing = async {
        let mut key = 0;
        while !is_refused(&world.count("b", &key.to_string()).await) {
            key += 1;
        }
    };
    let in_trouble = |reason: Option<&str>| reason.is_some_and(|it| it.contains("counting"));
    tokio::select! {
        () = pressing => {}
        () = world.until(in_trouble) => {}
    }
    world.until(in_trouble).await;
    // Told at once, and not after a time-out.
    let refused = world.count("a", "during").await;
    assert!(is_refused(&refused), "{refused:?}");
    // An acceptance, a rejection and a repeat of the other context's.
    assert_eq!(world.tally("1", 60).await, Ok(1));
    let rejected = world.tally("2", 60).await;
    assert!(
        matches!(rejected, Err(CommandError::Rejected { .. })),
        "{rejected:?}"
    );
    assert_eq!(world.tally("1", 60).await, Ok(1));
}

/// The log was silent for long enough that others were refused meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn who_is_answered_after_trouble_is_not_refused_for_it() {
    let stack = DevStack::temporary().await.unwrap();
    let world = World::start_on(&stack).await;
    for round in 1..=5 {
        stack.kafka_process().pause();
        let silence = async {
            world.until(|reason| reason.is_some()).await;
            stack.kafka_process().resume();
        };
        let keys = [0, 1].map(|place| format!("{round}.{place}"));
        let (answered, ()) = tokio::join!(world.count("a", &keys[0]), silence);
        assert_eq!(answered, Ok(2 * round - 1));
        assert_eq!(world.count("a", &keys[1]).await, Ok(2 * round));
    }
    stack.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_fit_into_the_queue_is_told_at_once() {
    let world = World::start().await;
    let keys: Vec<_> = (0..90).map(|key| key.to_string()).collect();
    let answers = join_all(keys.iter().map(|key| world.count("a", key))).await;
    let busy = answers.iter().filter(|it| **it == Err(CommandError::Busy));
    let counted = answers.iter().filter(|it| it.is_ok()).count();
    assert!(counted > 0, "{answers:?}");
    assert_eq!(busy.count(), keys.len() - counted, "{answers:?}");
    assert!(counted < keys.len(), "two wait and two are under way");
    assert_eq!(world.count("a", "after").await, Ok(counted as u64 + 1));
}
