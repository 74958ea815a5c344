//! What an owner finds in the topic of snapshots, and what it makes of it.

use std::collections::BTreeMap;

use command_service::CommandError;
use dev_stack::DevStack;
use event_log::{
    snapshots::{SnapshotError, SnapshotTopic},
    topics::Generation,
};
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::world::{Counter, SNAPSHOT_EVERY, World, counter, generation};

/// More than one snapshot needs.
const COMMANDS: u64 = SNAPSHOT_EVERY + 5;

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_goes_on_from_a_snapshot_and_gives_the_same_answers() {
    let stack = dev_stack::shared().await;
    let generation = generation();
    let world = World::start(stack, generation.clone()).await;
    add_up(&world).await;
    let snapshots = Snapshots::of(&world, &generation);
    snapshots.until_written().await;
    world.stop().await;

    let world = World::start(stack, generation.clone()).await;
    assert_eq!(count(&world).await, COMMANDS as i32);
    assert!(world.add("a", "1", 1).await.unwrap().repeated);
    let other = world.add("a", "1", 2).await;
    assert_eq!(other, Err(CommandError::KeyReused));
    world.stop().await;

    // It is the snapshot that the owner goes on from: one that tells otherwise is believed. When
    // the topic is silent for too long, as it may be on a busy machine, the log is read instead.
    for _ in 0..5 {
        snapshots.forge(99).await;
        let world = World::start(stack, generation.clone()).await;
        let counted = count(&world).await;
        let believed = 99 + after_snapshot(&world, &snapshots).await;
        world.stop().await;
        if counted == believed {
            return;
        }
        assert_eq!(counted, COMMANDS as i32);
    }
    panic!("no snapshot is believed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_snapshot_and_a_wiped_topic_do_no_harm() {
    let stack = dev_stack::shared().await;
    let generation = generation();
    let world = World::start(stack, generation.clone()).await;
    add_up(&world).await;
    let snapshots = Snapshots::of(&world, &generation);
    snapshots.until_written().await;
    world.stop().await;

    snapshots.damage().await;
    let world = World::start(stack, generation.clone()).await;
    assert_eq!(count(&world).await, COMMANDS as i32);
    world.stop().await;

    snapshots.wipe("").await;
    let world = World::start(stack, generation.clone()).await;
    assert_eq!(count(&world).await, COMMANDS as i32);
    assert!(world.add("a", "1", 1).await.unwrap().repeated);
    world.stop().await;
}

/// Whole or in part, while it is written and read.
#[tokio::test(flavor = "multi_thread")]
async fn the_topic_may_be_wiped_at_any_time() {
    let stack = dev_stack::shared().await;
    let generation = generation();
    let mut world = World::start(stack, generation.clone()).await;
    let snapshots = Snapshots::of(&world, &generation);
    let mut count = 0;
    for keys in ["", "manifest/", "chunk/", "deleted"] {
        let wiping = async {
            for _ in 0..5 {
                match keys {
                    "deleted" => delete(stack, &generation.snapshots_topic()).await,
                    keys => snapshots.wipe(keys).await,
                }
            }
        };
        let adding = async {
            for _ in 0..SNAPSHOT_EVERY {
                count += 1;
                let answer = world.add("a", &count.to_string(), 1).await.unwrap();
                assert_eq!(answer.version.0, count);
            }
        };
        tokio::join!(wiping, adding);
        world.stop().await;
        world = World::start(stack, generation.clone()).await;
        assert_eq!(self::count(&world).await, count as i32, "after {keys:?}");
        assert!(world.add("a", "1", 1).await.unwrap().repeated);
    }
    world.stop().await;
}

async fn delete(stack: &DevStack, topic: &str) {
    let admin: AdminClient<_> = ClientConfig::new()
        .set("bootstrap.servers", stack.kafka())
        .create()
        .unwrap();
    let deleted = admin.delete_topics(&[topic], &AdminOptions::new()).await;
    // From the second time on it is not there.
    deleted.unwrap();
}

async fn add_up(world: &World) {
    for key in 1..=COMMANDS {
        world.add("a", &key.to_string(), 1).await.unwrap();
    }
}

async fn count(world: &World) -> i32 {
    let read = world.commands().read::<Counter>(&counter("a")).await;
    read.unwrap().state.0
}

/// How many events the forged state did not contain.
async fn after_snapshot(world: &World, snapshots: &Snapshots) -> i32 {
    let read = world
        .commands()
        .read::<Counter>(&counter("a"))
        .await
        .unwrap();
    (read.version.0 - snapshots.version().await) as i32
}

struct Snapshots {
    topic: SnapshotTopic,
}

impl Snapshots {
    fn of(world: &World, generation: &Generation) -> Self {
        let topic = SnapshotTopic::new(&world.kafka, generation.snapshots_topic()).unwrap();
        Self { topic }
    }

    async fn records(&self) -> BTreeMap<String, Vec<u8>> {
        loop {
            let mut records = BTreeMap::new();
            let take = |key: &[u8], value: Option<&[u8]>| {
                let key = String::from_utf8(key.to_vec()).unwrap();
                match value {
                    Some(value) => records.insert(key, value.to_vec()),
                    None => records.remove(&key),
                };
            };
            match self.topic.read(0, take).await {
                Ok(()) => return records,
                // It is patient with a silent topic for some seconds only.
                Err(SnapshotError::Silent { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// All whose key begins so.
    async fn wipe(&self, keys: &str) {
        let records = self.records().await.into_keys();
        for key in records.filter(|key| key.starts_with(keys)) {
            self.topic.put(0, &key, None).await.unwrap();
        }
    }

    async fn until_written(&self) {
        while self.manifest().await.is_none() {}
    }

    async fn manifest(&self) -> Option<(String, Value)> {
        manifest_among(&self.records().await)
    }

    /// The only chunk, as text.
    async fn chunk(&self) -> (String, String) {
        let mut records = self.records().await;
        let (_, manifest) = manifest_among(&records).unwrap();
        let key = format!("chunk/{}/0", manifest["id"].as_str().unwrap());
        let chunk = records.remove(&key).unwrap();
        (key, String::from_utf8(chunk).unwrap())
    }

    /// Of the stream in the snapshot.
    async fn version(&self) -> u64 {
        let (_, chunk) = self.chunk().await;
        let state = chunk.lines().find_map(|line| line.strip_prefix("counter "));
        let state: Value = serde_json::from_str(state.unwrap()).unwrap();
        state[1].as_u64().unwrap()
    }

    /// Makes the snapshot tell of another state.
    async fn forge(&self, state: i32) {
        let (key, chunk) = self.chunk().await;
        let forge = |line: &str| match line.strip_prefix("counter ") {
            Some(saved) => {
                let mut saved: Value = serde_json::from_str(saved).unwrap();
                saved[3] = json!(state);
                format!("counter {saved}\n")
            }
            None => format!("{line}\n"),
        };
        let chunk: String = chunk.lines().map(forge).collect();
        let (manifest_key, mut manifest) = self.manifest().await.unwrap();
        let checksum = Sha256::digest(&chunk);
        let checksum: String = checksum.iter().map(|byte| format!("{byte:02x}")).collect();
        manifest["bytes"] = json!(chunk.len());
        manifest["checksum"] = json!(checksum);
        self.put(&key, chunk.as_bytes()).await;
        self.put(&manifest_key, manifest.to_string().as_bytes())
            .await;
    }

    async fn damage(&self) {
        let (key, chunk) = self.chunk().await;
        self.put(&key, chunk.replacen("counter", "cuonter", 1).as_bytes())
            .await;
    }

    async fn put(&self, key: &str, value: &[u8]) {
        self.topic.put(0, key, Some(value)).await.unwrap();
    }
}

fn manifest_among(records: &BTreeMap<String, Vec<u8>>) -> Option<(String, Value)> {
    let mut records = records.iter();
    let (key, value) = records.find(|(key, _)| key.starts_with("manifest/"))?;
    Some((key.clone(), serde_json::from_slice(value).unwrap()))
}
