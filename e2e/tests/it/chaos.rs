//! The short form of `e2e chaos`: three brokers, and everything that serves on them breaks.

use std::time::Duration;

use e2e::chaos::{self, Plan, nemesis::FAULTS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_doubled_or_contradicted_whatever_breaks() {
    let plan = Plan {
        seed: 4,
        duration: Duration::from_secs(30),
        nodes: 3,
        clients: 64,
        pause: Duration::from_millis(200),
        faults: FAULTS.into_iter().filter(|it| !it.is_long()).collect(),
        overlap: true,
        trespass: true,
    };
    let report = chaos::run(&plan).await.unwrap();
    assert!(report.holds(), "{report}");
    assert!(report.record.by_fault().len() >= 3, "{report}");
    assert!(report.findings.answers > 500, "{report}");
}
