//! Answers of the past: which commands of a partition are in the log.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, Utc};
use event_log::Fingerprint;
use kernel::{Actor, CommandId, StreamId, StreamVersion};
use sha2::{Digest, Sha256};

/// A command's identity: its key, scoped by tenant, actor and stream, in 16
/// bytes of SHA-256. Nobody can make another command meet it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommandKey(pub(crate) [u8; 16]);

impl CommandKey {
    /// The stream's name carries the tenant.
    pub fn new(stream: &StreamId, actor: &Actor, command: &CommandId) -> Self {
        let mut hash = Sha256::new();
        // None of these contains a newline.
        hash.update(stream.as_str());
        hash.update("\n");
        hash.update(actor.kind());
        hash.update(":");
        hash.update(actor.name());
        hash.update("\n");
        hash.update(command.as_str());
        Self(first_half(hash))
    }
}

/// The first 16 bytes of a SHA-256.
pub(crate) fn first_half(hash: Sha256) -> [u8; 16] {
    let digest = hash.finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

/// What is remembered of a command in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordedCommand {
    pub fingerprint: Fingerprint,
    /// Version of the stream after the command's last event.
    pub version: StreamVersion,
    pub events: u32,
    /// Offset of the command's last event.
    pub offset: i64,
    /// Time of the command's events.
    pub at: DateTime<Utc>,
}

/// The latest commands of one partition, in the order of the log, so that
/// restoring leads to the same window as living through it.
#[derive(Debug)]
pub(crate) struct RecordedCommands {
    window: usize,
    by_key: HashMap<CommandKey, RecordedCommand>,
    /// Key and offset of each, by offset.
    order: VecDeque<(CommandKey, i64)>,
    forgotten_until: Option<DateTime<Utc>>,
}

impl RecordedCommands {
    pub fn new(window: usize) -> Self {
        Self {
            window,
            by_key: HashMap::new(),
            order: VecDeque::new(),
            forgotten_until: None,
        }
    }

    pub fn get(&self, key: CommandKey) -> Option<RecordedCommand> {
        self.by_key.get(&key).copied()
    }

    /// Time of the latest command that was forgotten: one that was issued after it is remembered
    /// if it was recorded.
    pub fn forgotten_until(&self) -> Option<DateTime<Utc>> {
        self.forgotten_until
    }

    /// What a snapshot says was forgotten before.
    pub fn forget_until(&mut self, time: Option<DateTime<Utc>>) {
        self.forgotten_until = self.forgotten_until.max(time);
    }

    /// Remembers a command; the oldest is forgotten when the window is full.
    pub fn insert(&mut self, key: CommandKey, command: RecordedCommand) {
        self.by_key.insert(key, command);
        self.order.push_back((key, command.offset));
        while self.order.len() > self.window {
            if let Some((key, offset)) = self.order.pop_front() {
                self.forget(key, offset);
            }
        }
    }

    /// The commands from this offset on, in the order of the log.
    pub fn since_offset(
        &self,
        offset: i64,
    ) -> impl Iterator<Item = (CommandKey, RecordedCommand)> + '_ {
        let first = self.order.partition_point(|(_, at)| *at < offset);
        self.order
            .range(first..)
            .filter_map(|(key, offset)| Some((*key, self.recorded_at(*key, *offset)?)))
    }

    fn forget(&mut self, key: CommandKey, offset: i64) {
        if let Some(command) = self.recorded_at(key, offset) {
            self.by_key.remove(&key);
            self.forgotten_until = self.forgotten_until.max(Some(command.at));
        }
    }

    /// A key that was decided anew, after it had been forgotten, has two places in the order.
    fn recorded_at(&self, key: CommandKey, offset: i64) -> Option<RecordedCommand> {
        self.get(key).filter(|command| command.offset == offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(command: &str) -> CommandKey {
        let stream = "main/task/7".parse().unwrap();
        let actor = Actor::User("ada".into());
        CommandKey::new(&stream, &actor, &CommandId::parse(command).unwrap())
    }

    fn command(offset: i64) -> RecordedCommand {
        RecordedCommand {
            fingerprint: Fingerprint([0; 16]),
            version: StreamVersion(1),
            events: 1,
            offset,
            at: DateTime::from_timestamp_nanos(offset),
        }
    }

    #[test]
    fn a_key_is_scoped_by_stream_and_actor() {
        let id = CommandId::parse("k").unwrap();
        let key =
            |stream: &str, actor: Actor| CommandKey::new(&stream.parse().unwrap(), &actor, &id);
        let ada = || Actor::User("ada".into());
        assert_eq!(key("main/task/7", ada()), key("main/task/7", ada()));
        assert_ne!(key("main/task/7", ada()), key("main/task/8", ada()));
        assert_ne!(key("main/task/7", ada()), key("acme/task/7", ada()));
        assert_ne!(
            key("main/task/7", ada()),
            key("main/task/7", Actor::Service("ada".into()))
        );
    }

    #[test]
    fn the_window_forgets_the_oldest_in_the_order_of_the_log() {
        let mut recorded = RecordedCommands::new(2);
        for (name, offset) in [("a", 1), ("b", 2), ("c", 3)] {
            recorded.insert(key(name), command(offset));
        }
        assert_eq!(recorded.get(key("a")), None);
        assert_eq!(recorded.get(key("b")), Some(command(2)));
        assert_eq!(recorded.get(key("c")), Some(command(3)));
    }

    #[test]
    fn what_was_forgotten_is_known_by_its_time() {
        let mut recorded = RecordedCommands::new(2);
        assert_eq!(recorded.forgotten_until(), None);
        for (name, offset) in [("a", 7), ("b", 2), ("c", 3), ("d", 4)] {
            recorded.insert(key(name), command(offset));
        }
        // The clocks of two nodes differ: the latest time counts.
        assert_eq!(recorded.forgotten_until(), Some(command(7).at));
    }

    #[test]
    fn a_key_that_was_recorded_again_is_forgotten_once() {
        let mut recorded = RecordedCommands::new(2);
        for (name, offset) in [("a", 1), ("a", 2), ("b", 3)] {
            recorded.insert(key(name), command(offset));
        }
        assert_eq!(recorded.get(key("a")), Some(command(2)));
        assert_eq!(recorded.forgotten_until(), None);
    }
}
