//! What topics are set to: as they are made, and as they must be.

use std::fmt;

use kafka_protocol::{
    messages::{DescribeConfigsRequest, describe_configs_request::DescribeConfigsResource},
    protocol::StrBytes,
};

use super::{Purpose, TopicError, TopicOptions, may_pass};
use crate::cluster::{Cluster, name};

/// What a setting has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Is(&'static str),
    AtLeast(i64),
    AtMost(i64),
}

type Rule = (&'static str, Wanted);

/// An unclean leader would lose what was acknowledged.
const NO_UNCLEAN_LEADER: Rule = ("unclean.leader.election.enable", Wanted::Is("false"));
/// Of every topic that the protocol rests on, the brokers' own included.
pub(super) const OF_EVERY_TOPIC: [Rule; 1] = [NO_UNCLEAN_LEADER];
/// Brokers forget producers by their records' times: a client's old time would delete the fence.
const BROKERS_TIME: Rule = ("message.timestamp.type", Wanted::Is("LogAppendTime"));
/// A broker that compresses would write batches that an owner does not read.
const AS_SENT: Rule = ("compression.type", Wanted::Is("producer"));
/// A record batch of ours has at most 900 KB; this leaves room for headers.
const ROOM: Rule = ("max.message.bytes", Wanted::AtLeast(1 << 20));
const FOR_EVER: Rule = ("cleanup.policy", Wanted::Is("delete"));
const NEWEST_PER_KEY: Rule = ("cleanup.policy", Wanted::Is("compact"));

/// What each kind of topic must have; checked at every start.
pub(super) fn required(purpose: Purpose) -> Vec<Rule> {
    let mut rules = vec![BROKERS_TIME, AS_SENT, NO_UNCLEAN_LEADER, ROOM];
    match purpose {
        Purpose::Events => rules.extend([
            FOR_EVER,
            ("retention.ms", Wanted::Is("-1")),
            ("retention.bytes", Wanted::Is("-1")),
        ]),
        Purpose::Owners | Purpose::Scratch | Purpose::Snapshots | Purpose::Control => {
            rules.push(NEWEST_PER_KEY);
        }
    }
    rules
}

/// What a new topic is given.
pub(super) fn initial(purpose: Purpose, options: TopicOptions) -> Vec<(&'static str, String)> {
    let mut settings: Vec<_> = required(purpose)
        .into_iter()
        .map(|(setting, wanted)| (setting, wanted.value()))
        .collect();
    let mut set = |setting, value: &str| settings.push((setting, value.to_owned()));
    if purpose != Purpose::Events {
        // The segment that is written to is never compacted, and a new owner reads it all.
        set("segment.bytes", "16777216");
    }
    if options.sync_each_append {
        set("flush.messages", "1");
    }
    // Said for one replica as well: a broker's default of 2 would make the topic unwritable.
    set(
        "min.insync.replicas",
        match options.replication {
            3.. => "2",
            _ => "1",
        },
    );
    settings
}

/// With three replicas or more, an acknowledged record must be on two of them.
fn in_sync(replicas: usize) -> [Rule; 2] {
    const SETTING: &str = "min.insync.replicas";
    let least = if replicas >= 3 { 2 } else { 1 };
    [
        (SETTING, Wanted::AtLeast(least)),
        (SETTING, Wanted::AtMost(replicas as i64)),
    ]
}

pub(super) async fn check(
    cluster: &Cluster,
    topic: &str,
    rules: &[Rule],
    replicas: usize,
) -> Result<(), TopicError> {
    const TOPIC: i8 = 2;
    let request = DescribeConfigsRequest::default().with_resources(vec![
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(StrBytes::from_string(topic.into())),
    ]);
    let answer = cluster.connect_any().await?.ask(&request).await?;
    let configs = match answer.results.first() {
        Some(result) if result.error_code == 0 => &result.configs,
        other => {
            let code = other.map_or(-1, |result| result.error_code);
            return Err(TopicError::Describe {
                topic: topic.into(),
                reason: name(code),
                temporary: may_pass(code),
            });
        }
    };
    for (setting, wanted) in rules.iter().copied().chain(in_sync(replicas)) {
        let found = configs
            .iter()
            .find(|config| config.name.as_str() == setting)
            .and_then(|config| config.value.as_deref())
            .unwrap_or("(unknown)");
        if !wanted.admits(found) {
            return Err(TopicError::Setting {
                topic: topic.into(),
                setting,
                found: found.into(),
                wanted,
            });
        }
    }
    Ok(())
}

impl Wanted {
    /// A value that is right.
    pub fn value(self) -> String {
        match self {
            Self::Is(value) => value.into(),
            Self::AtLeast(value) | Self::AtMost(value) => value.to_string(),
        }
    }

    fn admits(self, found: &str) -> bool {
        let number = || found.parse::<i64>();
        match self {
            Self::Is(value) => found == value,
            Self::AtLeast(least) => number().is_ok_and(|number| number >= least),
            Self::AtMost(most) => number().is_ok_and(|number| number <= most),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(value) => f.write_str(value),
            Self::AtLeast(least) => write!(f, "at least {least}"),
            Self::AtMost(most) => write!(f, "at most {most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests have one broker; these are the rules of three.
    #[test]
    fn an_acknowledged_record_is_on_two_replicas_and_one_may_fail() {
        for (replicas, refused, taken) in [
            (1, ["0", "2"], ["1", "1"]),
            (3, ["1", "4"], ["2", "3"]),
            (5, ["1", "6"], ["2", "5"]),
        ] {
            let rules = in_sync(replicas).map(|(_, wanted)| wanted);
            for found in refused {
                assert!(
                    !rules.iter().all(|rule| rule.admits(found)),
                    "{replicas}: {found}"
                );
            }
            for found in taken {
                assert!(
                    rules.iter().all(|rule| rule.admits(found)),
                    "{replicas}: {found}"
                );
            }
        }
    }
}
