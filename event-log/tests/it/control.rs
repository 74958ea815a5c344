//! The write switch: what is activated, and who learns of it.

use event_log::{
    control::{Active, ControlLog, KnownVersions},
    schemas::ContextSchemas,
    topics::{Generation, Purpose, TopicOptions, ensure_topic},
};
use futures::future::join_all;

use crate::{
    raw::{batch, produce},
    shard::{in_time, new_generation},
};

const CREATED: &str = "annals.tasks.Created";

/// A generation with an empty log of tasks.
struct World {
    cluster: event_log::cluster::Cluster,
    generation: Generation,
}

impl World {
    async fn new() -> Self {
        let stack = dev_stack::shared().await;
        let world = Self {
            cluster: event_log::cluster::Cluster::new(stack.kafka()),
            generation: new_generation(),
        };
        let events = world.generation.events_topic("tasks");
        let (partitions, options) = (world.generation.partitions, TopicOptions::default());
        ensure_topic(
            &world.cluster,
            &events,
            Purpose::Events,
            partitions,
            options,
        )
        .await
        .unwrap();
        world
    }

    /// As another process has it.
    async fn control(&self) -> ControlLog {
        let control = ControlLog::new(&self.cluster, &self.generation);
        control.ensure(TopicOptions::default()).await.unwrap();
        control
    }

    async fn active(&self, event_type: &str) -> Option<Active> {
        let control = self.control().await;
        in_time(control.catch_up()).await.unwrap().of(event_type)
    }

    /// Somebody has appended to the log of tasks.
    async fn append(&self) {
        let bytes = batch(&[1]).seal(
            event_log::batch::ProducerIdentity { id: -1, epoch: -1 },
            -1,
            0,
        );
        let events = self.generation.events_topic("tasks");
        let (code, _) = produce(&self.cluster, &events, 0, bytes).await;
        assert_eq!(code, 0);
    }
}

/// What a release has that knows so many versions of each.
fn tasks(events: &[(&str, u32)]) -> [KnownVersions; 1] {
    let text = |event: &str| {
        format!(r#"{{"type":"record","namespace":"annals.tasks","name":"{event}","fields":[]}}"#)
    };
    let files: Vec<_> = events
        .iter()
        .flat_map(|(event, newest)| {
            (1..=*newest).map(move |version| (format!("{event}.v{version}.avsc"), text(event)))
        })
        .collect();
    let files = files.iter().map(|(name, text)| (&**name, &**text));
    [KnownVersions::of(
        &ContextSchemas::load("tasks", files).unwrap(),
    )]
}

fn active(version: u32, highest: u32) -> Option<Active> {
    Some(Active { version, highest })
}

#[tokio::test]
async fn a_new_log_begins_with_the_newest_versions_and_does_not_jump_afterwards() {
    let world = World::new().await;
    let control = world.control().await;
    in_time(control.establish(&tasks(&[("Created", 2)])))
        .await
        .unwrap();
    assert_eq!(world.active(CREATED).await, active(2, 2));
    // The next release finds what is there.
    let changed = in_time(control.establish(&tasks(&[("Created", 3)])))
        .await
        .unwrap();
    assert_eq!(changed, []);
    assert_eq!(world.active(CREATED).await, active(2, 2));
}

#[tokio::test]
async fn a_log_that_is_older_than_the_switch_goes_on_in_version_1() {
    let world = World::new().await;
    world.append().await;
    let control = world.control().await;
    in_time(control.establish(&tasks(&[("Created", 2)])))
        .await
        .unwrap();
    assert_eq!(world.active(CREATED).await, active(1, 1));
}

#[tokio::test]
async fn an_event_that_is_new_to_a_log_is_not_written_yet() {
    let world = World::new().await;
    let control = world.control().await;
    in_time(control.establish(&tasks(&[("Created", 1)])))
        .await
        .unwrap();
    let later = tasks(&[("Created", 1), ("Renamed", 1)]);
    in_time(control.establish(&later)).await.unwrap();
    assert_eq!(world.active("annals.tasks.Renamed").await, active(0, 0));
    assert_eq!(world.active(CREATED).await, active(1, 1));
}

#[tokio::test]
async fn of_releases_that_start_a_new_log_at_the_same_time_one_decides() {
    let world = World::new().await;
    let starts = (1..=6).map(|newest| {
        let world = &world;
        async move {
            let control = world.control().await;
            let known = tasks(&[("Created", newest)]);
            // Who meets the others again and again gives up for a while.
            in_time(async {
                loop {
                    match control.establish(&known).await {
                        Err(error) if error.is_temporary() => {}
                        established => return established.unwrap().len(),
                    }
                }
            })
            .await
        }
    });
    let established: usize = join_all(starts).await.into_iter().sum();
    assert_eq!(established, 1, "one alone has found nothing");
    let Active { version, highest } = world.active(CREATED).await.unwrap();
    assert!((1..=6).contains(&version) && version == highest);
}

#[tokio::test]
async fn what_is_activated_is_read_by_whoever_looks_afterwards() {
    let world = World::new().await;
    let control = world.control().await;
    in_time(control.establish(&tasks(&[("Created", 1)])))
        .await
        .unwrap();
    let elsewhere = world.control().await;
    in_time(elsewhere.catch_up()).await.unwrap();
    let before = in_time(control.activate(CREATED, 2, "ada")).await.unwrap();
    assert_eq!(before, active(1, 1));
    assert_eq!(
        in_time(elsewhere.catch_up()).await.unwrap().of(CREATED),
        active(2, 2)
    );
    // Taken back, it is known for good that the log may have the newer version.
    in_time(elsewhere.activate(CREATED, 1, "ada"))
        .await
        .unwrap();
    assert_eq!(
        in_time(control.catch_up()).await.unwrap().of(CREATED),
        active(1, 2)
    );
}

#[tokio::test]
async fn who_follows_learns_of_what_it_does_not_know() {
    let world = World::new().await;
    let control = world.control().await;
    in_time(control.establish(&tasks(&[("Created", 1)])))
        .await
        .unwrap();
    let old = world.control().await;
    let known = tasks(&[("Created", 1)]);
    let told = async {
        let told = old.until_unreadable(&known).await;
        assert_eq!(
            (&*told.event_type, told.written, told.reads),
            (CREATED, 2, 1)
        );
    };
    let activated = async { control.activate(CREATED, 2, "ada").await.unwrap() };
    in_time(futures::future::join(told, activated)).await;
}

#[tokio::test]
async fn another_generation_has_versions_of_its_own() {
    let (one, other) = (World::new().await, World::new().await);
    let control = one.control().await;
    in_time(control.establish(&tasks(&[("Created", 2)])))
        .await
        .unwrap();
    assert_eq!(other.active(CREATED).await, None);
}
