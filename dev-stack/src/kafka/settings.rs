//! Kafka's settings: what differs from its defaults, and why.

use std::path::Path;

/// The text of a `server.properties`.
pub(super) fn properties(
    data: &Path,
    port: u16,
    controller_port: u16,
    extra: &[(String, String)],
) -> String {
    let data = data.display();
    // More listeners come beside those that everything here relies on.
    let (more, extra): (Vec<_>, Vec<_>) = extra
        .iter()
        .partition(|(name, _)| name == "additional.listeners");
    let more: String = more.iter().map(|(_, more)| format!(",{more}")).collect();
    let mut properties = format!(
        "\
# Written at each start.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}{more}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}{more}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,\
SASL_SSL:SASL_SSL
log.dirs={data}

# As in production: topics are made on purpose, and time is the broker's.
auto.create.topics.enable=false
log.message.timestamp.type=LogAppendTime
log.retention.ms=-1

# One broker, quick to start: few internal partitions, none replicated, groups form at once.
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0

# Small: the cleaner's buffer alone is 128 MB otherwise.
log.cleaner.dedupe.buffer.size=8388608
num.network.threads=2
num.io.threads=4
"
    );
    for (name, value) in extra {
        properties.push_str(&format!("{name}={value}\n"));
    }
    properties
}
